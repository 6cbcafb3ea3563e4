"""The stage's work: reads the log, shuffles it by user shard, writes examples, quarantine and report.

In: `input_base`, `input_config` (a pattern) and `custom_config` (the rules). Out, in the examples artifact's folder:
`Split-<name>/data_tfrecord-<shard>-of-<shards>.gz`, `report.json` and, if rows were put aside, `quarantine.csv`.

The same log and number of shards give the same bytes in the same files on every run, on any runner: users are
dealt to shards by a stable hash, rows are sorted before anything is made of them, and every shard writes its own files.
"""

import json
from typing import Any

import apache_beam as beam
from tfx import types
from tfx.components.example_gen import write_split
from tfx.components.util import examples_utils
from tfx.dsl.components.base import base_beam_executor
from tfx.dsl.io import fileio
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils, standard_component_specs

from pipeline.event_log import side_tables, storage
from pipeline.event_log.quarantine import write_bad_rows
from pipeline.event_log.schema import canonical_schema
from pipeline.event_log.spans import log_files
from pipeline.example_gen import report, shuffle, steps, wire
from pipeline.example_gen.inputs import log_of, rules_of
from pipeline.example_gen.rules import MovelineRules


class MovelineExampleGenExecutor(base_beam_executor.BaseBeamExecutor):
    """Runs the two steps of `steps` in one Beam pipeline.

    Not a `BaseExampleGenExecutor`: all that it adds is a split by record hash and a writer that shuffles at random,
    see `steps.WriteShard`.
    """

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes the examples artifact.

        Raises:
          EventLogError: the log cannot be used, has bad rows that must stop the run, or leaves a split empty.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        rules = rules_of(exec_properties)
        artifact = artifact_utils.get_single_instance(output_dict[standard_component_specs.EXAMPLES_KEY])
        log = log_of(exec_properties)
        storage.configure(self._beam_pipeline_args, log, rules.data.item_table, rules.data.user_table)
        files = log_files(log, rules.data)
        if rules.data.item_table:
            # Every worker reads it; what is wrong with it is better said once, and before the log is read.
            side_tables.check(side_tables.ITEM, rules.data)

        # Beside the splits, not in them: readers take whatever lies in a split's folder.
        temporary = f"{artifact.uri}/_unfinished"
        fileio.makedirs(temporary)
        for split in rules.split_names:
            fileio.makedirs(f"{artifact.uri}/Split-{split}")
        with self._make_beam_pipeline() as pipeline:
            _add_steps(pipeline, files, rules, artifact.uri, temporary)
        facts = _read_json(f"{temporary}/facts.json")
        counts = _read_json(f"{temporary}/counts.json")
        report.stop_if_unusable(facts, rules)
        side_tables.stop_at_repeated(counts.get(steps.REPEATED_USERS, {}), side_tables.USER, rules.data)
        content = report.make(facts, counts, rules)
        if facts["bad_rows"]:
            write_bad_rows(f"{artifact.uri}/quarantine.csv", steps.quarantined(temporary))
        wire.write_whole(f"{artifact.uri}/report.json", temporary, json.dumps(content, indent=2).encode())
        fileio.rmtree(temporary)
        report.stop_if_empty(content, rules)

        artifact.split_names = artifact_utils.encode_split_names(list(rules.split_names))
        examples_utils.set_payload_format(artifact, example_gen_pb2.FORMAT_TF_EXAMPLE)
        examples_utils.set_file_format(artifact, write_split.to_file_format_str(example_gen_pb2.FORMAT_TFRECORDS_GZIP))


def _add_steps(pipeline: beam.Pipeline, files: list[str], rules: MovelineRules, folder: str, temporary: str) -> None:
    data = rules.data
    count = data.user_shards or shuffle.shards_for(files, data.format, shuffle.workers_of(pipeline.options))
    read_file = steps.ReadFile(rules, temporary, count, spill=shuffle.keeps_shuffles_in_memory(pipeline.options))
    write_shard = steps.WriteShard(rules, folder, temporary, count)
    read = (
        pipeline
        | "Files" >> beam.Create(list(enumerate(files)))
        # Without it one worker would read all files, fused with the list of their names.
        | "SpreadFiles" >> beam.Reshuffle()
        | "CutFiles" >> beam.FlatMap(steps.cut, data.format)
        | "SpreadUnits" >> beam.Reshuffle()
        | "ReadFile" >> beam.ParDo(read_file).with_outputs(steps.FACTS, main=steps.ROWS)
    )
    known, rows = [read[steps.FACTS]], [read[steps.ROWS]]
    if data.user_table:
        users = (
            pipeline
            | "UserFiles" >> beam.Create(side_tables.files_of(side_tables.USER, data))
            | "SpreadUserFiles" >> beam.Reshuffle()
            | "ReadUsers" >> beam.ParDo(steps.ReadUsers(rules, count)).with_outputs(steps.FACTS, main=steps.USERS)
        )
        known, rows = [*known, users[steps.FACTS]], [*rows, users[steps.USERS]]
    facts = known | "Facts" >> beam.Flatten() | "MergeFacts" >> beam.CombineGlobally(steps.merge_facts)
    # An empty piece for every shard: a shard without users still writes its files, so that names always count up.
    nothing = shuffle.to_bytes(canonical_schema(data).empty_table())
    shards = pipeline | "Shards" >> beam.Create([(shard, (steps.ROWS, nothing)) for shard in range(count)])
    counts = (
        (*rows, shards)
        | "Rows" >> beam.Flatten()
        | "ByShard" >> beam.GroupByKey()
        | "WriteShard" >> beam.ParDo(write_shard, facts=beam.pvalue.AsSingleton(facts))
        | "MergeCounts" >> beam.CombineGlobally(steps.merge_counts)
    )
    facts | "KeepFacts" >> beam.Map(_keep, f"{temporary}/facts.json", temporary)
    counts | "KeepCounts" >> beam.Map(_keep, f"{temporary}/counts.json", temporary)


def _keep(content: dict, path: str, temporary: str) -> None:
    wire.write_whole(path, temporary, json.dumps(content).encode())


def _read_json(path: str) -> dict:
    with fileio.open(path, "rb") as file:
        return json.loads(file.read())
