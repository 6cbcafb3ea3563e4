"""Which models to serve: one push folder, or a models.config file as TensorFlow Serving takes it."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from serving.double.errors import ModelConfigError


@dataclasses.dataclass(frozen=True)
class VersionPolicy:
    """Which of the version folders present are to be served.

    Attributes:
        kind: "latest" (the `num_versions` highest), "all" or "specific" (those in `versions`).
    """

    kind: str = "latest"
    num_versions: int = 1
    versions: tuple[int, ...] = ()

    def select(self, present: Sequence[int]) -> list[int]:
        """The versions to serve out of those present, ascending."""
        if self.kind == "latest":
            return sorted(present)[-self.num_versions :]
        wanted = present if self.kind == "all" else set(present) & set(self.versions)
        return sorted(wanted)


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """One model: its name in URLs, its folder of version folders, its policy and its version labels."""

    name: str
    base_path: Path
    policy: VersionPolicy = VersionPolicy()
    labels: Mapping[str, int] = dataclasses.field(default_factory=dict)


def read_models_config(path: str | Path) -> list[ModelConfig]:
    """Reads a ModelServerConfig in text form.

    Args:
        path: the models.config file.

    Returns:
        The models of its `model_config_list`.

    Raises:
        ModelConfigError: the file is missing, is no such message, or says what cannot be served.
    """
    from google.protobuf import text_format

    try:
        from tensorflow_serving.config import model_server_config_pb2
    except ImportError as error:
        raise ModelConfigError(
            "Reading models.config needs the package tensorflow-serving-api, which TFX brings along: "
            "`pip install tensorflow-serving-api`, or serve one push folder without models.config."
        ) from error
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelConfigError(
            f"models.config '{path}' cannot be read: {error}. Name an existing text file, or leave it out and give the "
            "push folder."
        ) from error
    try:
        message = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    except text_format.ParseError as error:
        raise ModelConfigError(
            f"models.config '{path}' is not a ModelServerConfig in text form: {error} (line:column). Expected "
            'model_config_list { config { name: "amen" base_path: "/models/amen" model_platform: "tensorflow" } }.'
        ) from error
    models = [_model(entry, path) for entry in message.model_config_list.config]
    if not models:
        raise ModelConfigError(f"models.config '{path}' names no model: expected model_config_list with an entry.")
    names = [model.name for model in models]
    for name in names:
        if names.count(name) > 1:
            raise ModelConfigError(f"models.config '{path}': the model name '{name}' is given more than once.")
    return models


def _model(entry, path: str | Path) -> ModelConfig:
    if not entry.name or not entry.base_path:
        raise ModelConfigError(
            f"models.config '{path}': every config needs name and base_path; got name '{entry.name}' and base_path "
            f"'{entry.base_path}'."
        )
    if entry.model_platform not in ("", "tensorflow"):
        raise ModelConfigError(
            f"models.config '{path}': model '{entry.name}' has model_platform '{entry.model_platform}'; only "
            "'tensorflow' can be served."
        )
    return ModelConfig(entry.name, Path(entry.base_path), _policy(entry), dict(entry.version_labels))


def _policy(entry) -> VersionPolicy:
    policy = entry.model_version_policy
    kind = policy.WhichOneof("policy_choice") or "latest"
    if kind == "specific":
        return VersionPolicy("specific", versions=tuple(policy.specific.versions))
    # 0 is the field's default and means one, as on the server.
    return VersionPolicy(kind, num_versions=policy.latest.num_versions or 1)
