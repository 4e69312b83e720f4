"""Warm-started ("piggybacked") large-batch training, Keskar et al. 2017, Figure 5: settings, records and tables.

The training itself is in `warm_start_runs`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gapscope.config import Count, Epochs, Threads
from gapscope.errors import InputError
from gapscope.measures import sharpness
from gapscope.measures.evaluation import BESIDE_ERRORS, ERRORS, LOSSES
from gapscope.measures.evaluation import QUANTITIES as OF_A_RUN
from gapscope.measures.quantity import Quantity
from gapscope.records.long import axis_text
from gapscope.records.tables import read_record

if TYPE_CHECKING:  # a page is drawn without torch
    import pandas as pd

    from gapscope.measures.study import Study

RUNS_ON = "seed"
STAGE = "warmstart"
PHASES = {"small": "small-batch iterate", "large": "large-batch solution"}
START = ("start_epoch", "phase")
QUANTITIES = {
    **{
        name: replace(OF_A_RUN[name], axes=("split", "statistics", *START))
        for name in (*ERRORS, *LOSSES, *BESIDE_ERRORS)
    },
    **{
        name: replace(sharpness.QUANTITIES[name], axes=("split", "statistics", "space", "epsilon", *START))
        for name in ("sharpness_pct", "sharpness_converged_pct")
    },
    "weight_norm": Quantity("norm of the weights", "", START, None),
    "distance_from_initial": Quantity("distance from the initial weights", "", START, None),
    "distance_from_start": Quantity("distance from the start", "", START, None),
}
Row = dict[str, Any]


@dataclass(frozen=True)
class WarmstartSettings:
    """Params of the warmstart stage; `conf/config.yaml` says what each is."""

    small: Count
    large: Count
    small_epochs: Epochs
    large_epochs: Epochs
    starts: tuple[int, ...]
    threads: Threads

    def __post_init__(self) -> None:
        if not self.starts or list(self.starts) != sorted({*self.starts}):
            raise InputError(f"warmstart.starts must be one epoch or several that rise, got {list(self.starts)}")
        if self.starts[0] < 0 or self.starts[-1] > self.small_epochs:
            raise InputError(f"warmstart.starts must lie in 0..{self.small_epochs}, got {list(self.starts)}")


def metric_row(split: str, quantity: str, value: float) -> Row:
    """Return the long row of an error or a loss of a split, taken with re-estimated statistics."""
    return {"split": split, "statistics": "reestimated", "quantity": quantity, "value": value}


def rows(starts: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the long rows of a record, from what `WarmStart.rows` yields, to 10 significant digits."""
    for start in starts:
        for row in start["values"]:
            yield {"start_epoch": start["start_epoch"], **row, "value": float(f"{row['value']:.10g}")}


def statuses(starts: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return how each start's runs ended, by its epoch: a record's `starts`."""
    return {str(start["start_epoch"]): str(start["status"]) for start in starts}


def study_table(study: "Study") -> "pd.DataFrame":
    """Return every quantity of every start of every run, long; the batch size is that of the phase."""
    import pandas as pd

    frames = []
    for about, record, table in study.seed_records(STAGE):
        sizes = {phase: record["settings"][phase] for phase in PHASES}
        frames.append(table.assign(**about, batch_size=table["phase"].map(sizes)))
    return pd.concat(frames, ignore_index=True)


def table_labels(folder: Path) -> dict[str, str]:
    """Return the label of the sharpness with its starts, from the records in a folder metrics/STUDY."""
    found = [read_record(path) for path in sorted((folder / "warmstart").glob("*.json"))]
    return sharpness.labels(record["sharpness"]["restarts"] for record in found)


def starts_table(study: "Study") -> "pd.DataFrame":
    """Return one row per start: what identifies it, its status, batch sizes and device."""
    import pandas as pd

    return pd.DataFrame(
        [
            {**about, "start_epoch": int(start), "status": status}
            | {f"{phase}_batch_size": record["settings"][phase] for phase in PHASES}
            | {"device": record["device"]}
            for about, record, _ in study.seed_records(STAGE)
            for start, status in record["starts"].items()
        ]
    )


def summary(values: "pd.DataFrame", starts: "pd.DataFrame") -> dict[str, Any]:
    """Return means over seeds of the task's test error and sharpness, by network and start, for `dvc metrics`.

    Each start has its n.

    Args:
        values: of `study_table`.
        starts: of `starts_table`; those whose runs diverged are left out of the means.
    """
    test_error = values["quantity"].isin(ERRORS) & (values["split"] == "test")
    keys = ["model", "dataset", "seed", "start_epoch"]
    shown = values[test_error | (values["quantity"] == "sharpness_pct")]
    shown = shown.merge(starts[starts["status"] == "ok"][keys], on=keys)
    tree: dict[str, Any] = {}
    for start in starts.drop_duplicates(["model", "dataset", "start_epoch"]).to_dict("records"):
        rows = shown
        for name in ("model", "dataset", "start_epoch"):
            rows = rows[rows[name] == start[name]]
        means: dict[str, Any] = {"n": int(rows["seed"].nunique())}
        for key, group in rows.groupby(["phase", "quantity", "split", "epsilon"], sort=False, dropna=False):
            phase, quantity, split, epsilon = map(str, key)
            of_phase, name = means.setdefault(phase, {}), f"{split}_{quantity}"
            if epsilon == "nan":
                of_phase[name] = group["value"].mean()
            else:
                of_phase.setdefault(name, {})[f"epsilon {axis_text(float(epsilon))}"] = group["value"].mean()
        tree.setdefault(f"{start['model']}-{start['dataset']}", {})[f"start{start['start_epoch']}"] = means
    return tree
