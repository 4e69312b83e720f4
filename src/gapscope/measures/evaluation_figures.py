"""Figures of error and loss: against batch size, and along training."""

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from gapscope.drawing import axes as drawing
from gapscope.drawing.figure import Figure
from gapscope.measures.study import Study
from gapscope.records.cells import WIDENED
from gapscope.records.long import RUN, select
from gapscope.records.tables import read_table
from gapscope.tasks.words import words_of

REESTIMATED = {"statistics": "reestimated"}
ERROR, LOSS = "error (%)", "cross-entropy, penalty (nats)"
GAP, TEST_ERROR = "gap in test error (points)", "test error (%)"
SERIES: tuple[tuple[str, str, str, dict[str, str]], ...] = (  # panel, series, quantity, axes
    (ERROR, "train", "error_pct", {"split": "train", **REESTIMATED}),
    (ERROR, "test", "error_pct", {"split": "test", **REESTIMATED}),
    (LOSS, "train", "cross_entropy", {"split": "train", **REESTIMATED}),
    (LOSS, "test", "cross_entropy", {"split": "test", **REESTIMATED}),
    (LOSS, "penalty", "penalty", {}),
    (LOSS, "train + penalty", "loss", {"split": "train", **REESTIMATED}),
)
NAMES = {"error_pct": (ERROR, ""), "loss": (LOSS, " loss")}  # of printed quantities: panel, and what follows the split
CURVES = {  # column of the figure's table -> quantity, split, title of the panel
    "test_error_pct": ("error_pct", "test", "test error (%)"),
    "train_cross_entropy": ("cross_entropy", "train", "train cross-entropy (nats)"),
}


def gap(study: Study) -> pd.DataFrame:
    """Return error and loss against batch size, one row per run and series; printed values have the source `paper`."""
    runs = study.good_runs
    own = words_of(set(runs["quantity"])).in_place
    frames = [
        drawing.rows_of(select(runs, own(quantity), axes), panel, series) for panel, series, quantity, axes in SERIES
    ]
    printed = study.printed
    if printed is not None and len(printed):
        pairs = runs[["model", "dataset"]].drop_duplicates()
        for (quantity, split), of in printed.groupby(["quantity", "split"], sort=False):
            panel, whose = NAMES[str(quantity)]
            frames.append(drawing.rows_of(pairs.merge(of, how="cross"), panel, f"{split}{whose}", "paper"))
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
    return drawing.against_batch_size(rows, "Error and loss")


def by_width(study: Study) -> pd.DataFrame:
    """Return the gap and the test error at both ends against the width; no row where the networks have one width."""
    columns = ["model", "dataset", "width", "seed", "panel", "series", "value"]
    runs = study.good_runs
    errors = select(runs, words_of(set(runs["quantity"])).error, {"split": "test", **REESTIMATED})
    names = [WIDENED.fullmatch(name) for name in errors["model"]]
    errors = errors.assign(width=[float(name["width"]) if name else 1.0 for name in names])
    base = [name["name"] if name else own for name, own in zip(names, errors["model"], strict=True)]
    errors = errors.assign(model=base)
    small, large = errors["batch_size"].min(), errors["batch_size"].max()
    if errors["width"].nunique() < 2 or small == large:
        return pd.DataFrame(columns=columns)
    ends = {size: errors[errors["batch_size"] == size] for size in (small, large)}
    run = ["model", "dataset", "width", "seed"]
    both = ends[large].merge(ends[small], on=run, suffixes=("", "_small"))
    frames = [both.assign(panel=GAP, series=f"b = {large} minus {small}", value=both["value"] - both["value_small"])]
    frames += [of.assign(panel=TEST_ERROR, series=f"b = {size}") for size, of in ends.items()]
    rows: pd.DataFrame = pd.concat(frames, ignore_index=True)[columns]
    return rows


def by_width_caption(rows: pd.DataFrame) -> str:
    """Return how to read the figure."""
    gap = rows.loc[rows["panel"] == GAP, "series"].iloc[0]
    ranges = "bands" if drawing.is_line(rows["width"]) else "bars"
    return (
        f"The gap is the test error at {gap}. A gap also shrinks when the small batch gets worse, so the right panel"
        f" has both test errors. Marks are means over seeds, and {ranges} reach from the smallest run to the largest."
    )


def draw_by_width(rows: pd.DataFrame) -> Drawing:
    """Draw the gap and the test errors that it is made of against the width."""
    pairs, panels = drawing.pairs_of(rows), list(rows["panel"].drop_duplicates())
    figure, grid = plt.subplots(len(pairs), 2, figsize=drawing.size(2, len(pairs), *drawing.PANEL), squeeze=False)
    for line, pair in zip(grid, pairs, strict=True):
        here = drawing.of_pair(rows, pair)
        for axes, panel in zip(line, panels, strict=True):
            groups = here[here["panel"] == panel].groupby("series", sort=False)
            for (series, of), look in zip(groups, drawing.looks(), strict=False):
                joined = drawing.is_line(of["width"])
                style = look | {"label": None if panel == GAP else str(series), "gid": str(series)}
                style |= {} if joined else {"linestyle": ""}
                drawing.draw_means(axes, of.groupby("width")["value"], band=joined, **style)
            widths = sorted(here["width"].unique())
            axes.set_xscale("log", base=2)
            axes.set_xticks(widths, [f"{width:g}" for width in widths])
            axes.xaxis.set_minor_locator(NullLocator())
            axes.set_xlabel("width, times the usual")
        drawing.entitle(line, panels, pair, here, several=len(pairs) > 1)
    line[0].set_ylim(bottom=min(0, line[0].get_ylim()[0]))
    drawing.entitle_figure(figure, "Gap against width", rows)
    return figure


def curves(study: Study) -> pd.DataFrame:
    """Return every evaluated epoch of every run, one row each."""
    table = study.long("train")
    own = words_of(set(table["quantity"])).in_place
    columns = {
        name: table[(table["quantity"] == own(quantity)) & (table["split"] == split) & table["epoch"].notna()]
        for name, (quantity, split, _) in CURVES.items()
    }
    return pd.DataFrame({name: of.set_index([*RUN, "epoch"])["value"] for name, of in columns.items()}).reset_index()


def curves_caption(rows: pd.DataFrame) -> str:
    """Return how to read the figure."""
    several = rows.groupby(["model", "dataset", "batch_size"])["seed"].nunique().max() > 1
    drawn, ranges = ("Lines", "bands") if rows["epoch"].nunique() > 1 else ("Marks", "bars")
    means = f"{drawn} are means over seeds, and {ranges} reach from the smallest run to the largest."
    return means if several else f"{drawn} are single runs."


def running_note(metrics: Path) -> str:
    """Return with which batch-norm statistics the curves are taken; empty where none of the networks has batch norm."""
    means = read_table(metrics / "batch_sizes.csv")
    error = means[(means["quantity"] == words_of(set(means["quantity"])).error) & (means["split"] == "test")]
    wide = error.pivot_table(index=["model", "dataset", "batch_size"], columns="statistics", values="mean")
    if "running" not in wide or (wide["running"] == wide["reestimated"]).all():
        return ""
    return (
        "Batch norm has its running statistics here. At large batches these lag behind, which alone raises the test"
        " error. The tables have re-estimated statistics."
    )


def draw_curves(rows: pd.DataFrame) -> Drawing:
    """Draw training curves: the mean over seeds and a band of all runs, coloured by batch size."""
    titles = [title for _, _, title in CURVES.values()]
    pairs = drawing.pairs_of(rows)
    figure, grid = plt.subplots(len(pairs), 2, figsize=drawing.size(2, len(pairs), *drawing.PANEL), squeeze=False)
    for line, pair in zip(grid, pairs, strict=True):
        here = drawing.of_pair(rows, pair)
        looks = drawing.batch_looks(here)
        for axes, column in zip(line, CURVES, strict=True):
            for size, runs in here.groupby("batch_size"):
                drawing.draw_means(axes, runs.groupby("epoch")[column], band=True, **looks[size], label=f"b = {size}")
            axes.set(xlabel="epoch")
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))  # labels of three digits stay apart
            if here["epoch"].nunique() == 1:
                axes.set_xticks(here["epoch"].unique())
            axes.set_yscale("log")
            if "error" in column:  # an error may be 0
                axes.set_yscale("symlog", linthresh=0.1)
                _label_errors(axes)
        drawing.entitle(line, titles, pair, here, several=len(pairs) > 1)
    drawing.entitle_figure(figure, "Training curves", rows)
    return figure


def _label_errors(axes: Axes) -> None:
    """Label an axis of errors at round values, at least at two."""
    low, high = axes.get_ylim()
    round_ones = [value for value in (0, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if low <= value <= high]
    axes.yaxis.set_major_locator(FixedLocator(round_ones) if len(round_ones) > 1 else MaxNLocator(4))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


FIGURES = [
    Figure("gap_by_width", "Gap against width", by_width_caption, by_width, draw_by_width, optional=True),
    Figure("gap", "Error and loss", gap_caption, gap, draw_gap),
    Figure("curves", "Training curves", curves_caption, curves, draw_curves, note=running_note),
]
