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
CURVES = {  # column of the figure -> quantity, split, label of the axis
    "train_error_pct": ("error_pct", "train", ""),
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
    caption = f"Against batch size. {drawing.RUNS}"
    if "paper" in set(rows["source"]):
        caption += (
            " Dotted lines are the paper's printed values. Its loss seems to include a weight penalty, so compare it"
            " with the sum of cross-entropy and penalty, not with cross-entropy alone."
        )
    return caption


def draw_gap(rows: pd.DataFrame) -> Drawing:
    """Draw error and loss against batch size; the paper's printed values dotted, where there are any."""
    return drawing.against_batch_size(rows, "Error and loss, whole training and test sets")


def curves(study: Study) -> pd.DataFrame:
    """Return every evaluated epoch of every run, one row each."""
    table = study.long("train")
    table = table[table["epoch"].notna()]
    wide = table[table["quantity"] == "updates"].set_index([*RUN, "epoch"])[["value"]]
    wide = wide.rename(columns={"value": "updates"}).astype(int)
    for name, (quantity, split, _) in CURVES.items():
        of = table[(table["quantity"] == quantity) & (table["split"] == split)]
        wide[name] = of.set_index([*RUN, "epoch"])["value"]
    return wide.reset_index()


def curves_caption(_: pd.DataFrame) -> str:
    """Return how to read the figure."""
    return (
        "One line per run, with batch norm's running statistics as training has them. At large batches these lag"
        " behind, which alone raises the test error. The tables have re-estimated statistics."
    )


def draw_curves(rows: pd.DataFrame) -> Drawing:
    """Draw training curves: one line per run, coloured by batch size."""
    shown = {column: label for column, (_, _, label) in CURVES.items() if label}
    pairs = drawing.pairs_of(rows)
    figure, grid = plt.subplots(len(pairs), 2, figsize=(9, 3.4 * len(pairs)), squeeze=False)
    for line, pair in zip(grid, pairs, strict=True):
        here = drawing.of_pair(rows, pair)
        looks = drawing.batch_looks(here)
        for axes, (column, label) in zip(line, shown.items(), strict=True):
            for (size, seed), run in here.groupby(["batch_size", "seed"]):
                first = seed == here["seed"].min()
                name, label_of_size = f"b = {size}, seed {seed}", f"b = {size}" if first else None
                axes.plot(run["epoch"], run[column], **looks[size], label=label_of_size, gid=name)
            axes.set(xlabel="epoch", ylabel=label, title=drawing.pair_title(pair, here))
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.set_yscale("log")
            if "error" in column:  # an error may be 0
                axes.set_yscale("symlog", linthresh=0.1)
                axes.yaxis.set_major_locator(FixedLocator([0, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100]))
                axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    figure.suptitle("Training curves (eval mode, running batch-norm statistics)")
    return figure


FIGURES = [
    Figure("gap", "Error and loss", gap_caption, gap, draw_gap),
    Figure("curves", "Training curves", curves_caption, curves, draw_curves),
]
