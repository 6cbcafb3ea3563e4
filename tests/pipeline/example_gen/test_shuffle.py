"""Shards: how many there are, that users are spread evenly, and that blocks come back from where they were put."""

import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from pipeline.example_gen import shuffle
from tests.pipeline.example_gen.logs import event, make_rules, to_table

RULES = make_rules()


def test_shards_follow_the_rows_of_the_log(tmp_path):
    log = tmp_path / "log.parquet"
    pq.write_table(pa.table({"x": np.zeros(10_000_000, np.int8)}), log)
    assert shuffle.shards_for([str(log)], "auto", 1) == 25
    assert shuffle.shards_for([str(log)] * 4, "auto", 1) == 100
    assert shuffle.shards_for([str(log)] * 4000, "auto", 1) == 4096


def test_shards_of_text_follow_its_size(tmp_path):
    # A row of these is 60 bytes: as many as the estimate says.
    rows = 8_000_000
    for name, shards in (("log.csv", 20), ("log.csv.gz", 150), ("odd.txt", 150)):
        with open(tmp_path / name, "wb") as file:
            file.truncate(60 * rows)
        assert shuffle.shards_for([str(tmp_path / name)], "csv", 1) == shards


def test_shards_follow_the_workers_where_the_log_is_small(tmp_path):
    (tmp_path / "log.csv").write_text("x")
    shards = [shuffle.shards_for([str(tmp_path / "log.csv")], "auto", workers) for workers in (1, 4, 50)]
    assert shards == [16, 16, 200]


def test_a_file_that_is_gone_is_left_to_the_reader(tmp_path):
    assert shuffle.shards_for([str(tmp_path / "none.parquet"), str(tmp_path / "none.csv")], "auto", 1) == 16


@pytest.mark.parametrize(
    "flags, in_memory, workers",
    [
        ([], True, 1),
        (["--direct_num_workers=2"], True, 2),
        (["--direct_num_workers=0"], True, os.cpu_count()),
        (["--runner=FlinkRunner", "--parallelism=8"], False, 8),
        (["--runner=SparkRunner"], False, 1),
        (["--runner=PortableRunner", "--job_endpoint=localhost:1"], False, 1),
        (["--runner=DataflowRunner", "--max_num_workers=40", "--num_workers=3"], False, 40),
    ],
)
def test_what_the_options_of_a_runner_say(flags, in_memory, workers):
    options = PipelineOptions(flags)
    assert shuffle.keeps_shuffles_in_memory(options) == in_memory
    assert shuffle.workers_of(options) == workers


def test_shards_are_balanced():
    table = to_table([event(1, "click", "i", user=f"user-{n}") for n in range(20_000)], RULES)
    (batch,) = table.combine_chunks().to_batches()
    sizes = [shuffle.from_bytes(block).num_rows for _, block in shuffle.by_shard(batch, 20)]
    assert len(sizes) == 20 and sum(sizes) == 20_000
    assert max(sizes) < 1.15 * 1000 and min(sizes) > 0.85 * 1000


def test_blocks_come_back_from_their_file(tmp_path):
    tables = [to_table([event(time, "click", f"i{time}")], RULES) for time in range(5)]
    with shuffle.Spill(str(tmp_path / "rows")) as spill:
        placed = [spill.write(shuffle.to_bytes(table)) for table in tables]
    assert len({p.path for p in placed}) == 1
    for table, place in zip(tables, placed, strict=True):
        assert shuffle.gather([place], 10)[0].equals(table)
    assert shuffle.gather(reversed(placed), 10)[0].num_rows == 5
