"""Figure of sharpness: test accuracy and sharpness against batch size, as in Figure 4 of Keskar et al. 2017."""

import pandas as pd
from matplotlib.figure import Figure as Drawing

from gapscope.drawing import axes as drawing
from gapscope.drawing.figure import Figure
from gapscope.measures.study import Study
from gapscope.records.long import axis_text, select
from gapscope.tasks.words import CLASSIFICATION, words_of

ACCURACY = "test accuracy (%)"
NUMBERS = ("sharpness_converged_pct", "sharpness_pct")
LONGER = "longer search"


def table(study: Study) -> pd.DataFrame:
    """Return test accuracy and sharpness against batch size, one row per run and series."""
    runs = study.good_runs
    words = words_of(set(runs["quantity"]))
    error = select(runs, words.error, {"split": "test", "statistics": "reestimated"})
    frames = [drawing.rows_of(error.assign(value=100 - error["value"]), ACCURACY, "test accuracy")]
    if words is not CLASSIFICATION:  # an accuracy is of classes
        frames = [drawing.rows_of(error, "test error (%)", "test error")]
    sharp = runs[runs["quantity"] == tested(runs)]
    axes = ["split", "statistics", "space", "dimension", "epsilon"]
    for (split, statistics, space, dimension, epsilon), of in sharp.groupby(axes, sort=False, dropna=False):
        search = f", {LONGER}" if sharp["quantity"].iloc[0] == NUMBERS[0] else ""
        norm = ", batch statistics" if statistics == "batch" else ""
        panel = f"sharpness φ of the {split} loss{norm}{search} (%)"
        frames.append(drawing.rows_of(of, panel, f"{space_text(space, dimension)}, ε = {axis_text(epsilon)}"))
    return pd.concat(frames, ignore_index=True).reindex(columns=drawing.LONG)


def tested(runs: pd.DataFrame) -> str:
    """Return the name of the number that claims test: that of the longer search where a study has it."""
    return next((name for name in NUMBERS if name in set(runs["quantity"])), NUMBERS[-1])


def space_text(space: object, dimension: object) -> str:
    """Return where the maximisation takes place, in words."""
    return "full space" if space == "full" else f"random manifold, p = {dimension}"


def caption(rows: pd.DataFrame) -> str:
    """Return how to read the figure."""
    first = "Test accuracy" if ACCURACY in set(rows["panel"]) else "Test error"
    longer = rows["panel"].str.contains(LONGER).any()
    by = "a search from several starts that goes on until they agree" if longer else "ten iterations of L-BFGS-B"
    return (
        f"{first}, and the largest rise of the loss found in a small box around the weights, in per cent of"
        f" 1 + loss (Keskar et al. 2017). The rise is a lower bound, found by {by}. The table of"
        " sharpness says from how many starts."
        f" {drawing.runs_caption(rows)}"
    )


def draw(rows: pd.DataFrame) -> Drawing:
    """Draw test accuracy and sharpness against batch size."""
    first = "Test accuracy" if ACCURACY in set(rows["panel"]) else "Test error"
    figure = drawing.against_batch_size(rows, f"{first}, and sharpness of the cross-entropy")
    for axes in figure.axes:
        if axes.get_title().startswith("sharpness"):
            axes.set_yscale("log")
    return figure


FIGURES = [Figure("sharpness", "Accuracy and sharpness", caption, table, draw)]
