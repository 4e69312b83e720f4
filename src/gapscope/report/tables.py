"""Tables: one row a run, one row a batch size (mean, standard deviation, n), and the few figures that DVC shows."""

import fnmatch
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from gapscope.measures import effective_ranks, near_rank
from gapscope.records.columns import sharpness_column, threshold_label
from gapscope.records.spectra import LayerRecord

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

STUCK = "learned nothing"  # a status beside "ok" and "diverged"
# our choice: with at least these parts of the cross-entropy and the error of guessing a run has learned nothing. The
# classes may be of unequal size: to call every digit of MNIST the commonest one is wrong for 88.8 %, not 90
GUESSING = {"cross_entropy": 0.99, "error": 0.9}
FAILED = {"diverged": "diverged", "stuck": STUCK}  # column of counts -> status
COUNTS = {  # end of a column's name -> quantity of a run, and which of its numbers
    "excess": ("near_rank_excess", "value"),
    "structural": ("near_rank_structural", "value"),
    "full": ("near_rank_full", "value"),
    "fraction": ("near_rank_fraction", "value"),
    "certain": ("near_rank_excess", "low"),
    "possible": ("near_rank_excess", "high"),
    "undecidable": ("undecidable_spectra", "value"),
}


def run_row(
    cell: Mapping[str, Any],
    trained: Mapping[str, Any],
    sharp: Mapping[str, Any],
    counts: pd.DataFrame,
    *,
    spectra_methods: str,
) -> dict[str, Any]:
    """Return one run's row.

    Args:
        cell: model, dataset, batch_size, seed.
        trained: record of the train stage.
        sharp: record of the sharpness stage.
        spectra_methods: those that the run's spectra needed.
        counts: all rows of the near_rank stage. A column sums over layers and modes, as Algorithm 1 of Oyedotun et
            al. 2022 does; `excess` are values at or below the threshold, `structural` zeros by shape, `full` both;
            `undecidable` is the number of spectra whose count is; `exact_zeros` are those of the excess, at any
            threshold, that dead units and duplicate images make. `condition_number_*` is the median over layers, each
            layer's of samples x units. The status of a run that ended no better than by guessing is STUCK: what fails
            to train has no generalization gap to speak of, and is left out of means and tests as a diverged run is.
    """
    row = {
        **cell,
        "status": STUCK if _is_stuck(trained) else trained["status"],
        "updates": trained["updates"],
        "epochs": trained["epochs_run"],
    }
    row |= {name: trained.get(name) for name in TRAINED}
    for split in ("train", "test"):
        parts = (trained.get(name) for name in (f"{split}_cross_entropy", "penalty", "penalty"))
        row[f"{split}_loss_keras"] = _sum(*parts)
    mine = counts[(counts[list(cell)] == pd.Series(cell)).all(axis=1)]
    if len(mine):
        counted = near_rank.run_rows(mine)
        for (sample, threshold, relative), group in counted.groupby(["sample", "threshold", "relative"], sort=False):
            of = group.set_index("quantity")
            prefix = f"near_rank_{sample}_{threshold_label(threshold, relative)}"
            row |= {f"{prefix}_{name}": of.loc[quantity, end] for name, (quantity, end) in COUNTS.items()}
        zeros = counted[counted["quantity"] == "exact_zeros"].set_index("sample")["value"]
        row |= {f"near_rank_{sample}_exact_zeros": count for sample, count in zeros.items()}
        medians = effective_ranks.run_rows(mine).set_index("sample")["value"].sort_index()
        row |= {f"condition_number_{sample}": median for sample, median in medians.items()}
        row["spectra_methods"] = spectra_methods
    for entry in sharp["sharpness"]:
        row[sharpness_column(entry["split"], entry["space"], entry["epsilon"])] = entry["sharpness"]
    row["sharpness_images"] = sharp.get("conditions", {}).get("train", {}).get("images")
    return row | {"device": trained["device"]}


def best_epochs(runs: pd.DataFrame, histories: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return each good run's test error (%) at its best epoch, and at the one that is best for the other seeds.

    Chance is in both, the more the noisier the epochs, as those of large batches are: of a run's own errors the least
    is low by chance; at an epoch that others chose for their luck a run has none, and its error there may well be above
    the last one's. Of runs of unequal length, or without others, only the first is given.

    Args:
        runs: a row a run, as `run_row` gives it.
        histories: of the same runs, a row an epoch.
    """
    names = {"own": "test_error_pct_best_epoch", "others": "test_error_pct_others_best_epoch"}
    found = pd.DataFrame(float("nan"), index=runs.index, columns=list(names.values()))
    for _, good in runs[runs["status"] == "ok"].groupby(KEYS):
        by_epoch = [histories[run].set_index("epoch")["test_error_pct_running"] for run in good.index]
        found.loc[good.index, names["own"]] = [errors.min() for errors in by_epoch]
        if len(good) > 1 and all(errors.index.equals(by_epoch[0].index) for errors in by_epoch):
            errors = pd.concat(by_epoch, axis=1).to_numpy()
            of_others = errors.sum(axis=1, keepdims=True) - errors
            found.loc[good.index, names["others"]] = errors[of_others.argmin(axis=0), range(len(good))]
    return found


def _is_stuck(trained: Mapping[str, Any]) -> bool:
    classes = trained.get("model", {}).get("classes")
    if trained["status"] != "ok" or classes is None:
        return False
    wrong = trained["train_error_pct"] >= GUESSING["error"] * 100 * (1 - 1 / classes)
    return bool(wrong and trained["train_cross_entropy"] >= GUESSING["cross_entropy"] * math.log(classes))


def layer_table(spectra: Iterable[tuple[Mapping[str, Any], Iterable[LayerRecord]]]) -> pd.DataFrame:
    """Return one row per run, sample and layer: sources of exact zeros, and effective ranks of the samples' mode.

    Args:
        spectra: cell and layers of each run; indices are written with spaces between.
    """
    rows = []
    for cell, layers in spectra:
        for layer in layers:
            samples, units, *_ = layer.shape
            zeros = {"dead_units": layer.dead_units or (), "duplicate_samples": layer.duplicate_samples or ()}
            about = {"sample": layer.sample, "layer": layer.layer, "samples": samples, "units": units}
            listed = {name: " ".join(map(str, indices)) for name, indices in zeros.items()}
            counted = {f"{name}_count": len(indices) for name, indices in zeros.items()}
            rows.append({**cell, **about, **listed, **counted, **effective_ranks.of_mode(layer.modes[0])})
    return pd.DataFrame(rows)


def batch_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Return one row a batch size: number of good runs, of diverged and stuck ones, means and deviations (n - 1).

    Mean and deviation are over the good runs.
    """
    fixed = {*KEYS, "seed", "sharpness_images", "epochs", "updates"}
    measures = [name for name in runs.select_dtypes("number").columns if name not in fixed]
    rows = []
    for key, group in runs.groupby(KEYS, sort=False):
        good = group[group["status"] == "ok"]
        failed = {name: int((group["status"] == status).sum()) for name, status in FAILED.items()}
        row = {**dict(zip(KEYS, key, strict=True)), "n": len(good), **failed}
        row |= {"updates": group["updates"].max(), "sharpness_images": group["sharpness_images"].max()}
        if controls := fnmatch.filter(runs.columns, "near_rank_untrained_*_excess"):
            row["controls_n"] = good[controls[0]].count()  # `controls.seeds` may be fewer than `seeds`
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
