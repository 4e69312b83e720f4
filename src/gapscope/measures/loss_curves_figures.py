"""Figures of loss curves: Gao & Zhong, Figure 8, and how much the curves fluctuate."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import MaxNLocator

from gapscope.drawing import axes as drawing
from gapscope.drawing.figure import Figure
from gapscope.measures import loss_curves
from gapscope.measures.study import Study

SAMPLES = {"probe": "probe loss (nats)", "batch": "loss of single batches (nats)"}
SERIES = (
    ("fixed probe", "loss_fluctuation", "probe"),
    ("single batches", "loss_fluctuation", "batch"),
    ("single batches, by sampling alone", "sampling_fluctuation", "batch"),
)


def curves_caption(rows: pd.DataFrame) -> str:
    """Return how to read the figure."""
    probe = rows[rows["sample"] == "probe"]
    parts = ["The probe is the same training images in every run, evaluated after each epoch."]
    parts += [drawing.lines_caption(probe)] if len(probe) else []
    if (rows["sample"] == "batch").any():
        parts.append("A batch's loss is taken before its update. At most 50 batches of an epoch are recorded.")
        parts.append(drawing.over_seeds(rows, "Of single batches one seed is drawn."))
    return " ".join(filter(None, parts))


def draw_curves(rows: pd.DataFrame) -> Drawing:
    """Draw the losses along training: one panel per sample, and colour by batch size."""
    pairs, samples = drawing.pairs_of(rows), [name for name in SAMPLES if name in set(rows["sample"])]
    figure, grid = plt.subplots(
        len(pairs), len(samples), figsize=drawing.size(len(samples), len(pairs), *drawing.PANEL), squeeze=False
    )
    for line, pair in zip(grid, pairs, strict=True):
        here = drawing.of_pair(rows, pair)
        looks = drawing.batch_looks(here)
        for axes, sample in zip(line, samples, strict=True):
            of = here[here["sample"] == sample]
            for size, runs in of[(of["seed"] == of["seed"].min()) | (sample == "probe")].groupby("batch_size"):
                style = looks[size] | {"linewidth": 1.2 if sample == "probe" else 0.7, "label": f"b = {size}"}
                drawing.draw_means(axes, runs.groupby("epoch")["loss"], band=True, **style)
            axes.set(yscale="log", xlabel="epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        drawing.entitle(line, [SAMPLES[sample] for sample in samples], pair, here, several=len(pairs) > 1)
    drawing.entitle_figure(figure, "Loss along training", rows)
    return figure


def fluctuation(study: Study) -> pd.DataFrame:
    """Return the fluctuations against batch size, one row per run and series."""
    runs = study.good_runs
    frames = []
    for half in loss_curves.HALVES:
        for series, quantity, sample in SERIES:
            chosen = (runs["quantity"] == quantity) & (runs["sample"] == sample) & (runs["half"] == half)
            frames.append(drawing.rows_of(runs[chosen], f"fluctuation of log loss, {half} half", series))
    return pd.concat(frames, ignore_index=True).reindex(columns=drawing.LONG)


def fluctuation_caption(rows: pd.DataFrame) -> str:
    """Return how to read the figure."""
    sampled = rows["series"].eq(SERIES[-1][0]).any()
    return " ".join(
        [
            "Standard deviation of the log loss about its running median over 5 epochs.",
            *(["Sampling alone makes a batch's loss fluctuate, more so for smaller batches."] if sampled else []),
            drawing.runs_caption(rows),
        ]
    )


def draw_fluctuation(rows: pd.DataFrame) -> Drawing:
    """Draw the fluctuation of the loss against batch size, one panel for each half of training."""
    figure = drawing.against_batch_size(rows, "Fluctuation of the loss")
    for axes in figure.axes:
        if (rows["value"] > 0).any():
            axes.set_yscale("log")
    return figure


FIGURES = [
    Figure("loss_curves", "Loss along training", curves_caption, loss_curves.curves, draw_curves),
    Figure("loss_fluctuation", "Fluctuation of the loss", fluctuation_caption, fluctuation, draw_fluctuation),
]
