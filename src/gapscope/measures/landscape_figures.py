"""Figures of the loss between and around two batch sizes' solutions; runs that diverged are in none."""

import math
from collections.abc import Iterator
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure as Drawing

from gapscope.drawing import axes as drawing
from gapscope.drawing import names, numbers
from gapscope.drawing.figure import Figure
from gapscope.measures.evaluation import ERRORS
from gapscope.measures.landscape import ENDS, FIGURES_OF
from gapscope.measures.study import Study
from gapscope.tasks.words import CLASSIFICATION

KEYS = ["model", "dataset", "seed"]
STEPS = (1, 3)  # contours of a plane lie at these times powers of ten
MARK = {"color": "0.25", "linestyle": "--", "linewidth": 1.0, "marker": ""}


def _measured(study: Study) -> Iterator[tuple[dict[str, Any], dict[str, Any], pd.DataFrame]]:
    return (found for found in study.seed_records("landscape") if found[1]["status"] == "ok")


def _points(table: pd.DataFrame, *directions: str) -> pd.DataFrame:
    """Return one row per point of the walk along the given directions, with loss and error of both splits.

    The columns of an error have the name of the task's own error.
    """
    here = table[table["split"].notna() & table["direction"].isin(directions)]
    here = here.assign(name=here["split"] + "_" + here["quantity"])
    error = next((name for name in here["quantity"].drop_duplicates() if name != "loss"), "error_pct")
    place = ["end", "direction", "index", "step", "second_step"]
    turn = here.drop_duplicates(place)[place]
    values = here.set_index(place)
    for name in (name.replace("error_pct", error) for name in FIGURES_OF):
        turn[name] = values.loc[values["name"] == name, "value"].to_numpy()
    return turn.rename(columns={"direction": "kind", "index": "direction", "step": "a", "second_step": "b"})


def line(study: Study) -> pd.DataFrame:
    """Return loss and error along the line, one row per seed and alpha (0: small batch, 1: large batch)."""
    columns = [*KEYS, "small", "large", "alpha"]
    return _joined(
        (
            _points(table, "line").rename(columns={"a": "alpha"}).assign(**about, **record["batch_sizes"])
            for about, record, table in _measured(study)
        ),
        columns,
    )


def directions(study: Study) -> pd.DataFrame:
    """Return the profiles along random filter-normalised directions and along eigenvectors, around both ends."""
    columns = [*KEYS, "end", "batch_size", "kind", "direction", "a"]
    return _joined(
        (
            _with_size(record, _points(table, "random", "eigenvector")).assign(**about)
            for about, record, table in _measured(study)
        ),
        columns,
    )


def plane(study: Study) -> pd.DataFrame:
    """Return the planes of the first seed of each model and data set: contours of two seeds cannot be overlaid."""
    columns = [*KEYS, "end", "batch_size", "a", "b"]
    first: dict[tuple[str, str], Any] = {}
    for about, record, table in _measured(study):
        first.setdefault((about["model"], about["dataset"]), (about, record, table))
    return _joined(
        (_with_size(record, _points(table, "plane")).assign(**about) for about, record, table in first.values()),
        columns,
    )


def rises(study: Study) -> pd.DataFrame:
    """Return how far the training loss rises at one distance, one row per direction.

    `eigenvalue` is empty for random directions. `quadratic` is radius^2 eigenvalue / 2, the rise of a quadratic. The
    loss is no quadratic: it flattens far out, and kinks (ReLU, max pooling) add to a rise but not to the Hessian at a
        point.
    """
    columns = [*KEYS, "end", "batch_size", "kind", "direction", "radius", "eigenvalue", "quadratic", "rise"]
    rows: list[dict[str, Any]] = []
    for about, record, table in _measured(study):
        for end in ENDS:
            here = table[table["end"] == end]
            values = here[here["quantity"] == "eigenvalue"].set_index("index")["value"]
            for row in here[here["quantity"] == "rise"].to_dict("records"):
                made = {**about, "end": end, "batch_size": record["batch_sizes"][end], "kind": row["direction"]}
                made |= {"direction": row["index"], "radius": row["radius"], "rise": row["value"]}
                if row["direction"] == "eigenvector":
                    value = values[row["index"]]
                    made |= {"eigenvalue": value, "quadratic": row["radius"] ** 2 * value / 2}
                rows.append(made)
    return pd.DataFrame(rows, columns=columns).astype({"rise": float})


def _with_size(record: dict[str, Any], rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(batch_size=rows["end"].map(record["batch_sizes"]))


def _joined(frames: Iterator[pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    """Return the frames as one: the given columns, then loss and error of both splits."""
    found = [frame[[*columns, *_values(frame)]] for frame in frames]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=[*columns, *FIGURES_OF])


def _values(rows: pd.DataFrame) -> list[str]:
    """Return the names of the columns of loss and error of both splits."""
    return [name for name in map(str, rows) if name.startswith(("train_", "test_"))]


def _error(rows: pd.DataFrame) -> tuple[str, str]:
    """Return the name of the task's error, and how it is called: by its name where it is a task of one's own."""
    error = next(name for name in _values(rows) if name != "train_loss").removeprefix("train_")
    return error, "error (%)" if error in ERRORS else error


def _scale(losses: pd.Series) -> str:
    return "linear" if (losses < 0).any() else "log"  # a loss of one's own may fall below 0


def draw_line(rows: pd.DataFrame) -> Drawing:
    """Draw loss and accuracy on the line between the two solutions: Keskar et al. 2017, Figure 3.

    A task other than classification has its error in place of the accuracy.
    """
    pairs = _pairs(rows)
    figure, grid = plt.subplots(len(pairs), 2, figsize=drawing.size(2, len(pairs), 4.8, 3.7), squeeze=False)
    error, called = _error(rows)
    classes = error == CLASSIFICATION.error
    for (loss, accuracy), here in zip(grid, pairs, strict=True):
        for split, look in zip(("train", "test"), _looks(), strict=False):
            for index, (seed, run) in enumerate(here.groupby("seed")):
                style = {**look, "label": None if index else split, "gid": f"{split}, seed {seed}"}
                loss.plot(run["alpha"], run[f"{split}_loss"], **style)
                values = run[f"{split}_{error}"]
                accuracy.plot(run["alpha"], 100 - values if classes else values, **style)
        loss.set(title=f"cross-entropy (nats)\n{_title(here)}", yscale=_scale(here["train_loss"]))
        accuracy.set(title=f"{'accuracy (%)' if classes else called}\n{_title(here)}")
        small, large = (here[end].iloc[0] for end in ENDS)
        for axes in (loss, accuracy):
            for alpha in range(len(ENDS)):
                axes.axvline(alpha, **MARK)
            axes.set(xlabel=f"α (0: small batch, b = {small}; 1: large batch, b = {large})")
    figure.suptitle("From the small-batch to the large-batch solution: α large + (1 − α) small")
    return figure


def draw_directions(rows: pd.DataFrame) -> Drawing:
    """Draw training loss and error along random directions and along eigenvectors, around both ends."""
    pairs = _pairs(rows)
    figure, grid = plt.subplots(2 * len(pairs), 2, figsize=drawing.size(2, 2 * len(pairs), 4.8, 3.7), squeeze=False)
    name, called = _error(rows)
    kinds = {
        "random": ("random directions", "step a, in units of each filter's norm"),
        "eigenvector": ("top eigenvectors", "distance a from the solution"),
    }
    for panels, here in zip(grid.reshape(len(pairs), -1), pairs, strict=True):
        for turn, (kind, (what, x)) in enumerate(kinds.items()):
            loss, error = panels[2 * turn : 2 * turn + 2]
            of_kind = here[here["kind"] == kind]
            for end, look in _of_ends(of_kind):
                for index, ((seed, direction), run) in enumerate(end.groupby(["seed", "direction"])):
                    size = f"b = {run['batch_size'].iloc[0]}"
                    style = look | {"marker": "", "linewidth": 1.0, "label": None if index else size}
                    style["gid"] = f"{size}, seed {seed}, {kind} {int(str(direction)) + 1}"
                    loss.plot(run["a"], run["train_loss"], **style)
                    error.plot(run["a"], run[f"train_{name}"], **style)
            loss.set(yscale=_scale(here["train_loss"]))
            for axes, quantity in ((loss, "training cross-entropy (nats)"), (error, f"training {called}")):
                along = f"{of_kind['direction'].nunique()} {what}"
                axes.set(xlabel=x, title=f"{quantity}\n{along}, {_title(here)}")
    figure.suptitle("Around the small-batch and the large-batch solution")
    return figure


def draw_plane(rows: pd.DataFrame) -> Drawing:
    """Draw contours of the training loss over two random directions; both ends have the same levels."""
    pairs = _pairs(rows)
    figure, grid = plt.subplots(len(pairs), 2, figsize=(9, 4.7 * len(pairs)), squeeze=False)
    for panels, here in zip(grid, pairs, strict=True):
        heights = here["train_loss"].replace(np.inf, np.nan)
        levels = _levels(heights)
        for axes, (end, _) in zip(panels, _of_ends(here), strict=True):
            height = end.assign(height=heights).pivot(index="b", columns="a", values="height")
            drawn = axes.contour(height.columns, height.index, height, levels=levels, colors="0.2", linewidths=0.8)
            axes.clabel(drawn, fmt="%g", fontsize=9)
            axes.plot(0, 0, "+", color="black")
            model, dataset, seed, size = end.iloc[0][[*KEYS, "batch_size"]]
            axes.set(
                title=f"cross-entropy (nats) at b = {size}\n{names.pair(model, dataset)} (n = 1: seed {seed})",
                xlabel="step a, in units of each filter's norm",
                ylabel="step b, likewise",
                aspect="equal",
            )
    figure.suptitle("Training loss over two random filter-normalised directions (+: the solution)")
    return figure


def _levels(heights: pd.Series) -> list[float]:
    """Return the heights of contours: steps of a decade, or equal steps where a loss is below 0."""
    if _scale(heights) == "linear":
        return [float(level) for level in np.linspace(heights.min(), heights.max(), 12)]
    decades = range(math.floor(math.log10(heights[heights > 0].min())), math.ceil(math.log10(heights.max())))
    return [step * 10.0**decade for decade in decades for step in STEPS]


def draw_rises(rows: pd.DataFrame) -> Drawing:
    """Draw how far the training loss rises at one distance, along eigenvectors and along random directions."""
    pairs = _pairs(rows)
    figure, grid = plt.subplots(1, len(pairs), figsize=drawing.size(len(pairs), 1, 7, 4.4), squeeze=False)
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
        ticks[top + 2.1] = f"{drawn} random\nper seed"
        axes.set_xticks([*ticks], [*ticks.values()])
        axes.fmt_xdata = {place: label for place, label in ticks.items() if place <= top}.get
        axes.axvline(top + 0.65, **MARK)
        distance = f"distance r = {here['radius'].iloc[0]:g}"
        below = int((here["rise"] <= 0).sum())
        lost = f"\n(not shown: {below} that are ≤ 0)" if below else ""
        axes.set(xlabel=f"direction: eigenvector of the k-th largest eigenvalue, or random{lost}", yscale="log")
        axes.set_title(f"rise of the training loss (nats) at {distance}\n{_title(here)}")
    figure.suptitle("Along top eigenvectors and random directions of the same length (mean of ±)")
    return figure


def _pairs(rows: pd.DataFrame) -> list[pd.DataFrame]:
    return [group for _, group in rows.groupby(["model", "dataset"], sort=False)]


def _of_ends(rows: pd.DataFrame) -> list[tuple[pd.DataFrame, dict[str, Any]]]:
    return [(rows[rows["end"] == end], look) for end, look in zip(ENDS, _looks(), strict=False)]


def _title(rows: pd.DataFrame) -> str:
    pair = names.pair(rows["model"].iloc[0], rows["dataset"].iloc[0])
    return f"{pair} ({numbers.seeds([rows['seed'].nunique()])})"


def _looks() -> list[dict[str, Any]]:
    return [dict(look) for look in plt.rcParams["axes.prop_cycle"]]


def _line_caption(rows: pd.DataFrame) -> str:
    what = "accuracy" if _error(rows)[0] == CLASSIFICATION.error else "error"
    return (
        f"Loss and {what} on the straight line through the small-batch solution (α = 0) and the large-batch one"
        " (α = 1). One line per seed (Keskar et al. 2017, Figure 3)."
    )


def _directions_caption(_: pd.DataFrame) -> str:
    return (
        "Loss and error around each solution, along random filter-normalised directions and along the Hessian's top"
        " eigenvectors. One line per direction and seed."
    )


def _plane_caption(_: pd.DataFrame) -> str:
    return "Contours of the training loss around each solution, at the same levels in both panels, for one seed."


def _rises_caption(_: pd.DataFrame) -> str:
    return (
        "Rise of the loss along each of the top eigenvectors and along random directions of the same length. Small"
        " marks are the rise of a quadratic with these eigenvalues."
    )


FIGURES = [
    Figure("landscape_line", "From one solution to the other", _line_caption, line, draw_line),
    Figure("landscape_directions", "Along single directions", _directions_caption, directions, draw_directions),
    Figure("landscape_plane", "Over two random directions", _plane_caption, plane, draw_plane, readable=False),
    Figure("landscape_rises", "Rise at one distance", _rises_caption, rises, draw_rises),
]
