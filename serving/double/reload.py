"""Whether a models.config that has changed is taken over: as the server, either all of it or nothing."""

from collections.abc import Collection, Mapping, Sequence

from serving.double.config import ModelConfig


def refused_label(
    now: Mapping[str, ModelConfig], then: Sequence[ModelConfig], available: Mapping[str, Collection[int]]
) -> str | None:
    """Why the new configuration is refused; None where it is not.

    A label in use moves only to a version that is loaded. A new one may name any, which is what the server's flag
    `--allow_version_labels_for_unavailable_models` says.

    Args:
        now: model name -> what is served.
        then: what should be served.
        available: model name -> the versions that are AVAILABLE.
    """
    for config in then:
        labels = now[config.name].labels if config.name in now else {}
        for label, version in config.labels.items():
            if labels.get(label, version) != version and version not in available.get(config.name, ()):
                return (
                    f"Request to assign label to version {version} of model {config.name}, which is not currently "
                    "available for inference"
                )
    return None
