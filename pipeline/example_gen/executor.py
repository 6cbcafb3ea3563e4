"""The stage's work: reads the log, shuffles it by user shard, writes examples, quarantine and report.

In: `input_base`, `input_config` (a pattern) and `custom_config` (the rules). Out, in the examples artifact's folder:
`Split-<name>/data_tfrecord-*.gz`, `report.json` and, if rows were put aside, `quarantine.csv`; of a log in spans also
`spans.json`, which says what the files consist of.

The same log and number of shards give the same bytes in the same files on every run, on any runner: users are
dealt to shards by a stable hash, rows are sorted before anything is made of them, and every shard writes its own files.
"""

import json
import os
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

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
from pipeline.event_log.spans import log_files, spans_of, spans_of_splits
from pipeline.example_gen import report, shuffle, span_steps, steps, wire
from pipeline.example_gen.inputs import code_of, log_of, rules_of, store_of
from pipeline.example_gen.rules import MovelineRules
from pipeline.example_gen.span_plan import SpanPlan, span_plan
from pipeline.example_gen.store import Piece, Store

SPANS_FILE = "spans.json"


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
        if rules.data.item_table:
            # Every worker reads it; what is wrong with it is better said once, and before the log is read.
            side_tables.check(side_tables.ITEM, rules.data)

        # Beside the splits, not in them: readers take whatever lies in a split's folder.
        temporary = f"{artifact.uri}/_unfinished"
        fileio.makedirs(temporary)
        for split in rules.split_names:
            fileio.makedirs(f"{artifact.uri}/Split-{split}")
        if rules.spans is None:
            found = self._whole_log(log, rules, artifact.uri, temporary)
        else:
            found = self._spans(log, exec_properties, rules, artifact.uri, temporary)
        content = report.make(found.facts, found.counts, rules)
        if found.bad_rows:
            write_bad_rows(f"{artifact.uri}/quarantine.csv", steps.read_tables(found.bad_rows))
        wire.write_whole(f"{artifact.uri}/report.json", temporary, json.dumps(content, indent=2).encode())
        fileio.rmtree(temporary)
        report.stop_if_empty(content, rules)

        artifact.split_names = artifact_utils.encode_split_names(list(rules.split_names))
        examples_utils.set_payload_format(artifact, example_gen_pb2.FORMAT_TF_EXAMPLE)
        examples_utils.set_file_format(artifact, write_split.to_file_format_str(example_gen_pb2.FORMAT_TFRECORDS_GZIP))

    def _whole_log(self, log: str, rules: MovelineRules, folder: str, temporary: str) -> "_Found":
        files = [(path, None) for path in log_files(log, rules.data)]
        with self._make_beam_pipeline() as pipeline:
            shards = _shards(pipeline, files, rules)
            _add_steps(pipeline, files, rules, temporary, steps.WriteShard(rules, folder, temporary, shards), shards)
        facts, counts = _results(temporary, rules)
        report.stop_if_unusable(facts, rules)
        # By the place of the unit, then by that in it: their order is that of the rows.
        return _Found(facts, counts, sorted(fileio.glob(f"{temporary}/{steps.quarantine_file('*', '*')}")))

    def _spans(
        self, log: str, exec_properties: dict[str, Any], rules: MovelineRules, folder: str, temporary: str
    ) -> "_Found":
        """Makes the pieces that the store lacks, then puts the window together from what is there."""
        there = spans_of(log, rules.data.format)
        splits = spans_of_splits(log, there, rules.spans)
        first = min(spans[0] for spans in splits.values()) - rules.spans.history
        there = {span: files for span, files in there.items() if first <= span <= splits["test"][-1]}
        prints = {span: storage.fingerprint(files) for span, files in there.items()}
        tables = storage.fingerprint(side_tables.all_files(rules.data))
        store = Store(store_of(exec_properties) or f"{temporary}/spans")
        plan = span_plan(splits, prints, tables, rules, code_of(exec_properties), store)
        if plan.read:
            self._make_pieces(plan, there, rules, store)
        made = {split: [(piece, store.done(piece)) for piece in pieces] for split, pieces in plan.splits.items()}
        found = _together(made)
        report.stop_if_unusable(found.facts, rules)
        for split, pieces in plan.splits.items():
            for piece in pieces:
                for path in store.files(piece, "data_tfrecord-*"):
                    _link(path, f"{folder}/Split-{split}/{_named(piece)}-{path.rpartition('data_tfrecord-')[2]}")
        parts = {split: [{"span": p.span, "files": _named(p)} for p in pieces] for split, pieces in plan.splits.items()}
        wire.write_whole(f"{folder}/{SPANS_FILE}", temporary, json.dumps(parts, indent=1).encode())
        bad_rows = [
            path
            for pieces in plan.splits.values()
            for piece in pieces
            for path in store.files(piece, steps.quarantine_file("*", "*"))
        ]
        store.keep_only(plan.kept)
        return found._replace(bad_rows=bad_rows)

    def _make_pieces(
        self,
        plan: SpanPlan,
        there: Mapping[int, Sequence[str]],
        rules: MovelineRules,
        store: Store,
    ) -> None:
        temporary = f"{store.temporary}/{uuid.uuid4().hex}"
        fileio.makedirs(temporary)
        files = [(path, span) for span in plan.read for path in there[span]]
        made = [*plan.missing, *([plan.carry] if plan.carry is not None else [])]
        for piece in made:
            store.begin(piece)
        history, rows = [], 0
        if plan.start is not None:
            history, rows = store.files(plan.start, "rows-*"), store.done(plan.start)["rows"]
        with self._make_beam_pipeline() as pipeline:
            shards = _shards(pipeline, files, rules, rows)
            write = span_steps.WriteSpans(rules, plan, store, temporary, shards)
            _add_steps(pipeline, files, rules, temporary, write, shards, history)
        facts, counts = _results(temporary, rules)
        bad_rows = fileio.glob(f"{temporary}/{steps.quarantine_file('*', '*')}")
        for piece in plan.missing:
            for path in bad_rows:
                if files[steps.number_of(path)][1] == piece.span:
                    fileio.copy(path, f"{store.path(piece)}/{os.path.basename(path)}")
            store.complete(piece, {"facts": facts["spans"][str(piece.span)], "counts": counts["pieces"][piece.name]})
        if plan.carry is not None:
            store.complete(plan.carry, {"rows": counts["history_rows"]})
        fileio.rmtree(temporary)


class _Found(NamedTuple):
    """Facts of the reading, counts of the shards, files with bad rows."""

    facts: dict
    counts: dict
    bad_rows: list[str]


def _together(splits: Mapping[str, Sequence[tuple[Piece, dict]]]) -> _Found:
    """What is said of the pieces of a window, as if it were one log."""
    every = [done for pieces in splits.values() for _, done in pieces]
    facts = steps.merge_facts({**steps.no_facts(), **done["facts"]} for done in every)
    counts = {
        "log": steps.merge_counts(done["counts"]["log"] for done in every),
        "tables": steps.merge_counts(done["counts"]["tables"] for done in every),
        "splits": {
            split: steps.merge_counts(done["counts"]["split"] for _, done in pieces) for split, pieces in splits.items()
        },
    }
    return _Found(facts, counts, [])


def _named(piece: Piece) -> str:
    """What the names of a piece's files begin with in the artifact."""
    return f"data_tfrecord-{piece.span}-{piece.key}"


def _link(path: str, link: str) -> None:
    """A second name for a file where the file system has such, else a copy."""
    try:
        os.link(path, link)
    except OSError:
        fileio.copy(path, link, overwrite=True)


def _shards(
    pipeline: beam.Pipeline, files: Sequence[tuple[str, int | None]], rules: MovelineRules, more_rows: int = 0
) -> int:
    workers, paths = shuffle.workers_of(pipeline.options), [path for path, _ in files]
    return rules.data.user_shards or shuffle.shards_for(paths, rules.data.format, workers, more_rows)


def _add_steps(
    pipeline: beam.Pipeline,
    files: Sequence[tuple[str, int | None]],
    rules: MovelineRules,
    temporary: str,
    write_shard: beam.DoFn,
    count: int,
    history: Sequence[str] = (),
) -> None:
    data = rules.data
    spill = shuffle.keeps_shuffles_in_memory(pipeline.options)
    read_file = steps.ReadFile(rules, temporary, count, spill)
    read = (
        pipeline
        | "Files" >> beam.Create([(number, path, span) for number, (path, span) in enumerate(files)])
        # Without it one worker would read all files, fused with the list of their names.
        | "SpreadFiles" >> beam.Reshuffle()
        | "CutFiles" >> beam.FlatMap(steps.cut, data.format)
        | "SpreadUnits" >> beam.Reshuffle()
        | "ReadFile" >> beam.ParDo(read_file).with_outputs(steps.FACTS, main=steps.ROWS)
    )
    known, rows = [read[steps.FACTS]], [read[steps.ROWS]]
    if history:
        rows.append(
            pipeline
            | "HistoryFiles" >> beam.Create(list(history))
            | "SpreadHistoryFiles" >> beam.Reshuffle()
            | "ReadHistory" >> beam.ParDo(span_steps.ReadHistory(temporary, count, spill))
        )
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


def _results(temporary: str, rules: MovelineRules) -> tuple[dict, dict]:
    """Facts and counts of a pipeline that has ended; raises what is wrong with files or a table, whatever its rows."""
    facts, counts = _read_json(f"{temporary}/facts.json"), _read_json(f"{temporary}/counts.json")
    report.stop_at_errors(facts)
    side_tables.stop_at_repeated(counts.get(steps.REPEATED_USERS, {}), side_tables.USER, rules.data)
    return facts, counts


def _keep(content: dict, path: str, temporary: str) -> None:
    wire.write_whole(path, temporary, json.dumps(content).encode())


def _read_json(path: str) -> dict:
    with fileio.open(path, "rb") as file:
        return json.loads(file.read())
