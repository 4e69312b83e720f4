"""Figure of warm starts: Keskar et al. 2017, Figure 5."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import MaxNLocator

from gapscope.drawing import axes as drawing
from gapscope.drawing import names, numbers
from gapscope.drawing.figure import Figure
from gapscope.measures.sharpness_figures import space_text
from gapscope.measures.study import Study
from gapscope.records.long import axis_text
from gapscope.records.tables import read_table
from gapscope.tasks.words import CLASSIFICATION

PAIR = ["model", "dataset"]
ACCURACY, ERROR = "test accuracy (%)", "test error (%)"
SIDES = {"small": "small-batch iterate", "large": "large-batch solution from there"}


def table(study: Study) -> pd.DataFrame:
    """Return test accuracy and sharpness against the start; no value where a run diverged.

    A task other than classification has its test error in place of the accuracy.
    """
    values, starts = study.table("warmstart"), read_table(study.folder / "cells.csv")
    error = values[(values["quantity"] == study.words.error) & (values["split"] == "test")]
    panels = {ACCURACY: error.assign(value=100 - error["value"])}
    if study.words is not CLASSIFICATION:  # an accuracy is of classes
        panels = {ERROR: error}
    sharp = values[values["quantity"] == "sharpness_pct"]
    for (split, space, epsilon), of in sharp.groupby(["split", "space", "epsilon"], sort=False):
        whose = "" if split == "train" else f" of the {split} loss"
        panels[f"sharpness φ (%){whose}, {space_text(space, None)}, ε = {axis_text(epsilon)}"] = of
    frames = []
    for panel, of in panels.items():
        for phase, series in SIDES.items():
            known = of[of["phase"] == phase].set_index([*PAIR, "seed", "start_epoch"])["value"]
            rows = starts[[*PAIR, "seed", "start_epoch"]].assign(
                panel=panel, series=series, batch_size=starts[f"{phase}_batch_size"]
            )
            frames.append(rows.join(known, on=[*PAIR, "seed", "start_epoch"]))
    rows = pd.concat(frames, ignore_index=True)
    return rows if rows["value"].notna().any() else rows.iloc[:0]


def caption(_: pd.DataFrame) -> str:
    """Return how to read the figure."""
    return (
        "Large-batch training from the weights that a small-batch run has after some of its epochs: the start, and the"
        " solution reached from it. Points are seeds, lines their means (Keskar et al. 2017, Figure 5)."
    )


def draw_warmstart(rows: pd.DataFrame) -> Drawing:
    """Draw accuracy or error, and sharpness, against the start epoch; one row of panels per network."""
    pairs, panels = list(rows.groupby(PAIR, sort=False)), list(rows["panel"].drop_duplicates())
    size = drawing.size(len(panels), len(pairs), 4.8, 3.7)
    figure, grid = plt.subplots(len(pairs), len(panels), figsize=size, squeeze=False)
    for line, ((model, dataset), here) in zip(grid, pairs, strict=True):
        for axes, panel in zip(line, panels, strict=True):
            _draw_panel(axes, panel, here[here["panel"] == panel])
            axes.set_title(f"{panel}\n{names.pair(model, dataset)} ({_number(here[here['panel'] == panel])})")
    figure.suptitle("Large-batch training warm-started after a small-batch epoch (points: seeds; lines: means)")
    return figure


def _draw_panel(axes: Axes, panel: str, rows: pd.DataFrame) -> None:
    label = "started from the small-batch run's epoch"
    untrained = (rows["start_epoch"] == 0) & (rows["series"] == SIDES["small"])
    if panel in (ACCURACY, ERROR):
        if (guessed := rows["value"][untrained]).notna().any():
            # with it in view, all that the figure is about would be one line at the top
            label += f"\n(not shown: epoch 0 itself, untrained, {guessed.mean():.1f} %)"
            rows = rows.assign(value=rows["value"].mask(untrained))
    else:
        axes.set_yscale("log")
    for series, look in zip(SIDES.values(), plt.rcParams["axes.prop_cycle"], strict=False):  # the same in every panel
        group = rows[rows["series"] == series]
        points, mean = group.dropna(subset=["value"]), group.groupby("start_epoch")["value"].mean()
        axes.plot(points["start_epoch"], points["value"], **{**look, "linestyle": ""}, gid=series)
        axes.plot(mean.index, mean, color=look["color"], linestyle=look["linestyle"], marker="", gid=f"{series}, mean")
        axes.plot([], [], **look, label=f"{series}, b = {_sizes(group)}")  # the legend's: line and point together
    axes.set_xlabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))


def _sizes(rows: pd.DataFrame) -> str:
    return " or ".join(str(size) for size in rows["batch_size"].drop_duplicates())


def _number(rows: pd.DataFrame) -> str:
    lost = int(rows["value"].isna().sum())
    diverged = f"; diverged: {lost} of {len(rows)} points" if lost else ""
    return f"{numbers.seeds([rows['seed'].nunique()])}{diverged}"


FIGURES = [Figure("warmstart", "Warm starts", caption, table, draw_warmstart)]
