"""The data stages of a run without its models, for commands that look at the data or train on it by themselves."""

from amen_tf.config import Settings
from amen_tf.progress import Progress
from pipeline.pipeline import STAGES
from pipeline.runners.beam import settle
from pipeline.runners.layout import Layout
from pipeline.runners.local import StageResult, run_stages
from pipeline.runners.local_pipeline import create_local_pipeline
from pipeline.runners.prepare import prepare


class _Quiet:
    """Told by the runner what happens; keeps the results."""

    def __init__(self):
        self.results: dict[str, StageResult] = {}

    def started(self, stage: str) -> None:
        """Nothing to say."""

    def progressed(self, stage: str, done: Progress) -> None:
        """Nothing to say."""

    def finished(self, result: StageResult) -> None:
        """Keeps it."""
        self.results[result.stage] = result

    def failed(self, stage: str) -> None:
        """The runner raises."""


def of_last_run(settings: Settings) -> Settings:
    """Settings with the window of spans that the run folder's last run had, where they leave it to the newest span.

    What a run was trained on stays what it is when another day comes in.
    """
    spans, file = settings.split.spans, Layout(settings).settings
    if spans is None or spans.newest is not None or not file.exists():
        return settings
    last = Settings.load(file).split.spans
    if last is None:
        return settings
    split = settings.split.model_copy(update={"spans": spans.model_copy(update={"newest": last.newest})})
    return settings.model_copy(update={"split": split})


def run_data_stages(settings: Settings, last: str) -> tuple[Settings, dict[str, StageResult]]:
    """Runs ExampleGen to the stage `last` in the settings' run folder, or takes them from its cache.

    Returns:
      The settings with borders in unix seconds.
      stage -> what came of it.
    """
    layout, told = Layout(settings), _Quiet()
    with layout.locked():
        found = prepare(settings, layout)
        settle()
        run_stages(create_local_pipeline(found, layout, last), told, None, STAGES)
    return found.settings, told.results
