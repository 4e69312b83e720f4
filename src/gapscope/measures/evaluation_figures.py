"""Figures of error and loss: against batch size, and along training."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

from gapscope.drawing import axes as drawing
from gapscope.drawing.figure import Figure
from gapscope.measures.study import Study
from gapscope.records.long import RUN, select

REESTIMATED = {"statistics": "reestimated"}
SERIES: tuple[tuple[str, str, str, dict[str, str]], ...] = (  # panel, series, quantity, axes
    ("error (%)", "train error", "error_pct", {"split": "train", **REESTIMATED}),
    ("error (%)", "test error", "error_pct", {"split": "test", **REESTIMATED}),
    ("loss (nats)", "train cross-entropy", "cross_entropy", {"split": "train", **REESTIMATED}),
    ("loss (nats)", "test cross-entropy", "cross_entropy", {"split": "test", **REESTIMATED}),
    ("loss (nats)", "penalty", "penalty", {}),
    ("loss (nats)", "train cross-entropy + penalty", "loss", {"split": "train", **REESTIMATED}),
)
NAMES = {"error_pct": ("error (%)", "error"), "loss": ("loss (nats)", "loss")}  # of printed quantities: panel, series
CURVES = {  # column of the figure's table -> quantity, split, title of the panel
    "test_error_pct": ("error_pct", "test", "test error (%)"),
    "train_cross_entropy": ("cross_entropy", "train", "train cross-entropy (nats)"),
}


def gap(study: Study) -> pd.DataFrame:
    """Return error and loss against batch size, one row per run and series; printed values have the source `paper`."""
    runs = study.good_runs
    frames = [drawing.rows_of(select(runs, quantity, axes), panel, series) for panel, series, quantity, axes in SERIES]
    printed = study.printed
    if printed is not None and len(printed):
        pairs = runs[["model", "dataset"]].drop_duplicates()
        for (quantity, split), of in printed.groupby(["quantity", "split"], sort=False):
            panel, series = NAMES[str(quantity)]
            frames.append(drawing.rows_of(pairs.merge(of, how="cross"), panel, f"{split} {series}", "paper"))
    known = [frame for frame in frames if len(frame)]
    made = pd.concat(known, ignore_index=True) if known else pd.DataFrame()  # every run diverged
    return made.reindex(columns=drawing.LONG)


def gap_caption(rows: pd.DataFrame) -> str:
    """Return how to read the figure; of printed values only where there are some."""
    caption = drawing.runs_caption(rows)
    if "paper" in set(rows["source"]):
        caption += (
            " Thin crosses are the paper's printed values. Its loss seems to include a weight penalty, so compare it"
            " with the sum of cross-entropy and penalty, not with cross-entropy alone."
        )
    return caption


def draw_gap(rows: pd.DataFrame) -> Drawing:
    """Draw error and loss against batch size; the paper's printed values as crosses, where there are any."""
    return drawing.against_batch_size(rows, "Error and loss, whole training and test sets")


def curves(study: Study) -> pd.DataFrame:
    """Return every evaluated epoch of every run, one row each."""
    table = study.long("train")
    columns = {
        name: table[(table["quantity"] == quantity) & (table["split"] == split) & table["epoch"].notna()]
        for name, (quantity, split, _) in CURVES.items()
    }
    return pd.DataFrame({name: of.set_index([*RUN, "epoch"])["value"] for name, of in columns.items()}).reset_index()


def curves_caption(rows: pd.DataFrame) -> str:
    """Return how to read the figure."""
    several = rows.groupby(["model", "dataset", "batch_size"])["seed"].nunique().max() > 1
    lines = "Lines are means over seeds, and bands reach from the smallest run to the largest." if several else ""
    return (
        f"{lines or 'One line per run.'} Batch norm has its running statistics, as in training. At large batches these"
        " lag behind, which alone raises the test error. The tables have re-estimated statistics."
    )


def draw_curves(rows: pd.DataFrame) -> Drawing:
    """Draw training curves: the mean over seeds and a band of all runs, coloured by batch size."""
    titles = [title for _, _, title in CURVES.values()]
    pairs = drawing.pairs_of(rows)
    figure, grid = plt.subplots(len(pairs), 2, figsize=drawing.size(2, len(pairs), 4.8, 3.4), squeeze=False)
    for line, pair in zip(grid, pairs, strict=True):
        here = drawing.of_pair(rows, pair)
        looks = drawing.batch_looks(here)
        for axes, column in zip(line, CURVES, strict=True):
            for size, runs in here.groupby("batch_size"):
                drawing.draw_means(axes, runs.groupby("epoch")[column], band=True, **looks[size], label=f"b = {size}")
            axes.set(xlabel="epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.set_yscale("log")
            if "error" in column:  # an error may be 0
                axes.set_yscale("symlog", linthresh=0.1)
                axes.yaxis.set_major_locator(FixedLocator([0, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100]))
                axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        drawing.entitle(line, titles, pair, here, several=len(pairs) > 1)
    drawing.entitle_figure(figure, "Training curves", rows)
    return figure


FIGURES = [
    Figure("gap", "Error and loss", gap_caption, gap, draw_gap),
    Figure("curves", "Training curves", curves_caption, curves, draw_curves),
]
