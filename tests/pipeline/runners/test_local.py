"""The local runner on small stages: order, cache, progress, two processes, and what a failure says."""

import pathlib
import signal
import subprocess
import sys
import threading
import time

import pytest
from tfx.orchestration.metadata import sqlite_metadata_connection_config
from tfx.orchestration.pipeline import Pipeline

from amen_tf.progress import Progress
from pipeline import progress
from pipeline.runners import interrupt
from pipeline.runners.local import Schedule, StageResult, run_stages
from pipeline.runners.side_process import SideProcess, SideProcessError
from pipeline.runners.stage_error import StageError
from tests.pipeline.runners.stages import Copies, Writes


class Watcher:
    """Keeps what it is told."""

    def __init__(self):
        self.announced, self.results = [], {}

    def started(self, stage: str) -> None:
        self.announced.append(stage)

    def progressed(self, stage: str, done: Progress) -> None:
        self.announced.append((stage, done))

    def finished(self, result: StageResult) -> None:
        self.announced.append(f"{result.stage} done")
        self.results[result.stage] = result

    def failed(self, stage: str) -> None:
        self.announced.append(f"{stage} failed")

    @property
    def cached(self) -> list[bool]:
        return [result.cached for result in self.results.values()]


@pytest.fixture
def run(tmp_path):
    """`run(text, mood)`: a `Watcher` of the pipeline writes -> copies, a second copy beside it, in one folder."""

    def _run(text="hello", mood="good", watcher=None, side=None, beside=None):
        (tmp_path / "root").mkdir(exist_ok=True)
        writes = Writes(text=text).with_id("writes")
        stages = [writes, Copies(source=writes.outputs["data"], mood=mood).with_id("copies")]
        if beside:
            stages.append(Copies(source=writes.outputs["data"], mood=beside).with_id("beside"))
        pipeline = Pipeline(
            pipeline_name="test",
            pipeline_root=str(tmp_path / "root"),
            components=stages,
            enable_cache=True,
            metadata_connection_config=sqlite_metadata_connection_config(str(tmp_path / "metadata.sqlite")),
        )
        watcher = watcher or Watcher()
        run_stages(pipeline, watcher, side)
        return watcher

    return _run


def test_stages_are_announced_and_bring_their_outputs(run):
    told = run()
    progressed = ("writes", Progress(1, 2, {"loss": 0.5}))
    copied = ("copies", Progress(1, 1, {}))
    assert told.announced == ["writes", progressed, "writes done", "copies", copied, "copies done"]
    assert told.cached == [False, False] and told.results["writes"].pushed is None
    assert (pathlib.Path(told.results["copies"].outputs["copy"]) / "data").read_text() == "hello"
    assert told.results["copies"].seconds > 0


def test_the_same_again_is_cached_and_a_change_runs_what_depends_on_it(run):
    before = run()
    again = run()
    assert again.cached == [True, True]
    assert [r.outputs for r in again.results.values()] == [r.outputs for r in before.results.values()]
    assert run(mood="better").cached == [True, False]
    assert run(text="other", mood="better").cached == [False, False]
    assert run().cached == [True, True]


def test_a_failure_names_the_stage_and_the_cause_and_keeps_what_is_complete(run):
    told = Watcher()
    with pytest.raises(StageError, match=r"Stage copies failed: .*expected a good mood, got bad") as failed:
        run(mood="bad", watcher=told)
    assert list(told.results) == ["writes"] and told.announced[-1] == "copies failed"
    assert failed.value.stage == "copies" and isinstance(failed.value.__cause__, ValueError)
    # A failed stage is never taken from the cache; those before it are.
    with pytest.raises(StageError):
        run(mood="bad")
    assert run().cached == [True, False]


def test_nobody_listens_once_the_stage_is_over(run):
    told = run()
    count = len(told.announced)
    progress.report(Progress(2, 2, {}))
    assert len(told.announced) == count


# The side process


@pytest.fixture(scope="module")
def side():
    with SideProcess() as process:
        process.start()
        yield process


def test_two_processes_make_what_one_makes(run, side):
    told = run(side=side, beside="better")
    assert set(told.results) == {"writes", "copies", "beside"} and told.cached == [False] * 3
    for stage in ("copies", "beside"):
        assert (pathlib.Path(told.results[stage].outputs["copy"]) / "data").read_text() == "hello"
    assert run(beside="better").cached == [True] * 3
    assert run(side=side, beside="better").cached == [True] * 3


def test_two_stages_run_at_a_time_and_both_report(run, side):
    told = run(mood="slow", beside="slow", side=side)
    folders = [pathlib.Path(told.results[stage].outputs["copy"]) for stage in ("copies", "beside")]
    assert len({(folder / "process").read_text() for folder in folders}) == 2
    at = {said: place for place, said in enumerate(told.announced) if isinstance(said, str)}
    assert max(at["copies"], at["beside"]) < min(at["copies done"], at["beside done"])
    assert all((stage, Progress(1, 1, {})) in told.announced for stage in ("copies", "beside"))


@pytest.mark.parametrize("moods", [("bad", "slow"), ("slow", "bad"), ("bad", "bad")])
def test_a_failure_in_either_process_ends_the_run_and_keeps_what_ran_beside_it(run, side, moods):
    told = Watcher()
    with pytest.raises(StageError, match="expected a good mood, got bad") as failed:
        run(mood=moods[0], beside=moods[1], side=side, watcher=told)
    assert failed.value.stage in {s for s, mood in zip(("copies", "beside"), moods, strict=True) if mood == "bad"}
    assert set(told.results) - {"writes"} == {s for s, m in zip(("copies", "beside"), moods, strict=True) if m != "bad"}


def test_a_side_process_that_is_killed_in_a_stage_says_what_to_do(run):
    class Kills(Watcher):
        def progressed(self, stage, done):
            if threading.current_thread() is not threading.main_thread():
                process._process.kill()

    with SideProcess() as process:
        with pytest.raises(StageError, match=r"run\.processes=1") as failed:
            run(mood="slow", beside="slow", side=process, watcher=Kills())
        assert isinstance(failed.value.__cause__, SideProcessError)


def test_an_interrupt_ends_what_runs_in_both_processes(run):
    class Interrupts(Watcher):
        def progressed(self, stage, done):
            if threading.current_thread() is threading.main_thread() and stage != "writes":
                raise KeyboardInterrupt

    with SideProcess() as process:
        begin = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            run(mood="very slow", beside="very slow", side=process, watcher=Interrupts())
        # Neither the 60 seconds of the stage in the side process nor its imports are waited for.
        assert time.monotonic() - begin < 50
        assert not [thread for thread in threading.enumerate() if "_work" in thread.name]


def test_an_interrupt_that_a_stage_swallows_is_repeated(run, monkeypatch):
    monkeypatch.setattr(interrupt, "PATIENCE", 1.0)
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run(mood="deaf")
    assert time.monotonic() - begin < 30
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interrupt_that_was_heard_is_not_repeated():
    with interrupt.insistent(0.1) as heard:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        heard()
        time.sleep(0.5)
    assert not [thread for thread in threading.enumerate() if thread.name == "insistent"]


def test_elsewhere_than_in_the_main_thread_nothing_is_changed():
    handlers = []

    def look():
        with interrupt.insistent(0.1):
            handlers.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert handlers == [signal.default_int_handler]


def test_when_it_was_stopped_it_does_not_start_again(run):
    with SideProcess() as process:
        process.start()
        inner = process._process
        assert inner.is_alive()
    assert not inner.is_alive()
    with pytest.raises(SideProcessError, match="stopped"):
        process.start()
    SideProcess().stop()


def test_it_ends_when_its_parent_is_killed():
    code = """
import sys, time
from pipeline.runners.side_process import SideProcess
side = SideProcess()
side.start()
print(side._process.pid, flush=True)
time.sleep(600)
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.communicate()
    end = time.monotonic() + 60
    while _runs(pid):
        assert time.monotonic() < end, "the side process outlived its parent"
        time.sleep(0.1)


def _runs(pid: int) -> bool:
    """Whether a process runs; one that ended but was not waited for does not."""
    try:
        return "\nState:\tZ" not in pathlib.Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


# The schedule

DIAMOND = {"a": [], "b": ["a"], "c": ["a"], "d": ["c"], "e": ["b", "d"]}


def test_one_process_takes_every_stage_after_those_that_it_waits_for():
    schedule, order = Schedule(DIAMOND), []
    while (stage := schedule.take(beside=False)) is not None:
        order.append(stage)
        schedule.completed(stage)
    # c before b: more stages wait for it.
    assert order == ["a", "c", "b", "d", "e"]


def test_the_main_process_takes_the_longest_way_and_the_other_what_is_left():
    schedule, taken = Schedule(DIAMOND), {}

    def work(name):
        while (stage := schedule.take(beside=name == "side")) is not None:
            taken[stage] = name
            time.sleep(0.1 if stage != "b" else 0.15)
            schedule.completed(stage)

    thread = threading.Thread(target=work, args=("side",), daemon=True)
    thread.start()
    work("main")
    thread.join(10)
    assert taken == {"a": "main", "b": "side", "c": "main", "d": "main", "e": "main"}


def test_after_a_failure_nothing_is_given_out():
    schedule = Schedule(DIAMOND)
    schedule.failed(schedule.take(beside=False), ValueError("no"))
    assert schedule.take(beside=False) is None and schedule.take(beside=True) is None
    assert list(schedule.failures) == ["a"]


def test_after_a_failure_only_what_comes_before_it_is_given_out():
    # As between statistics, validation and Transform: what is wrong with the data is said by the validation.
    schedule = Schedule({"a": [], "statistics": ["a"], "validation": ["statistics"], "transform": ["a"], "z": ["a"]})
    schedule.completed(schedule.take(beside=False))
    assert [schedule.take(beside=False), schedule.take(beside=True)] == ["statistics", "transform"]
    schedule.failed("transform", ValueError("no"))
    schedule.completed("statistics")
    assert schedule.take(beside=False) == "validation"
    schedule.failed("validation", ValueError("anomalies"))
    assert schedule.take(beside=False) is None and schedule.take(beside=True) is None


def test_when_it_is_stopped_nobody_waits():
    schedule = Schedule(DIAMOND)
    schedule.take(beside=False)
    waiting = threading.Thread(target=schedule.take, args=(True,), daemon=True)
    waiting.start()
    time.sleep(0.2)
    assert waiting.is_alive()
    schedule.stop()
    waiting.join(10)
    assert not waiting.is_alive()
