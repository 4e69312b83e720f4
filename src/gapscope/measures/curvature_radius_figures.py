"""Figures of curvature radii: by tensor (Gao & Zhong, Figure 2), against the number of images, against batch size."""

from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from gapscope.drawing import axes as drawing
from gapscope.drawing.figure import Figure
from gapscope.measures.study import Study
from gapscope.records.long import RUN

NAMES = {  # estimate -> its name in a figure
    "hessian": "1/h, median",
    "hessian_mean": "1/mean h",
    "eq17": "|w/g|, median (eq. 17)",
    "eq20": "median|w| / median|g| (eq. 20)",
    "lars": "‖w‖/‖g‖ (LARS)",
    "percent_delta": "1/mean|g/w| (PercentDelta)",
    "damped": "|g|/h, median",
    "common": "mean|g| / mean h (a = const)",
}
BY_TENSOR = ("hessian", "eq17", "eq20", "lars", "percent_delta")
LABELLED = 24  # tensors at most whose names fit below a panel
KINDS = ("weights", "vectors")
INITIAL = "initial"
PANELS = (  # panel, label, power of n where |g| is noise alone
    ("radius", "radius, relative to that of the fewest images", 0.5),
    ("distance", "distance |d|, relative to that of the fewest images", -0.5),
)
SPREAD, ORDER = "log radius, SD over tensors", "rank correlation with 1/h over tensors"
SERIES = (  # panel, quantity, estimate
    (SPREAD, "log_radius_sd", "hessian"),
    (SPREAD, "log_radius_sd", "eq17"),
    (ORDER, "layer_rank_correlation", "eq17"),
    (ORDER, "layer_rank_correlation", "lars"),
)
REFERENCE = {"color": "0.45", "linestyle": ":", "linewidth": 1.0, "marker": ""}


def by_tensor(study: Study) -> pd.DataFrame:
    """Return each tensor's radii before training, and at the smallest and the largest batch size after it."""
    runs = study.good_runs
    found = runs[(runs["quantity"] == "radius") & runs["estimate"].isin(BY_TENSOR)]
    return _at_ends(found)[[*RUN, "state", "kind", "layer", "estimate", "value"]]


def by_tensor_caption(rows: pd.DataFrame) -> str:
    """Return how to read the figure."""
    return (
        "The curvature radius of each parameter tensor: by the diagonal h of the Hessian, and by what the paper and two"
        " optimisers put in its place."
    ) + drawing.over_seeds(rows, " Lines are geometric means over seeds, and points are seeds.")


def draw_by_tensor(rows: pd.DataFrame) -> Drawing:
    """Draw radii by tensor: one row of panels for weights and one for biases, one column per state of the network."""
    pairs, kinds = drawing.pairs_of(rows), [kind for kind in KINDS if kind in set(rows["kind"])]
    columns = max(len(_states(drawing.of_pair(rows, pair))) for pair in pairs)
    figure, grid = plt.subplots(
        len(pairs) * len(kinds),
        columns,
        figsize=drawing.size(columns, len(pairs) * len(kinds), 4.6, 3.6),
        squeeze=False,
    )
    for line, (pair, kind) in zip(grid, ((pair, kind) for pair in pairs for kind in kinds), strict=True):
        here = drawing.of_pair(rows, pair)
        here = here[here["kind"] == kind]
        for axes, (name, of) in zip(line, _states(here), strict=False):
            _draw_tensors(axes, of)
            axes.set_yscale("log")
            drawing.entitle([axes], [f"radius of {_kind(kind, of)}\n{name}"], pair, of, several=len(pairs) > 1)
        for axes in line[len(_states(here)) :]:
            axes.set_visible(False)
    drawing.entitle_figure(figure, "Curvature radius by tensor", rows)
    return figure


def _draw_tensors(axes: Axes, rows: pd.DataFrame) -> None:
    layers = list(rows["layer"].drop_duplicates())
    places = {layer: place for place, layer in enumerate(layers, 1)}
    rows = rows[(rows["value"] > 0) & np.isfinite(rows["value"])]
    for (estimate, of), look in zip(rows.groupby("estimate", sort=False), cycle(drawing.looks()), strict=False):
        mean = np.exp(np.log(of["value"]).groupby(of["layer"].map(places)).mean())
        axes.plot(mean.index, mean, label=NAMES[str(estimate)], **look)
        for seed, run in of.groupby("seed") if of["seed"].nunique() > 1 else ():
            style = look | {"linestyle": "", "markersize": 2.5, "alpha": 0.5}
            axes.plot(run["layer"].map(places), run["value"], **style, gid=f"{NAMES[str(estimate)]}, seed {seed}")
    if len(layers) <= LABELLED:
        short = [layer.replace(".layer.", ".") for layer in layers]
        axes.set_xticks(range(1, len(layers) + 1), short, rotation=60, ha="right")
    axes.set_xlabel("parameter tensor" if len(layers) <= LABELLED else "parameter tensor, from the input on")


def against_images(study: Study) -> pd.DataFrame:
    """Return radii and distances against the number of images, relative to those of the fewest images.

    Of each seed the geometric mean over tensors, and the smallest and the largest tensor.
    """
    frames = [
        table[table["quantity"].str.endswith("_by_n")].assign(**run)
        for run, record, table in study.records("curvature_radius")
        if record["status"] == "ok"
    ]
    if not frames:
        return pd.DataFrame(columns=[*RUN, "state", "panel", "estimate", "images", "mean", "low", "high"])
    found = _at_ends(pd.concat(frames, ignore_index=True))
    found = found.assign(panel=found["quantity"].str.removesuffix("_by_n"))
    axes = [*RUN, "state", "panel", "estimate"]
    first = found.groupby([*axes, "layer"], sort=False)["value"].transform("first")
    found = found.assign(log=np.log((found["value"] / first).where(lambda ratio: (ratio > 0) & np.isfinite(ratio))))
    logs = found.groupby([*axes, "images"], sort=False)["log"].agg(mean="mean", low="min", high="max")
    table: pd.DataFrame = np.exp(logs)
    return table.reset_index()


def against_images_caption(rows: pd.DataFrame) -> str:
    """Return how to read the figure."""
    return (
        "Radii and distances over more and more images, relative to those over the fewest. Lines are geometric means"
        f" over tensors{drawing.over_seeds(rows, ' and seeds')}, and bands reach from the smallest to the largest"
        " tensor. Dotted: what pure noise would give, with |g| falling as 1/√n."
    )


def draw_against_images(rows: pd.DataFrame) -> Drawing:
    """Draw radii and distances against the number of images: one row of panels per state of the network."""
    lines = [(pair, name, of) for pair in drawing.pairs_of(rows) for name, of in _states(drawing.of_pair(rows, pair))]
    figure, grid = plt.subplots(len(lines), len(PANELS), figsize=(10.4, 3.4 * len(lines)), squeeze=False)
    for line, (pair, name, here) in zip(grid, lines, strict=True):
        for axes, (panel, label, power) in zip(line, PANELS, strict=True):
            of = here[here["panel"] == panel]
            for (estimate, group), look in zip(of.groupby("estimate", sort=False), drawing.looks(), strict=False):
                by_n = group.groupby("images")
                mean = np.exp(np.log(group["mean"]).groupby(group["images"]).mean())
                axes.plot(mean.index, mean, label=NAMES[str(estimate)], **look)
                low, high = by_n["low"].min(), by_n["high"].max()
                axes.fill_between(mean.index, low, high, color=look["color"], alpha=0.1, linewidth=0)
            ends = np.array([of["images"].min(), of["images"].max()], dtype=float)
            axes.plot(ends, (ends / ends[0]) ** power, label="∝ √n" if power > 0 else "∝ 1/√n", **REFERENCE)
            axes.set(xscale="log", yscale="log", xlabel="images n")
            drawing.entitle([axes], [f"{label}\n{name}"], pair, here, several=len(drawing.pairs_of(rows)) > 1)
    drawing.entitle_figure(figure, "Radius and distance against the number of images", rows)
    return figure


def against_batch_size(study: Study) -> pd.DataFrame:
    """Return how far the tensors' radii lie apart, and how |w/g| orders them, against batch size."""
    runs, frames = study.good_runs, []
    runs = runs[runs["kind"] == "all"]
    for panel, quantity, estimate in SERIES:
        for state in ("trained", INITIAL):
            at = (runs["quantity"] == quantity) & (runs["estimate"] == estimate) & (runs["state"] == state)
            frames.append(drawing.rows_of(runs[at], panel, f"{NAMES[estimate]}, {state}"))
    return pd.concat(frames, ignore_index=True).reindex(columns=drawing.LONG)


def against_batch_size_caption(rows: pd.DataFrame) -> str:
    """Return how to read the figure."""
    initial = rows["series"].str.endswith(f", {INITIAL}").any()
    same = ["The initial weights are the same at each batch size."] if initial else []
    asked = (
        "How far the radii of a network's tensors lie apart, and whether estimates from w and g put its tensors in the"
        " order of 1/h."
    )
    return " ".join([asked, *same, drawing.runs_caption(rows)])


def draw_against_batch_size(rows: pd.DataFrame) -> Drawing:
    """Draw spread and order of the tensors' radii against batch size."""
    return drawing.against_batch_size(rows, "Curvature radii over all parameter tensors")


def _kind(kind: str, rows: pd.DataFrame) -> str:
    """Return what the tensors of a kind are; a network without batch norm has biases alone."""
    if kind == "weights":
        return "weights"
    return "biases and batch norm" if rows["layer"].str.contains("norm").any() else "biases"


def _at_ends(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the initial weights once, and the trained ones of the smallest and the largest batch size."""
    small, large = rows["batch_size"].min(), rows["batch_size"].max()
    trained = (rows["state"] == "trained") & rows["batch_size"].isin([small, large])
    kept: pd.DataFrame = rows[trained | ((rows["state"] == INITIAL) & (rows["batch_size"] == small))]
    return kept


def _states(rows: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Return name and rows of each state of a network that is drawn, the initial one first."""
    initial, trained = (rows[rows["state"] == state] for state in (INITIAL, "trained"))
    of_sizes = [(f"trained at b = {size}", of) for size, of in trained.groupby("batch_size")]
    return [*([("initial weights", initial)] if len(initial) else []), *of_sizes]


FIGURES = [
    Figure("curvature_radius", "Curvature radius by tensor", by_tensor_caption, by_tensor, draw_by_tensor),
    Figure(
        "radius_by_n",
        "Curvature radius against the number of images",
        against_images_caption,
        against_images,
        draw_against_images,
    ),
    Figure(
        "radius_spread",
        "Curvature radii over tensors",
        against_batch_size_caption,
        against_batch_size,
        draw_against_batch_size,
    ),
]
