"""What a claim is tested on: one value per run and level, selected from a study's long tables."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gapscope.claims.claim import OF_RECORDS, Claim, Measured
from gapscope.claims.revisions import Revisions, made_by, read_revisions
from gapscope.config import Params
from gapscope.errors import InputError, reading
from gapscope.records.cells import WIDENED, cells, seed_records
from gapscope.records.long import RUN, axis_text, read_long, select
from gapscope.records.tables import AGAIN, read_record, read_table

VALUES = ("runs", "warmstart")  # long tables of a study
ALWAYS = ("model", "dataset", "seed")  # what identifies a run, besides its batch size or its warm start
KEYS = (*RUN, "start_epoch", *OF_RECORDS)  # what identifies a run, a warm start, or a row of a measure's own records


class NotMeasuredError(Exception):
    """A quantity that a study does not have at some axes; its text says which, and stands in the table of claims."""


@dataclass(frozen=True)
class Evidence:
    """A study's values and its runs.

    Attributes:
        values: long table; warm starts have an axis `start_epoch`.
        runs: one row per run (per warm start): model, dataset, batch_size or start_epoch, seed, status, and the device
            where it is known.
        measures: the measures that the study lists.
        records: measure -> its own records as one long table, with the device; of measures whose claims need them.
        revisions: of the code that made each record.
    """

    values: pd.DataFrame
    runs: pd.DataFrame
    measures: frozenset[str] = frozenset()
    records: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    revisions: Revisions = field(default_factory=dict)

    def without_seeds(self, seeds: Sequence[int]) -> "Evidence":
        """Return the evidence of the runs of other seeds; all of it where there are none."""
        fresh = ~self.runs["seed"].isin(seeds)
        if fresh.all() or not fresh.any():
            return self
        kept = {name: table[~table["seed"].isin(seeds)] for name, table in self.records.items()}
        return replace(self, values=self.values[~self.values["seed"].isin(seeds)], runs=self.runs[fresh], records=kept)

    def of_level(self, claim: Claim) -> "Evidence":
        """Return the evidence whose `runs` have one row per seed and level of a claim, with the revisions in `made`.

        That is this evidence, unless the claim's level is one of a measure's own records. Then it is those records. Of
        records with a batch size those of the smallest one are taken: initial weights are the same at all of them.
        """
        if claim.over not in OF_RECORDS:
            return replace(self, runs=self.runs.assign(made=made_by(claim, self.runs, self.revisions)))
        values = self.records.get(claim.measure, pd.DataFrame(columns=["quantity", "value"])).assign(none=0)
        if "batch_size" in values:
            smallest = values.groupby(["model", "dataset"])["batch_size"].transform("min")
            values = values[values["batch_size"] == smallest].drop(columns="batch_size")
        rows = values[values["quantity"] == claim.measured.quantity]
        if claim.over not in rows or rows[claim.over].isna().all():
            return Evidence(values.iloc[:0], self.runs)
        keys = [key for key in ("model", "dataset", "seed", claim.over, "device", "record") if key in rows]
        runs = rows[keys].dropna(subset=[claim.over]).drop_duplicates().reset_index(drop=True)
        return Evidence(values, runs.assign(status="ok", made=made_by(claim, runs, self.revisions)))

    def chosen(self, claim: Claim) -> Claim:
        """Return the claim about the first of its quantities that the study has; about the last one if it has none."""
        has = (name for name in claim.quantities if len(self._rows(replace(claim.measured, quantity=name))))
        return replace(claim, measured=replace(claim.measured, quantity=next(has, claim.measured.quantity)))

    def cases(self, claim: Claim) -> list[dict[str, Any]]:
        """Return the axes of each test of a claim: one per value of its `each` axes that the study has.

        A claim whose quantity the study does not have gives one case without axes, so that it can be listed.
        """
        rows = self._rows(claim.measured)
        for axis in claim.first:
            known = rows[axis].dropna() if axis in rows else rows.iloc[:0]
            rows = rows[rows[axis] == known.iloc[0]] if len(known) else rows.iloc[:0]
        axes = [*claim.each, *claim.first]
        if not axes or rows.empty or not {*axes} <= {*rows.columns}:
            return [{}]
        found: list[dict[str, Any]] = rows[axes].dropna().drop_duplicates().to_dict("records")  # type: ignore[assignment]
        return found or [{}]

    def of(
        self, measured: Measured, at: Mapping[str, Any], over: str = "batch_size", column: str = "value"
    ) -> pd.Series:
        """Return a quantity's value in each run, indexed as `runs`; NaN in a run that lacks it.

        Args:
            measured: the quantity.
            at: further axes, of a test; taken where the quantity has them.
            over: the level, whose values all count.
            column: value, or an end of its own interval: low or high.

        Raises:
            NotMeasuredError: no run has it.
            InputError: an axis that the claim leaves open has several values.
        """
        rows = self._rows(measured)
        own = {axis: value for axis, value in at.items() if axis in rows and rows[axis].notna().any()}
        if rows.empty or rows["value"].isna().all():
            raise NotMeasuredError(_missing(measured, own, self.values))
        try:
            rows = select(rows, measured.quantity, {**measured.named, **own}, along=over)
        except ValueError as error:
            raise InputError(f"claims: {error}") from error
        if rows.empty or rows["value"].isna().all():
            raise NotMeasuredError(_missing(measured, own, self.values))
        keys = [key for key in KEYS if key in self.runs and self.runs[key].notna().any()]
        found = self.runs[keys].merge(rows[[*keys, column]], on=keys, how="left", validate="one_to_one")
        return found[column].set_axis(self.runs.index)

    def _rows(self, measured: Measured) -> pd.DataFrame:
        rows = self._by_quantity.get(measured.quantity, self.values.iloc[:0])
        for axis, value in measured.where.items():
            if axis not in rows:
                return rows.iloc[:0]
            if isinstance(value, list):
                rows = _first_of(rows, axis, value).assign(**{axis: measured.named[axis]})
            else:
                rows = rows[(rows[axis] == value).fillna(False)]
        return rows if "statistics" in measured.where else _without_batch_statistics(rows)

    @cached_property
    def _by_quantity(self) -> dict[str, pd.DataFrame]:
        groups = self.values.groupby("quantity", sort=False) if len(self.values) else ()
        return {str(quantity): rows for quantity, rows in groups}


def read_evidence(folder: Path, params: Params | None = None, claims: Sequence[Claim] = ()) -> Evidence:
    """Return a study's values and runs, from its folder metrics/STUDY.

    Args:
        folder: of the study's tables.
        params: the study's, for the records of single measures; without it there are none.
        claims: the claims to be tested: they tell whose records are read.
    """
    paths = [folder / f"{name}.csv" for name in VALUES]
    there = [path for path in paths if path.exists()] or paths[:1]
    values = pd.concat([_values(path) for path in there], ignore_index=True)
    runs = read_table(folder / "cells.csv", needed=(*ALWAYS, "status"))
    revisions = read_revisions(folder)
    if params is None:
        return Evidence(values, runs, revisions=revisions)
    listed = frozenset(params.groups["measures"])
    wanted = {claim.measure for claim in claims if claim.over in OF_RECORDS} & listed
    return Evidence(values, runs, listed, {name: _records(params, name) for name in sorted(wanted)}, revisions)


def _values(path: Path) -> pd.DataFrame:
    table = read_table(path, needed=(*ALWAYS, "quantity", "value"))
    with reading(path, "a complete CSV table", AGAIN):
        pd.to_numeric(table["value"])  # text among the numbers would make a column of text
    return table


def _records(params: Params, measure: str) -> pd.DataFrame:
    """Return the records of a measure as one long table: there is one per seed, or one per run."""
    of_seeds = [(about, f"{place}") for about, place in seed_records(params, measure, params.seeds)]
    of_runs = [(cell.columns(), f"{cell.record(measure, '')}") for cell in cells(params)]
    return pd.concat(
        [
            read_long(Path(f"{place}.csv")).assign(
                **about, device=read_record(Path(f"{place}.json"))["device"], record=Path(place).name
            )
            for about, place in (*of_seeds, *of_runs)
            if Path(f"{place}.csv").exists()
        ],
        ignore_index=True,
    )


def tabulate(claim: Claim, evidence: Evidence, at: Mapping[str, Any]) -> pd.DataFrame:
    """Return one row per run (of widths: per pair of batch sizes) with what a claim is tested on.

    Returns:
        The runs with the claim's level in `level` and its quantity in `value`, which a failed run lacks. Where the
        claim has them: for a correlation the other quantity in `beside`, the part that is there without training in
        `untrained`, and a count as a share of all values in `share`. Of widths, the model is named without its width.

    Raises:
        NotMeasuredError: no run has a quantity of the claim, or a quantity that the claim needs is 0 in every run.
    """
    runs = evidence.runs
    if claim.over not in ("width", *runs.columns):
        raise NotMeasuredError(f"the study's runs have no {claim.over}")
    if claim.needs and not evidence.of(claim.needs, at, claim.over).fillna(0).any():
        raise NotMeasuredError(f"{claim.needs} is 0 in every run")
    value = _tested(claim, evidence, at, claim.measured, claim.compared_with)
    if claim.own_interval:
        low, high = (evidence.of(claim.measured, at, claim.over, column) for column in ("low", "high"))
        value = value / ((high - low) / 2)
    table = runs.assign(value=value.where(runs["status"] == "ok"))
    if claim.correlated_with:
        beside = evidence.of(claim.correlated_with, at, claim.over)
        both = table["value"].notna() & beside.notna()
        table = table.assign(value=table["value"].where(both), beside=beside.where(both))
    if claim.over == "width":
        return _of_widths(table, claim.of)
    table = table.assign(level=table[claim.over])
    with suppress(NotMeasuredError):
        if claim.untrained:
            table["untrained"] = evidence.of(claim.untrained, at, claim.over)
    with suppress(NotMeasuredError):
        if claim.counted:
            table["share"] = _tested(claim, evidence, at, *claim.counted)
    return table


def _tested(
    claim: Claim, evidence: Evidence, at: Mapping[str, Any], measured: Measured, compared_with: Measured | None
) -> pd.Series:
    value = evidence.of(measured, at, claim.over)
    if compared_with is None:
        return value
    other = evidence.of(compared_with, at, claim.over)
    return value / other if claim.unit == "times" else value - other


def _without_batch_statistics(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows without those of the batches' own statistics of batch norm, unless there are no others."""
    others = rows["statistics"] != "batch" if "statistics" in rows else pd.Series(True, index=rows.index)
    return rows[others] if others.any() else rows


def _first_of(rows: pd.DataFrame, axis: str, names: Sequence[str]) -> pd.DataFrame:
    """Return the rows with the first of the names that each network has."""
    place = rows[axis].map({name: place for place, name in enumerate(names)})
    return rows[place.notna() & (place == place.groupby(rows["model"]).transform("min"))]


def uncertain_runs(claim: Claim, evidence: Evidence, at: Mapping[str, Any]) -> pd.Series:
    """Return in which runs error bounds leave a value of the claim open, indexed as the runs."""
    found = pd.Series(False, index=evidence.runs.index)
    for measured in filter(None, (claim.measured, claim.compared_with)) if claim.uncertain else ():
        try:
            found |= evidence.of(Measured(claim.uncertain, measured.where), at, claim.over) > 0
        except NotMeasuredError:
            continue
    return found


def base_names(models: pd.Series) -> list[str]:
    """Return the models' names without their widths."""
    return [match["name"] if (match := WIDENED.fullmatch(name)) else name for name in models]


def blocks(table: pd.DataFrame, column: str = "value") -> pd.DataFrame:
    """Return a column as seeds by levels, of the levels at which no run failed.

    Left out: a seed that lacks a level which another has, unless all do; a seed of which every run failed.
    """
    whole: pd.DataFrame = table.pivot_table(index="seed", columns="level", values=column, dropna=False)
    complete = table.groupby(["seed", "level"]).size().unstack().notna().all(axis=1)
    if complete.any():
        whole = whole.loc[complete[complete].index]
    kept: pd.DataFrame = whole.dropna(how="all").dropna(axis=1)
    return kept


def _of_widths(table: pd.DataFrame, of: str) -> pd.DataFrame:
    widths = [WIDENED.fullmatch(name) for name in table["model"]]
    levels = [float(match["width"]) if match else 1.0 for match in widths]
    table = table.assign(level=levels, model=base_names(table["model"]))
    small, large = table["batch_size"].min(), table["batch_size"].max()
    run = ["model", "dataset", "level", "seed"]
    by_size = table.pivot_table(index=run, columns="batch_size", values="value")
    # also where every run of one batch size, or of one seed and width, failed
    by_size = by_size.reindex(columns=[small, large], index=pd.MultiIndex.from_frame(table[run].drop_duplicates()))
    chosen = by_size.iloc[:, 1]
    if of == "gap":
        chosen = chosen - by_size.iloc[:, 0] if small < large else chosen * np.nan
    values: pd.DataFrame = chosen.rename("value").reset_index()
    return values


def _missing(measured: Measured, own: Mapping[str, Any], values: pd.DataFrame) -> str:
    if values.empty or not (values["quantity"] == measured.quantity).any():
        return f"{measured.quantity} was not measured"
    axes = ", ".join(f"{axis} = {axis_text(value)}" for axis, value in {**measured.named, **own}.items())
    return f"{measured.quantity} was not measured at {axes}"
