"""Everything that decides which examples an event log becomes, as one JSON-able value.

In: the run's `Settings`. Out: `MovelineRules`, which travels in the stage's `custom_config`, so that the pipeline's
cache sees every change of it.
"""

import dataclasses
import json

from amen_tf.config import DataSettings, FeatureSettings, Settings, SpanSettings
from amen_tf.features import FeatureContract


@dataclasses.dataclass(frozen=True)
class MovelineRules:
    """The rules of one run.

    Attributes:
      contract: the raw columns to write, L and T.
      data: how the log is read and what its behaviours mean. What decides no example has one fixed value here, so
        that changing it makes none anew: where the log lies, how it was simulated, how Transform will cut numbers.
      split_names: splits in time order.
      split_ends: unix seconds, one per split: an example belongs to the first split with t < end. None for the last.
      start: unix seconds: earlier requests make no examples, their rows are history alone. None for no such time.
      spans: of a log in spans, how many are for which split, with the newest one named; they decide, and there are
        neither ends nor a start.
      seed: decides the order of the examples inside a file, nothing else.
    """

    contract: FeatureContract
    data: DataSettings
    split_names: tuple[str, ...]
    split_ends: tuple[int | None, ...]
    start: int | None = None
    spans: SpanSettings | None = None
    seed: int = 17

    def __post_init__(self):
        if self.spans is not None:
            if self.split_ends or self.start is not None:
                raise ValueError(f"Expected spans or borders in time, got {self.spans} and {self.borders}.")
            if self.spans.newest is None or self.data.impressions_as_clicks == "auto":
                raise ValueError(
                    "Expected spans.newest to be named and data.impressions_as_clicks always or never, got "
                    f"{self.spans.newest} and {self.data.impressions_as_clicks}. Resolve them against the log first."
                )
            expected = tuple(self.spans.sizes)
            if self.split_names != expected:
                raise ValueError(f"Expected the splits {expected} for {self.spans}, got {self.split_names}.")
            return
        borders = self.borders
        if (
            not self.split_names
            or len(self.split_names) != len(self.split_ends)
            or self.split_ends[-1] is not None
            or any(not isinstance(b, int) for b in borders)
            or sorted(set(borders)) != list(borders)
        ):
            raise ValueError(
                "Expected one ascending end in unix seconds per split and None for the last, "
                f"got names {self.split_names} and ends {self.split_ends}."
            )

    @property
    def borders(self) -> tuple[int, ...]:
        """The start, if there is one, and the ends of all splits but the last, ascending."""
        return (*(() if self.start is None else (self.start,)), *self.split_ends[:-1])

    @classmethod
    def from_settings(cls, settings: Settings) -> "MovelineRules":
        """The rules of a run.

        Raises:
          ValueError: the borders are still fractions of the log.
        """
        split = settings.split
        if split.spans is None and not split.resolved:
            raise ValueError(
                "Expected split borders in unix seconds, got fractions "
                f"(train_end={split.train_end}, eval_end={split.eval_end}). Resolve them against the log first."
            )
        stage1 = () if split.stage1_end is None else (split.stage1_end,)
        features = tuple(
            FeatureSettings(name=f.name, owner=f.owner, kind=f.kind, values=f.values, source=f.source)
            for f in settings.data.features
        )
        fixed = {"log": "input", "simulate": None, "schema_file": None, "features": features}
        data = settings.data.model_copy(update=fixed)
        contract = FeatureContract.from_settings(settings.model_copy(update={"data": data}))
        common = {"contract": contract, "data": data, "split_names": split.names, "seed": settings.seed}
        if split.spans is not None:
            return cls(**common, split_ends=(), spans=split.spans)
        return cls(**common, split_ends=(*stage1, split.train_end, split.eval_end, None), start=split.start)

    @property
    def of_one_span(self) -> "MovelineRules":
        """The same for the requests of one span, whichever it is: with one split, and nothing of the window."""
        data = self.data.model_copy(update={"first_span": None, "last_span": None, "user_shards": None})
        return dataclasses.replace(self, data=data, split_names=("span",), split_ends=(None,), spans=None)

    @property
    def diff_window(self) -> int:
        """How far back a diff sample may lie, in whole seconds (inclusive)."""
        return int(self.data.diff_window_hours * 3600)

    def impressions_enter(self, clicks_are_logged: bool) -> bool:
        """Whether positive impressions enter movelines and futures as clicks."""
        choice = self.data.impressions_as_clicks
        return choice == "always" or (choice == "auto" and not clicks_are_logged)

    def to_dict(self) -> dict:
        """JSON-able, with sorted meaning: equal rules give equal dictionaries."""
        return {
            "contract": json.loads(json.dumps(dataclasses.asdict(self.contract))),
            "data": self.data.model_dump(mode="json"),
            "split_names": list(self.split_names),
            "split_ends": list(self.split_ends),
            "start": self.start,
            "spans": None if self.spans is None else self.spans.model_dump(mode="json"),
            "seed": self.seed,
        }

    @classmethod
    def from_dict(cls, content: dict) -> "MovelineRules":
        """Inverse of `to_dict`."""
        return cls(
            contract=FeatureContract.from_dict(content["contract"]),
            data=DataSettings.model_validate(content["data"]),
            split_names=tuple(content["split_names"]),
            split_ends=tuple(content["split_ends"]),
            start=content["start"],
            spans=None if content["spans"] is None else SpanSettings.model_validate(content["spans"]),
            seed=content["seed"],
        )
