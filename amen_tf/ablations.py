"""The ablations of Table 2, and one of our own, by name: the same classes with other settings."""

from amen_tf.config import Settings

# Row of Table 2 -> what differs from the full model, by section.
ABLATIONS: dict[str, dict[str, dict]] = {
    "no_nif": {"ctr": {"use_flow": False}},
    # c_tsp stays in the logit and is trained by cross-entropy alone: Figure 3 shows its density without the task.
    "no_tsp": {"ctr": {"tsp_weight": 0.0}},
    "no_alignment": {"ctr": {"use_alignment": False}},
    "no_weight_init": {"generator": {"weight_init": False}},
    "no_diversity": {"generator": {"diversity_weight": 0.0}},
    "no_velocity": {"generator": {"velocity_weight": 0.0}},
    # Not of the paper: the flow by itself, without our soft search by the generator's item vectors.
    "no_similarity": {"ctr": {"moveline_similarity": False}},
}


def ablated(settings: Settings, name: str) -> Settings:
    """`settings` without one part of the model, or without several.

    Args:
      settings: of the full model.
      name: a key of `ABLATIONS`, or several joined by `+`: `no_nif+no_tsp`.

    Raises:
      ValueError: there is no ablation of that name.
    """
    for part in name.split("+"):
        if part not in ABLATIONS:
            raise ValueError(f"expected an ablation of {', '.join(ABLATIONS)}, got {part!r}")
        sections = {
            section: getattr(settings, section).model_copy(update=changes)
            for section, changes in ABLATIONS[part].items()
        }
        settings = settings.model_copy(update=sections)
    return settings
