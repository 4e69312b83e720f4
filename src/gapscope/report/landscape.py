"""The loss between and around two batch sizes' solutions: what each figure draws, as a table, and a redraw of it.

A record is what the landscape stage wrote for one model, data set and seed, and its rows. Those of diverged runs are in
the summary, and in no figure.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from gapscope.drawing import numbers

Record = tuple[Mapping[str, Any], pd.DataFrame]

FIGURES = ["train_loss", "train_error_pct", "test_loss", "test_error_pct"]
KEYS = ["model", "dataset", "seed"]
ENDS = ("small", "large")
STEPS = (1, 3)  # contours of a plane lie at these times powers of ten
MARK = {"color": "0.25", "linestyle": "--", "linewidth": 1.0, "marker": ""}


def line(records: Iterable[Record]) -> pd.DataFrame:
    """Return loss and error along the line, a row a seed and alpha (0: small batch, 1: large batch)."""
    columns = [*KEYS, "small", "large", "alpha", *FIGURES]
    return _joined(
        (
            _of_kind(rows, "line").rename(columns={"a": "alpha"}).assign(**_key(record), **record["batch_sizes"])
            for record, rows in _measured(records)
        ),
        columns,
    )


def directions(records: Iterable[Record]) -> pd.DataFrame:
    """Return the profiles along random filter-normalised directions and along eigenvectors, around both ends."""
    columns = [*KEYS, "end", "batch_size", "kind", "direction", "a", *FIGURES]
    return _joined(
        (
            _with_size(record, _of_kind(rows, "random", "eigenvector")).assign(**_key(record))
            for record, rows in _measured(records)
        ),
        columns,
    )


def plane(records: Iterable[Record]) -> pd.DataFrame:
    """Return the planes of the first seed of each model and data set: contours of two seeds cannot be overlaid."""
    columns = [*KEYS, "end", "batch_size", "a", "b", *FIGURES]
    first: dict[tuple[str, str], Record] = {}
    for record, rows in _measured(records):
        first.setdefault((record["model"]["name"], record["dataset"]), (record, rows))
    return _joined(
        (_with_size(record, _of_kind(rows, "plane")).assign(**_key(record)) for record, rows in first.values()), columns
    )


def rises(records: Iterable[Record]) -> pd.DataFrame:
    """Return how far the training loss rises at one distance, a row a direction.

    `eigenvalue` is empty for random directions; `quadratic` is radius^2 eigenvalue / 2, what a quadratic would rise by.
    The loss is none: it flattens far out, and kinks (ReLU, max pooling) add to a rise and not to a point's Hessian.
    """
    columns = [*KEYS, "end", "batch_size", "kind", "direction", "radius", "eigenvalue", "quadratic", "rise"]
    rows = []
    for record, _ in _measured(records):
        for end in ENDS:
            about = {**_key(record), "end": end, "batch_size": record["batch_sizes"][end]}
            found = record["ends"][end]["rises"]
            about["radius"] = radius = found["radius"]
            pairs = zip(record["ends"][end]["eigenvalues"], found["eigenvectors"], strict=True)
            for index, (value, rise) in enumerate(pairs):
                row = {**about, "kind": "eigenvector", "direction": index, "eigenvalue": value}
                rows.append({**row, "quadratic": radius**2 * value / 2, "rise": rise})
            for index, rise in enumerate(found["random"]):
                rows.append({**about, "kind": "random", "direction": index, "rise": rise})
    return pd.DataFrame(rows, columns=columns).astype({"rise": float})  # a rise that is infinite is null in JSON


def summary(records: Iterable[Record]) -> pd.DataFrame:
    """Return a row an end and seed.

    `rise_ratio` is the mean rise along eigenvectors over that along random directions; `random_rise_std` the deviation
    between these. `barrier` is the largest training loss for alpha in [0, 1], less the larger one of the two ends'; it
    is 0 where nothing in between is higher, and the same for both ends.
    """
    rows = []
    for record, table in records:
        for end in ENDS:
            row = {**_key(record), "end": end, "batch_size": record["batch_sizes"][end], "status": record["status"]}
            rows.append(row | (_end_summary(record, table, end) if record["status"] == "ok" else {}))
    return pd.DataFrame(rows)


def _end_summary(record: Mapping[str, Any], table: pd.DataFrame, end: str) -> dict[str, Any]:
    about, path = record["ends"][end], _of_kind(table, "line")
    here = path.loc[path["a"] == ENDS.index(end)].iloc[0]
    between = path.loc[path["a"].between(0, 1), "train_loss"].max()
    highest = path.loc[path["a"].isin([0, 1]), "train_loss"].max()
    steep, flat = (pd.Series(about["rises"][kind], dtype=float) for kind in ("eigenvectors", "random"))
    return {
        **{name: here[name] for name in FIGURES},
        "weight_norm": about["weight_norm"],
        "largest_eigenvalue": about["eigenvalues"][0],
        "largest_residual": about["residuals"][0],
        "radius": about["rises"]["radius"],
        "eigenvectors": len(steep),
        "eigenvector_rise_mean": steep.mean(skipna=False),
        "random_directions": len(flat),
        "random_rise_mean": flat.mean(skipna=False),
        "random_rise_std": flat.std(skipna=False),
        "rise_ratio": steep.mean(skipna=False) / flat.mean(skipna=False),
        "distance": record["distance"],
        **record["conditions"]["train"],
        "barrier": between - highest,
    }


def draw_line(rows: pd.DataFrame) -> Figure:
    """Cross-entropy and accuracy from the small-batch to the large-batch solution: Keskar et al. 2017, Figure 3."""
    pairs = _pairs(rows)
    figure, grid = plt.subplots(len(pairs), 2, figsize=(10, 3.9 * len(pairs)), squeeze=False)
    for (loss, accuracy), here in zip(grid, pairs, strict=True):
        for split, look in zip(("train", "test"), _looks(), strict=False):
            for index, (seed, run) in enumerate(here.groupby("seed")):
                style = {**look, "label": None if index else split, "gid": f"{split}, seed {seed}"}
                loss.plot(run["alpha"], run[f"{split}_loss"], **style)
                accuracy.plot(run["alpha"], 100 - run[f"{split}_error_pct"], **style)
        loss.set(ylabel="cross-entropy (nats)", yscale="log")
        accuracy.set(ylabel="accuracy (%)")
        small, large = (here[end].iloc[0] for end in ENDS)
        for axes in (loss, accuracy):
            for alpha in range(len(ENDS)):
                axes.axvline(alpha, **MARK)
            axes.set(xlabel=f"α (0: small batch, b = {small}; 1: large batch, b = {large})", title=_title(here))
    figure.suptitle("From the small-batch to the large-batch solution: α large + (1 − α) small")
    return figure


def draw_directions(rows: pd.DataFrame) -> Figure:
    """Training loss and error along random filter-normalised directions and along eigenvectors, around both ends."""
    pairs = _pairs(rows)
    figure, grid = plt.subplots(len(pairs), 4, figsize=(16, 3.9 * len(pairs)), squeeze=False)
    kinds = {
        "random": ("random directions", "step a, in units of each filter's norm"),
        "eigenvector": ("top eigenvectors", "distance a from the solution"),
    }
    for panels, here in zip(grid, pairs, strict=True):
        for turn, (kind, (what, x)) in enumerate(kinds.items()):
            loss, error = panels[2 * turn : 2 * turn + 2]
            of_kind = here[here["kind"] == kind]
            for end, look in _of_ends(of_kind):
                for index, ((seed, direction), run) in enumerate(end.groupby(["seed", "direction"])):
                    size = f"b = {run['batch_size'].iloc[0]}"
                    style = look | {"marker": "", "linewidth": 1.0, "label": None if index else size}
                    style["gid"] = f"{size}, seed {seed}, {kind} {int(str(direction)) + 1}"
                    loss.plot(run["a"], run["train_loss"], **style)
                    error.plot(run["a"], run["train_error_pct"], **style)
            loss.set(ylabel="training cross-entropy (nats)", yscale="log")
            error.set(ylabel="training error (%)")
            for axes in (loss, error):
                axes.set(xlabel=x, title=f"{of_kind['direction'].nunique()} {what}\n{_title(here)}")
    figure.suptitle("Around the small-batch and the large-batch solution")
    return figure


def draw_plane(rows: pd.DataFrame) -> Figure:
    """Contours of the training loss over two random filter-normalised directions; both ends have the same levels."""
    pairs = _pairs(rows)
    figure, grid = plt.subplots(len(pairs), 2, figsize=(9, 4.7 * len(pairs)), squeeze=False)
    for panels, here in zip(grid, pairs, strict=True):
        heights = here["train_loss"].replace(np.inf, np.nan)
        decades = range(math.floor(math.log10(heights[heights > 0].min())), math.ceil(math.log10(heights.max())))
        levels = [step * 10.0**decade for decade in decades for step in STEPS]
        for axes, (end, _) in zip(panels, _of_ends(here), strict=True):
            height = end.assign(height=heights).pivot(index="b", columns="a", values="height")
            drawn = axes.contour(height.columns, height.index, height, levels=levels, colors="0.2", linewidths=0.8)
            axes.clabel(drawn, fmt="%g", fontsize=7)
            axes.plot(0, 0, "+", color="black")
            model, dataset, seed, size = end.iloc[0][[*KEYS, "batch_size"]]
            axes.set(
                title=f"b = {size}: {model} on {dataset} (n = 1: seed {seed})",
                xlabel="step a, in units of each filter's norm",
                ylabel="step b, likewise",
                aspect="equal",
            )
    figure.suptitle("Training cross-entropy (nats) over two random filter-normalised directions (+: the solution)")
    return figure


def draw_rises(rows: pd.DataFrame) -> Figure:
    """How far the training loss rises at one distance: along eigenvectors, and along random directions."""
    pairs = _pairs(rows)
    figure, grid = plt.subplots(1, len(pairs), figsize=(7 * len(pairs), 4.4), squeeze=False)
    for axes, here in zip(grid[0], pairs, strict=True):
        top = int(here.loc[here["kind"] == "eigenvector", "direction"].max()) + 1
        drawn = int((here["kind"] == "random").sum() / here["seed"].nunique() / 2)
        for turn, (end, look) in enumerate(_of_ends(here)):
            along, random = (end[end["kind"] == kind] for kind in ("eigenvector", "random"))
            size = f"b = {end['batch_size'].iloc[0]}"
            for index, (seed, run) in enumerate(along.groupby("seed")):
                label, name = None if index else size, f"{size}, seed {seed}"
                axes.plot(run["direction"] + 1, run["rise"], **look, label=label, gid=name)
                style = {**look, "markersize": 2.5, "linestyle": ":", "linewidth": 0.9}
                quadratic = "r² λ / 2, as if quadratic"
                label, name = None if index else f"{size}: {quadratic}", f"{name}: {quadratic}"
                axes.plot(run["direction"] + 1, run["quadratic"], **style, label=label, gid=name)
            # apart by end, and spread by their order, so that none hides another
            place = top + 1.3 + turn + 0.6 * random["direction"] / max(drawn - 1, 1)
            axes.plot(place, random["rise"], **look | {"linestyle": ""}, gid=f"{size}, random directions")
        ticks = {float(index): f"λ{index}" for index in range(1, top + 1)}
        ticks[top + 2.1] = f"{drawn} random\na seed"
        axes.set_xticks([*ticks], [*ticks.values()])
        axes.fmt_xdata = {place: label for place, label in ticks.items() if place <= top}.get
        axes.axvline(top + 0.65, **MARK)
        distance = f"distance r = {here['radius'].iloc[0]:g}"
        below = int((here["rise"] <= 0).sum())
        lost = f"\n(not shown: {below} that are ≤ 0)" if below else ""
        axes.set(xlabel=f"direction: eigenvector of the k-th largest eigenvalue, or random{lost}", yscale="log")
        axes.set(ylabel=f"rise of the training loss (nats) at {distance}", title=_title(here))
    figure.suptitle("Along top eigenvectors and random directions of the same length (mean of ±)")
    return figure


def _measured(records: Iterable[Record]) -> Iterator[Record]:
    return ((record, rows) for record, rows in records if record["status"] == "ok")


def _key(record: Mapping[str, Any]) -> dict[str, Any]:
    return {"model": record["model"]["name"], "dataset": record["dataset"], "seed": record["seed"]}


def _of_kind(rows: pd.DataFrame, *kinds: str) -> pd.DataFrame:
    return rows[rows["kind"].isin(kinds)]


def _with_size(record: Mapping[str, Any], rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(batch_size=rows["end"].map(record["batch_sizes"]))


def _joined(frames: Iterable[pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    found = [frame[columns] for frame in frames]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=columns)


def _pairs(rows: pd.DataFrame) -> list[pd.DataFrame]:
    return [group for _, group in rows.groupby(["model", "dataset"], sort=False)]


def _of_ends(rows: pd.DataFrame) -> list[tuple[pd.DataFrame, dict[str, Any]]]:
    return [(rows[rows["end"] == end], look) for end, look in zip(ENDS, _looks(), strict=False)]


def _title(rows: pd.DataFrame) -> str:
    return f"{rows['model'].iloc[0]} on {rows['dataset'].iloc[0]} ({numbers.seeds([rows['seed'].nunique()])})"


def _looks() -> list[dict[str, Any]]:
    return [dict(look) for look in plt.rcParams["axes.prop_cycle"]]
