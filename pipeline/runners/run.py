"""`amen run`: prepares the log, runs the pipeline on this machine and says what came of it."""

import contextlib
import pathlib
import re
import time

from rich.console import Console
from rich.markup import escape

from amen_tf.config import Settings, SettingsError
from pipeline.runners.beam import collect_garbage_rarely, settle
from pipeline.runners.console import StageLines, messages_in, quiet
from pipeline.runners.layout import Layout, RunBusyError
from pipeline.runners.prepare import prepare
from pipeline.runners.side_process import SideProcess

# What shells expect after Ctrl+C.
INTERRUPTED = 130


def run(settings: Settings) -> int:
    """Runs everything and returns the exit status: 0 when the run completed, whatever the gate said; else 1 (130: ^C).

    A run that is repeated goes on where the last one ended: stages that completed, with the same inputs, settings
    and code, are taken from the cache.
    """
    layout = Layout(settings)
    log_file = layout.log_file()
    begin = time.monotonic()
    with quiet(log_file) as console:
        console.print(f"[bold]{settings.name}[/]: {escape(str(layout.folder))}")
        console.print(messages_in(log_file), markup=False)
        try:
            with layout.locked():
                _run(settings, layout, console, begin)
        except (RunBusyError, SettingsError) as e:
            console.print(f"[red]Error:[/] {escape(str(e))}")
            return 1
        except KeyboardInterrupt:
            console.print("\nStopped. Completed stages are kept: the same command goes on from here.")
            return INTERRUPTED
        except Exception as e:  # the person gets the cause and the next step; the log file has the traceback
            _print_failure(console, e, log_file)
            return 1
    return 0


def _run(settings: Settings, layout: Layout, console: Console, begin: float) -> None:
    with contextlib.ExitStack() as open_until_the_end:
        side = open_until_the_end.enter_context(SideProcess()) if settings.run.processes > 1 else None
        # It imports TensorFlow while this process does. A run that completed before finds most stages in the cache.
        if side is not None and not layout.report.exists():
            side.start()
        lines = open_until_the_end.enter_context(StageLines(console))
        _run_beside(side, settings, layout, console, lines, begin)


def _run_beside(side: SideProcess | None, settings, layout, console: Console, lines: StageLines, begin: float) -> None:
    lines.started("log")
    collect_garbage_rarely()
    # What is wrong with the log is said before TensorFlow and TFX are imported, which takes seconds; and they are
    # imported here, once their noise goes to the log file.
    prepared = prepare(settings, layout)
    from amen_tf.features import FeatureContract
    from pipeline.pipeline import STAGES
    from pipeline.runners.local import run_stages
    from pipeline.runners.local_pipeline import create_local_pipeline
    from pipeline.runners.summary import Summary, write_example_request

    settle()
    contract = FeatureContract.from_settings(prepared.settings)
    lines.finished("log", time.monotonic() - begin, False, prepared.log)
    pipeline = create_local_pipeline(prepared, layout)
    told = _Told(lines, layout)
    run_stages(pipeline, told, side, STAGES)
    write_example_request(told.results["example_gen"].outputs["examples"], contract, layout.example_request)
    summary = Summary(prepared.settings, layout, told.results, time.monotonic() - begin)
    summary.write()
    summary.print(console)


class _Told:
    """Passes on to the console what happens, and keeps the results.

    Args:
      lines: of the console.
      layout: of the run; trainers' TensorBoard folders come under its roof.
    """

    def __init__(self, lines: StageLines, layout: Layout):
        self.lines, self.layout, self.results = lines, layout, {}
        self.started, self.progressed, self.failed = lines.started, lines.progressed, lines.failed

    def finished(self, result) -> None:
        """Keeps and prints a result."""
        from pipeline.runners.summary import stage_detail

        self.results[result.stage] = result
        self.lines.finished(result.stage, result.seconds, result.cached, stage_detail(result))
        if "model_run" in result.outputs:
            _link(self.layout.tensorboard / result.stage, pathlib.Path(result.outputs["model_run"]))


def _link(link: pathlib.Path, target: pathlib.Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    partial = link.with_name(f".{link.name}")
    partial.unlink(missing_ok=True)
    partial.symlink_to(target, target_is_directory=True)
    partial.replace(link)


def _print_failure(console: Console, error: Exception, log_file: pathlib.Path) -> None:
    import traceback

    # To the log file, which is what standard error is now.
    traceback.print_exception(error)
    cause = error.__cause__ or error
    stage = getattr(error, "stage", None)
    # Beam appends where in its graph an error arose; that is for the log file.
    text = re.sub(r"\s*\[while running '[^']*'\]", "", str(cause)).strip() or type(cause).__name__
    console.print(f"[red]Error[/] in stage {stage}:" if stage else "[red]Error:[/]")
    console.print(text, markup=False)
    console.print(f"The whole story: {log_file}", markup=False)
    if stage:
        console.print("Mend the cause and give the same command again: completed stages are kept.")
