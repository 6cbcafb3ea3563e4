"""What a process that runs stages on this machine sets once, and the options of Beam's direct runner."""

import functools
import gc
import types
from collections.abc import Callable, Sequence


def beam_arguments(workers: int, given: Sequence[str] = ()) -> list[str]:
    """Options of the direct runner, and those that are given, which may name another runner.

    With one worker everything runs in one process, and examples come in the same order in every run.

    Args:
      workers: of the direct runner.
      given: `run.beam_options`.
    """
    if any(option.startswith("--runner=") for option in given):
        return list(given)
    mode = "in_memory" if workers == 1 else "multi_processing"
    return [
        f"--direct_num_workers={workers}",
        f"--direct_running_mode={mode}",
        "--max_cache_memory_usage_mb=0",
        # Any image name will do: without one TFX packs itself up for remote workers, at every stage.
        "--sdk_container_image=local",
        *given,
    ]


def collect_garbage_rarely() -> None:
    """To be called before TensorFlow and TFX are imported: among a million new objects there is no garbage to find."""
    gc.set_threshold(100_000, 20, 20)


def settle() -> None:
    """To be called when everything is imported; makes stages a fifth faster.

    What is there is set aside from the search for garbage. Beam is kept from two things that take it longer than the
    computation itself on small logs: measuring everything in its cache of side inputs, which is turned off (for
    workers inside this process that has no option, `--max_cache_memory_usage_mb` is for those outside), and working out
    the signature of each of the 30 methods of a DoFn dozens of times.
    """
    from apache_beam.runners.portability.fn_api_runner import worker_handlers
    from apache_beam.transforms import core

    worker_handlers.STATE_CACHE_SIZE_MB = 0
    if not hasattr(core.get_signature, "cache_info"):
        core.get_signature = _remembering(core.get_signature)
    gc.freeze()


def _remembering(get_signature: Callable) -> Callable:
    """Beam's `get_signature`, asked once per method and not once per object that has it."""

    @functools.lru_cache(maxsize=10_000)
    def of_method(function: types.FunctionType):
        return get_signature(types.MethodType(function, object()))

    @functools.wraps(get_signature)
    def remembered(function):
        plain = isinstance(function, types.MethodType) and isinstance(function.__func__, types.FunctionType)
        return of_method(function.__func__) if plain else get_signature(function)

    remembered.cache_info = of_method.cache_info
    return remembered
