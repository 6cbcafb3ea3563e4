"""Which model the gate compares with: the last one blessed before the candidate."""

from tfx.components.evaluator import constants
from tfx.dsl.components.common import resolver


class LastBlessedBefore(resolver.ResolverStrategy):
    """Resolves `model` to the newest blessed model that is older than `candidate`; to nothing if there is none.

    TFX's LatestBlessedModelStrategy would find the candidate itself when a run is repeated: the gate would then
    compare a model with itself, and the Evaluator and Pusher of an unchanged run would never be cached.
    """

    def resolve_artifacts(self, store, input_dict):
        """`candidate`, `model` and `model_blessing` -> the same keys with at most one artifact each."""
        candidates = input_dict["candidate"]
        nothing = {"candidate": candidates, "model": [], "model_blessing": []}
        if not candidates:
            return nothing
        blessings = {
            blessing.get_int_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY): blessing
            for blessing in input_dict["model_blessing"]
            if blessing.get_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY) == 1
        }
        older = [m for m in input_dict["model"] if m.id in blessings and m.id < candidates[0].id]
        if not older:
            return nothing
        newest = max(older, key=lambda model: model.id)
        return {"candidate": candidates, "model": [newest], "model_blessing": [blessings[newest.id]]}
