"""Figure of the spectra of the activations: one row of panels per layer, one column per mode."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import NullFormatter

from gapscope.drawing import axes as drawing
from gapscope.drawing.figure import Figure
from gapscope.measures.study import Study
from gapscope.records.cells import cells
from gapscope.records.long import RUN
from gapscope.records.spectra import LayerRecord, log_indices, read_spectra

LAYERS = 8  # of a deeper network so many are drawn, spaced evenly, the first and the last among them
MODES = {1: ["samples x units"], 4: ["mode 1: samples", "mode 2: channels", "mode 3: rows", "mode 4: columns"]}
COLUMNS = [*RUN, "layer", "mode", "index", "value", "error_bound", "count", "method", "thresholds"]


def table(study: Study) -> pd.DataFrame:
    """Return the spectra that the figure shows, at `log_indices` (counted from 1), and the thresholds.

    They are those over b images, of the first network and seed.
    """
    thresholds = " ".join(f"{value:g}" for value in study.params.thresholds)
    every = cells(study.params)
    shown = [cell for cell in every if (cell.model, cell.dataset) == (every[0].model, every[0].dataset)]
    shown = [cell for cell in shown if cell.seed == min(cell.seed for cell in shown)]
    records = ((cell.columns(), read_spectra(cell.record("spectra", ".jsonl"))[1]) for cell in shown)
    return pd.DataFrame(
        [
            {**cell, "layer": layer.layer, "mode": mode, "index": index + 1, "value": spectrum.value(index)}
            | {"error_bound": spectrum.error_bound[index], "count": spectrum.count, "method": spectrum.method}
            | {"thresholds": thresholds}
            for cell, layers in records
            for layer in _shown_layers([layer for layer in layers if layer.sample == "run"])
            for mode, spectrum in enumerate(layer.modes)
            for index in log_indices(spectrum.count)
        ],
        columns=COLUMNS,
    )


def _shown_layers(layers: Sequence[LayerRecord]) -> list[LayerRecord]:
    places = np.linspace(0, len(layers) - 1, min(LAYERS, len(layers))).round().astype(int)
    return [layers[place] for place in dict.fromkeys(places.tolist())]


def caption(rows: pd.DataFrame) -> str:
    """Return how to read the figure."""
    made = "Singular values of each layer's unfoldings over b images: one line per batch size, for the first seed."
    if rows["layer"].nunique() >= LAYERS:
        made += f" Of a network with more than {LAYERS} layers, {LAYERS} evenly spaced ones are shown."
    return made + (
        " The near-rank counts are of values below the dashed lines. In the grey the solver's error exceeds the value."
    )


def draw(rows: pd.DataFrame) -> Drawing:
    """Draw singular values over b images, one line per batch size."""
    pair, here = drawing.pairs_of(rows)[0], rows
    thresholds = [float(value) for value in str(here["thresholds"].iloc[0]).split()]
    layers, looks = list(here["layer"].drop_duplicates()), drawing.batch_looks(here)
    wide = int(here["mode"].max()) + 1
    figure, grid = plt.subplots(
        len(layers), wide, figsize=(2.6 * wide + 0.6, 2.1 * len(layers) + 0.5), squeeze=False, sharey=True
    )
    for line, layer in zip(grid, layers, strict=True):
        of_layer = here[here["layer"] == layer]
        count = of_layer["mode"].nunique()
        modes = MODES.get(count, [f"mode {mode + 1}" for mode in range(count)])
        for mode, axes in enumerate(line):
            of_mode = of_layer[of_layer["mode"] == mode]
            if of_mode.empty:
                axes.set_visible(False)
                continue
            for size, run in of_mode.groupby("batch_size"):
                axes.plot(run["index"], run["value"], **looks[size], label=f"b = {size}")
            floor = of_mode.loc[of_mode["index"] == of_mode["count"], "error_bound"].max()  # of the smallest values
            axes.axhspan(1e-17, floor, color="0.88", zorder=0)
            for threshold in thresholds:
                axes.axhline(threshold, color="0.3", linewidth=0.8, linestyle="--")
            axes.set(xscale="log", yscale="log", xlabel="index", title=f"{layer}, {modes[mode]}")
            axes.set_ylim(1e-17, here["value"].max() * 3)
            axes.xaxis.set_minor_formatter(NullFormatter())
        line[0].set_ylabel("singular value")
    solvers = ", ".join(here["method"].drop_duplicates())
    figure.suptitle(
        f"Spectra over b images, {' on '.join(pair)}, one seed "
        f"(dashed: thresholds; grey: below the error of the solver: {solvers})"
    )
    return figure


FIGURES = [Figure("spectra", "Spectra of the activations", caption, table, draw)]
