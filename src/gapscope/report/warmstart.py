"""Warm starts, Keskar et al. 2017, Figure 5: every start's row, what the figure draws, as a table, and its redraw."""

from collections.abc import Iterable, Mapping
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, MaxNLocator

from gapscope.drawing import numbers
from gapscope.report import names

PAIR = ["model", "dataset"]
SIDES = {"small": "small-batch iterate", "large": "large-batch solution from there"}


def runs(records: Iterable[tuple[Mapping[str, Any], Mapping[str, Any], pd.DataFrame]]) -> pd.DataFrame:
    """Return a row a start of every run.

    Args:
        records: of each run what identifies it (model, data set, seed), and the stage's record and table.
    """
    return pd.concat(
        [
            rows.assign(
                **cell,
                small_batch_size=record["settings"]["small"],
                large_batch_size=record["settings"]["large"],
                device=record["device"],
            )[[*cell, "small_batch_size", "large_batch_size", *rows.columns, "device"]]
            for cell, record, rows in records
        ],
        ignore_index=True,
    )


def summary(table: pd.DataFrame) -> dict[str, Any]:
    """Return means over seeds of test error and sharpness, by network and start, each with its n."""
    columns = [name for name in table.columns if name.endswith("_test_error_pct") or "_sharpness_" in name]
    found: dict[str, Any] = {}
    for (model, dataset, start), group in table.groupby([*PAIR, "start_epoch"], sort=False):
        measured = group[group["status"] == "ok"]
        means = {} if measured.empty else measured[columns].mean().to_dict()
        found.setdefault(f"{model}-{dataset}", {})[f"start{start}"] = {"n": len(measured), **means}
    return found


def warmstart(table: pd.DataFrame) -> pd.DataFrame:
    """Return test accuracy and sharpness against the start, a row a run, start and side; empty where it diverged."""
    panels = {"accuracy_pct": "test_error_pct"}
    sharpness = [name.removeprefix("small_") for name in table.columns if name.startswith("small_sharpness_")]
    panels |= {name: name for name in sharpness}
    rows = pd.DataFrame(
        [
            {**{name: run[name] for name in [*PAIR, "seed", "start_epoch"]}, "panel": panel, "series": series}
            | {"batch_size": run[f"{side}_batch_size"]}
            | {"value": 100 - run[f"{side}_{column}"] if panel == "accuracy_pct" else run[f"{side}_{column}"]}
            for _, run in table.iterrows()
            for panel, column in panels.items()
            for side, series in SIDES.items()
        ]
    )
    return rows if rows["value"].notna().any() else rows.iloc[:0]


def draw_warmstart(rows: pd.DataFrame) -> Figure:
    """Figure 5: accuracy and sharpness against the epoch started from; a row a network, a column a quantity."""
    pairs, panels = list(rows.groupby(PAIR, sort=False)), list(rows["panel"].drop_duplicates())
    figure, grid = plt.subplots(len(pairs), len(panels), figsize=(4.8 * len(panels), 3.9 * len(pairs)), squeeze=False)
    for line, ((model, dataset), here) in zip(grid, pairs, strict=True):
        for axes, panel in zip(line, panels, strict=True):
            _draw_panel(axes, panel, here[here["panel"] == panel])
            axes.set_title(f"{model} on {dataset} ({_number(here[here['panel'] == panel])})")
    figure.suptitle("Large-batch training warm-started after a small-batch epoch (points: seeds; lines: means)")
    return figure


def _draw_panel(axes: Axes, panel: str, rows: pd.DataFrame) -> None:
    label = "started from the small-batch run's epoch"
    untrained = (rows["start_epoch"] == 0) & (rows["series"] == SIDES["small"])
    if panel == "accuracy_pct":
        axes.set_ylabel("test accuracy (%)")
        if (guessed := rows["value"][untrained]).notna().any():
            # with it in view, all that the figure is about would be one line at the top
            label += f"\n(not shown: epoch 0 itself, untrained, {guessed.mean():.1f} %)"
            rows = rows.assign(value=rows["value"].mask(untrained))
    else:
        split, space, epsilon = names.sharpness(panel)
        of = "" if split == "train" else f" of the {split} loss"
        axes.set(ylabel=f"sharpness φ (%){of}, {space}, ε = {epsilon}", yscale="log")
        for which in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
            which(LogFormatter(labelOnlyBase=False, minor_thresholds=(2, 0.5)))
    for series, look in zip(SIDES.values(), plt.rcParams["axes.prop_cycle"], strict=False):  # the same in every panel
        group = rows[rows["series"] == series]
        points, mean = group.dropna(subset=["value"]), group.groupby("start_epoch")["value"].mean()
        axes.plot(points["start_epoch"], points["value"], **{**look, "linestyle": ""}, gid=series)
        axes.plot(mean.index, mean, color=look["color"], linestyle=look["linestyle"], marker="", gid=f"{series}, mean")
        axes.plot([], [], **look, label=f"{series}, b = {_sizes(group)}")  # the legend's: line and point together
    axes.set_xlabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))


def _sizes(rows: pd.DataFrame) -> str:
    return " or ".join(str(size) for size in rows["batch_size"].drop_duplicates())


def _number(rows: pd.DataFrame) -> str:
    lost = int(rows["value"].isna().sum())
    diverged = f"; diverged: {lost} of {len(rows)} points" if lost else ""
    return f"{numbers.seeds([rows['seed'].nunique()])}{diverged}"
