"""The console command `amen`: check, convert or simulate a log, run the pipeline, serve, rank and test under load.

TensorFlow is imported by the commands that need it and nowhere else, so that the others answer at once.
"""

import json
import pathlib
import tempfile
from collections.abc import Sequence

import click
import yaml
from rich.console import Console

from amen_tf.config import PRESETS, DataSettings, Settings, SettingsError, SimulateSettings
from pipeline.commands import call
from pipeline.rollout_commands import promote, rollback
from pipeline.serving_commands import load_test, serve

console = Console()

STARTER = """\
# Settings of a run: what is not here has its default; `amen run` writes all of them to <run>/settings.yaml.
name: {name}
preset: demo

data:
  log: {log}                  # a file, folder or glob (CSV, Parquet, TFRecord), relative to this file
  time_unit: seconds          # or milliseconds
  columns: {{}}                 # your names for the log's columns, e.g. {{user_id: uid, timestamp: ts}}
  positive_behaviors: [click, favorite, cart, purchase]
  features: []                # further columns, e.g. {{name: position, owner: candidate, kind: categorical}}

split:                        # fractions of the impressions in time order, or ISO dates
  stage1_end: 0.5
  train_end: 0.8
  eval_end: 0.9
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `amen`."""
    call(amen, "amen", arguments)


def _say(text: str) -> None:
    """Prints commands and paths as they are: in one line, to be copied, and with nothing taken for markup."""
    console.print(text, markup=False, soft_wrap=True, highlight=False)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="amen_tf")
def amen():
    """AMEN: from an event log to a served click-through-rate model with the Next Interest Flow."""


@amen.command()
@click.argument("settings", required=False, type=click.Path(path_type=pathlib.Path))
@click.option("--preset", type=click.Choice(PRESETS), help="A ready settings file, with a simulated log.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Overrides one setting: model.dim=64.")
def run(settings: pathlib.Path | None, preset: str | None, overrides: tuple[str, ...]):
    """Runs the pipeline of a SETTINGS file (or of a preset) on this machine.

    Finished stages are kept: the same command goes on where an earlier one ended, and a change of settings, data or
    code re-runs what depends on it.
    """
    from pipeline.runners.run import run as run_settings

    if (settings is None) == (preset is None):
        raise click.UsageError("Give a settings file or --preset, one of the two. `amen init` writes a settings file.")
    return run_settings(Settings.load(settings, overrides) if settings else Settings.from_preset(preset, overrides))


@amen.command()
@click.argument("settings", required=False, type=click.Path(path_type=pathlib.Path))
@click.option("--preset", type=click.Choice(PRESETS), help="A ready settings file, with a simulated log.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Overrides one setting: model.dim=64.")
@click.option("--seeds", default=5, show_default=True, type=click.IntRange(1), help="How many: 1, 2, ...")
@click.option("--rows", default=None, metavar="ROW,ROW", help="Only these; default: all.")
@click.option("--output", type=click.Path(path_type=pathlib.Path), help="Default: table2/ in the run's folder.")
def table2(settings, preset, overrides, seeds, rows, output):
    """Trains every row of the paper's Table 2 on the log of SETTINGS (or of a preset) and prints the table.

    What is trained is kept: the same command goes on where an earlier one ended.
    """
    from pipeline.runners.console import quiet_command

    if (settings is None) == (preset is None):
        raise click.UsageError("Give a settings file or --preset, one of the two.")
    chosen = Settings.load(settings, overrides) if settings else Settings.from_preset(preset, overrides)
    with quiet_command(chosen, "table2") as person:
        from benchmarks.rows import ROWS, is_row
        from benchmarks.table2 import run as run_table

        names = tuple(rows.split(",")) if rows else ROWS
        unknown = [name for name in names if not is_row(name)]
        if unknown:
            raise SettingsError(
                f"--rows: expected rows of {', '.join(ROWS)}, or ablations joined by + (no_nif+no_tsp), got "
                f"{', '.join(unknown)}."
            )
        run_table(chosen, names, range(1, seeds + 1), person, output)


@amen.command()
@click.argument("log")
@click.option("--output", default="settings.yaml", show_default=True, type=click.Path(path_type=pathlib.Path))
@click.option("--name", default="my-run", show_default=True, help="Name of the run and of its folder.")
def init(log: str, output: pathlib.Path, name: str):
    """Writes a first settings file for LOG."""
    from pipeline.event_log.storage import is_remote

    if output.exists():
        raise click.ClickException(f"{output} exists; give another file with --output.")
    # As JSON, which is YAML too, whatever characters are in it.
    place = log if is_remote(log) else str(pathlib.Path(log).resolve())
    text = STARTER.format(name=json.dumps(name), log=json.dumps(place, ensure_ascii=False))
    Settings.parse(yaml.safe_load(text), source=str(output))
    output.write_text(text, encoding="utf-8")
    _say(f"Wrote {output}. Next: amen check {log} --settings {output}; amen run {output}")


@amen.command()
@click.argument("log", required=False)
@click.option("--settings", type=click.Path(path_type=pathlib.Path), help="Its data section says how to read the log.")
@click.option("--json", "json_file", type=click.Path(path_type=pathlib.Path), help="Also write the report as JSON.")
def check(log: str | None, settings: pathlib.Path | None, json_file: pathlib.Path | None):
    """Reports what an event LOG holds and every rule that it breaks; status 1 if there is one."""
    from pipeline.event_log import storage
    from pipeline.event_log.check import check_log, print_report
    from pipeline.event_log.spans import window

    loaded = Settings.load(settings) if settings else None
    data = loaded.data if loaded else DataSettings(log=log or "")
    if not (log or data.log):
        raise click.UsageError("Give a log, or --settings with data.log.")
    storage.configure(loaded.run.beam_options if loaded else (), log or data.log)
    if loaded and not log and loaded.split.spans is not None:
        data, _ = window(data.log, data, loaded.split)
    report = check_log(log or data.log, data)
    print_report(report, console)
    if json_file:
        json_file.write_text(json.dumps(report.to_dict(), indent=1), encoding="utf-8")
    return 1 if report.broken else 0


@amen.command()
@click.argument("settings_file", metavar="SETTINGS", type=click.Path(path_type=pathlib.Path))
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Overrides one setting: model.dim=64.")
@click.option("--write", type=click.Path(path_type=pathlib.Path), help="Also write the proposals as a schema file.")
def schema(settings_file: pathlib.Path, overrides: tuple[str, ...], write: pathlib.Path | None):
    """Shows what the examples of SETTINGS are like beside what the schema asks, and proposes to ask more.

    Anomalies are shown too; status 1 if there is one. ExampleGen and its statistics are taken from the run's cache.
    """
    from pipeline.runners.console import quiet_command

    settings = Settings.load(settings_file, overrides)
    if write is not None and write.exists():
        raise click.ClickException(f"{write} exists; give another file with --write.")
    with quiet_command(settings, "schema") as person:
        from pipeline.schema_report import report

        return report(settings, person, write)


@amen.command()
@click.argument("settings_file", metavar="SETTINGS", type=click.Path(path_type=pathlib.Path))
@click.argument("requests", type=click.Path(exists=True, path_type=pathlib.Path))
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Overrides one setting: model.dim=64.")
def skew(settings_file: pathlib.Path, requests: pathlib.Path, overrides: tuple[str, ...]):
    """Compares logged REQUESTS with what the run of SETTINGS was trained on; status 1 where they differ.

    REQUESTS is a file or folder: .json and .jsonl of requests or of :predict bodies, .tfrecord of TensorFlow Serving's
    request log or of tf.Examples.
    """
    from pipeline.runners.console import quiet_command

    settings = Settings.load(settings_file, overrides)
    with quiet_command(settings, "skew") as person, tempfile.TemporaryDirectory(prefix="amen-skew-") as folder:
        from pipeline.skew import report

        return report(settings, requests, person, pathlib.Path(folder))


@amen.group()
def convert():
    """Turns a public dataset into an event log with a settings file."""


@convert.command()
@click.argument("source", type=click.Path(path_type=pathlib.Path))
@click.argument("output", type=click.Path(path_type=pathlib.Path))
@click.option("--position/--no-position", default=True, help="Declare the display position as a feature.")
def trivago(source: pathlib.Path, output: pathlib.Path, position: bool):
    """RecSys Challenge 2019 (SOURCE: train.csv, a parquet of it, or their folder) -> OUTPUT folder."""
    from pipeline.datasets import trivago as adapter

    _converted(adapter.convert(source, output, position=position))


@convert.command()
@click.argument("source", type=click.Path(path_type=pathlib.Path))
@click.argument("output", type=click.Path(path_type=pathlib.Path))
def movielens(source: pathlib.Path, output: pathlib.Path):
    """MovieLens 100K (u.data or .inter), 1M (.dat), 20M and later (.csv) -> OUTPUT folder."""
    from pipeline.datasets import movielens as adapter

    _converted(adapter.convert(source, output))


def _converted(summary) -> None:
    console.print(summary)
    _say(f"Next: amen run {summary.settings}")


def _simulate_options(command):
    """One option for every setting of the simulator, with its default."""
    for name, field in reversed(SimulateSettings.model_fields.items()):
        flag = "--" + name.replace("_", "-")
        command = click.option(flag, name, type=field.annotation, default=field.default, show_default=True)(command)
    return command


@amen.command()
@click.argument("output", type=click.Path(path_type=pathlib.Path))
@_simulate_options
def simulate(output: pathlib.Path, **sizes):
    """Writes a seeded all-domain log with a known truth, and a settings file, to the folder OUTPUT."""
    import pydantic

    from pipeline.datasets.simulator import simulate as simulate_log

    try:
        settings = SimulateSettings(**sizes)
    except pydantic.ValidationError as e:
        faults = "; ".join(f"--{f['loc'][0]}: {f['msg']}, got {f['input']!r}" for f in e.errors())
        raise click.UsageError(faults.replace("_", "-")) from e
    console.print(simulate_log(settings, output, settings_file=True))
    _say(f"Next: amen run {output / 'settings.yaml'}")


amen.add_command(serve)
amen.add_command(load_test)


@amen.command()
@click.argument("request_file", type=click.Path(path_type=pathlib.Path))
@click.option("--address", help="Of any TensorFlow Serving.  [default: 127.0.0.1 and the server's own port]")
@click.option("--grpc", is_flag=True, help="Over gRPC, which `amen serve` does not speak; else over REST.")
@click.option("--model", "model_name", default="amen", show_default=True)
@click.option("--version", type=int, help="Default: the newest.")
@click.option("--label", help="A version label such as stable.")
@click.option("--top", type=int, help="Show the best so many only.")
@click.option("--json", "as_json", is_flag=True, help="Print the probabilities in candidate order, as JSON.")
def rank(request_file, address, grpc, model_name, version, label, top, as_json):
    """Ranks the candidates of a REQUEST_FILE (JSON: timestamp, scene, moveline, candidates) for its user."""
    from serving.client import RankClient, format_ranking, load_request

    if grpc:
        from serving.grpc_client import GrpcRankClient as RankClient
    request = load_request(request_file)
    with RankClient(address or "127.0.0.1", model_name, version=version, label=label) as client:
        probabilities = client.rank(request)
    if as_json:
        click.echo(json.dumps([float(p) for p in probabilities]))
    else:
        console.print(format_ranking(request, probabilities, top=top))


amen.add_command(promote)
amen.add_command(rollback)


if __name__ == "__main__":
    main()
