"""What a study's runs say of each claim: a table with a verdict for each claim, network and data set."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from gapscope.claims import wording
from gapscope.claims.claim import OF_REFERENCE, Claim
from gapscope.claims.evidence import Evidence, NotMeasuredError, base_names, tabulate, uncertain_runs
from gapscope.claims.families import Decision, Entry, decide, family
from gapscope.claims.finding import Finding
from gapscope.claims.testing import run_test
from gapscope.errors import InputError, did_you_mean
from gapscope.records.long import AXES

PAIR = ["model", "dataset"]
FIRST = ["claim", "statement", "source", "paper", "family", *PAIR, "quantity"]  # columns, before those of the axes
LAST = [
    *("compared_with", "test", "n", "seeds", "levels", "effect", "effect_low", "effect_high", "effect_unit"),
    *(
        "slope",
        "slope_low",
        "slope_high",
        "slope_unit",
        "p_slope",
        "p",
        "p_corrected",
        "margin",
        "p_none",
        "p_none_corrected",
    ),
    *("verdict", "why", "seeds_needed", "also", "caution"),
]


@dataclass(frozen=True)
class ClaimSettings:
    """Params of the claims stage; `conf/config.yaml` says what each is."""

    arm: str
    reference: str
    level: float
    seen_seeds: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.level < 0.5:
            raise InputError(f"claims.level must lie between 0 and 0.5, got {self.level}; conf/config.yaml has 0.02")

    def check(self, study: str, claims: Sequence[Claim]) -> None:
        """Raise InputError for an arm that no claim belongs to, or whose gap would be compared with itself."""
        arms = list(dict.fromkeys(claim.arm for claim in claims))
        if self.arm not in arms:
            raise InputError(f"unknown claims.arm {self.arm!r}; {did_you_mean(self.arm, arms)}")
        if self.reference == study and any(claim.test in OF_REFERENCE for claim in claims if claim.arm == self.arm):
            raise InputError(
                f"claims.arm={self.arm} compares this study's gap with another's: claims.reference must name that one"
            )


def evaluate(claims: Sequence[Claim], evidence: Evidence, reference: Evidence, settings: ClaimSettings) -> pd.DataFrame:
    """Return a row for each claim of the study's arm and measures, axis value, model and data set.

    Args:
        claims: all claims, of every arm.
        evidence: the study's values and runs.
        reference: those of the study with which `shrinks` and its like compare.
        settings: params.

    Returns:
        Columns `FIRST`, the axes that the claims name, and `LAST`. `p` is one-sided, in the direction of the smaller p
        value; `p_corrected` is the same corrected for the family, and is missing where the family is not corrected.
        `p_slope` is that of the slopes in the same direction, of trends that need both tests; it is not corrected.

    Raises:
        InputError: an axis that a claim leaves open.
    """
    studies = evidence.without_seeds(settings.seen_seeds), reference.without_seeds(settings.seen_seeds)
    seen_only = bool(studies[0].runs["seed"].isin(settings.seen_seeds).any())
    entries = [
        entry
        for claim in map(studies[0].chosen, claims)
        if claim.arm == settings.arm and (not claim.measure or claim.measure in evidence.measures)
        for place, at in enumerate(studies[0].of_level(claim).cases(claim))
        for entry in _entries(claim, at, studies, of=family(claim, place, seen_only=seen_only), level=settings.level)
    ]
    rows = [_row(*pair) for pair in zip(entries, decide(entries, settings.level), strict=True)]
    axes = [axis for axis in AXES if any(axis in row for row in rows)]
    return pd.DataFrame(rows, columns=[*FIRST, *axes, *LAST])


def _entries(
    claim: Claim, at: Mapping[str, Any], studies: tuple[Evidence, Evidence], *, of: str, level: float
) -> list[Entry]:
    """Test a claim at its axes on each network and data set of the study, against the reference."""
    evidence, reference = studies[0].of_level(claim), studies[1].of_level(claim)
    runs = evidence.runs
    if claim.over == "width":
        runs = runs.assign(model=base_names(runs["model"]))
    try:
        table, theirs = tabulate(claim, evidence, at), _reference_table(claim, reference, at)
    except NotMeasuredError as reason:
        return [Entry(claim, at, of, model, dataset, str(reason)) for model, dataset in _pairs(runs)]
    open_runs = uncertain_runs(claim, evidence, at)
    entries = []
    for pair in _pairs(runs):
        own, ours, beside = _of_pair(runs, pair), _of_pair(table, pair), _of_pair(theirs, pair)
        finding, used = run_test(claim, ours, beside, level), own[own["status"] == "ok"]
        caution = wording.joined([claim.caution, *_cautions(own, beside, open_runs)])
        mixed = wording.not_comparable(used, beside)
        tested = used[used["seed"].isin(ours.dropna(subset=["value"])["seed"])]
        entries.append(Entry(claim, at, of, *pair, finding, wording.seeds(tested), mixed, caution))
    return entries


def _reference_table(claim: Claim, reference: Evidence, at: Mapping[str, Any]) -> pd.DataFrame:
    if claim.test not in OF_REFERENCE or reference.runs.empty:
        return pd.DataFrame(columns=PAIR)
    try:
        return tabulate(claim, reference, at)
    except NotMeasuredError as reason:
        raise NotMeasuredError(f"{reason} in the reference study") from reason


def _cautions(runs: pd.DataFrame, reference: pd.DataFrame, open_runs: pd.Series) -> list[str]:
    cautions = [wording.failed(runs), wording.uncertain(open_runs, runs), wording.several_devices(runs)]
    cautions.append(wording.unstated(runs))
    if len(reference):
        cautions += [wording.failed(reference, "runs of the reference"), wording.other_devices(runs, reference)]
    return cautions


def _pairs(runs: pd.DataFrame) -> list[tuple[str, str]]:
    return list(runs[PAIR].drop_duplicates().itertuples(index=False, name=None))


def _of_pair(table: pd.DataFrame, pair: tuple[str, str]) -> pd.DataFrame:
    return table[(table["model"] == pair[0]) & (table["dataset"] == pair[1])]


def _row(entry: Entry, decision: Decision) -> dict[str, Any]:
    claim = entry.claim
    about = {
        "claim": claim.name,
        "statement": claim.stated(entry.at),
        "source": claim.source,
        "paper": claim.paper,
        "family": entry.family,
        "model": entry.model,
        "dataset": entry.dataset,
        "quantity": claim.measured.quantity,
        **claim.measured.named,
        **entry.at,
        "compared_with": str(claim.compared_with or claim.correlated_with or ""),
        "verdict": decision.verdict,
        "why": decision.why,
        "caution": entry.caution,
    }
    if isinstance(entry.finding, str):
        return {**about, "n": 0}
    return {**about, "seeds": entry.seeds, **_result(entry.finding, decision)}


def _result(finding: Finding, decision: Decision) -> dict[str, Any]:
    against = finding.p_against < finding.p_for
    p_for, p_against, p_none = decision.p
    return {
        "test": finding.test,
        "n": finding.n,
        "levels": finding.levels,
        "effect": finding.effect.mean,
        "effect_low": finding.effect.low,
        "effect_high": finding.effect.high,
        "effect_unit": finding.unit,
        "slope": finding.slope.mean,
        "slope_low": finding.slope.low,
        "slope_high": finding.slope.high,
        "slope_unit": finding.slope_unit,
        "p_slope": finding.p_slope,
        "p": finding.p_against if against else finding.p_for,
        "p_corrected": p_against if against else p_for,
        "margin": finding.margin,
        "p_none": finding.p_none if finding.margin else None,
        "p_none_corrected": p_none if finding.margin else None,
        "seeds_needed": decision.seeds_needed,
        "also": finding.also,
    }
