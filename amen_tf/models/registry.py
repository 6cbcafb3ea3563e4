"""The rankers that can be trained by name; adding one is one file beside these and one line here."""

from amen_tf.models.base import BaseModel
from amen_tf.models.baselines.din import DIN
from amen_tf.models.baselines.wide_and_deep import WideAndDeep
from amen_tf.models.candidate_ranker import CandidateRanker
from amen_tf.spec import ModelSpec

RANKERS: dict[str, type[CandidateRanker]] = {
    "wide_and_deep": WideAndDeep,
    "din": DIN,
    "base": BaseModel,
}


def make_ranker(name: str, spec: ModelSpec) -> CandidateRanker:
    """The ranker called `name`.

    Raises:
      ValueError: there is none of that name.
    """
    if name not in RANKERS:
        raise ValueError(f"base.architecture: expected one of {', '.join(RANKERS)}, got {name!r}.")
    return RANKERS[name](spec, name=name)
