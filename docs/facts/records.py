"""Committed records, and the readings of them that the pages share."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from gapscope.papers.oyedotun2022 import tables as paper
from gapscope.records.long import RUN, by_run, read_long
from gapscope.report import verdict_tables

ROOT = Path(__file__).parents[2]
METRICS = ROOT / "metrics"
VERDICTS = verdict_tables.read_verdicts(METRICS / "claims")
TEST = {"split": "test", "statistics": "reestimated"}
TRAIN = {"split": "train", "statistics": "reestimated"}
SAMPLES = ("run", "reference", "untrained")
READERS = {"threshold": 1e-4, "epsilon": 1e-3}  # the values that a reader is shown, of several


def read(path: Path) -> Any:
    """Return a table. Any: pandas' stubs know no cell's type."""
    return pd.read_csv(path)


def cells(study: str) -> Any:
    """Return a study's runs, one row each, with their status."""
    return read(METRICS / study / "cells.csv")


@functools.cache  # the records stay as they are while this runs
def long_table(study: str) -> Any:
    """Return a study's numbers, one row each."""
    return read_long(METRICS / study / "runs.csv")


def values(study: str, quantity: str, **where: Any) -> Any:
    """Return a quantity, one value per run, indexed by model, data set, batch size and seed."""
    return by_run(long_table(study), quantity, where)


def by_batch_size(table: Any) -> Any:
    """Return the mean of values by run over all runs of a batch size."""
    return table.groupby("batch_size").mean()


def means(study: str, quantity: str, **where: Any) -> Any:
    """Return a quantity's mean over a study's runs, by batch size."""
    return by_batch_size(values(study, quantity, **where))


def updates_and_errors(study: str, *where: Mapping[str, Any]) -> list[Any]:
    """Return the means of the updates, and of the error of each split, by batch size."""
    return [means(study, "updates"), *(means(study, "error_pct", **axes) for axes in where)]


def near_rank(study: str, part: str = "excess", sample: str = "run") -> Any:
    """Return a near-rank count at the threshold 1e-4, one value per run."""
    return values(study, f"near_rank_{part}", sample=sample, threshold=1e-4, relative=False)


def sharpness_means(study: str, space: str, epsilon: float = 1e-3, split: str = "train") -> Any:
    """Return a study's mean sharpness, by batch size."""
    return means(study, "sharpness_pct", split=split, space=space, epsilon=epsilon)


def only(table: Any, **where: Any) -> Any:
    """Return the part of values by run that has the given model, batch size or seed."""
    for level, value in where.items():
        table = table[table.index.get_level_values(level) == value]
    return table


def with_status(study: str, status: str, table: Any) -> Any:
    """Return the part of values by run whose runs ended with a status."""
    found = cells(study).query(f"status == {status!r}")
    return table[table.index.isin(found.set_index(list(RUN)).index)]


def shown(verdicts: Any) -> Any:
    """Return verdicts with one row per claim: of several thresholds or box sizes, those in `READERS`."""
    for axis, value in READERS.items():
        verdicts = verdicts[verdicts[axis].isna() | (verdicts[axis] == value)]
    return verdicts


def claim(study: str, name: str) -> Any:
    """Return the row of a tested claim: effect, interval, verdict, corrected p."""
    of_claim = VERDICTS[(VERDICTS["study"] == study) & (VERDICTS["claim"] == name) & (VERDICTS["family"] != "twin")]
    (row,) = shown(of_claim).to_dict("records")
    return row


def gap(study: str, batch_size: int, **where: str) -> Any:
    """Return the row of a study's gap at one batch size."""
    rows = read(METRICS / study / "gap.csv").query(f"batch_size == {batch_size}")
    for column, value in where.items():
        rows = rows[rows[column] == value]
    return rows.iloc[0]


def printed(number: int, column: str) -> Any:
    """Return what a table of Oyedotun et al. 2022 prints in a column, by batch size."""
    return paper.printed(number).set_index("batch_size")[column]
