"""Settings of a run: typed, frozen, validated once when read.

In: one YAML file (optionally starting from a preset by name). Out: a `Settings` object, saved beside every
model. Unknown keys are errors that name the nearest valid key.
"""

import datetime as dt
import pathlib
import re
from typing import Annotated, Any, Literal

import pydantic
import yaml

from amen_tf.config_reading import PRESETS, SettingsError, explain, from_override, merged, over_preset
from amen_tf.features import (
    AGE,
    CANDIDATE,
    DIVERSITY,
    FLOW,
    FUTURE,
    MOVELINE,
    SPAN,
    USER_KEY,
    VELOCITY,
    Feature,
    FeatureContract,
)

__all__ = ["PRESETS", "Settings", "SettingsError"]


class Section(pydantic.BaseModel):
    """Base of all sections: frozen, strict about unknown keys."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")


class FeatureSettings(Section):
    """A declared column beyond the event log's own.

    `owner` says what the value belongs to: the `user`, the `item` (part of every item embedding, in the moveline
    too), the `candidate` (as shown in this request: position, price) or the `context` (the request as a whole).
    Numeric columns are cut into `buckets` quantile buckets, so their scale does not matter. Multi-valued columns hold
    up to `values` categories in one text, "jazz|live|vinyl", in any order. With `source: table` the values of a user
    or an item are looked up in `data.user_table` or `data.item_table`, else they stand in every row of the log.
    """

    name: str = pydantic.Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")
    owner: Literal["user", "item", "candidate", "context"]
    kind: Literal["categorical", "numeric", "multi_valued"]
    buckets: int = pydantic.Field(16, ge=2, le=1000)
    values: int = pydantic.Field(8, ge=1, le=100)
    source: Literal["log", "table"] = "log"

    @property
    def feature(self) -> Feature:
        """As the contract has it."""
        several = self.values if self.kind == "multi_valued" else 1
        return Feature(self.name, self.owner, self.kind, self.buckets, several)


class SimulateSettings(Section):
    """The embedded simulator's size and truth, see `pipeline/datasets/simulator.py`."""

    users: int = pydantic.Field(1000, ge=1)
    items: int = pydantic.Field(2000, ge=10)
    categories: int = pydantic.Field(40, ge=2)
    days: float = pydantic.Field(14.0, gt=0)
    requests_per_user: float = pydantic.Field(20.0, gt=0)
    candidates: int = pydantic.Field(8, ge=1)
    lead: float = pydantic.Field(1.0, ge=0)
    chain: float = pydantic.Field(1.0, ge=0)
    seed: int = 17


# A day of a log in daily spans, or the number of a span.
Span = dt.date | int


class DataSettings(Section):
    """Where the event log lies and how its rows are read (DESIGN: the event log)."""

    log: str | None = None
    simulate: SimulateSettings | None = None
    item_table: str | None = None
    user_table: str | None = None
    schema_file: str | None = None
    first_span: Span | None = None
    last_span: Span | None = None
    format: Literal["auto", "csv", "parquet", "tfrecord"] = "auto"
    time_unit: Literal["seconds", "milliseconds"] = "seconds"
    columns: dict[str, str] = {}
    impression_behavior: str = "impression"
    click_behavior: str = "click"
    positive_behaviors: tuple[str, ...] = ("click", "favorite", "cart", "purchase")
    impressions_as_clicks: Literal["auto", "always", "never"] = "auto"
    bad_rows: Literal["stop", "quarantine"] = "stop"
    max_bad_share: float = pydantic.Field(0.01, gt=0, le=1)
    max_candidates: int = pydantic.Field(32, ge=1)
    diff_window_hours: float = pydantic.Field(24.0 * 7, gt=0)
    features: tuple[FeatureSettings, ...] = ()
    user_shards: int | None = pydantic.Field(None, ge=1)
    max_user_rows: int = pydantic.Field(200_000, ge=1)

    @pydantic.model_validator(mode="after")
    def _one_source(self):
        if (self.log is None) == (self.simulate is None):
            raise ValueError("give exactly one of `log` (a path, folder or glob) and `simulate`")
        names = [f.name for f in self.features]
        repeated = sorted({n for n in names if names.count(n) > 1})
        if repeated:
            raise ValueError(f"features declared twice: {', '.join(repeated)}")
        reserved = {"user_id", "timestamp", "scene", "behavior", "item_id", "category_id", "label", "request_id", SPAN}
        clash = sorted(reserved.intersection(names))
        if clash:
            raise ValueError(f"features named as columns that the event log already has: {', '.join(clash)}")
        for owner, table in (("item", self.item_table), ("user", self.user_table)):
            if self.table_features(owner) and table is None:
                raise ValueError(
                    f"features with source: table and owner: {owner} need data.{owner}_table: "
                    f"{', '.join(f.name for f in self.table_features(owner))}"
                )
        elsewhere = [f.name for f in self.features if f.source == "table" and f.owner not in ("item", "user")]
        if elsewhere:
            raise ValueError(f"only features of items and users can have source: table, not {', '.join(elsewhere)}")
        several = {field for f in self.features if f.kind == "multi_valued" for field in f.feature.fields}
        clash = sorted(several.intersection(names))
        if clash:
            raise ValueError(f"features named as the values of a multi-valued feature: {', '.join(clash)}")
        clash = sorted(f.name for f in self.features if _is_derived(f))
        if clash:
            raise ValueError(
                f"features named as columns that are derived from the log: {', '.join(clash)}; give them another name "
                f"with `columns` (taken are names beginning with {', '.join(DERIVED_PREFIXES)}; "
                f"{', '.join(sorted(DERIVED))}; mask and weight for items and candidates; age for items)"
            )
        return self

    @property
    def log_features(self) -> tuple[FeatureSettings, ...]:
        """The declared features whose values stand in the log."""
        return tuple(f for f in self.features if f.source == "log")

    def table_features(self, owner: str) -> tuple[FeatureSettings, ...]:
        """The declared features of `item` or `user` whose values stand in its table."""
        return tuple(f for f in self.features if f.source == "table" and f.owner == owner)

    def stops_at(self, bad_rows: int, rows: int) -> bool:
        """Whether so many rows of a log that break its rules stop the run."""
        return bad_rows > (self.max_bad_share * rows if self.bad_rows == "quarantine" else 0)


# What ExampleGen, Transform and the frozen generator call their own columns, and what features of items and candidates
# may therefore not be called: they become moveline_age, candidate_mask, candidate_weight.
DERIVED_PREFIXES = (MOVELINE, CANDIDATE, FUTURE, "diff_")
DERIVED = frozenset({FLOW, DIVERSITY, VELOCITY, USER_KEY})
DERIVED_OF = {"item": {AGE, "mask", "weight"}, "candidate": {"mask", "weight"}}


def _is_derived(feature: FeatureSettings) -> bool:
    taken = DERIVED | DERIVED_OF.get(feature.owner, set())
    return feature.name in taken or feature.name.startswith(DERIVED_PREFIXES)


def in_spans(log: str | None) -> bool:
    """Whether the path of a log is a pattern of spans: {SPAN}, or {YYYY}, {MM} and {DD}."""
    return re.search(r"\{(SPAN|YYYY|MM|DD)\}", log or "") is not None


class SpanSettings(Section):
    """How many of the newest spans (days) of a log are for what: a window that moves on as spans come in.

    `history`: spans before its own that a request's moveline and diff samples may reach back to. `future`: spans after
    its own that its future items may lie in, as far as they are of its split; only what the generator learns from or is
    measured on has any. `vocabulary`: spans before those of stage 1 that vocabularies are learned from too, though no
    model is. `stage2: 0`: one window for both stages. `newest`: the last span of the window; the newest there is if not
    given.
    """

    history: int = pydantic.Field(30, ge=0)
    future: int = pydantic.Field(1, ge=0)
    vocabulary: int = pydantic.Field(0, ge=0)
    stage1: int = pydantic.Field(7, ge=1)
    stage2: int = pydantic.Field(7, ge=0)
    eval: int = pydantic.Field(1, ge=1)
    test: int = pydantic.Field(1, ge=1)
    newest: Span | None = None

    @property
    def sizes(self) -> dict[str, int]:
        """Split -> how many spans it has, in the order of time; only splits that there are."""
        stages = {"stage1": self.stage1, "stage2": self.stage2} if self.stage2 else {"train": self.stage1}
        every = {"vocabulary": self.vocabulary, **stages, "eval": self.eval, "test": self.test}
        return {split: size for split, size in every.items() if size}

    @pydantic.model_validator(mode="after")
    def _future_in_the_window(self):
        window = self.stage1 + self.stage2 + self.eval + self.test
        if self.future >= window:
            raise ValueError(f"future: expected fewer spans than the window has ({window}), got {self.future}")
        return self


Border = dt.datetime | dt.date | int | float


class SplitSettings(Section):
    """Borders in time, each `t < border`: train | eval | test, with `stage1_end` inside train.

    A border is a fraction of the labelled impressions in time order (0 < x < 1), unix seconds, or an ISO date or
    time (UTC). `stage1_end: null` means one window for both stages, for logs so large that one pass hides the leak.
    Histories may reach back over a border; labels and futures may not. Before `start`, a time, there are no examples:
    what lies there is history alone. With `spans`, spans of the log decide instead, and borders say when they begin.
    """

    spans: SpanSettings | None = None

    start: Border | None = None
    stage1_end: Border | None = 0.5
    train_end: Border = 0.8
    eval_end: Border = 0.9

    @pydantic.field_validator("start", "stage1_end", "train_end", "eval_end", mode="before")
    @classmethod
    def _no_guess(cls, value):
        # Pydantic reads the text "0.5" as half a second after 1970, and true as the number 1.
        if isinstance(value, bool):
            raise ValueError(f"expected a fraction between 0 and 1, unix seconds or an ISO time, got {value!r}")
        try:
            return float(value) if isinstance(value, str) else value
        except ValueError:
            return value

    @pydantic.field_validator("start", "stage1_end", "train_end", "eval_end", mode="after")
    @classmethod
    def _number(cls, value):
        if value is None:
            return None
        if isinstance(value, dt.datetime):
            return int((value if value.tzinfo else value.replace(tzinfo=dt.timezone.utc)).timestamp())
        if isinstance(value, dt.date):
            return int(dt.datetime(value.year, value.month, value.day, tzinfo=dt.timezone.utc).timestamp())
        if 0 < value < 1:
            return float(value)
        if value >= 1 and float(value).is_integer():
            return int(value)
        raise ValueError(f"expected a fraction between 0 and 1, unix seconds or an ISO time, got {value!r}")

    @pydantic.model_validator(mode="after")
    def _ascending(self):
        given = sorted({"start", "stage1_end", "train_end", "eval_end"} & self.model_fields_set)
        if self.spans is not None and self.spans.newest is None and given:
            raise ValueError(f"{', '.join(given)}: with `spans` the borders are where spans begin; give one of the two")
        borders = [b for b in (self.start, self.stage1_end, self.train_end, self.eval_end) if b is not None]
        if isinstance(self.start, float):
            raise ValueError(f"start: expected a time (an ISO date or unix seconds), got the fraction {self.start}")
        if len({isinstance(b, float) for b in borders}) > 1:
            raise ValueError("give all borders as fractions or all as times, not a mixture")
        if sorted(set(borders)) != borders:
            raise ValueError(f"borders must ascend: start < stage1_end < train_end < eval_end, got {borders}")
        return self

    @property
    def resolved(self) -> bool:
        """True when every border is a time in unix seconds."""
        return isinstance(self.train_end, int)

    @property
    def stage1_splits(self) -> tuple[str, ...]:
        """Names of the splits that Θ_base and the generator learn from."""
        return ("train",) if self.stage1_end is None else ("stage1",)

    @property
    def stage2_splits(self) -> tuple[str, ...]:
        """Names of the splits that the CTR model learns from."""
        return ("train",) if self.stage1_end is None else ("stage2",)

    @property
    def train_splits(self) -> tuple[str, ...]:
        """The splits that models learn from."""
        return tuple(dict.fromkeys(self.stage1_splits + self.stage2_splits))

    @property
    def learned_from(self) -> tuple[str, ...]:
        """The splits that vocabularies and quantiles are learned from: those of training, and maybe one before them."""
        earlier = self.spans is not None and self.spans.vocabulary > 0
        return (*(("vocabulary",) if earlier else ()), *self.train_splits)

    @property
    def names(self) -> tuple[str, ...]:
        """Every split in time order."""
        return (*self.learned_from, "eval", "test")


class TransformSettings(Section):
    """Vocabularies: id 0 pads, then `oov_buckets` hashed buckets, then words by falling frequency.

    The buckets are many, because a candidate that is new since training is still matched with the moveline by its id:
    two new items in one bucket would look as if the user had touched the one for having touched the other.

    `hash_buckets` names those, of the categorical columns, that have no vocabulary at all: every value goes to one of
    so many buckets by its hash, for catalogues that do not fit into memory or change faster than vocabularies do.
    """

    oov_buckets: int = pydantic.Field(16_384, ge=1)
    min_frequency: int = pydantic.Field(1, ge=1)
    max_words: int = pydantic.Field(1_000_000, ge=1)
    hash_buckets: dict[str, Annotated[int, pydantic.Field(ge=2)]] = {}


class ModelSettings(Section):
    """Shapes shared by all models, L, T, H and d of the paper, and what they are given beside the moveline.

    `match_features`: whether the user has touched this item or category, how often, how long ago and what they did.
    Item ids start nearer to zero than all else: most are seen a few times only, and what they start with stays noise.
    """

    moveline_length: int = pydantic.Field(50, ge=1)
    flow_length: int = pydantic.Field(4, ge=1)
    heads: int = pydantic.Field(4, ge=2)
    dim: int = pydantic.Field(32, ge=2)
    embedding_std: float = pydantic.Field(0.1, gt=0)
    item_std: float = pydantic.Field(0.02, ge=0)
    hidden_units: tuple[int, ...] = (128, 64)
    dropout: float = pydantic.Field(0.1, ge=0, lt=1)
    item_dropout: float = pydantic.Field(0.0, ge=0, lt=1)
    match_features: bool = True

    @pydantic.model_validator(mode="after")
    def _divides(self):
        if self.dim % self.heads:
            raise ValueError(
                f"dim must be a multiple of heads (d = H * d_head), got dim={self.dim}, heads={self.heads}"
            )
        return self


class TrainerSettings(Section):
    """One trainer's optimisation. Sizes count requests, not impressions."""

    epochs: int = pydantic.Field(5, ge=1)
    batch_size: int = pydantic.Field(128, ge=1)
    learning_rate: float = pydantic.Field(2e-3, gt=0)
    weight_decay: float = pydantic.Field(1e-5, ge=0)
    patience: int = pydantic.Field(1, ge=1)
    max_steps: int | None = pydantic.Field(None, ge=1)


class BaseSettings(TrainerSettings):
    """Θ_base: which ranker it is, by its name in `amen_tf/models/registry.py`."""

    architecture: str = "base"


class GeneratorSettings(TrainerSettings):
    """Stage 1: the decoder, the losses of Eq. 1, 3, 5 and their weights in Eq. 6.

    `decoder`: `autoregressive` feeds every state (in training the true item) back before the next; `parallel` decodes
    all T states from the moveline alone, in one pass. `readout`: what Eq. 2 calls the heads' outputs.
    `targets`: with `new`, Eq. 1 and the next-item loss are taken over items that are not in the moveline already: a
    model that may name an old item again learns little of what items have in common, and the match features of the CTR
    model know the old ones. The flow has T states in both cases.
    `next_item_weight` adds the loss of predicting the next item at every event of the moveline (as SASRec and HSTU do);
    `item_dropout` hides item ids in training, see `amen_tf.layers.embedding.ItemEmbedding`.
    A generator whose mean cosine between flows, between heads or between items reaches `collapse_limit` fails the run.
    `rank_requests` of the eval split are ranked against the whole catalogue (HR@10, NDCG@10) after every epoch, all of
    it after the last.
    """

    batch_size: int = pydantic.Field(64, ge=1)
    learning_rate: float = pydantic.Field(4e-3, gt=0)
    layers: int = pydantic.Field(2, ge=1)
    decoder: Literal["autoregressive", "parallel"] = "autoregressive"
    readout: Literal["heads", "event_heads", "projection", "ffn"] = "heads"
    targets: Literal["all", "new"] = "all"
    temperature: float = pydantic.Field(0.2, gt=0)
    diversity_weight: float = pydantic.Field(0.1, ge=0)
    velocity_weight: float = pydantic.Field(0.01, ge=0)
    next_item_weight: float = pydantic.Field(1.0, ge=0)
    item_dropout: float = pydantic.Field(0.0, ge=0, lt=1)
    sampled_negatives: int = pydantic.Field(512, ge=0)
    weight_init: bool = True
    collapse_limit: float = pydantic.Field(0.99, gt=0, le=1)
    rank_requests: int = pydantic.Field(2000, ge=1)


class CtrSettings(TrainerSettings):
    """Stage 2: λ of Eq. 10, the parts that the ablations of Table 2 switch off, and what the model learns from.

    `window`: with `stage2` the model starts from Θ_base and goes on with the second window, as the baseline does; with
    `train` both start afresh and learn from the whole train window at a time, where AMEN's requests of the first window
    have no flow, because the generator has learned from their clicks. `tsp_pairs`: `all` is the mean of Eq. 9;
    `balanced` gives the pairs of either sign the same weight. `flow_similarity` adds the cosine of the target
    with each flow state; `moveline_similarity` how near the target is to what the user has touched of its category, by
    the generator's item vectors.
    """

    window: Literal["stage2", "train"] = "stage2"

    tsp_weight: float = pydantic.Field(0.01, ge=0)
    tsp_pairs: Literal["all", "balanced"] = "balanced"
    use_flow: bool = True
    use_alignment: bool = True
    flow_similarity: bool = False
    moveline_similarity: bool = True


class WarmStartSettings(Section):
    """Whether all models start from those of the last blessed run whose window is earlier, where there is one.

    `learning_rate`: what share of the trainers' learning rates they go on with. Most of a window that has moved on by a
    day is what the earlier models have learned already: with the whole rate they learn it by heart.
    """

    enabled: bool = False
    learning_rate: float = pydantic.Field(0.1, gt=0, le=1)


class ComputeSettings(Section):
    """For GPUs: layers compute in half precision (logits and losses stay float32); steps are compiled by XLA."""

    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    xla: bool = False


class GateSettings(Section):
    """When the Evaluator blesses: AUC on the test split, pooled over impressions."""

    min_auc: float = pydantic.Field(0.5, ge=0, le=1)
    max_auc_drop: float = pydantic.Field(0.01, ge=0, le=1)
    min_calibration: float = pydantic.Field(0.5, ge=0)
    max_calibration: float = pydantic.Field(2.0, gt=0)


class PushSettings(Section):
    """Where blessed versions go: `<folder>/<model_name>/<unix seconds>/`, and how many of them stay.

    `keep_versions` None keeps all: what is deleted is gone, and only who runs the servers knows what they still need.
    `models_config` is the servers' file, whose labelled versions are never deleted; "" says that no server reads one,
    which who deletes has to say.
    """

    folder: str | None = None
    model_name: str = pydantic.Field("amen", pattern=r"^[A-Za-z0-9_.-]+$")
    # At least the one before the newest: servers answer by it until the newest is loaded.
    keep_versions: int | None = pydantic.Field(None, ge=2)
    models_config: str | None = None

    @pydantic.model_validator(mode="after")
    def _labels_are_known(self):
        if self.keep_versions is not None and self.models_config is None:
            raise ValueError(
                "keep_versions: expected models_config beside it, so that no version that a label names is deleted. "
                'Name the servers\' file, or say models_config: "" where servers read none (`amen serve` of a folder).'
            )
        return self


class ServingSettings(Section):
    """Numbers of candidates that a model has answered, in its warm-up requests, before the first one of a client."""

    warmup_candidates: tuple[Annotated[int, pydantic.Field(ge=1)], ...] = pydantic.Field((1, 100, 500), min_length=1)


class RunSettings(Section):
    """Local run: where everything lies, how many stages run at a time, and how many Beam workers each of them has.

    `beam_options` are Beam's own: for a runner other than the direct one (`--runner=FlinkRunner`, ...), which then are
    all that it gets, or for file systems (`--hdfs_host=...`).
    """

    root: str = "runs"
    processes: int = pydantic.Field(2, ge=1, le=2)
    beam_workers: int = pydantic.Field(1, ge=0)
    beam_options: tuple[Annotated[str, pydantic.Field(pattern="^--")], ...] = ()


class Settings(Section):
    """All settings of a run; `Settings.load` reads one YAML file."""

    name: str = pydantic.Field("amen", pattern=r"^[A-Za-z0-9_-]+$")
    preset: Literal["smoke", "demo", "paper"] | None = None
    seed: int = pydantic.Field(17, ge=0)
    warm_start: WarmStartSettings = WarmStartSettings()
    data: DataSettings
    split: SplitSettings = SplitSettings()
    transform: TransformSettings = TransformSettings()
    model: ModelSettings = ModelSettings()
    base: BaseSettings = BaseSettings()
    generator: GeneratorSettings = GeneratorSettings()
    ctr: CtrSettings = CtrSettings()
    compute: ComputeSettings = ComputeSettings()
    gate: GateSettings = GateSettings()
    push: PushSettings = PushSettings()
    serving: ServingSettings = ServingSettings()
    run: RunSettings = RunSettings()

    @pydantic.model_validator(mode="after")
    def _spans_need_a_log_in_spans(self):
        spans, read = self.split.spans, (self.data.first_span, self.data.last_span)
        if spans is not None and spans.newest is None and read != (None, None):
            raise ValueError(
                "data.first_span, data.last_span: split.spans says which spans are read; "
                "give split.spans.newest instead"
            )
        if not in_spans(self.data.log):
            given = [
                name
                for name, value in (
                    ("split.spans", self.split.spans),
                    ("data.first_span", self.data.first_span),
                    ("data.last_span", self.data.last_span),
                )
                if value is not None
            ]
            if given:
                raise ValueError(
                    f"{', '.join(given)}: expected data.log to be a pattern with {{SPAN}} or {{YYYY}}, {{MM}} and "
                    f"{{DD}}, got {self.data.log}"
                )
        return self

    @pydantic.model_validator(mode="after")
    def _hashed_columns_are_categorical(self):
        valid = FeatureContract.from_settings(self).categorical_meanings
        unknown = sorted(set(self.transform.hash_buckets) - set(valid))
        if unknown:
            raise ValueError(
                f"transform.hash_buckets: expected categorical columns ({', '.join(valid)}), got {', '.join(unknown)}"
            )
        return self

    @classmethod
    def load(cls, path: str | pathlib.Path, overrides: tuple[str, ...] = ()) -> "Settings":
        """Reads a YAML file; `overrides` are `section.key=value` strings that win over it.

        Raises:
          SettingsError: the file is missing, is not YAML, or breaks a rule; every fault is listed with its key.
        """
        path = pathlib.Path(path)
        if not path.is_file():
            raise SettingsError(f"No settings file at {path}. Expected a YAML file; `amen init` writes a first one.")
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except (yaml.YAMLError, UnicodeDecodeError) as e:
            raise SettingsError(f"{path} is not YAML: {e}") from e
        settings = cls.parse(content, source=str(path), overrides=overrides)
        # Relative to the file, so that a folder of settings and data can be moved and run from anywhere.
        given = {name: getattr(settings.data, name) for name in ("log", "item_table", "user_table", "schema_file")}
        places = {n: str((path.parent / p).resolve()) for n, p in given.items() if p is not None and "://" not in p}
        return settings.model_copy(update={"data": settings.data.model_copy(update=places)})

    @classmethod
    def from_preset(cls, name: str, overrides: tuple[str, ...] = ()) -> "Settings":
        """The preset `name` with overrides; see `PRESETS`."""
        return cls.parse({"preset": name}, source=f"preset {name}", overrides=overrides)

    @classmethod
    def parse(cls, content: Any, source: str, overrides: tuple[str, ...] = ()) -> "Settings":
        """Validates a mapping as read from YAML; `source` is named in error messages."""
        if not isinstance(content, dict):
            raise SettingsError(f"{source}: expected a mapping of settings, got {type(content).__name__}.")
        for override in overrides:
            content = merged(content, from_override(override))
        preset = content.get("preset")
        if preset is not None:
            if preset not in PRESETS:
                raise SettingsError(f"{source}: preset: expected one of {', '.join(PRESETS)}, got {preset!r}.")
            content = over_preset(preset, content)
        try:
            return cls.model_validate(content)
        except pydantic.ValidationError as e:
            faults = "\n".join(f"  {explain(cls, fault)}" for fault in e.errors())
            raise SettingsError(f"{source} has settings that cannot be used:\n{faults}") from e

    def to_yaml(self) -> str:
        """The full settings, defaults included, as YAML that `load` reads back to an equal object."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)
