"""Before the pipeline: simulate a log if asked, check it once, and turn fractional split borders into times."""

import dataclasses
import hashlib
import json
import os
import pathlib

import pydantic

from amen_tf.config import DataSettings, Settings, SplitSettings
from pipeline.event_log import side_tables, storage
from pipeline.event_log.check import LogReport, check_log, require_trainable, require_whole
from pipeline.event_log.spans import log_files, spans_of_splits, window
from pipeline.event_log.spans_report import SpansReport
from pipeline.event_log.split_times import impression_time_quantiles
from pipeline.runners.layout import Layout

BORDERS = ("stage1_end", "train_end", "eval_end")


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A run that is ready: settings with borders as times, and where the log lies."""

    settings: Settings
    log: str


def prepare(settings: Settings, layout: Layout) -> Prepared:
    """Makes the log and the settings ready; an unchanged log is neither simulated nor read again.

    Raises:
      EventLogError: the log is absent, broken or cannot be learned from.
    """
    log = settings.data.log or _simulated(settings, layout)
    storage.configure(settings.run.beam_options, log, settings.data.item_table, settings.data.user_table)
    known = json.loads(layout.prepared.read_text()) if layout.prepared.exists() else {}
    if settings.split.spans is not None:
        settings = _prepare_spans(settings, log, known, layout)
    else:
        settings, known = _prepare_log(settings, log, known)
        _write(layout.prepared, json.dumps(known, indent=1))
    _write(layout.settings, settings.to_yaml())
    return Prepared(settings, log)


def _prepare_log(settings: Settings, log: str, known: dict) -> tuple[Settings, dict]:
    """Checks all of the log, if anything of it has changed, and resolves the borders against it."""
    data = settings.data
    key = _key([*log_files(log, data), *side_tables.all_files(data)], data, settings.split)
    if known.get("key") != key:
        _require_learnable(check_log(log, data), data)
        _check_tables(data)
        known = {"key": key, "borders": borders(settings.split, log, settings)}
    split = SplitSettings(**{**dict(settings.split), **known["borders"]})
    return settings.model_copy(update={"split": split}), known


def _prepare_spans(settings: Settings, log: str, known: dict, layout: Layout) -> Settings:
    """Checks the spans that are new or have changed; what the others hold is known, be the log usable or not."""
    data, split = window(log, settings.data, settings.split)
    read = SpansReport.of(log, data, known.get("spans", {}))
    tables = _key(side_tables.all_files(data), settings.data)
    _write(layout.prepared, json.dumps({"spans": read.known, "tables": known.get("tables")}, indent=1))
    _require_learnable(read.whole(data), data)
    read.require_ascending()
    if known.get("tables") != tables:
        _check_tables(data)
        _write(layout.prepared, json.dumps({"spans": read.known, "tables": tables}, indent=1))
    data = data.model_copy(update={"impressions_as_clicks": read.impressions_as_clicks(data)})
    begins = {name: read.begin(spans[0]) for name, spans in spans_of_splits(log, read.there, split.spans).items()}
    first = begins.get("stage1", begins.get("train"))
    borders = {"stage1_end": begins.get("stage2"), "train_end": begins["eval"], "eval_end": begins["test"]}
    split = SplitSettings(start=first, spans=split.spans, **borders)
    return settings.model_copy(update={"data": data, "split": split})


def _require_learnable(report: LogReport, data: DataSettings) -> None:
    if report.bad_rows < report.rows:
        require_whole(report, data)
    require_trainable(report)


def _check_tables(data: DataSettings) -> None:
    for owner in side_tables.KEYS:
        side_tables.check(owner, data)


def simulation_folder(settings: Settings, layout: Layout) -> pathlib.Path:
    """Where the log lies that `data.simulate` asks for: a folder for every size and seed."""
    return layout.data / hashlib.sha256(settings.data.simulate.model_dump_json().encode()).hexdigest()[:12]


def _simulated(settings: Settings, layout: Layout) -> str:
    from pipeline.datasets.simulator import simulate

    folder = simulation_folder(settings, layout)
    if not folder.exists():
        partial = folder.with_name(f"tmp.{folder.name}")
        simulate(settings.data.simulate, partial)
        os.rename(partial, folder)
    return str(folder / "events")


def borders(split: SplitSettings, log: str, settings: Settings) -> dict[str, int | None]:
    """The borders of the splits as unix seconds; the log is read where they are given as shares of it."""
    named = {name: getattr(split, name) for name in BORDERS}
    if split.resolved:
        return named
    fractions = [value for value in named.values() if value is not None]
    times = iter(impression_time_quantiles(log, settings.data, fractions))
    return {name: None if value is None else next(times) for name, value in named.items()}


def _key(files: list[str], *settings: pydantic.BaseModel) -> str:
    """Changes with the log's files and with whatever decides how they are read and split."""
    return storage.fingerprint(files, *(section.model_dump_json() for section in settings))


def _write(path, text: str) -> None:
    """Replaces a file in one step, so that a killed run leaves the old or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".tmp")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)
