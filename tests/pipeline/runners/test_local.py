"""The local runner on two small stages: order, cache, progress, and what a failure says."""

import pathlib

import pytest
from tfx.orchestration.metadata import sqlite_metadata_connection_config
from tfx.orchestration.pipeline import Pipeline

from amen_tf.progress import Progress
from pipeline import progress
from pipeline.runners.local import StageError, run_stages
from tests.pipeline.runners.stages import Copies, Writes


@pytest.fixture
def run(tmp_path):
    """`run(text, mood)`: (results, what was announced) of the pipeline writes -> copies in one and the same folder."""

    def _run(text="hello", mood="good"):
        (tmp_path / "root").mkdir(exist_ok=True)
        writes = Writes(text=text).with_id("writes")
        copies = Copies(source=writes.outputs["data"], mood=mood).with_id("copies")
        pipeline = Pipeline(
            pipeline_name="test",
            pipeline_root=str(tmp_path / "root"),
            components=[writes, copies],
            enable_cache=True,
            metadata_connection_config=sqlite_metadata_connection_config(str(tmp_path / "metadata.sqlite")),
        )
        announced = []
        results = run_stages(pipeline, announced.append, lambda *reported: announced.append(reported))
        return results, announced

    return _run


def test_stages_come_one_by_one_with_their_outputs(run):
    results, announced = run()
    first = next(results)
    # Each result is there as soon as its stage is: that is what a line per stage is made of.
    assert (first.stage, first.cached, first.pushed) == ("writes", False, None)
    assert announced == ["writes", ("writes", Progress(1, 2, {"loss": 0.5}))]
    second = next(results)
    assert (second.stage, second.cached) == ("copies", False) and announced[-1] == "copies"
    assert (pathlib.Path(second.outputs["copy"]) / "data").read_text() == "hello"
    assert list(results) == [] and second.seconds > 0


def test_the_same_again_is_cached_and_a_change_runs_what_depends_on_it(run):
    before = list(run()[0])
    again = list(run()[0])
    assert [r.cached for r in again] == [True, True]
    assert [r.outputs for r in again] == [r.outputs for r in before]
    assert [r.cached for r in run(mood="better")[0]] == [True, False]
    assert [r.cached for r in run(text="other", mood="better")[0]] == [False, False]
    assert [r.cached for r in run()[0]] == [True, True]


def test_a_failure_names_the_stage_and_the_cause_and_keeps_what_is_complete(run):
    results, _ = run(mood="bad")
    assert next(results).stage == "writes"
    with pytest.raises(StageError, match=r"Stage copies failed: .*expected a good mood, got bad") as failed:
        next(results)
    assert failed.value.stage == "copies" and isinstance(failed.value.__cause__, ValueError)
    # A failed stage is never taken from the cache; those before it are.
    with pytest.raises(StageError):
        list(run(mood="bad")[0])
    assert [r.cached for r in run()[0]] == [True, False]


def test_nobody_listens_once_the_stage_is_over(run):
    results, announced = run()
    list(results)
    count = len(announced)
    progress.report(Progress(2, 2, {}))
    assert len(announced) == count
