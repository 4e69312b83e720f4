"""Curvature against batch size, spectral densities, and the noise scale along training: tables, and redraws of them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from gapscope.report.figure_tables import LONG
from gapscope.report.figures import against_batch_size, batch_looks, of_pair, pair_title, pairs_of

SERIES = {  # of a figure: series -> panel, column
    "Hessian, largest": ("eigenvalue", "hessian_largest"),
    "Gauss-Newton, largest": ("eigenvalue", "gauss_newton_largest"),
    "Hessian, smallest (negative)": ("eigenvalue", "hessian_smallest"),
    "Hessian, trace": ("trace", "hessian_trace"),
    "Gauss-Newton, trace": ("trace", "gauss_newton_trace"),
    "Hessian": ("count", "hessian_above_level"),
    "Gauss-Newton": ("count", "gauss_newton_above_level"),
    "L2 ball (SAM)": ("rise", "ball_plain_rise"),
    "adaptive ball (ASAM)": ("rise", "ball_adaptive_rise"),
}
DENSITY_POINTS, DENSITY_WIDTH = 400, 0.01  # of a density: points, and the kernel's deviation as a part of the span


@dataclass(frozen=True)
class CurvatureReportSettings:
    """Params of the curvature_report stage; `conf/config.yaml` says what each is."""

    level: float


def curvature(records: Iterable[tuple[Mapping[str, Any], Mapping[str, Any]]], level: float) -> pd.DataFrame:
    """Return one row a run, from (cell, record of the curvature stage); a diverged run has its status alone.

    `*_above_level`: at least so many eigenvalues lie above the level, since Lanczos's nodes interlace with them; it
    cannot exceed the number of steps, and values that stand apart are found sooner.
    """
    rows = []
    for cell, record in records:
        row: dict[str, Any] = {**cell, "status": record["status"]}
        if record["status"] == "ok":
            for name in ("hessian", "gauss_newton"):
                found = record[name]
                for end, place in (("largest", -1), ("smallest", 0)):
                    row[f"{name}_{end}"] = found["nodes"][place]
                    row[f"{name}_{end}_residual"] = found["residuals"][place]
                row |= {f"{name}_{key}": found[key] for key in ("trace", "trace_standard_error")}
                row[f"{name}_above_level"] = sum(node > level for node in found["nodes"])
            row |= {f"ball_{name}_rise": found["rise"] for name, found in record["ball"].items()}
            row |= {key: record[key] for key in ("gradient_norm", "weight_norm", "parameters")}
            row |= {"level": level, "steps": record["settings"]["steps"], **record["conditions"]}
        rows.append(row)
    return pd.DataFrame(rows)


def noise_scale(
    records: Iterable[tuple[Mapping[str, Any], Mapping[str, Any], pd.DataFrame]], batch_sizes: Iterable[int]
) -> pd.DataFrame:
    """Return a row an epoch of every seed's short training, from (what identifies it, record, table).

    For each batch size B of the study, how many times the fewest possible steps, 1 + S / B, and examples, 1 + B / S,
    McCandlish et al. 2018, section 2.3, predict, S being the noise scale.
    """
    frames = []
    for about, record, table in records:
        frame = table.assign(**about, status=record["status"], trained_at=record["settings"]["batch_size"])
        for size in dict.fromkeys(batch_sizes):
            frame[f"steps_ratio_b{size}"] = 1 + frame["noise_scale"] / size
            frame[f"examples_ratio_b{size}"] = 1 + size / frame["noise_scale"]
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def against_size(rows: pd.DataFrame) -> pd.DataFrame:
    """Return `curvature` as the figure draws it: a row a run and series."""
    long = [
        {**{key: row[key] for key in LONG[:4]}, "panel": panel, "value": row[column]}
        | {"series": f"{series}, above {row['level']:g}" if panel == "count" else series}
        | {"source": "measured"}
        for row in rows.to_dict("records")
        for series, (panel, column) in SERIES.items()
        if pd.notna(row.get(column))
    ]
    return pd.DataFrame(long, columns=[*LONG])


def density(records: Iterable[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> pd.DataFrame:
    """Return each run's spectral density on a grid: the share of eigenvalues in each of equal bins of the span.

    A node (a Ritz value) stands for the eigenvalues near it; its weight is spread over a Gaussian of `DENSITY_WIDTH` of
    the span, which is a matter of drawing.
    """
    good = [(cell, record["hessian"]) for cell, record in records if record["status"] == "ok"]
    if not good:
        return pd.DataFrame(columns=["model", "dataset", "batch_size", "seed", "eigenvalue", "share"])
    low, high = min(found["nodes"][0] for _, found in good), max(found["nodes"][-1] for _, found in good)
    span = (high - low) or 1.0
    grid = np.linspace(low - 0.05 * span, high + 0.05 * span, DENSITY_POINTS)
    width, frames = DENSITY_WIDTH * span, []
    for cell, found in good:
        kernels = np.exp(-(((grid[:, None] - np.array(found["nodes"])) / width) ** 2) / 2)
        share = kernels @ np.array(found["weights"]) * (grid[1] - grid[0]) / (width * np.sqrt(2 * np.pi))
        frames.append(pd.DataFrame({**cell, "eigenvalue": grid, "share": share}))
    return pd.concat(frames, ignore_index=True)


def draw_curvature(rows: pd.DataFrame) -> Figure:
    """Eigenvalues, trace, eigenvalues above the level, and rises within balls, against batch size."""
    panels = {
        "eigenvalue": "extreme eigenvalue",
        "trace": "trace",
        "count": "large eigenvalues, at least",
        "rise": "rise of the loss (nats)",
    }
    figure = against_batch_size(rows, panels, "Curvature of the training cross-entropy", columns=2)
    for axes in figure.axes:
        if axes.get_ylabel() == panels["eigenvalue"]:
            axes.set_yscale("symlog", linthresh=0.1)
        if axes.get_ylabel() == panels["rise"]:
            axes.set_yscale("symlog", linthresh=1e-3)
            axes.set_ylim(bottom=0)  # d = 0 is in the ball
    return figure


def draw_density(rows: pd.DataFrame) -> Figure:
    """Spectral density of the Hessian, a line a batch size, of the first seed; nearly all is near 0."""
    pairs = pairs_of(rows)
    figure, grid = plt.subplots(1, len(pairs), figsize=(6.4 * len(pairs), 3.9), squeeze=False)
    for axes, pair in zip(grid[0], pairs, strict=True):
        here = of_pair(rows, pair)
        here = here[here["seed"] == here["seed"].min()]
        looks = batch_looks(here)
        for size, run in here.groupby("batch_size"):
            axes.plot(run["eigenvalue"], run["share"].clip(lower=1e-9), **looks[size], label=f"b = {size}")
        axes.set(yscale="log", ylim=(1e-8, 1), xlabel="eigenvalue of the Hessian", ylabel="share of eigenvalues")
        axes.set_title(pair_title(pair, here))
    figure.suptitle("Spectral density of the Hessian (stochastic Lanczos; one seed)")
    return figure


def draw_noise_scale(rows: pd.DataFrame) -> Figure:
    """Predicted critical batch size along a short training, with its 95 % interval; a line a seed."""
    pairs = pairs_of(rows)
    figure, grid = plt.subplots(1, len(pairs), figsize=(6.4 * len(pairs), 3.9), squeeze=False)
    for axes, pair in zip(grid[0], pairs, strict=True):
        here = of_pair(rows, pair)
        bounds = here[["noise_scale", "high"]].to_numpy(dtype=float)
        ceiling = 10 * max(bounds[np.isfinite(bounds)], default=1.0)
        for (seed, run), look in zip(here.groupby("seed"), cycle(plt.rcParams["axes.prop_cycle"])):
            known = np.isfinite(run["noise_scale"])
            axes.plot(run["epoch"][known], run["noise_scale"][known], label=f"seed {seed}", **look)
            # |G|^2 cannot be told from zero: only a lower limit is known
            style = {"color": look["color"], "fillstyle": "none", "markersize": 9}
            name = f"seed {seed}: lower end of the interval"
            axes.plot(run["epoch"][~known], run["low"][~known], "^", **style, gid=name)
            top = run["high"].clip(upper=ceiling)
            axes.fill_between(run["epoch"], run["low"], top, color=look["color"], alpha=0.15)
        axes.set_ylim(top=ceiling)
        axes.set(yscale="log", xlabel="epochs of training", ylabel="critical batch size (images)")
        axes.set_title(pair_title(pair, here))
        axes.xaxis.get_major_locator().set_params(integer=True)
    figure.suptitle("Critical batch size by the gradient noise scale (band: 95 % interval; ▵: its lower end, no upper)")
    return figure
