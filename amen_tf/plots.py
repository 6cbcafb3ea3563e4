"""Figures 2 and 3 of the paper as functions of a trained CTR model, as PNG files and as images for TensorBoard."""

import io
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.stats import gaussian_kde

from amen_tf.features import (
    BEHAVIOR,
    CANDIDATE,
    CANDIDATE_MASK,
    CATEGORY_ID,
    ITEM_ID,
    LABEL,
    MOVELINE,
    PAD_ID,
    is_of_candidates,
)
from amen_tf.models.ctr import CtrModel


class Probe(NamedTuple):
    """One request whose candidates were chosen to look into its flow.

    Attributes:
      features: a batch of that one request, candidates `[1, K]`.
      clicked: `[K]` bool, which of them the user clicked in this very request.
    """

    features: dict[str, tf.Tensor]
    clicked: np.ndarray


def choose_probe(features: Mapping[str, tf.Tensor], targets: int = 8, items: Sequence[int] = ()) -> Probe:
    """The request with the longest moveline and a click, probed with its own candidates and with those of others.

    Half of the targets at most are the request's own, the clicked ones first; the rest are of other requests, one of
    each category that is not there yet.

    Args:
      features: a batch with labels, at least one request.
      targets: K, at most, where they are chosen here.
      items: transformed ids of the items to probe with instead; each is taken as it was shown in one of the requests.

    Raises:
      ValueError: one of `items` was shown in none of the requests.
    """
    columns = {name: column.numpy() for name, column in features.items()}
    label = columns[LABEL]
    length = (columns[MOVELINE + BEHAVIOR] != PAD_ID).sum(1)
    row = int(np.argmax(length + 1e6 * (label.sum(1) > 0)))
    chosen = [_shown_at(columns, row, item) for item in items] or _of_many_categories(columns, row, targets)
    rows, places = (np.array(x) for x in zip(*chosen, strict=True))
    probe = {}
    for name, column in columns.items():
        wide = is_of_candidates(name)
        probe[name] = tf.constant(column[rows, places][np.newaxis] if wide else column[row : row + 1])
    clicked = (rows == row) & (label[rows, places] > 0.5)
    return Probe(probe, clicked)


def _of_many_categories(columns: Mapping[str, np.ndarray], row: int, targets: int) -> list[tuple[int, int]]:
    """Places (request, candidate) of the row's own candidates and of one item of each category that they lack."""
    own = np.flatnonzero(columns[CANDIDATE_MASK][row])
    own = own[np.argsort(-columns[LABEL][row][own], kind="stable")][: max(1, targets // 2)]
    chosen = [(row, int(n)) for n in own]
    categories = {int(columns[CANDIDATE + CATEGORY_ID][at]) for at in chosen}
    for at in zip(*np.nonzero(columns[CANDIDATE_MASK]), strict=True):
        category = int(columns[CANDIDATE + CATEGORY_ID][at])
        if len(chosen) < targets and category not in categories and columns[CANDIDATE + ITEM_ID][at] != PAD_ID:
            chosen.append(at)
            categories.add(category)
    return chosen


def _shown_at(columns: Mapping[str, np.ndarray], row: int, item: int) -> tuple[int, int]:
    """Where an item was shown: in the row's own request if it was, else in the first that has it."""
    shown = np.argwhere((columns[CANDIDATE + ITEM_ID] == item) & columns[CANDIDATE_MASK])
    if not len(shown):
        raise ValueError(f"Expected items that were shown in these requests, got id {item}, which was not.")
    own = shown[shown[:, 0] == row]
    return tuple((own if len(own) else shown)[0])


def alignment_heat_map(model: CtrModel, probe: Probe, name: Callable[[int], str] = str) -> Figure:
    """Figure 2: which parts of the flow each target item reads, by the attention of Eq. (7).

    A row is a target item, a column one head of one flow state; the numbers of a row's heads add up to 1 over the
    states. The clicked items are marked.

    Args:
      model: with alignment.
      probe: of `choose_probe`.
      name: gives an item's name for its transformed id.
    """
    weights = model.alignment_weights(probe.features)[0].numpy()
    heads, targets, states = weights.shape
    grid = weights.transpose(1, 2, 0).reshape(targets, states * heads)
    figure = Figure(figsize=(2.2 + 0.34 * states * heads, 1.4 + 0.36 * targets), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(grid, cmap="viridis", vmin=0, vmax=max(1e-9, grid.max()), aspect="auto")
    for state in range(1, states):
        axes.axvline(state * heads - 0.5, color="white", linewidth=1.5)
    axes.set_xticks([heads * s + (heads - 1) / 2 for s in range(states)], [_state_name(s) for s in range(states)])
    ids = probe.features[CANDIDATE + ITEM_ID].numpy()[0]
    labels = [name(int(i)) + (" (clicked)" if clicked else "") for i, clicked in zip(ids, probe.clicked, strict=True)]
    axes.set_yticks(range(targets), labels)
    axes.set_xlabel(f"flow state, {heads} heads each")
    axes.set_title("Semantic alignment: what each target reads of the flow", fontsize=10)
    figure.colorbar(image, ax=axes, label="attention")
    return figure


def _state_name(step: int) -> str:
    return "f(t0)" if step == 0 else f"f(t0+{step})"


class CalibrationScores(NamedTuple):
    """c_tsp of impressions `[n]`, and whether each was clicked `[n]` bool."""

    score: np.ndarray
    clicked: np.ndarray


def calibration_scores(model: CtrModel, batches: Iterable[Mapping[str, tf.Tensor]]) -> CalibrationScores:
    """c_tsp of every real candidate in `batches`."""
    score = tf.function(lambda features: model.score(features, training=False).calibration, autograph=False)
    scores, clicked = [], []
    for features in batches:
        mask = features[CANDIDATE_MASK].numpy()
        scores.append(score(features).numpy()[mask])
        clicked.append(features[LABEL].numpy()[mask] > 0.5)
    return CalibrationScores(np.concatenate(scores), np.concatenate(clicked))


def calibration_density(variants: Mapping[str, CalibrationScores]) -> Figure:
    """Figure 3: density of c_tsp for clicked and unclicked impressions, one panel a variant, all on one scale.

    Args:
      variants: title -> scores, for instance of a model with and of one without the TSP task.
    """
    figure = Figure(figsize=(4.2 * len(variants), 3.2), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(variants), sharex=True))
    every = np.concatenate([scores.score for scores in variants.values()])
    low, high = np.quantile(every, [0.001, 0.999]) if len(every) else (-1.0, 1.0)
    margin = max(0.05 * (high - low), 1e-3)
    grid = np.linspace(low - margin, high + margin, 400)
    for axes, (title, scores) in zip(panels, variants.items(), strict=True):
        for is_clicked, colour, said in ((True, "tab:red", "clicked"), (False, "tab:blue", "unclicked")):
            values = scores.score[scores.clicked == is_clicked]
            axes.fill_between(grid, density(values, grid), color=colour, alpha=0.35, label=f"{said}, {len(values):,}")
            if len(values):
                axes.axvline(values.mean(), color=colour, linewidth=1)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("c_tsp")
        axes.legend(fontsize=8)
    panels[0].set_ylabel("density")
    return figure


def density(values: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Gaussian kernel density of `values` on `grid`, both `[.]`; zero where there is nothing to estimate from."""
    if len(values) < 2 or np.ptp(values) < 1e-9:
        return np.zeros_like(grid)
    return gaussian_kde(values.astype(np.float64))(grid)


def write_png(figure: Figure, path: str | pathlib.Path) -> None:
    """Writes a figure as a PNG file."""
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=120, format="png")


def write_images(figures: Mapping[str, Figure], log_dir: str | pathlib.Path) -> list[pathlib.Path]:
    """Writes figures as images for TensorBoard, and as PNG files beside them.

    Args:
      figures: name -> figure.
      log_dir: of a run; images come under `validation`.

    Returns:
      the PNG files, in the order of `figures`.
    """
    folder = pathlib.Path(log_dir) / "validation"
    folder.mkdir(parents=True, exist_ok=True)
    writer, paths = tf.summary.create_file_writer(str(folder)), []
    # Recorded whatever a training that was broken off left behind.
    with writer.as_default(step=0), tf.summary.record_if(True):
        for name, figure in figures.items():
            file = io.BytesIO()
            write_png(figure, file)
            paths.append(folder / f"{name}.png")
            paths[-1].write_bytes(file.getvalue())
            tf.summary.image(name, tf.io.decode_png(file.getvalue(), channels=4)[tf.newaxis])
    writer.close()
    return paths


def item_ids(words: Sequence[bytes], unseen: int) -> dict[str, int]:
    """The item's own id as text -> transformed item id. Arguments as of `item_names`, whose inverse it is."""
    return {word.decode("utf-8", "replace"): 1 + unseen + place for place, word in enumerate(words)}


def item_names(words: Sequence[bytes], unseen: int) -> Callable[[int], str]:
    """Transformed item id -> the item's own id as text.

    Args:
      words: the vocabulary, by rank; empty where items are hashed and their names not known.
      unseen: buckets before the first word.
    """

    def name(item: int) -> str:
        place = item - 1 - unseen
        if 0 <= place < len(words):
            return words[place].decode("utf-8", "replace")
        return f"new item, bucket {item}" if words else f"bucket {item}"

    return name
