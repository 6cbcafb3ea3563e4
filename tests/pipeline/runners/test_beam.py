"""What makes Beam faster must change nothing that it computes."""

import functools
import gc
import pathlib
import re

import apache_beam as beam
import pytest
import yaml
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import worker_handlers
from apache_beam.runners.worker import statecache
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms import core
from apache_beam.typehints import decorators

from amen_tf.config import RunSettings
from pipeline.runners.beam import beam_arguments, collect_garbage_rarely, settle


@pytest.fixture
def settled(monkeypatch):
    monkeypatch.setattr(worker_handlers, "STATE_CACHE_SIZE_MB", worker_handlers.STATE_CACHE_SIZE_MB)
    monkeypatch.setattr(core, "get_signature", decorators.get_signature)
    threshold = gc.get_threshold()
    collect_garbage_rarely()
    settle()
    yield
    gc.set_threshold(*threshold)
    gc.unfreeze()


class Adds(beam.DoFn):
    def __init__(self, more):
        self.more = more

    def process(self, element, side=beam.DoFn.WindowParam, given=7):
        yield element + self.more + given


def test_signatures_are_those_of_beam_and_worked_out_once(settled):
    for method in (Adds(1).process, Adds(2).process, Adds(1).setup, beam.CombineFn().add_input):
        assert core.get_signature(method) == decorators.get_signature(method)
    misses = core.get_signature.cache_info().misses
    for more in range(20):
        core.get_signature(Adds(more).process)
    assert core.get_signature.cache_info().misses == misses
    # What is no plain method goes to Beam.
    for other in (len, functools.partial(max, 1), lambda x, y=2: x, "".join, Adds):
        assert core.get_signature(other) == decorators.get_signature(other)
    assert core.get_signature.cache_info().misses == misses


def test_settling_twice_wraps_once(settled):
    wrapped = core.get_signature
    settle()
    assert core.get_signature is wrapped


def test_pipelines_compute_what_they_did_and_measure_no_side_input(settled, monkeypatch):
    def measured(*_):
        raise AssertionError("a side input was measured")

    monkeypatch.setattr(statecache, "get_deep_size", measured)
    with beam.Pipeline(options=PipelineOptions(beam_arguments(1))) as pipeline:
        side = pipeline | "side" >> beam.Create([30])
        added = pipeline | "main" >> beam.Create([1, 2]) | beam.ParDo(Adds(100), given=3)
        summed = added | beam.Map(lambda x, y: x + y, beam.pvalue.AsSingleton(side))
        assert_that(summed, equal_to([134, 135]))


def test_options_of_a_file_system_leave_the_direct_runner_as_it_is():
    given = ["--hdfs_host=namenode"]
    assert beam_arguments(3, given) == [*beam_arguments(3), *given]
    assert beam_arguments(3, ["--runner=FlinkRunner", *given]) == ["--runner=FlinkRunner", *given]


def test_the_options_of_other_runners_in_the_docs_are_beams_own():
    text = (pathlib.Path(__file__).parents[3] / "docs" / "data.md").read_text(encoding="utf-8")
    blocks = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)]
    runners = []
    for block in (block["run"] for block in blocks if "run" in block):
        flags = RunSettings(**block).beam_options
        runners.append(flags[0])
        # Flink's job server knows this one; Beam asks it.
        asked = [flag for flag in flags if not flag.startswith("--parallelism=")]
        known = PipelineOptions(asked).get_all_options(drop_default=True, retain_unknown_options=False)
        assert set(known) == {flag[2:].split("=")[0] for flag in asked}
    assert runners == ["--runner=FlinkRunner", "--runner=PortableRunner", "--runner=DataflowRunner"]
