"""What a study's runs say of each claim: supported, contradicted, undecided, or not testable.

A claim is supported where its test rejects chance in its direction at `claims.level`, corrected for all the claims
that the study tests; it is contradicted where the test rejects in the opposite direction. Fewer than three seeds decide
nothing, and neither does a quantity that never changes. A claim whose quantity the study did not measure is not
testable: it is listed with the reason, and is left out of the correction.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from gapscope.claims import hypothesis_tests, wording
from gapscope.claims.claim import REMOVED, Claim
from gapscope.claims.evidence import Evidence, NotMeasuredError, base_names, tabulate, uncertain_runs
from gapscope.claims.testing import Finding, run_test
from gapscope.errors import InputError, did_you_mean
from gapscope.records.long import AXES

PAIR = ["model", "dataset"]
FIRST = ["claim", "statement", "source", "paper", *PAIR, "quantity"]  # columns, before those of the axes
LAST = [
    *("compared_with", "test", "n", "levels", "effect", "effect_low", "effect_high", "effect_unit"),
    *("p", "p_corrected", "verdict", "why", "also", "caution"),
]


@dataclass(frozen=True)
class ClaimSettings:
    """Params of the claims stage; `conf/config.yaml` says what each is."""

    arm: str
    reference: str
    level: float

    def __post_init__(self) -> None:
        if not 0 < self.level < 0.5:
            raise InputError(f"claims.level must lie between 0 and 0.5, got {self.level}; conf/config.yaml has 0.02")

    def check(self, study: str, claims: Sequence[Claim]) -> None:
        """Raise InputError where the arm's gap would be compared with itself."""
        if self.reference == study and any(claim.test in REMOVED for claim in claims if claim.arm == self.arm):
            raise InputError(
                f"claims.arm={self.arm} compares this study's gap with another's: claims.reference must name that one"
            )


@dataclass(frozen=True)
class Entry:
    """A row of the table before the correction: one claim, at its axes, on one network and data set."""

    claim: Claim
    at: Mapping[str, Any]  # axis -> value, of `each` and `first`
    model: str
    dataset: str
    finding: Finding | str  # the reason, where it is not testable
    caution: str = ""


def evaluate(claims: Sequence[Claim], evidence: Evidence, reference: Evidence, settings: ClaimSettings) -> pd.DataFrame:
    """Return a row for each claim of the study's arm, axis value, model and data set.

    Args:
        claims: all claims, of every arm.
        evidence: the study's values and runs.
        reference: those of the study with which `shrinks` and its like compare.
        settings: params.

    Returns:
        Columns `FIRST`, the axes that the claims name, and `LAST`. `p` is one-sided, in the direction of the smaller p
        value; `p_corrected` is the same corrected for the number of claims tested (Holm).

    Raises:
        InputError: an arm that no claim belongs to, or an axis that a claim leaves open.
    """
    arms = list(dict.fromkeys(claim.arm for claim in claims))
    if settings.arm not in arms:
        raise InputError(f"unknown claims.arm {settings.arm!r}; {did_you_mean(settings.arm, arms)}")
    entries = [
        entry
        for claim in claims
        if claim.arm == settings.arm
        for at in evidence.cases(claim)
        for entry in _entries(claim, at, evidence, reference, settings.level)
    ]
    corrected = correct([entry.finding for entry in entries])
    rows = [_row(entry, *both, settings.level) for entry, both in zip(entries, corrected, strict=True)]
    axes = [axis for axis in AXES if any(axis in row for row in rows)]
    return pd.DataFrame(rows, columns=[*FIRST, *axes, *LAST])


def correct(findings: Sequence[Finding | str]) -> list[tuple[float, float]]:
    """Return each finding's p values, for and against its claim, corrected for the number of claims tested.

    What is not testable gets NaN, and is not counted. What could not have rejected at any level is not counted either
    (Tarone 1990).
    """
    found = [finding for finding in findings if isinstance(finding, Finding)]
    tested = sum(finding.outcome.tested for finding in found)
    p_for = iter(hypothesis_tests.holm([finding.p_for for finding in found], tested))
    p_against = iter(hypothesis_tests.holm([finding.p_against for finding in found], tested))
    nothing = (float("nan"), float("nan"))
    return [nothing if isinstance(finding, str) else (next(p_for), next(p_against)) for finding in findings]


def _entries(claim: Claim, at: Mapping[str, Any], evidence: Evidence, reference: Evidence, level: float) -> list[Entry]:
    """Test a claim at its axes on each network and data set of the study."""
    runs = evidence.runs
    if claim.over == "width":
        runs = runs.assign(model=base_names(runs["model"]))
    try:
        table, theirs = tabulate(claim, evidence, at), _reference_table(claim, reference, at)
    except NotMeasuredError as reason:
        return [Entry(claim, at, model, dataset, str(reason)) for model, dataset in _pairs(runs)]
    open_runs = uncertain_runs(claim, evidence, at)
    entries = []
    for pair in _pairs(runs):
        ours, beside = _of_pair(table, pair), _of_pair(theirs, pair)
        finding = run_test(claim, ours, beside, level)
        cautions = _cautions(_of_pair(runs, pair), beside, open_runs)
        entries.append(Entry(claim, at, *pair, finding, wording.joined([claim.caution, *cautions])))
    return entries


def _reference_table(claim: Claim, reference: Evidence, at: Mapping[str, Any]) -> pd.DataFrame:
    if claim.test not in REMOVED or reference.runs.empty:
        return pd.DataFrame(columns=PAIR)
    try:
        return tabulate(claim, reference, at)
    except NotMeasuredError as reason:
        raise NotMeasuredError(f"{reason} in the reference study") from reason


def _cautions(runs: pd.DataFrame, reference: pd.DataFrame, open_runs: pd.Series) -> list[str]:
    cautions = [wording.failed(runs), wording.uncertain(open_runs, runs), wording.several_devices(runs)]
    if len(reference):
        cautions += [wording.failed(reference, "runs of the reference"), wording.other_devices(runs, reference)]
    return cautions


def _pairs(runs: pd.DataFrame) -> list[tuple[str, str]]:
    return list(runs[PAIR].drop_duplicates().itertuples(index=False, name=None))


def _of_pair(table: pd.DataFrame, pair: tuple[str, str]) -> pd.DataFrame:
    return table[(table["model"] == pair[0]) & (table["dataset"] == pair[1])]


def _row(entry: Entry, p_for: float, p_against: float, level: float) -> dict[str, Any]:
    claim = entry.claim
    about = {
        "claim": claim.name,
        "statement": claim.stated(entry.at),
        "source": claim.source,
        "paper": claim.paper,
        "model": entry.model,
        "dataset": entry.dataset,
        "quantity": claim.measured.quantity,
        **claim.measured.where,
        **entry.at,
        "compared_with": str(claim.compared_with or claim.correlated_with or ""),
        "caution": entry.caution,
    }
    if isinstance(entry.finding, str):
        return {**about, "n": 0, "verdict": "not testable", "why": entry.finding}
    return {**about, **_result(entry.finding, p_for, p_against, level)}


def _result(finding: Finding, p_for: float, p_against: float, level: float) -> dict[str, Any]:
    against = finding.p_against < finding.p_for
    verdict, why = wording.verdict(finding, p_for, p_against, level)
    return {
        "test": finding.test,
        "n": finding.n,
        "levels": finding.levels,
        "effect": finding.effect.mean,
        "effect_low": finding.effect.low,
        "effect_high": finding.effect.high,
        "effect_unit": finding.unit,
        "p": finding.p_against if against else finding.p_for,
        "p_corrected": p_against if against else p_for,
        "verdict": verdict,
        "why": why,
        "also": finding.also,
    }
