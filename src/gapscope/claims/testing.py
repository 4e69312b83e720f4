"""The test of one claim on one network and data set: a trend, a correlation, or a gap against another study's."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from gapscope.claims import hypothesis_tests
from gapscope.claims.claim import REMEDIES, REMOVED, Claim
from gapscope.claims.evidence import blocks
from gapscope.claims.hypothesis_tests import Array, Effect, Outcome
from gapscope.drawing.numbers import number, signed

RESOLUTIONS = {"values": 1.0, "eigenvalues": 1.0}  # of what is counted
TOO_FEW_LEVELS = Outcome(1.0, 1.0, 0.0, "fewer than three levels that all seeds have: no order to test", tested=False)
PAGE = "Page's trend test, seeds as blocks, permutation"
PAIRED = "paired t test over seeds, last level minus first"


@dataclass(frozen=True)
class Finding:
    """What one claim's test found."""

    n: int
    levels: str
    test: str
    effect: Effect
    unit: str
    outcome: Outcome
    sign: int  # +1 where the claim is that the tested value rises
    also: str = ""  # what else a reader needs to judge the effect
    one_way: bool = False  # the opposite direction is not tested

    @property
    def p_for(self) -> float:
        """One-sided p value in the claim's direction."""
        return self.outcome.p_rises if self.sign > 0 else self.outcome.p_falls

    @property
    def p_against(self) -> float:
        """One-sided p value in the other direction."""
        if self.one_way:
            return 1.0
        return self.outcome.p_falls if self.sign > 0 else self.outcome.p_rises


def run_test(claim: Claim, table: pd.DataFrame, reference: pd.DataFrame, level: float) -> Finding | str:
    """Test a claim, or say why it cannot be tested.

    Args:
        claim: the claim.
        table: the runs of one network and data set, as `evidence.tabulate` gives them.
        reference: those of the reference study, for a claim about its gap; may be empty.
        level: at which the reference's gap has to be shown.
    """
    if claim.test in REMOVED:
        return _gap_against_reference(claim, table, reference, level)
    found = blocks(table)
    n, k = found.shape
    if n < 1 or k < 2:
        return f"fewer than two {_plural(claim)} at which every seed has a value"
    return _correlation(claim, table, found) if claim.correlated_with else _trend(claim, found)


def _trend(claim: Claim, found: pd.DataFrame) -> Finding:
    values = found.to_numpy(dtype=float)
    ends = values[:, [0, -1]]
    ratio = claim.unit == "times" and bool((ends > 0).all())
    unit = claim.unit if ratio or claim.unit != "times" else "as a difference"  # 0 has no multiple
    change = _change(ends, ratio)
    if len(found.columns) > 2 and not claim.ends:
        test, levels = PAGE, found.columns.to_numpy(dtype=float)
        outcome = hypothesis_tests.trend(levels, values, np.random.default_rng(0))
    else:
        test = PAIRED
        outcome = hypothesis_tests.paired(np.log(change) if ratio else change, RESOLUTIONS.get(claim.unit, 0.0))
    test += {"largest": ", at the largest batch size", "gap": ", of the gap: largest minus smallest batch size"}.get(
        claim.of, ""
    )
    effect = hypothesis_tests.interval(change, ratio=ratio)
    sign = -1 if claim.test == "falls" else 1
    return Finding(len(values), _levels(found), test, effect, unit, outcome, sign, one_way=claim.one_way)


def _correlation(claim: Claim, table: pd.DataFrame, found: pd.DataFrame) -> Finding:
    values, levels = found.to_numpy(dtype=float), _levels(found)
    test = f"rank correlation with {claim.correlated_with} within a seed, permutation"
    if len(found.columns) < 3:
        return Finding(len(values), levels, test, Effect(None), claim.unit, TOO_FEW_LEVELS, 1)
    beside = blocks(table, "beside").to_numpy(dtype=float)
    outcome = hypothesis_tests.trend(beside, values, np.random.default_rng(0))
    each = hypothesis_tests.rank_correlations(beside, values)
    effect = hypothesis_tests.interval(each, within=(-1.0, 1.0)) if outcome.tested else Effect(None)
    same_test = f"it rises with {claim.over} in every seed: this tests whether {claim.correlated_with} rises too"
    also = same_test if (values[:, 1:] > values[:, :-1]).all() else ""
    return Finding(len(values), levels, test, effect, claim.unit, outcome, 1, also)


def _gap_against_reference(claim: Claim, table: pd.DataFrame, reference: pd.DataFrame, level: float) -> Finding | str:
    """Test the gap in this study against that in the reference, over the batch sizes and seeds that both have."""
    ours, theirs = blocks(table), blocks(reference) if len(reference) else pd.DataFrame()
    seeds = ours.index.intersection(theirs.index)
    sizes = sorted(set(ours.columns) & set(theirs.columns))
    if len(sizes) < 2 or not len(seeds):
        return f"{len(sizes)} batch sizes and {len(seeds)} seeds in common with the reference; two and one are needed"
    small = [study.loc[seeds, sizes[0]].to_numpy(dtype=float) for study in (ours, theirs)]
    large = [study.loc[seeds, sizes[1:]].mean(axis=1).to_numpy(dtype=float) for study in (ours, theirs)]
    gap = large[1] - small[1]
    change = large[0] - small[0] - REMOVED[claim.test] * gap
    outcome = _shrinks(claim, change, gap, large[0] - large[1], level)
    half = "half of " if REMOVED[claim.test] < 1 else ""
    test = f"paired t test over seeds, of the gap minus {half}the reference's"
    test += ", and of the larger batches' own change" if claim.test in REMEDIES else ""
    own = [signed((of[0] - of[1]).mean()) for of in (small, large)]
    also = f"changes against the reference: smallest batch {own[0]}, larger ones {own[1]} {claim.unit}"
    levels = f"{', '.join(f'{size:g}' for size in sizes[1:])} minus {sizes[0]:g}"
    return Finding(len(seeds), levels, test, hypothesis_tests.interval(change), claim.unit, outcome, -1, also)


def _shrinks(claim: Claim, change: Array, gap: Array, larger: Array, level: float) -> Outcome:
    """Combine tests that all have to reject: the gap shrinks, there was one, and (a remedy) large batches improve."""
    shrinks, shown, improves = (hypothesis_tests.paired(of) for of in (change, gap, larger))
    falls = [shrinks.p_falls, shown.p_rises, *([improves.p_falls] if claim.test in REMEDIES else [])]
    no_gap = f"no gap is shown for the reference (p = {number(shown.p_rises, 2)})"
    why = shrinks.why if shown.p_rises <= level else no_gap
    tested = shrinks.tested and shown.tested
    return Outcome(max(shrinks.p_rises, shown.p_rises), max(falls), shrinks.statistic, why, tested)


def _change(ends: Array, ratio: bool) -> Array:
    with np.errstate(invalid="ignore"):  # both infinite
        return ends[:, 1] / ends[:, 0] if ratio else ends[:, 1] - ends[:, 0]


def _levels(found: pd.DataFrame) -> str:
    return ", ".join(f"{level:g}" for level in found)


def _plural(claim: Claim) -> str:
    return {"batch_size": "batch sizes", "width": "widths", "start_epoch": "starts"}[claim.over]
