"""Figures of curvature: eigenvalues, traces and rises against batch size, and the density of the Hessian's spectrum."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure as Drawing

from gapscope.drawing import axes as drawing
from gapscope.drawing.figure import Figure
from gapscope.measures.study import Study
from gapscope.records.long import RUN, axis_text

EIGENVALUE, RISE = "extreme eigenvalue", "rise of the loss (nats)"
SERIES = (  # panel, series, quantity
    (EIGENVALUE, "Hessian, largest", "hessian_largest"),
    (EIGENVALUE, "Gauss-Newton, largest", "gauss_newton_largest"),
    (EIGENVALUE, "Hessian, smallest (negative)", "hessian_smallest"),
    ("trace", "Hessian, trace", "hessian_trace"),
    ("trace", "Gauss-Newton, trace", "gauss_newton_trace"),
    ("large eigenvalues, at least", "Hessian", "hessian_above_level"),
    ("large eigenvalues, at least", "Gauss-Newton", "gauss_newton_above_level"),
    (RISE, "L2 ball (SAM)", "ball_plain_rise"),
    (RISE, "adaptive ball (ASAM)", "ball_adaptive_rise"),
)
LARGEST, SMALLEST = "largest eigenvalue", "smallest eigenvalue"
BY_LAYER = {  # quantity -> panel
    "layer_hessian_largest": LARGEST,
    "layer_hessian_smallest": SMALLEST,
    "layer_hessian_trace": "trace",
}
NEAR_ZERO = 0.01  # of the largest eigenvalue: nearer to 0, Lanczos's residual seldom tells a smallest one's sign
LAYERS = 6  # in the figure; tables have all of them
POINTS, WIDTH = 400, 0.01  # of a density: points, and the kernel's deviation as a part of the span


def against_batch_size(study: Study) -> pd.DataFrame:
    """Return extreme eigenvalues, traces, counts and rises against batch size, one row per run and series."""
    runs = study.good_runs
    frames = []
    for panel, series, quantity in SERIES:
        of = runs[runs["quantity"] == quantity]
        counted = quantity.endswith("above_level") and len(of)
        frames.append(
            drawing.rows_of(of, panel, f"{series}, above {axis_text(of['level'].iloc[0])}" if counted else series)
        )
    return pd.concat(frames, ignore_index=True).reindex(columns=drawing.LONG)


def caption(rows: pd.DataFrame) -> str:
    """Return how to read the figure."""
    return f"The loss is the training cross-entropy, at the weights after training. {drawing.runs_caption(rows)}"


def draw(rows: pd.DataFrame) -> Drawing:
    """Draw eigenvalues, traces, eigenvalues above the level, and rises within balls, against batch size."""
    figure = drawing.against_batch_size(rows, "Curvature of the training cross-entropy", columns=2)
    for axes in figure.axes:
        if axes.get_title().startswith(EIGENVALUE):
            axes.set_yscale("symlog", linthresh=0.1)
        if axes.get_title().startswith(RISE):
            axes.set_yscale("symlog", linthresh=1e-3)
            axes.set_ylim(bottom=0)  # d = 0 is in the ball
    return figure


def density(study: Study) -> pd.DataFrame:
    """Return each run's spectral density on a grid: the share of eigenvalues in each of equal bins of the span.

    A node (a Ritz value) stands for the eigenvalues near it. Its weight is spread over a Gaussian of `WIDTH` of the
    span, for the drawing alone.
    """
    found = []
    for run, record, table in study.records("curvature"):
        if record["status"] == "ok":
            of = table[table["operator"] == "hessian"]
            nodes, weights = (of.loc[of["quantity"] == part, "value"].to_numpy() for part in ("nodes", "weights"))
            found.append((run, nodes, weights))
    if not found:
        return pd.DataFrame(columns=[*RUN, "eigenvalue", "share"])
    low, high = min(nodes[0] for _, nodes, _ in found), max(nodes[-1] for _, nodes, _ in found)
    span = (high - low) or 1.0
    grid = np.linspace(low - 0.05 * span, high + 0.05 * span, POINTS)
    width, frames = WIDTH * span, []
    for run, nodes, weights in found:
        kernels = np.exp(-(((grid[:, None] - nodes) / width) ** 2) / 2)
        share = kernels @ weights * (grid[1] - grid[0]) / (width * np.sqrt(2 * np.pi))
        frames.append(pd.DataFrame({**run, "eigenvalue": grid, "share": share}))
    return pd.concat(frames, ignore_index=True)


def density_caption(_: pd.DataFrame) -> str:
    """Return how to read the figure."""
    return (
        "The share of eigenvalues at each place, on a log scale. Each eigenvalue is spread over a hundredth of the"
        " span, so that a single one shows as a hump."
    )


def draw_density(rows: pd.DataFrame) -> Drawing:
    """Draw the spectral density of the Hessian, one line per batch size, for the first seed."""
    pairs = drawing.pairs_of(rows)
    figure, grid = plt.subplots(1, len(pairs), figsize=drawing.size(len(pairs), 1, 6.4, 3.9), squeeze=False)
    for axes, pair in zip(grid[0], pairs, strict=True):
        here = drawing.of_pair(rows, pair)
        here = here[here["seed"] == here["seed"].min()]
        looks = drawing.batch_looks(here)
        for size, run in here.groupby("batch_size"):
            axes.plot(run["eigenvalue"], run["share"].clip(lower=1e-9), **looks[size], label=f"b = {size}")
        axes.set(yscale="log", ylim=(1e-8, 1), xlabel="eigenvalue of the Hessian")
        axes.set_title(f"share of eigenvalues\n{drawing.pair_title(pair, here)}")
    figure.suptitle("Spectral density of the Hessian (stochastic Lanczos)")
    return figure


def by_layer(study: Study) -> pd.DataFrame:
    """Return extreme eigenvalues and traces of layers' blocks against batch size, one row per run and layer."""
    return drawing.rows_by_layer(study.good_runs, BY_LAYER, LAYERS)


def by_layer_caption(rows: pd.DataFrame) -> str:
    """Return how to read the figure."""
    return (
        "Each layer's block of the Hessian: second derivatives of the training cross-entropy in that layer's parameters"
        " alone, at the solutions. Smallest eigenvalues within a few hundredths of the largest one are drawn near 0,"
        f" because their sign is seldom known. {drawing.runs_caption(rows)}"
    )


def draw_by_layer(rows: pd.DataFrame) -> Drawing:
    """Draw the extreme eigenvalues and the trace of each layer's block against batch size."""
    figure = drawing.against_batch_size(rows, "Curvature by layer")
    largest = rows.loc[rows["panel"] == LARGEST, "value"].abs().max()
    reach = 10.0 ** np.ceil(np.log10(NEAR_ZERO * largest)) if largest > 0 else NEAR_ZERO
    for axes in figure.axes:
        if axes.get_title().startswith(SMALLEST):
            axes.set_yscale("symlog", linthresh=reach)
            low, high = axes.get_ylim()
            axes.set_ylim(min(low, -reach), max(high, reach))
        elif axes.dataLim.y0 > 0:
            axes.set_yscale("log")
        else:
            axes.set_yscale("symlog", linthresh=0.1)
    return figure


FIGURES = [
    Figure("curvature", "Curvature", caption, against_batch_size, draw),
    Figure("density", "Spectral density of the Hessian", density_caption, density, draw_density),
    Figure("layer_curvature", "Curvature by layer", by_layer_caption, by_layer, draw_by_layer, optional=True),
]
