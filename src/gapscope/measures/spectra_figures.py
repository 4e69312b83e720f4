"""Figure of the spectra of the activations: one row of panels per layer, one column per mode."""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import NullFormatter

from gapscope.drawing import axes as drawing
from gapscope.drawing import names
from gapscope.drawing.figure import Figure
from gapscope.measures.study import Study
from gapscope.records.cells import cells
from gapscope.records.spectra import LayerRecord, ModeRecord, log_indices, read_spectra

LAYERS = 8  # of a deeper network so many are drawn, spaced evenly, the first and the last among them
MODES = {1: ["samples x units"], 4: ["mode 1: samples", "mode 2: channels", "mode 3: rows", "mode 4: columns"]}
POINTS = 60  # of a line at most
WIDE = 4  # panels in a row at most
OF_TABLE = ["model", "dataset", "seed", "thresholds"]  # in its first row alone
OF_LINE = ["error_bound", "method"]  # in a line's last row alone
COLUMNS = ["batch_size", "layer", "mode", "index", "value", *OF_LINE, *OF_TABLE]


def table(study: Study) -> pd.DataFrame:
    """Return the spectra that the figure shows: those over b images, of the first network and seed.

    A line (batch size, layer, mode) has one row per value, at some `log_indices` (counted from 1), both ends among
    them. Its last row has the error bound of the smallest value and the solver. The first row of the table has the
    network, the seed and the study's thresholds.
    """
    every = cells(study.params)
    shown = [cell for cell in every if (cell.model, cell.dataset) == (every[0].model, every[0].dataset)]
    shown = [cell for cell in shown if cell.seed == min(cell.seed for cell in shown)]
    records = ((cell.columns(), read_spectra(cell.record("spectra", ".jsonl"))[1]) for cell in shown)
    rows = [
        {"batch_size": cell["batch_size"], "layer": layer.layer, "mode": mode, **row}
        for cell, layers in records
        for layer in _shown_layers([layer for layer in layers if layer.sample == "run"])
        for mode, spectrum in enumerate(layer.modes)
        for row in _line(spectrum)
    ]
    if rows:
        thresholds = " ".join(f"{value:g}" for value in study.params.thresholds)
        rows[0] |= {
            "model": shown[0].model,
            "dataset": shown[0].dataset,
            "seed": shown[0].seed,
            "thresholds": thresholds,
        }
    return pd.DataFrame(rows, columns=COLUMNS)


def _line(spectrum: ModeRecord) -> list[dict[str, Any]]:
    indices = log_indices(spectrum.count)
    places = np.linspace(0, len(indices) - 1, min(POINTS, len(indices))).round().astype(int).tolist()
    rows: list[dict[str, Any]] = [{"index": indices[at] + 1, "value": spectrum.value(indices[at])} for at in places]
    rows[-1] |= {"error_bound": float(spectrum.error_bound[-1]), "method": spectrum.method}
    return rows


def _shown_layers(layers: Sequence[LayerRecord]) -> list[LayerRecord]:
    places = np.linspace(0, len(layers) - 1, min(LAYERS, len(layers))).round().astype(int)
    return [layers[place] for place in dict.fromkeys(places.tolist())]


def caption(rows: pd.DataFrame) -> str:
    """Return how to read the figure."""
    made = "Singular values of each layer's unfoldings over b images: one line per batch size, for one seed."
    if rows["layer"].nunique() >= LAYERS:
        made += f" Of a network with more than {LAYERS} layers, {LAYERS} evenly spaced ones are shown."
    if _thresholds(rows):
        made += " The near-rank counts are of values below the dashed lines; lines that leave a panel go on towards 0."
    if rows["error_bound"].max() > _bottom(rows):
        made += " In the grey the solver's error exceeds the value."
    return made


def _thresholds(rows: pd.DataFrame) -> list[float]:
    return [float(value) for value in rows["thresholds"].dropna().astype(str).str.split().sum() or []]


def _bottom(rows: pd.DataFrame) -> float:
    """Return where the axis of the values ends: below it nothing is counted."""
    return min(_thresholds(rows), default=float(rows.loc[rows["value"] > 0, "value"].min())) / 10


def draw(rows: pd.DataFrame) -> Drawing:
    """Draw singular values over b images, one line per batch size."""
    first, thresholds, bottom = rows.iloc[0], _thresholds(rows), _bottom(rows)
    looks, layers = drawing.batch_looks(rows), list(rows.groupby("layer", sort=False))
    modes = int(rows["mode"].max()) + 1
    wide = modes if modes > 1 else min(WIDE, len(layers))  # a dense network's layers stand side by side
    lines = -(-len(layers) * modes // wide)
    figure, grid = plt.subplots(lines, wide, figsize=(2.6 * wide + 0.6, 2.1 * lines + 0.5), squeeze=False, sharey=True)
    for axes in grid.flat:
        axes.set_visible(False)
    for (layer, of_layer), line in zip(layers, grid.reshape(-1, modes), strict=False):
        count = of_layer["mode"].nunique()
        titles = MODES.get(count, [f"mode {mode + 1}" for mode in range(count)])
        for (_, of_mode), axes, name in zip(of_layer.groupby("mode"), line, titles, strict=False):
            axes.set_visible(True)
            for size, run in of_mode.groupby("batch_size"):
                axes.plot(run["index"], run["value"], **looks[size], label=f"b = {size}")
            if (floor := of_mode["error_bound"].max()) > bottom:  # of the smallest values
                axes.axhspan(bottom, floor, color="0.88", zorder=0)
            for threshold in thresholds:
                axes.axhline(threshold, color="0.3", linewidth=0.8, linestyle="--")
            axes.set(xscale="log", yscale="log", xlabel="index", title=f"{layer}, {name}")
            axes.set_ylim(bottom, rows["value"].max() * 3)
            axes.xaxis.set_minor_formatter(NullFormatter())
    for axes in grid[:, 0]:
        axes.set_ylabel("singular value")
    solvers = ", ".join(rows["method"].dropna().drop_duplicates())
    pair = names.pair(first["model"], first["dataset"])
    figure.suptitle(f"Spectra over b images: {pair}, seed {first['seed']:.0f} (solver: {solvers})")
    return figure


FIGURES = [Figure("spectra", "Spectra of the activations", caption, table, draw)]
