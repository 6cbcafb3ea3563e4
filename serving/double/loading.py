"""Brings one version folder to the point where it answers: graph, variables, warm-up."""

import time
from pathlib import Path

from serving.double.metrics import Metrics
from serving.double.model import LoadedModel, as_api_error
from serving.double.warmup import replay_warmup


def load_version(folder: Path, timeout_seconds: float, metrics: Metrics) -> LoadedModel:
    """Loads a version and replays its warm-up requests.

    Args:
        folder: the version folder.
        timeout_seconds: for one run of its graph.
        metrics: told of the try and of the warm-up.

    Raises:
        ApiError: it does not load, or its warm-up fails; with the server's code.
    """
    begin = time.perf_counter()
    try:
        model = LoadedModel(folder, timeout_seconds)
    except Exception as error:  # a folder may vanish or change under the loader, so anything may come
        metrics.loaded(str(folder), False, time.perf_counter() - begin)
        raise as_api_error(error) from error
    metrics.loaded(str(folder), True, time.perf_counter() - begin)
    begin = time.perf_counter()
    try:
        if replay_warmup(model):
            metrics.warmed_up(str(folder), time.perf_counter() - begin)
    except Exception as error:
        model.retire()
        raise as_api_error(error) from error
    return model
