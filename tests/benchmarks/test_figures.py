"""Figures 2 and 3 of a small log: drawn from the rows that they name, with items by name, and told in numbers."""

import io
import json

import click
import numpy as np
import pytest
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from amen_tf import plots
from benchmarks import figures
from benchmarks.rows import Workshop


def test_both_figures_are_drawn_from_the_rows_they_name(prepared, tmp_path, monkeypatch):
    rows, titles, labels = [], [], []
    fit, density, heat_map = Workshop.fit, plots.calibration_density, plots.alignment_heat_map
    monkeypatch.setattr(Workshop, "fit", lambda self, row, seed: rows.append((row, seed)) or fit(self, row, seed))
    monkeypatch.setattr(plots, "calibration_density", lambda variants: titles.extend(variants) or density(variants))

    def named_map(model, probe, name):
        labels.extend(name(int(i)) for i in probe.features["candidate_item_id"].numpy()[0])
        return heat_map(model, probe, name)

    monkeypatch.setattr(plots, "alignment_heat_map", named_map)
    unseen = prepared.spec.unseen
    words = [b"i%d" % rank for rank in range(prepared.spec.sizes["item_id"] - 1 - unseen)]
    said = io.StringIO()
    workshop = Workshop(prepared._replace(item_words=words), tmp_path, lambda progress: None)
    names = {word.decode(): f"tent {word.decode()}" for word in words}
    figures.draw(workshop, 1, names, [], Console(file=said, width=200))
    assert rows == [("amen", 1), ("no_nif", 1), ("no_nif+no_tsp", 1)]
    assert titles == ["with TSP, w/o NIF", "w/o TSP, w/o NIF"]
    assert all(label.startswith(("tent i", "new item")) for label in labels) and any(
        "tent" in label for label in labels
    )
    for name in ("figure_2.png", "figure_3.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    events = EventAccumulator(str(tmp_path / "tensorboard" / "figures-1" / "validation")).Reload()
    assert set(events.Tags()["tensors"]) == {"figure_2", "figure_3"}
    numbers = json.loads((tmp_path / "figure_3.json").read_text())
    assert set(numbers) == set(titles)
    for title, figure in numbers.items():
        (line,) = [line for line in said.getvalue().splitlines() if title in line]
        assert f"{figure['mean_clicked']:.4f}" in line and f"{figure['auc']:.4f}" in line and figure["deviation"] > 0


def test_targets_of_figure_2_can_be_chosen(prepared, tmp_path, monkeypatch):
    found = []
    monkeypatch.setattr(plots, "alignment_heat_map", lambda model, probe, name: found.append(probe) or "figure")
    unseen, test = prepared.spec.unseen, prepared.test.columns
    words = [b"i%d" % rank for rank in range(prepared.spec.sizes["item_id"] - 1 - unseen)]
    shown = np.unique(test["candidate_item_id"][test["candidate_mask"]])
    known = shown[shown > unseen][:2]
    workshop = Workshop(prepared._replace(item_words=words), tmp_path, lambda progress: None)
    assert figures._figure_2(workshop, 1, {}, [f"i{item - 1 - unseen}" for item in known]) == "figure"
    np.testing.assert_array_equal(found[0].features["candidate_item_id"], [known])
    with pytest.raises(click.ClickException, match="--items: expected items that training has seen, got i-1, x"):
        figures._figure_2(workshop, 1, {}, ["i0", "i-1", "x"])
    absent = np.setdiff1d(np.arange(1 + unseen, prepared.spec.sizes["item_id"]), shown)
    if len(absent):
        with pytest.raises(click.ClickException, match="--items: expected items that the test split shows"):
            figures._figure_2(workshop, 1, {}, [f"i{absent[0] - 1 - unseen}"])


def test_names_come_from_a_csv_with_two_columns(tmp_path):
    path = tmp_path / "names.csv"
    path.write_text("item_id,name\n7,A tent\n8,A lamp\n", encoding="utf-8")
    assert figures.read_names(path) == {"7": "A tent", "8": "A lamp"}
    path.write_text("id,name\n7,A tent\n", encoding="utf-8")
    with pytest.raises(click.ClickException, match="expected the columns item_id and name"):
        figures.read_names(path)
