"""Families of claims: which are corrected together, and the verdicts that follow.

primary      the claims of the papers' abstracts and conclusions. They are corrected together (Holm). They were fixed on
             2026-11-30. Seeds that had been seen by then (`claims.seen_seeds`) are left out where there are others
exploratory  the same claims in a study that has only such seeds
control      claims that control another one; tested only where that one is supported, and corrected together
secondary    all others; not corrected, and labelled so
twin         a further threshold or box size of any claim; not corrected, and not counted
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gapscope.claims import hypothesis_tests, wording
from gapscope.claims.claim import CORRECTED, Claim
from gapscope.claims.finding import Finding

NOT_CORRECTED = float("nan")
# a corrected p value for the claim, against it, and for no effect as large as the margin
PValues = tuple[float, float, float]


@dataclass(frozen=True)
class Entry:
    """A row of the table before the correction: one claim, at its axes, on one network and data set."""

    claim: Claim
    at: Mapping[str, Any]  # axis -> value, of `each` and `first`
    family: str
    model: str
    dataset: str
    finding: Finding | str  # the reason, where it is not testable
    seeds: str = ""
    mixed: str = ""  # why the runs cannot be compared; empty where they can
    caution: str = ""

    @property
    def testable(self) -> Finding | None:
        """Return the finding, if a verdict depends on its p values."""
        return None if isinstance(self.finding, str) or self.mixed or self.finding.by_construction else self.finding


@dataclass(frozen=True)
class Decision:
    """A verdict, its reason, and the p values that it rests on."""

    verdict: str
    why: str
    p: PValues = (NOT_CORRECTED,) * 3
    seeds_needed: int | None = None


def family(claim: Claim, place: int, *, seen_only: bool) -> str:
    """Return the family of a claim's test; `place` counts the values of its axes, of which the first one counts."""
    if place:
        return "twin"
    if claim.controls:
        return "control"
    return "exploratory" if claim.family == "primary" and seen_only else claim.family


def decide(entries: Sequence[Entry], level: float) -> list[Decision]:
    """Return a decision for each entry: controls last, since they are tested only where their claim is supported."""
    others = [place for place, entry in enumerate(entries) if not entry.claim.controls]
    found = _decided(entries, others, level)
    needless = {place: _needless(entry, entries, found) for place, entry in enumerate(entries) if entry.claim.controls}
    found |= _decided(entries, [place for place, why in needless.items() if not why], level)
    left = {place: _undecided(entries[place], Decision("not tested", why)) for place, why in needless.items() if why}
    return [(found | left)[place] for place in range(len(entries))]


def correct(findings: Sequence[Finding]) -> list[PValues]:
    """Return the p values of a family's findings, corrected for its number (Holm), each of the three on its own.

    What could not have rejected at any level is not counted (Tarone 1990).
    """
    of_each = [(finding.p_for, finding.p_against, finding.p_none) for finding in findings]
    counted = [
        sum(finding.outcome.tested for finding in findings),
        sum(finding.outcome.tested and not finding.one_way for finding in findings),
        sum(bool(finding.margin) for finding in findings),
    ]
    columns = [hypothesis_tests.holm([p[i] for p in of_each], counted[i]) for i in range(3)]
    return list(zip(*columns, strict=True))


def _decided(entries: Sequence[Entry], places: Sequence[int], level: float) -> dict[int, Decision]:
    found = {place: _undecided(entries[place]) for place in places if not entries[place].testable}
    for name in dict.fromkeys(entries[place].family for place in places):
        own = {p: finding for p in places if entries[p].family == name and (finding := entries[p].testable)}
        if name in CORRECTED:
            first = level / max(1, sum(finding.outcome.tested for finding in own.values()))
            for (place, finding), p in zip(own.items(), correct(list(own.values())), strict=True):
                found[place] = _decision(finding, p, level, first, kind="corrected")
        else:
            for place, finding in own.items():
                p = (finding.p_for, finding.p_against, finding.p_none)
                decision = _decision(finding, p, level, level, kind="uncorrected")
                found[place] = Decision(decision.verdict, decision.why, seeds_needed=decision.seeds_needed)
    return found


def _undecided(entry: Entry, otherwise: Decision | None = None) -> Decision:
    """Return the decision on an entry whose p values decide nothing."""
    if isinstance(entry.finding, str):
        return Decision("not testable", entry.finding)
    if entry.mixed:
        return Decision("not comparable", entry.mixed)
    if entry.finding.by_construction:
        return Decision("by construction", entry.finding.by_construction)
    assert otherwise is not None
    return otherwise


def _decision(finding: Finding, p: PValues, level: float, first: float, kind: str) -> Decision:
    verdict, why = wording.verdict(finding, p, level, kind)
    if verdict != "undecided" or not finding.outcome.tested:
        return Decision(verdict, why, p)
    needed = finding.seeds_needed(first)
    return Decision(verdict, f"{why}; {wording.seeds_needed(needed)}", p, needed)


def _needless(control: Entry, entries: Sequence[Entry], found: Mapping[int, Decision]) -> str:
    """Return why a control need not be tested; empty if the claim that it controls is supported."""
    name = control.claim.controls
    controlled = [decision.verdict for place, decision in found.items() if _is_controlled(entries[place], control)]
    if not controlled:
        return f"a control of {name}, which this study does not test"
    return "" if controlled[0] == "supported" else f"a control of {name}, whose verdict is: {controlled[0]}"


def _is_controlled(entry: Entry, control: Entry) -> bool:
    """Return whether an entry is the claim that a control is about, at the same axes and of the same runs."""
    if entry.claim.name != control.claim.controls:
        return False
    same_axes = all(entry.at[axis] == value for axis, value in control.at.items() if axis in entry.at)
    return same_axes and (entry.model, entry.dataset) == (control.model, control.dataset)
