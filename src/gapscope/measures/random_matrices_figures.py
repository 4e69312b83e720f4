"""Figures of random matrices: Figures A1-A3 and Propositions 1 and 2 of Oyedotun et al. 2022."""

from functools import partial
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure as Drawing

from gapscope.drawing import axes as drawing
from gapscope.drawing.figure import Figure
from gapscope.measures import random_matrices
from gapscope.measures.study import Study

AXIS_STDS = 2.1  # a histogram's axis ends at so many std sqrt(m): past the upper edge of a square matrix, 2
BOUND = {"color": "0.25", "linestyle": "--", "linewidth": 1.0, "marker": ""}


def distributions(study: Study, law: str) -> pd.DataFrame:
    """Return one law's histograms: singular values per bin and matrix, and where the axis of its panel ends."""
    stds, _, histograms = random_matrices.read(study)
    rows = histograms[histograms["law"] == law]
    per_matrix = rows["count"] / rows["repetitions"]
    table = rows.drop(columns="expected").assign(per_matrix=per_matrix)
    table = table.assign(axis_end=AXIS_STDS * stds[law] * rows["m"] ** 0.5)
    return table[["m", "n", "repetitions", "low", "high", "count", "law", "per_matrix", "axis_end"]]


def marchenko_pastur(study: Study) -> pd.DataFrame:
    """Return each law's histogram as a density of sigma / (std sqrt(m)), at the largest m and the n nearest to m / 2.

    `expected` is Marchenko and Pastur's density, averaged over the bin. The edges are 1 -+ sqrt(n / m).
    """
    stds, _, histograms = random_matrices.read(study)
    m = histograms["m"].max()
    n = min(histograms.loc[histograms["m"] == m, "n"], key=lambda n: abs(n - m / 2))
    rows: pd.DataFrame = histograms[(histograms["m"] == m) & (histograms["n"] == n)]
    scale = rows["law"].map(stds) * m**0.5
    low, high = rows["low"] / scale, rows["high"] / scale
    values = n * rows["repetitions"]
    table = rows[["law", "m", "n", "repetitions"]].assign(low=low, high=high)
    for name in ("count", "expected"):
        table[f"{name}_density"] = rows[name] / (values * (high - low))
    table["edge_low"], table["edge_high"] = 1 - (n / m) ** 0.5, 1 + (n / m) ** 0.5
    return pd.DataFrame(table)


def extremes(study: Study) -> pd.DataFrame:
    """Return the extreme values in units of std sqrt(m), and how far within their bounds they lie, in units of std."""
    stds, values, _ = random_matrices.read(study)
    means = random_matrices.means(values, stds)
    std = means["law"].map(stds)
    table = means[["law", "m", "n", "repetitions"]].assign(root_ratio=(means["n"] / means["m"]) ** 0.5)
    for name, bound, sign in (("sigma_min", "lower", 1), ("sigma_max", "upper", -1)):
        table[f"{name}_scaled"] = means[f"{name}_mean"] / (std * means["m"] ** 0.5)
        table[f"{bound}_scaled"] = means[bound] / (std * means["m"] ** 0.5)
        table[f"{name}_margin"] = sign * (means[f"{name}_mean"] - means[bound]) / std
        table[f"{name}_margin_se"] = means[f"{name}_se"] / std
    return table


def draw_distributions(rows: pd.DataFrame) -> Drawing:
    """Draw histograms of the singular values: one panel per number of rows m, one line per number of columns n."""
    heights = list(rows["m"].drop_duplicates())
    figure, grid = plt.subplots(1, len(heights), figsize=drawing.size(len(heights), 1, 4.4, 3.1), squeeze=False)
    for axes, m in zip(grid[0], heights, strict=True):
        here = rows[rows["m"] == m]
        end = here["axis_end"].iloc[0]
        for turn, (n, group) in enumerate(here.groupby("n", sort=False)):
            shown, beyond = group[group["high"] <= end], group[group["high"] > end]
            label = f"n = {n} ({group['repetitions'].iloc[0]})"
            if beyond["count"].sum():
                label += f"; {beyond['per_matrix'].sum():.3g} per matrix up to {beyond['high'].max():.0f}"
            filled = _filled(shown)
            look = _looks()[turn % len(_looks())]
            line = {"color": look["color"], "linestyle": look["linestyle"], "linewidth": 1.2 if turn < 4 else 2.4}
            axes.stairs(filled["per_matrix"], [*filled["low"], filled["high"].iloc[-1]], label=label, **line)
        axes.set(
            xlabel="singular value", ylabel="values per bin and matrix", title=f"m = {m}", yscale="log", xlim=(0, end)
        )
    figure.suptitle(f"Singular values of m x n matrices, {rows['law'].iloc[0]} entries")
    return figure


def draw_marchenko_pastur(rows: pd.DataFrame) -> Drawing:
    """Draw the density of the singular values and the edges sqrt(m) -+ sqrt(n): one panel per law."""
    laws = list(rows["law"].drop_duplicates())
    figure, grid = plt.subplots(1, len(laws), figsize=drawing.size(len(laws), 1, 4.4, 3.1), squeeze=False, sharey=True)
    for axes, law in zip(grid[0], laws, strict=True):
        here = rows[rows["law"] == law]
        first, end = here.iloc[0], AXIS_STDS
        shown = _filled(here[here["high"] <= end])
        edges = [*shown["low"], shown["high"].iloc[-1]]
        axes.stairs(shown["count_density"], edges, fill=True, color="0.75", label="measured")
        axes.stairs(shown["expected_density"], edges, color="black", linewidth=1.2, label="Marchenko-Pastur")
        for edge in (first["edge_low"], first["edge_high"]):
            axes.axvline(edge, **BOUND, label="√m ∓ √n" if edge == first["edge_low"] else None)
        inside = (here["high"] > first["edge_low"]) & (here["low"] < first["edge_high"])
        share = 100 * here.loc[inside, "count_density"].sum() / here["count_density"].sum()
        title = (
            f"{law}, {first['m']} x {first['n']} (n = {first['repetitions']} matrices)\n{share:.2f} % between the edges"
        )
        top = here.loc[here["count_density"] > 0, "high"].max()
        if top > end:
            title += f"; largest value: {top:.3g}"
        axes.set(xlabel="σ / (s √m), s: standard deviation of an entry", title=title, xlim=(0, end))
    grid[0][0].set_ylabel("density")
    figure.suptitle("Proposition 1: where singular values concentrate")
    return figure


def draw_extremes(rows: pd.DataFrame) -> Drawing:
    """Draw mean extreme values against sqrt(m) -+ sqrt(n), and by how much Gaussian ones stay within."""
    figure, (smallest, largest, margin) = plt.subplots(1, 3, figsize=drawing.size(3, 1, 4.4, 3.6))
    x = np.linspace(0, 1, 50)
    for axes, name, bound in ((smallest, "sigma_min", 1 - x), (largest, "sigma_max", 1 + x)):
        for (law, group), look in zip(rows.groupby("law", sort=False), _looks(), strict=False):
            axes.plot(group["root_ratio"], group[f"{name}_scaled"], **look | {"linestyle": ""}, label=str(law))
        sign, extreme = ("−", "min") if name == "sigma_min" else ("+", "max")
        axes.plot(x, bound, **BOUND, label=f"√m {sign} √n")
        axes.set(xlabel="√(n / m)", ylabel=f"mean σ_{extreme} / (s √m)")
    smallest.set_title("smallest singular value")
    largest.set(title="largest singular value (means not 0 add an outlier)", yscale="log")
    gaussian = rows[rows["law"] == "gaussian"]
    for (m, group), look in zip(gaussian.groupby("m", sort=False), _looks(), strict=False):
        for name, fill in (("sigma_min", look["color"]), ("sigma_max", "none")):
            style = look | {"linestyle": "-" if name == "sigma_min" else ":", "markerfacecolor": fill}
            label = f"m = {m}, {'σ_min above its bound' if name == 'sigma_min' else 'σ_max below its bound'}"
            ordered = group.sort_values("root_ratio")
            distance, error = ordered[f"{name}_margin"], ordered[f"{name}_margin_se"]
            ends = (distance - error, distance + error)
            drawing.draw_line(margin, ordered["root_ratio"], distance, *ends, label=label, **style)
    margin.axhline(0, **BOUND)
    margin.set(xlabel="√(n / m)", ylabel="distance within the bound", title="Gaussian: above 0 the bound holds")
    n = " or ".join(map(str, sorted(rows["repetitions"].unique())))
    figure.suptitle(f"Proposition 2: √m − √n ≤ E σ_min, E σ_max ≤ √m + √n (n = {n} matrices; bars: standard errors)")
    return figure


def _filled(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows of bins that leave no gap: the missing ones hold nothing."""
    width = (rows["high"] - rows["low"]).mean()
    index = (rows["low"] / width).round().astype(int)
    whole = pd.RangeIndex(index.min(), index.max() + 1)
    filled = rows.select_dtypes("number").set_index(index).reindex(whole).fillna(0)
    return filled.assign(low=whole * width, high=(whole + 1) * width)


def _looks() -> list[dict[str, Any]]:
    return [dict(look) for look in plt.rcParams["axes.prop_cycle"]]


def _histogram_caption(rows: pd.DataFrame) -> str:
    made = "One line per number of columns n (log scale), with the number of matrices in brackets."
    beyond = (rows["high"] > rows["axis_end"]) & (rows["count"] > 0)
    return made + (" Then the legend has the number of values beyond the axis." if beyond.any() else "")


def _density_caption(_: pd.DataFrame) -> str:
    return "Where the singular values of a large matrix concentrate, beside Marchenko and Pastur's density and edges."


def _extremes_caption(_: pd.DataFrame) -> str:
    return (
        "Mean extreme singular values beside the bounds (dashed), and how far within the bounds the Gaussian ones stay."
        " Bars are standard errors."
    )


PRINTED = {
    "figure_a1": ("gaussian", "normal"),
    "figure_a2": ("uniform", "uniform"),
    "figure_a3": ("lognormal", "log-normal"),
}
FIGURES = [
    *(
        Figure(
            name,
            f"Figure {name.removeprefix('figure_').upper()}: {entries} entries",
            _histogram_caption,
            partial(distributions, law=law),
            draw_distributions,
        )
        for name, (law, entries) in PRINTED.items()
    ),
    Figure("proposition_1", "Proposition 1", _density_caption, marchenko_pastur, draw_marchenko_pastur),
    Figure("proposition_2", "Proposition 2", _extremes_caption, extremes, draw_extremes),
]
