"""The largest batch that costs little: test error at each batch size minus that at the smallest, seed by seed.

Updates and train error stand beside it, because a run of few updates may be under-trained, and that may be all of its
gap.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd

from gapscope import measures
from gapscope.claims import hypothesis_tests
from gapscope.claims.wording import not_comparable
from gapscope.config import Within
from gapscope.drawing import names
from gapscope.drawing.numbers import number
from gapscope.records.long import RUN, by_run

COLUMNS = [
    *("model", "dataset", "batch_size", "smallest", "n", "updates", "train_error_pct"),
    *("smallest_updates", "smallest_train_error_pct", "gap", "gap_low", "gap_high", "tolerance", "verdict"),
]


@dataclass(frozen=True)
class TableSettings:
    """Params of the tables stage; `conf/config.yaml` says what each is."""

    tolerance_points: Annotated[float, Within(0, 100)]


def gap_table(values: pd.DataFrame, cells: pd.DataFrame, tolerance: float) -> pd.DataFrame:
    """Return one row per model, data set and batch size above the smallest one.

    Args:
        values: long table of runs.
        cells: one row per run, with its status, and where they are known its device and in `made` the revisions of the
            code (`gapscope.claims.revisions`). Where a run failed, its seed is left out at that batch size.
        tolerance: points of test error that may be lost.

    Returns:
        Columns model, dataset, batch_size, smallest, n (seeds), updates, train_error_pct, smallest_updates,
        smallest_train_error_pct (means over the runs that did not fail), gap (mean, points), gap_low, gap_high (95 %
        interval by Student's t), tolerance, and verdict: within (the interval ends at or below the tolerance), beyond
        (it begins above it), failed (a run at that batch size diverged or learned nothing), not comparable (the runs at
        both batch sizes are from different kinds of device or revisions of the code), undecided (none of these, fewer
        than 3 seeds, or a run at the smallest batch size failed).
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
            mixed = bool(not_comparable(*(here[here["batch_size"] == of] for of in (smallest, size))))
            rows.append(
                {"model": model, "dataset": dataset, "batch_size": size, "smallest": smallest, "n": len(gaps)}
                | trained.loc[size].to_dict()
                | trained.loc[smallest].add_prefix("smallest_").to_dict()
                | {"gap": found.mean, "gap_low": found.low, "gap_high": found.high, "tolerance": tolerance}
                | {"verdict": _verdict(found, len(gaps), tolerance, [b in failed for b in (smallest, size)], mixed)}
            )
    return pd.DataFrame(rows, columns=COLUMNS)


def _wide(values: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """Return the runs with their updates and errors in columns; NaN where a run has none."""
    runs = cells[[*RUN, "status", *(name for name in ("device", "made") if name in cells)]]
    for name, (quantity, axes) in measures.gap_columns(set(values["quantity"])).items():
        column = by_run(values, quantity, axes).rename(name).astype(float)
        runs = runs.join(column, on=[*RUN])
    return runs


def answer(table: pd.DataFrame) -> list[str]:
    """Return for each model and data set how large the batch may be, in words."""
    pairs = table.groupby(["model", "dataset"], sort=False)
    found = []
    for (model, dataset), rows in pairs:
        named = f"{names.pair(str(model), str(dataset))}. " if len(pairs) > 1 else ""
        found.append(named + " ".join(filter(None, [_safe(rows), _costly(rows), _largest(rows), _under_trained(rows)])))
    return found


def _safe(rows: pd.DataFrame) -> str:
    fits = np.logical_and.accumulate(rows["verdict"] == "within")
    smallest, tolerance = rows["smallest"].iloc[0], rows["tolerance"].iloc[0]
    safe = f" (at most {tolerance:g} points more test error)"
    if fits.any():
        last = rows["batch_size"][fits].max()
        gaps = rows.loc[(rows["batch_size"] > last) & (rows["verdict"] == "undecided"), "batch_size"]
        beyond = f" {names.listed(map(str, gaps))} {'are' if len(gaps) > 1 else 'is'} undecided." if len(gaps) else ""
        return f"Every batch size tried up to {last} is shown to be safe{safe}.{beyond}"
    return f"No batch above {smallest} is shown to be safe{safe}."


def _costly(rows: pd.DataFrame) -> str:
    """Say which batch sizes cost more than the tolerance, and at which runs failed."""
    sizes = {verdict: of["batch_size"].tolist() for verdict, of in rows.groupby("verdict")}
    beyond, failed = sizes.get("beyond", []), sizes.get("failed", [])
    said = []
    if beyond:
        above = set(rows.loc[rows["batch_size"] > min(beyond), "batch_size"])
        throughout = len(above) > 0 and above <= {*beyond, *failed}
        said.append(
            f"Shown to cost more: {f'{min(beyond)} and above' if throughout else names.listed(map(str, beyond))}."
        )
    if failed:
        said.append(f"At {names.listed(map(str, failed))} runs diverged or learned nothing.")
    return " ".join(said)


def _largest(rows: pd.DataFrame) -> str:
    """Say what the largest batch at which no run failed costs."""
    known = rows[(rows["verdict"] != "failed") & rows["gap"].notna()]
    if known.empty:
        return ""
    row = known.iloc[-1]
    between = "" if pd.isna(row["gap_low"]) else f" ({number(row['gap_low'], 2)} to {number(row['gap_high'], 2)})"
    cost = f"At {row['batch_size']}: {'+' if row['gap'] > 0 else ''}{number(row['gap'], 2)} points{between}"
    if row["n"] < hypothesis_tests.ENOUGH:
        return f"{cost}, n = {row['n']}: fewer than {hypothesis_tests.ENOUGH} seeds decide nothing."
    if row["verdict"] == "not comparable":
        return f"{cost}, between runs of different devices or revisions of the code: not counted."
    if row["verdict"] == "undecided":
        return f"{cost}; whether that is more than {row['tolerance']:g} is undecided."
    return f"{cost}."


def _under_trained(rows: pd.DataFrame) -> str:
    """Say how far the runs were trained at both ends: a gap may be under-training and no more."""
    known = rows.dropna(subset=["train_error_pct", "smallest_train_error_pct"])
    return f"At {trained(known.iloc[-1], 'smallest')}; at {trained(known.iloc[-1])}." if len(known) else ""


def trained(row: Mapping[Any, Any] | pd.Series, end: Literal["batch_size", "smallest"] = "batch_size") -> str:
    """Return how far the runs of one end of a row's gap were trained, in words."""
    prefix = "smallest_" if end == "smallest" else ""
    updates, error = number(row[f"{prefix}updates"]), number(row[f"{prefix}train_error_pct"])
    return f"b = {row[end]}: {updates} updates, train error {error} %"


def _verdict(found: hypothesis_tests.Effect, n: int, tolerance: float, failed: Sequence[bool], mixed: bool) -> str:
    if any(failed):
        return "undecided" if failed[0] else "failed"
    if mixed:
        return "not comparable"
    if n < hypothesis_tests.ENOUGH or found.low is None or found.high is None:
        return "undecided"
    return "within" if found.high <= tolerance else "beyond" if found.low > tolerance else "undecided"
