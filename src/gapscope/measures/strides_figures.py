"""Figures of strides: Gao & Zhong, Figures 4, 5 and 7, and how far the weights travel."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import MaxNLocator

from gapscope.drawing import axes as drawing
from gapscope.drawing.figure import Figure
from gapscope.measures import strides
from gapscope.measures.study import Study
from gapscope.records.long import RUN

LAYERS, COLUMNS = 6, 3
FIRST_EPOCH = {"first_epoch_stride_per_lr": "mean |Δw| / lr", "first_epoch_loss_stride": "mean g²"}
TRAVEL = {"path": "path, Σ |Δw|", "net_displacement": "net displacement", "net_over_path": "net / path"}


def _draw(rows: pd.DataFrame, title: str) -> Drawing:
    figure = drawing.against_batch_size(rows, title)
    for axes in figure.axes:
        axes.set_yscale("log")
    return figure


def first_epoch(study: Study) -> pd.DataFrame:
    """Return the first epoch's strides against batch size, one row per run, quantity and layer."""
    return drawing.rows_by_layer(study.good_runs, FIRST_EPOCH, LAYERS)


def first_epoch_caption(rows: pd.DataFrame) -> str:
    """Return how to read the figure."""
    return (
        "Means over the updates of the first epoch, of some layers' weights. Without momentum |Δw| / lr is |g|. A large"
        " batch makes fewer updates in that epoch, so its gradients are those of less trained weights."
        f" {drawing.runs_caption(rows)}"
    )


def draw_first_epoch(rows: pd.DataFrame) -> Drawing:
    """Draw the first epoch's strides against batch size."""
    return _draw(rows, "Strides of the first epoch")


def travel(study: Study) -> pd.DataFrame:
    """Return path, net displacement and their ratio against batch size, one row per run, quantity and layer."""
    return drawing.rows_by_layer(study.good_runs, TRAVEL, LAYERS)


def travel_caption(rows: pd.DataFrame) -> str:
    """Return how to read the figure."""
    return (
        "Means over a layer's weights at the end of training. The path adds up over updates, of which there are 1/b as"
        f" many, so it falls with b whatever is learned. The net displacement does not. {drawing.runs_caption(rows)}"
    )


def draw_travel(rows: pd.DataFrame) -> Drawing:
    """Draw how far the weights travel against batch size."""
    return _draw(rows, "How far the weights travel")


def by_epoch(study: Study) -> pd.DataFrame:
    """Return the stride of each run, layer and epoch."""
    return strides.by_epoch(study)[[*RUN, "layer", "epoch", "stride"]]


def by_epoch_caption(rows: pd.DataFrame) -> str:
    """Return how to read the figure."""
    return (
        f"Mean |Δw| of an update, averaged over each epoch's updates. {drawing.lines_caption(rows)}"
        " The paper calls the area below a line the parameter searching space."
    )


def draw_by_epoch(rows: pd.DataFrame) -> Drawing:
    """Draw the strides along training: one panel per layer, coloured by batch size."""
    pairs, layers = drawing.pairs_of(rows), drawing.layers_shown(rows, LAYERS)
    panels = [(pair, layer) for pair in pairs for layer in layers]
    columns = min(COLUMNS, len(panels))
    lines = -(-len(panels) // columns)
    figure, grid = plt.subplots(lines, columns, figsize=drawing.size(columns, lines, *drawing.PANEL), squeeze=False)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    for axes, (pair, layer) in zip(grid.flat, panels, strict=False):
        here = drawing.of_pair(rows, pair)
        looks = drawing.batch_looks(here)
        for size, runs in here[here["layer"] == layer].groupby("batch_size"):
            drawing.draw_means(axes, runs.groupby("epoch")["stride"], band=True, **looks[size], label=f"b = {size}")
        axes.set(yscale="log", xlabel="epoch")
        drawing.entitle([axes], [f"mean |Δw| per update: {layer}"], pair, here, several=len(pairs) > 1)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    drawing.entitle_figure(figure, "Parameter update stride along training", rows)
    return figure


FIGURES = [
    Figure("first_epoch_strides", "Strides of the first epoch", first_epoch_caption, first_epoch, draw_first_epoch),
    Figure("strides", "Strides along training", by_epoch_caption, by_epoch, draw_by_epoch),
    Figure("travel", "How far the weights travel", travel_caption, travel, draw_travel),
]
