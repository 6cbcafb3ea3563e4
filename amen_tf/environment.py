"""Says at import whether TensorFlow, tf-keras, TFX and Python fit together, and what to do when they do not.

In: installed versions (package metadata only, nothing heavy is imported), the environment variable TF_USE_LEGACY_KERAS
and, where TensorFlow is loaded already, which Keras it uses. Out: nothing, a warning, or an ImportError with the fix.
"""

import importlib.metadata
import os
import re
import sys
import warnings
from typing import NamedTuple

LEGACY_KERAS = "TF_USE_LEGACY_KERAS"
# The values that TensorFlow itself takes as "on"; every other one, "yes" or "TRUE" too, silently means Keras 3.
_LEGACY_KERAS_ON = ("1", "true", "True")

# The same library under several names: CPU-only and vendor builds of TensorFlow bring the same modules.
_TENSORFLOW = ("tensorflow", "tensorflow-cpu", "tensorflow-rocm", "tensorflow-intel")
_TF_KERAS = ("tf-keras",)
_TRANSFORM = ("tensorflow-transform",)

Minor = tuple[int, int]


class Stack(NamedTuple):
    """A combination that is locked in requirements/ and tested: minor versions as (major, minor)."""

    python: Minor
    tensorflow: Minor
    transform: Minor


STACKS = {
    "py310": Stack(python=(3, 10), tensorflow=(2, 16), transform=(1, 16)),
    "py311": Stack(python=(3, 11), tensorflow=(2, 21), transform=(1, 21)),
}


def use_keras_2() -> None:
    """Makes `tf.keras` Keras 2, which TensorFlow Transform, TFMA and TFRS need, unless TensorFlow is loaded already.

    TensorFlow reads the variable when it is imported; set later it would be a promise that nothing keeps.
    """
    if "tensorflow" not in sys.modules:
        os.environ.setdefault(LEGACY_KERAS, "1")


def check() -> None:
    """Checks Python, TensorFlow, tf-keras and TensorFlow Transform against the stacks in `STACKS`.

    Raises:
      ImportError: something is missing, too old, too new, of another stack than its partner, or Keras 3 is active.
    """
    _check_python(sys.version_info[:2])
    tensorflow = _installed(_TENSORFLOW)
    if tensorflow is None:
        raise ImportError(f"amen_tf needs TensorFlow, and none is installed in {sys.prefix}. {_fix()}")
    _check_pair(tensorflow, _installed(_TRANSFORM))
    _check_tf_keras(tensorflow, _installed(_TF_KERAS))
    _check_keras_2()


def _check_python(found: Minor) -> None:
    low, high = (pick(stack.python for stack in STACKS.values()) for pick in (min, max))
    if not low <= found <= high:
        raise ImportError(
            f"amen_tf runs on Python {_text(low)} to {_text(high)}; this is Python {_text(found)} at {sys.executable}. "
            f"{_fix(f'make a virtual environment with Python {_text(low)}')}"
        )


def _check_pair(tensorflow: str, transform: str | None) -> None:
    """Lets the tested pairs pass, warns for others whose halves both lie between them, and stops everything else."""
    found = (_minor(tensorflow), None if transform is None else _minor(transform))
    pairs = [(stack.tensorflow, stack.transform) for stack in STACKS.values()]
    low, high = min(pairs), max(pairs)
    if transform is None:
        # A host that only loads exported models needs no TFX: the Transform graph is inside the SavedModel.
        tested, between = found[0] in (low[0], high[0]), low[0] < found[0] < high[0]
    else:
        # Half a tested pair with another half is an environment that an installer mixed up; two halves that both lie
        # in between may well work, nobody has run them.
        tested, between = found in pairs, all(a < b < c for a, b, c in zip(low, found, high, strict=True))
    if tested:
        return
    expected = " or ".join(f"tensorflow {_text(a)} with tensorflow-transform {_text(b)}" for a, b in pairs)
    partner = "" if transform is None else f" with tensorflow-transform {transform}"
    message = f"amen_tf is tested with {expected}; found tensorflow {tensorflow}{partner}. {_fix()}"
    if not between:
        raise ImportError(message)
    warnings.warn(message, RuntimeWarning, stacklevel=4)


def _check_tf_keras(tensorflow: str, tf_keras: str | None) -> None:
    if tf_keras is not None and _minor(tf_keras) == _minor(tensorflow):
        return
    found = "none is installed" if tf_keras is None else f"found tf-keras {tf_keras}"
    command = f'pip install "tf-keras=={_text(_minor(tensorflow))}.*"'
    raise ImportError(
        f"amen_tf needs tf-keras (Keras 2) of the same minor version as tensorflow {tensorflow}; {found} in "
        f"{sys.prefix}. {_fix(command)}"
    )


def _check_keras_2() -> None:
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is None:
        value = os.environ.get(LEGACY_KERAS)
        if value not in _LEGACY_KERAS_ON:
            raise ImportError(
                f"amen_tf needs Keras 2, and {LEGACY_KERAS} is {value!r}, which TensorFlow reads as Keras 3; expected "
                f"one of {', '.join(_LEGACY_KERAS_ON)}. Leave it to amen_tf, which sets it: unset {LEGACY_KERAS}"
            )
        return
    # Keras 2 inside TensorFlow 2.16 and later has no `version` (TFRS tells the two apart in the same way).
    version = getattr(getattr(tensorflow, "keras", None), "version", None)
    if version is not None and str(version()).startswith("3."):
        raise ImportError(
            f"amen_tf needs Keras 2, and TensorFlow was imported before it with Keras {version()} active. Import "
            f"amen_tf before tensorflow, or set it for the whole process: export {LEGACY_KERAS}=1"
        )


def _installed(names: tuple[str, ...]) -> str | None:
    """Version of the first of these distributions that is installed, None when none is."""
    for name in names:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def _minor(version: str) -> Minor:
    match = re.match(r"(\d+)\.(\d+)", version)
    if match is None:
        raise ImportError(f"expected a version such as 2.16.2, got {version!r}. {_fix()}")
    return int(match[1]), int(match[2])


def _text(version: Minor) -> str:
    return f"{version[0]}.{version[1]}"


def _fix(command: str | None = None) -> str:
    locked = "in a clone of the repository, make setup installs versions that fit (requirements/README.md)"
    return f"To fix it: {command}; or, {locked}." if command else f"To fix it: {locked}."
