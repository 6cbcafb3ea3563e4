"""The one contract of feature names, kinds and shapes; every other room imports it and adds none of its own.

Raw columns are what ExampleGen writes and clients send: one tf.Example is one request with its moveline and its N
candidates. Transformed columns are what the models read: ids and buckets, movelines padded on the left to `[L]`.
"""

import dataclasses
from collections.abc import Iterable
from typing import Literal

# Id 0 means "nothing here" in every transformed column: padding, an absent value, an event without an item.
PAD_ID = 0

ITEM_ID, CATEGORY_ID = "item_id", "category_id"
SCENE, BEHAVIOR, TIMESTAMP, AGE = "scene", "behavior", "timestamp", "age"
LABEL, USER_ID, REQUEST_ID = "label", "user_id", "request_id"
# Raw only, of a log in spans: the number of the span that a row, or a request, is of.
SPAN = "log_span"
# Transformed only: a hash that tells users apart inside a batch (same-user negatives are masked). Never embedded.
USER_KEY = "user_key"
CANDIDATE_MASK = "candidate_mask"
MOVELINE, CANDIDATE, FUTURE = "moveline_", "candidate_", "future_"
# What the frozen generator gives: F̂ `[B, T, d]`, S_div `[B, T]`, v `[B, T, d]`.
FLOW, DIVERSITY, VELOCITY = "flow", "diversity", "velocity"
DIFF_CLICKED, DIFF_UNCLICKED, MOVELINE_LENGTH = "diff_clicked_", "diff_unclicked_", "moveline_length"

# Ages are cut at powers of sqrt(2) seconds: 1 s, 1.4 s, 2 s, ... 2^31 s; fine for recent events, coarse for old ones.
AGE_BUCKETS = 64
# Between the values of a multi-valued column, in the log and in requests: "jazz|live|vinyl".
VALUE_SEPARATOR = "|"

Kind = Literal["string", "int", "float"]
Owner = Literal["user", "item", "candidate", "context"]


def is_of_candidates(column: str) -> bool:
    """Whether a transformed column has a value for each candidate, `[B, N]`."""
    return column == LABEL or column.startswith(CANDIDATE)


@dataclasses.dataclass(frozen=True)
class Feature:
    """A declared column: its owner, what its values are, its quantile buckets, and how many values a row may have.

    A multi-valued column is one text in raw examples and so many columns of ids in transformed ones.
    """

    name: str
    owner: Owner
    kind: Literal["categorical", "numeric", "multi_valued"]
    buckets: int = 16
    values: int = 1

    @property
    def fields(self) -> tuple[str, ...]:
        """The feature's columns after Transform: its name, or name_1, name_2, ... of which the first are filled."""
        if self.kind != "multi_valued":
            return (self.name,)
        return tuple(f"{self.name}_{place}" for place in range(1, self.values + 1))


@dataclasses.dataclass(frozen=True)
class RawColumn:
    """A column of the raw tf.Example. `scalar` columns hold one value a request, the others a list."""

    name: str
    kind: Kind
    scalar: bool
    # What the values mean, shared by all columns of one vocabulary: item_id, scene, brand, ...
    meaning: str


@dataclasses.dataclass(frozen=True)
class FeatureContract:
    """All columns of a run, from the declared features, the lengths L (moveline) and T (flow), and where spans are."""

    moveline_length: int
    flow_length: int
    declared: tuple[Feature, ...] = ()
    in_spans: bool = False

    @classmethod
    def from_settings(cls, settings) -> "FeatureContract":
        """The contract of a `config.Settings`."""
        declared = tuple(f.feature for f in settings.data.features)
        in_spans = settings.split.spans is not None
        return cls(settings.model.moveline_length, settings.model.flow_length, declared, in_spans)

    @classmethod
    def from_dict(cls, content: dict) -> "FeatureContract":
        """Inverse of `dataclasses.asdict`, for contracts stored as JSON."""
        declared = tuple(Feature(**f) for f in content["declared"])
        # Models of before logs in spans had it lack it.
        return cls(content["moveline_length"], content["flow_length"], declared, content.get("in_spans", False))

    def owned_by(self, *owners: Owner) -> tuple[Feature, ...]:
        """Declared features of these owners, in the order of declaration."""
        return tuple(f for f in self.declared if f.owner in owners)

    def feature(self, name: str) -> Feature:
        """The declared feature called `name`."""
        return next(f for f in self.declared if f.name == name)

    def _names(self, *owners: Owner) -> tuple[str, ...]:
        return tuple(f.name for f in self.owned_by(*owners))

    def _fields(self, *owners: Owner) -> tuple[str, ...]:
        return tuple(field for f in self.owned_by(*owners) for field in f.fields)

    @property
    def item_fields(self) -> tuple[str, ...]:
        """What an item is made of everywhere after Transform: id, category and the declared item features."""
        return (ITEM_ID, CATEGORY_ID, *self._fields("item"))

    @property
    def candidate_fields(self) -> tuple[str, ...]:
        """An item plus how it was shown in this request, after Transform."""
        return (*self.item_fields, *self._fields("candidate"))

    @property
    def request_fields(self) -> tuple[str, ...]:
        """Declared features of the request, after Transform."""
        return self._fields("user", "context")

    def meaning_of(self, field: str) -> str:
        """Whose ids a transformed field holds: the feature's of name_2, else its own."""
        return next((f.name for f in self.declared if field in f.fields), field)

    @property
    def moveline_fields(self) -> tuple[str, ...]:
        """What the models read of each moveline event (`age` is made of the timestamps)."""
        return (*self.item_fields, SCENE, BEHAVIOR, AGE)

    def kind_of(self, field: str) -> Kind:
        """Raw kind of a column: declared numeric features are floats, all others strings."""
        declared = {f.name: f.kind for f in self.declared}
        return "float" if declared.get(field) == "numeric" else "string"

    @property
    def categorical_meanings(self) -> tuple[str, ...]:
        """One vocabulary each: item_id, category_id, scene, behavior and the declared features but the numeric ones."""
        return (ITEM_ID, CATEGORY_ID, SCENE, BEHAVIOR, *(f.name for f in self.declared if f.kind != "numeric"))

    @property
    def numeric_features(self) -> tuple[Feature, ...]:
        """Declared numeric features: quantile buckets 1..buckets, 0 = missing."""
        return tuple(f for f in self.declared if f.kind == "numeric")

    @property
    def _item_names(self) -> tuple[str, ...]:
        return (ITEM_ID, CATEGORY_ID, *self._names("item"))

    def _of(self, prefix: str, fields: Iterable[str], scalar: bool) -> list[RawColumn]:
        return [RawColumn(prefix + f, self.kind_of(f), scalar, f) for f in fields]

    @property
    def request_columns(self) -> tuple[RawColumn, ...]:
        """Raw columns with one value a request: what a client sends beside moveline and candidates."""
        return (
            RawColumn(TIMESTAMP, "int", True, TIMESTAMP),
            RawColumn(SCENE, "string", True, SCENE),
            *self._of("", self._names("user", "context"), True),
        )

    @property
    def moveline_columns(self) -> tuple[RawColumn, ...]:
        """Raw list columns of the moveline, oldest event first, all of equal length."""
        return (
            *self._of(MOVELINE, self._item_names, False),
            RawColumn(MOVELINE + SCENE, "string", False, SCENE),
            RawColumn(MOVELINE + BEHAVIOR, "string", False, BEHAVIOR),
            RawColumn(MOVELINE + TIMESTAMP, "int", False, TIMESTAMP),
        )

    @property
    def candidate_columns(self) -> tuple[RawColumn, ...]:
        """Raw list columns of the N candidates, all of equal length."""
        return tuple(self._of(CANDIDATE, (*self._item_names, *self._names("candidate")), False))

    @property
    def flow_columns(self) -> tuple[RawColumn, ...]:
        """Raw columns that the flow is made of: the moveline, and the time that its ages count from."""
        return (*(c for c in self.request_columns if c.name == TIMESTAMP), *self.moveline_columns)

    @property
    def rank_columns(self) -> tuple[RawColumn, ...]:
        """Raw columns of a request that is to be ranked."""
        return (*self.request_columns, *self.moveline_columns, *self.candidate_columns)

    @property
    def raw_columns(self) -> tuple[RawColumn, ...]:
        """Every column of a raw training example, in the order in which ExampleGen writes them."""
        diff = [
            column
            for prefix in (DIFF_CLICKED, DIFF_UNCLICKED)
            for column in (
                *self._of(prefix, self._item_names, True),
                RawColumn(prefix + MOVELINE_LENGTH, "int", True, MOVELINE_LENGTH),
            )
        ]
        return (
            RawColumn(USER_ID, "string", True, USER_ID),
            RawColumn(REQUEST_ID, "string", True, REQUEST_ID),
            *([RawColumn(SPAN, "int", True, SPAN)] if self.in_spans else []),
            *self.request_columns,
            *self.moveline_columns,
            *self.candidate_columns,
            RawColumn(LABEL, "int", False, LABEL),
            *self._of(FUTURE, self._item_names, False),
            *diff,
        )
