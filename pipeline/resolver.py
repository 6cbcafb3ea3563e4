"""Which earlier models a run looks at: the one that the gate compares with, and those that it starts warm from."""

from collections.abc import Mapping, Sequence

from tfx.components.evaluator import constants
from tfx.dsl.components.common import resolver
from tfx.types import Artifact

from pipeline.trainers.component import BORDERS, SHARED_SETTINGS, STAGE


class LastBlessedBefore(resolver.ResolverStrategy):
    """Resolves `model` to the newest blessed model that is older than `candidate`; to nothing if there is none.

    TFX's LatestBlessedModelStrategy would find the candidate itself when a run is repeated: the gate would then
    compare a model with itself, and the Evaluator and Pusher of an unchanged run would never be cached.

    On a run for an older day a model whose training ended later than the candidate's is passed over: it may have
    learned from the very clicks that the candidate is tested on. Where one of the two has no label, nobody can tell.
    """

    def resolve_artifacts(self, store, input_dict):
        """`candidate`, `model` and `model_blessing` -> the same keys with at most one artifact each."""
        candidates = input_dict["candidate"]
        nothing = {"candidate": candidates, "model": [], "model_blessing": []}
        if not candidates:
            return nothing
        blessings = _blessings(input_dict["model_blessing"])
        older = [m for m in input_dict["model"] if m.id in blessings and _is_predecessor(m, candidates[0])]
        if not older:
            return nothing
        newest = max(older, key=lambda model: model.id)
        return {"candidate": candidates, "model": [newest], "model_blessing": [blessings[newest.id]]}


class LastBlessedOfEarlierWindow(resolver.ResolverStrategy):
    """Resolves `model` to the blessed model of the newest window before a run's, and `baseline` to that of its run.

    A window lies before another if it ends earlier (`eval_end`) and neither stage 1 nor training end later: a model
    that was trained on what this run is judged by, or a generator that has seen the clicks of this run's stage 2, would
    know the answers. So a run that is repeated never finds itself, and finds what it found the first time unless an
    earlier one was repeated in between.

    Of several models of one window the newest counts. Its baseline is of the same window and the same settings, as far
    as a run's Trainers share them: a run of other settings that was refused leaves a baseline too. Each key is resolved
    to nothing if there is none.

    Args:
      borders: where the run's windows end, see `pipeline.trainers.component.borders`.
      baseline: the stage that trains baselines.
    """

    def __init__(self, borders: Mapping[str, int], baseline: str):
        self._borders, self._baseline = [borders[name] for name in BORDERS], baseline

    def resolve_artifacts(self, store, input_dict):
        """`model`, `model_blessing` and `baseline` -> the same keys with at most one artifact each."""
        blessings = _blessings(input_dict["model_blessing"])
        earlier = [model for model in input_dict["model"] if model.id in blessings and self._is_earlier(model)]
        if not earlier:
            return {key: [] for key in input_dict}
        newest = max(earlier, key=lambda model: (_borders(model)[-1], model.id))
        baselines = [
            model
            for model in input_dict["baseline"]
            if model.get_string_custom_property(STAGE) == self._baseline and _run(model) == _run(newest)
        ]
        baseline = sorted(baselines, key=lambda model: model.id)[-1:]
        return {"model": [newest], "model_blessing": [blessings[newest.id]], "baseline": baseline}

    def _is_earlier(self, model: Artifact) -> bool:
        found = _borders(model)
        # Models of other pipelines' Trainers have no borders.
        no_later = all(found) and all(theirs <= ours for theirs, ours in zip(found, self._borders, strict=True))
        return no_later and found[-1] < self._borders[-1]


def _is_predecessor(model: Artifact, candidate: Artifact) -> bool:
    """Whether a model was there before the candidate, and knows no later clicks."""
    (_, ended, _), (_, ends, _) = _borders(model), _borders(candidate)
    return model.id < candidate.id and (not ends or ended <= ends)


def _borders(model: Artifact) -> list[int]:
    """Stage 1, training and eval end: unix seconds, 0 where a model is not labelled."""
    return [model.get_int_custom_property(name) for name in BORDERS]


def _run(model: Artifact) -> tuple[str, list[int]]:
    """What the models of one run have in common: settings, empty where a model is not labelled, and borders."""
    return model.get_string_custom_property(SHARED_SETTINGS), _borders(model)


def _blessings(blessings: Sequence[Artifact]) -> dict[int, Artifact]:
    """Id of a blessed model -> its blessing."""
    return {
        blessing.get_int_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY): blessing
        for blessing in blessings
        if blessing.get_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY) == 1
    }
