"""Which revisions of the code made the runs that a claim is tested on, and on which kind of device.

Runs of different revisions are not compared, nor are measurements from different kinds of device.

A record's provenance names the revision of its stage. Provenance is no dependency of the stage that tests claims, so
that a rerun which gives the same numbers makes no verdict stale.
"""

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from gapscope import measures
from gapscope.claims.claim import Claim, Measured
from gapscope.records.provenance import read_provenance

# stage -> name of a record -> revision, such as 1, or 1 on cuda; None where the record does not state it
Revisions = Mapping[str, Mapping[str, str | None]]
# of one run: stage and revision of each record that its value comes from; hashable
Made = tuple[tuple[str, str | None], ...]


def read_revisions(folder: Path) -> Revisions:
    """Return the revisions that made the records of a folder metrics/STUDY."""
    found: dict[str, dict[str, str | None]] = {}
    for path in sorted(folder.glob("*/*.json*")):
        found.setdefault(path.parent.name, {})[path.stem] = _revision(path.parent.name, read_provenance(path))
    return found


def _revision(stage: str, made: Mapping[str, Any]) -> str | None:
    if made.get("revision") is None:
        return None
    kind = kind_of_device(made.get("device") or "cpu")
    if kind == "cpu" or stage == "train":  # where a run was trained stands in its record
        return f"{made['revision']}"
    return f"{made['revision']} on {kind}"


def kind_of_device(device: str) -> str:
    """Return the kind of a device by its name in a record, such as cuda of cuda (NVIDIA H200)."""
    return str(device).partition(" ")[0]


def made_by(claim: Claim, runs: pd.DataFrame, revisions: Revisions) -> "pd.Series[Any]":
    """Return the revisions that each run's value in a claim comes from (`Made`), indexed as the runs."""
    return of_runs(runs, stages(claim, warm_starts="start_epoch" in runs), revisions)


def of_runs(runs: pd.DataFrame, stages: Iterable[str], revisions: Revisions) -> "pd.Series[Any]":
    """Return the revisions that made each run's records of some stages (`Made`), indexed as the runs."""
    known = {stage: revisions[stage] for stage in stages if stage in revisions}
    made = [
        tuple((stage, of[name]) for stage, of in known.items() for name in _names(run) if name in of)
        for run in runs.to_dict("records")
    ]
    return pd.Series(made, index=runs.index, dtype=object)


def stages(claim: Claim, *, warm_starts: bool) -> list[str]:
    """Return the stages whose records a claim's values come from; some of them may not have run.

    Args:
        claim: the claim.
        warm_starts: whether the runs are warm starts, which a measure of seeds gives.
    """
    tested = [of for of in (claim.measured, claim.compared_with, claim.correlated_with, claim.untrained) if of]
    found = {stage for of in tested for stage in _stages_of(of, claim.measure, "seed" if warm_starts else "cell")}
    return sorted(found)


def mixed(tables: Iterable[pd.DataFrame]) -> dict[str, list[str]]:
    """Return the stages whose records several revisions made, with these revisions.

    A record that does not state its revision counts as one of a revision of its own.

    Args:
        tables: compared runs, with what made them in `made`.
    """
    found: dict[str, set[str]] = {}
    for stage, revision in (pair for table in tables for made in table.get("made", ()) for pair in made):
        found.setdefault(stage, set()).add("not stated" if revision is None else f"{revision}")
    return {stage: sorted(of) for stage, of in sorted(found.items()) if len(of) > 1}


def _stages_of(measured: Measured, measure: str, runs_on: str) -> Collection[str]:
    candidates = [measure] if measure else [name for name, of in measures.MEASURES.items() if runs_on == of.RUNS_ON]
    given = [name for name in candidates if measured.quantity in measures.MEASURES[name].QUANTITIES]
    found = {measures.stage(needed) for name in given for needed in (name, *_needs(name))}
    if any(measures.MEASURES[name].RUNS_ON == "cell" for name in given):
        found.add("train")
    return found | ({"controls"} if measured.where.get("sample") in measures.MEASURES["controls"].CONTROLS else set())


def _needs(name: str) -> tuple[str, ...]:
    return tuple(getattr(measures.MEASURES[name], "NEEDS", ()))


def _names(run: Mapping[Any, Any]) -> list[str]:
    """Return the names of a run's records: its own, and that of its seed."""
    pair, seed = f"{run['model']}-{run['dataset']}", f"s{run['seed']}"
    own = run.get("record", f"{pair}-b{run.get('batch_size')}-{seed}")
    return list(dict.fromkeys([own, f"{pair}-{seed}"]))
