"""Figure of random linear problems: Proposition 3 of Oyedotun et al. 2022."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure as Drawing

from gapscope.drawing.figure import Figure
from gapscope.measures import perturbation
from gapscope.measures.study import Study

BOUND = {"color": "0.25", "linestyle": "--", "linewidth": 1.0, "marker": ""}


def table(study: Study) -> pd.DataFrame:
    """Return medians and extremes of both sides of eq. 5, one row per number of samples."""
    return perturbation.by_samples(perturbation.read(study))


def caption(_: pd.DataFrame) -> str:
    """Return how to read the figure."""
    return (
        "Relative change of a linear problem's solution, beside equation 5's bound and a tight one. In the grey there"
        " are fewer samples than unknowns. Points are medians; bands reach from the smallest to the largest."
    )


def draw_perturbation(rows: pd.DataFrame) -> Drawing:
    """Draw both sides of eq. 5 and the tight bound against the number of samples b, for a random and the worst ΔX."""
    figure, grid = plt.subplots(1, 2, figsize=(10.5, 3.9), sharey=True)
    units = int(rows["units"].iloc[0])
    series = {"bound": "right side of eq. 5, ‖ΔX‖ Σ 1/σ_i", "tight": "tight: ‖ΔX‖ / σ_min"}
    left = {"estimate": "‖Δθ‖ / ‖θ‖, by the pseudo-inverse", "smallest": "‖Δθ‖ / ‖θ‖, smallest that fits"}
    for axes, prefix, title in zip(grid, ("", "worst_"), ("random ΔX", "worst ΔX"), strict=True):
        named = series | {prefix + name: label for name, label in left.items()}
        for (name, label), look in zip(named.items(), plt.rcParams["axes.prop_cycle"], strict=False):
            axes.fill_between(
                rows["samples"], rows[f"{name}_low"], rows[f"{name}_high"], color=look["color"], alpha=0.15, linewidth=0
            )
            axes.plot(rows["samples"], rows[f"{name}_median"], **look, label=label)
        axes.axvspan(rows["samples"].min(), units, color="0.93", zorder=0)
        axes.axvline(units, **BOUND)
        axes.text(units, 0.5, f" b = h = {units}")
        axes.set(xlabel="samples b (grey: b < h)", yscale="log", title=title)
    grid[0].set_ylabel("relative change of the solution")
    n = " or ".join(map(str, sorted(rows["repetitions"].unique())))
    figure.suptitle(f"Proposition 3 (n = {n} problems per point; lines: medians; bands: smallest to largest)")
    return figure


FIGURES = [Figure("proposition_3", "Proposition 3", caption, table, draw_perturbation)]
