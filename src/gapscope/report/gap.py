"""The largest batch that costs little: test error at each batch size minus that at the smallest, seed by seed.

Updates and train error stand beside it, because a run of few updates may be under-trained, and that may be all of its
gap.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from gapscope import measures
from gapscope.claims import hypothesis_tests
from gapscope.drawing.numbers import number
from gapscope.records.long import RUN, by_run

COLUMNS = [
    *("model", "dataset", "batch_size", "smallest", "n", "updates", "train_error_pct"),
    *("smallest_updates", "smallest_train_error_pct", "gap", "gap_low", "gap_high", "tolerance", "verdict"),
]


@dataclass(frozen=True)
class TableSettings:
    """Params of the tables stage; `conf/config.yaml` says what each is."""

    tolerance_points: float


def gap_table(values: pd.DataFrame, cells: pd.DataFrame, tolerance: float) -> pd.DataFrame:
    """Return one row per model, data set and batch size above the smallest one.

    Args:
        values: long table of runs.
        cells: one row per run, with its status. Where a run failed, its seed is left out at that batch size.
        tolerance: points of test error that may be lost.

    Returns:
        Columns model, dataset, batch_size, smallest, n (seeds), updates, train_error_pct, smallest_updates,
        smallest_train_error_pct (means over the runs that did not fail), gap (mean, points), gap_low, gap_high (95 %
        interval by Student's t), tolerance, and verdict: within (the interval ends at or below the tolerance), beyond
        (it begins above it), failed (a run at that batch size diverged or learned nothing), undecided (none of these,
        fewer than 3 seeds, or a run at the smallest batch size failed).
    """
    rows = []
    runs = _wide(values, cells)
    good = runs[runs["status"] == "ok"]
    for (model, dataset), all_runs in runs.groupby(["model", "dataset"], sort=False):
        here = good[(good["model"] == model) & (good["dataset"] == dataset)]
        errors = here.pivot_table(index="seed", columns="batch_size", values="test_error_pct")
        failed = set(all_runs.loc[all_runs["status"] != "ok", "batch_size"])
        smallest, *sizes = sorted(all_runs["batch_size"].unique())
        trained = here.groupby("batch_size")[["updates", "train_error_pct"]].mean().reindex([smallest, *sizes])
        for size in sizes:
            both = errors.reindex(columns=[smallest, size]).dropna()
            gaps = (both[size] - both[smallest]).to_numpy(dtype=float)
            found = hypothesis_tests.interval(gaps) if len(gaps) else hypothesis_tests.Effect(None)
            rows.append(
                {"model": model, "dataset": dataset, "batch_size": size, "smallest": smallest, "n": len(gaps)}
                | trained.loc[size].to_dict()
                | trained.loc[smallest].add_prefix("smallest_").to_dict()
                | {"gap": found.mean, "gap_low": found.low, "gap_high": found.high, "tolerance": tolerance}
                | {"verdict": _verdict(found, len(gaps), tolerance, [b in failed for b in (smallest, size)])}
            )
    return pd.DataFrame(rows, columns=COLUMNS)


def _wide(values: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """Return the runs with their updates and errors in columns; NaN where a run has none."""
    runs = cells[[*RUN, "status"]]
    for name, (quantity, axes) in measures.gap_columns().items():
        column = by_run(values, quantity, axes).rename(name).astype(float)
        runs = runs.join(column, on=[*RUN])
    return runs


def answer(table: pd.DataFrame) -> list[str]:
    """Return one sentence per model and data set: the batch size up to which all are within the tolerance."""
    sentences = []
    for (model, dataset), rows in table.groupby(["model", "dataset"], sort=False):
        fits = np.logical_and.accumulate(rows["verdict"] == "within")
        smallest, tolerance = rows["smallest"].iloc[0], rows["tolerance"].iloc[0]
        lost = f"{tolerance:g} points of test error of that at b = {smallest}"
        if fits.any():
            sentence = f"up to b = {rows['batch_size'][fits].max()} it stays within {lost}"
        else:
            sentence = f"no larger batch is shown to stay within {lost}"
        sizes = {verdict: of["batch_size"].tolist() for verdict, of in rows.groupby("verdict")}
        beyond, failed = sizes.get("beyond", []), sizes.get("failed", [])
        if beyond:
            above = set(rows.loc[rows["batch_size"] > min(beyond), "batch_size"])
            throughout = above <= {*beyond, *failed}
            sentence += f"; from b = {min(beyond)} on" if throughout else f"; at b = {', '.join(map(str, beyond))}"
            sentence += " it does not"
        if failed:
            sentence += f"; at b = {', '.join(map(str, failed))} runs diverged or learned nothing"
        if rows["n"].max() < hypothesis_tests.ENOUGH:
            sentence += f" (n = {rows['n'].max()}: {hypothesis_tests.ENOUGH} seeds are the least that decide)"
        known = rows.dropna(subset=["train_error_pct", "smallest_train_error_pct"])
        if len(known):  # a gap may be under-training and no more
            sentence += f". At {trained(known.iloc[-1], 'smallest')}; at {trained(known.iloc[-1])}"
        sentences.append(f"{model} on {dataset}: {sentence}.")
    return sentences


def trained(row: Mapping[Any, Any] | pd.Series, end: Literal["batch_size", "smallest"] = "batch_size") -> str:
    """Return how far the runs of one end of a row's gap were trained, in words."""
    prefix = "smallest_" if end == "smallest" else ""
    updates, error = number(row[f"{prefix}updates"]), number(row[f"{prefix}train_error_pct"])
    return f"b = {row[end]}: {updates} updates, train error {error} %"


def _verdict(found: hypothesis_tests.Effect, n: int, tolerance: float, failed: Sequence[bool]) -> str:
    if any(failed):
        return "undecided" if failed[0] else "failed"
    if n < hypothesis_tests.ENOUGH or found.low is None or found.high is None:
        return "undecided"
    return "within" if found.high <= tolerance else "beyond" if found.low > tolerance else "undecided"
