"""Tables: one row a run, one row a batch size (mean, standard deviation, n), and the few figures that DVC shows."""

import fnmatch
from collections.abc import Mapping
from typing import Any

import pandas as pd

KEYS = ["model", "dataset", "batch_size"]
TRAINED = (
    "train_error_pct",
    "test_error_pct",
    "train_cross_entropy",
    "test_cross_entropy",
    "penalty",
    "train_loss",
    "test_loss",
    "train_error_pct_running",
    "test_error_pct_running",
    "train_cross_entropy_running",
    "test_cross_entropy_running",
    "weight_norm",
    "distance_from_initial",
)


def run_row(
    cell: Mapping[str, Any], trained: Mapping[str, Any], sharp: Mapping[str, Any], near_rank: pd.DataFrame
) -> dict[str, Any]:
    """Return one run's row.

    Args:
        cell: model, dataset, batch_size, seed.
        trained: record of the train stage.
        sharp: record of the sharpness stage.
        near_rank: all rows of the near_rank stage. A column sums over layers and modes, as Algorithm 1 of Oyedotun et
            al. 2022 does; `excess` are values at or below the threshold, `structural` zeros by shape, `full` both.
    """
    row = {**cell, "status": trained["status"], "updates": trained["updates"], "epochs": trained["epochs_run"]}
    row |= {name: trained.get(name) for name in TRAINED}
    row["train_loss_keras"] = _sum(trained.get("train_cross_entropy"), 2 * (trained.get("penalty") or float("nan")))
    mine = near_rank[(near_rank[list(cell)] == pd.Series(cell)).all(axis=1)]
    for (sample, threshold), group in mine.dropna(subset=["threshold"]).groupby(["sample", "threshold"], sort=False):
        prefix = f"near_rank_{sample}_{threshold:g}"
        for name, column in (("excess", "economy"), ("structural", "structural"), ("full", "full")):
            row[f"{prefix}_{name}"] = group[column].sum()
        row[f"{prefix}_fraction"] = group["economy"].sum() / group["values"].sum()
        row[f"{prefix}_interval"] = group["possible"].sum() - group["certain"].sum()
    for entry in sharp["sharpness"]:
        row[f"sharpness_{entry['space']}_{entry['epsilon']:g}_pct"] = entry["sharpness"]
    row["sharpness_images"] = sharp.get("images")
    made = trained["provenance"]
    return row | {"device": made["device"], "train_wall_s": made["wall_s"], "commit": made["commit"]}


def batch_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Return one row a batch size: number of runs, of diverged ones, and over the others mean and deviation (n - 1)."""
    fixed = {*KEYS, "seed", "sharpness_images", "train_wall_s", "epochs", "updates"}
    measures = [name for name in runs.select_dtypes("number").columns if name not in fixed]
    rows = []
    for key, group in runs.groupby(KEYS, sort=False):
        good = group[group["status"] == "ok"]
        row = {**dict(zip(KEYS, key, strict=True)), "n": len(good), "diverged": len(group) - len(good)}
        row["updates"] = group["updates"].max()
        for name in measures:
            row |= {f"{name}_mean": good[name].mean(), f"{name}_std": good[name].std()}
        rows.append(row)
    return pd.DataFrame(rows)


def summary(batches: pd.DataFrame) -> dict[str, Any]:
    """Return the means that `dvc metrics` and `dvc exp show` list: model-dataset -> batch size -> measure.

    Near-rank excess is over b images at the first threshold, sharpness in full space at the first epsilon.
    """
    patterns = {
        "test_error_pct": "test_error_pct_mean",
        "train_cross_entropy": "train_cross_entropy_mean",
        "near_rank_excess": "near_rank_run_*_excess_mean",
        "sharpness_pct": "sharpness_full_*_pct_mean",
    }
    shown = {name: next(iter(fnmatch.filter(batches.columns, pattern)), None) for name, pattern in patterns.items()}
    tree: dict[str, Any] = {}
    for _, row in batches.iterrows():
        measures = {name: _rounded(row[column] if column else None) for name, column in shown.items()}
        tree.setdefault(f"{row['model']}-{row['dataset']}", {})[f"b{row['batch_size']}"] = measures
    return tree


def _rounded(value: Any) -> float | None:
    return None if value is None or pd.isna(value) else float(f"{value:.6g}")


def _sum(*parts: float | None) -> float | None:
    return None if any(part is None for part in parts) else sum(part for part in parts if part is not None)
