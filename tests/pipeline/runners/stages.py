"""Small stages of TFX for tests of the runner; here, because TFX finds a stage's code by its importable name."""

import contextlib
import os
import signal
import time

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts

from amen_tf.progress import Progress
from pipeline import progress


@component
def Writes(text: Parameter[str], data: OutputArtifact[standard_artifacts.Examples]):
    with open(f"{data.uri}/data", "w") as file:
        file.write(text)
    progress.report(Progress(1, 2, {"loss": 0.5}))


@component
def Copies(
    source: InputArtifact[standard_artifacts.Examples],
    mood: Parameter[str],
    copy: OutputArtifact[standard_artifacts.Examples],
):
    if mood == "bad":
        raise ValueError("expected a good mood, got bad")
    progress.report(Progress(1, 1, {}))
    with open(f"{source.uri}/data") as file, open(f"{copy.uri}/data", "w") as target:
        target.write(file.read())
    with open(f"{copy.uri}/process", "w") as target:
        target.write(str(os.getpid()))
    if mood == "deaf":
        with contextlib.suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(60)
        time.sleep(60)
    time.sleep({"slow": 0.5, "very slow": 60}.get(mood, 0))
