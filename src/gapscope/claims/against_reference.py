"""Claims that compare a study with its reference, seed by seed: gaps, values, and their spread over seeds."""

import numpy as np
import pandas as pd

from gapscope.claims import hypothesis_tests as tests
from gapscope.claims import power
from gapscope.claims.claim import REMEDIES, REMOVED, Claim
from gapscope.claims.evidence import blocks
from gapscope.claims.finding import Finding, log, no_effect
from gapscope.claims.hypothesis_tests import Array, Outcome
from gapscope.claims.stated_values import seeds_for_value, within
from gapscope.drawing.numbers import number, signed

MEAN = "paired t test over seeds, against the reference, of the mean over batch sizes"
SAME = "two one-sided t tests over seeds at every batch size, against the reference, margin {margin}"
SPREAD = "Brown-Forsythe test of the spread over seeds, against the reference, at b = {size:g}"
SEEDS_FOR_SPREAD = 10  # fewer tell next to nothing about a spread


def run_test(claim: Claim, table: pd.DataFrame, reference: pd.DataFrame, level: float) -> Finding | str:
    """Test a claim against the reference, or say why it cannot be tested; arguments as of `testing.run_test`."""
    ours, theirs = blocks(table), blocks(reference) if len(reference) else pd.DataFrame()
    seeds = ours.index.intersection(theirs.index)
    sizes = sorted(int(size) for size in set(ours.columns) & set(theirs.columns))
    if claim.test in REMOVED:
        if len(sizes) < 2 or not len(seeds):
            return (
                f"{len(sizes)} batch sizes and {len(seeds)} seeds with runs that ended well in common with the"
                " reference; two and one are needed"
            )
        return _gap(claim, ours.loc[seeds, sizes], theirs.loc[seeds, sizes], level)
    sizes = [size for size in sizes if claim.only is None or size == claim.only]
    if not sizes or not len(seeds):
        wanted = f"b = {claim.only} and a seed" if claim.only else "a batch size and a seed"
        return f"the study and its reference do not have {wanted} in common at which both runs ended well"
    if claim.test == "less_dispersed":
        return _less_dispersed(claim, ours[sizes[-1]], theirs[sizes[-1]])
    return _compared(claim, ours.loc[seeds, sizes], theirs.loc[seeds, sizes])


def _compared(claim: Claim, ours: pd.DataFrame, theirs: pd.DataFrame) -> Finding | str:
    """Test values against the reference's at the same batch sizes: below, above, or the same within the margin."""
    values, others = ours.to_numpy(dtype=float), theirs.to_numpy(dtype=float)
    ratio = claim.unit == "times"
    if ratio and not ((values > 0).all() and (others > 0).all()):
        return "a value of 0 or below has no ratio"
    changes = log(values) - log(others) if ratio else values - others
    mean, none = changes.mean(axis=1), no_effect(claim, changes)
    each = [f"b = {size:g}: {_shown(of, ratio)}" for size, of in zip(ours, changes.T, strict=True)]
    effect = tests.interval(np.exp(mean) if ratio else mean, ratio=ratio)
    about = (len(ours), ", ".join(f"{size:g}" for size in ours))
    also = f"against the reference, {claim.unit}: {', '.join(each)}" if len(each) > 1 else ""
    if claim.test == "same_as_reference":
        outcome, _, margin = within(claim, changes)
        return Finding(
            *about, SAME.format(margin=margin), effect, claim.unit, outcome, 1, also,
            opposite="significantly outside the margin",
            seeds_needed=lambda alpha: seeds_for_value(claim, changes, alpha),
        )  # fmt: skip

    def seeds_needed(alpha: float) -> int | None:
        decided = [power.seeds_for_difference(way * mean, alpha) for way in (1, -1)]
        return min((n for n in (*decided, none and none.seeds(alpha)) if n), default=None)

    sign = -1 if claim.test == "below_reference" else 1
    return Finding(
        *about, MEAN, effect, claim.unit, tests.paired(mean), sign, also,
        p_none=none.p if none else 1.0, margin=none.text if none else "", seeds_needed=seeds_needed,
    )  # fmt: skip


def _less_dispersed(claim: Claim, ours: "pd.Series[float]", theirs: "pd.Series[float]") -> Finding:
    values = [np.asarray(of, dtype=np.float64) for of in (ours, theirs)]
    fewest = min(map(len, values))
    outcome, effect = tests.dispersion(values[0], values[1])
    if fewest < SEEDS_FOR_SPREAD:
        why = f"{fewest} seeds: a claim about spread takes {SEEDS_FOR_SPREAD}"
        outcome = Outcome(1.0, 1.0, outcome.statistic, why, tested=False)
    deviations = ", ".join(number(float(of.std(ddof=1)), 3) if len(of) > 1 else "none" for of in values)
    also = f"the effect is on the mean distance from the median; standard deviations: {deviations}"
    size = float(str(ours.name))
    return Finding(fewest, f"{size:g}", SPREAD.format(size=size), effect, claim.unit, outcome, -1, also)


def _shown(changes: Array, ratio: bool) -> str:
    mean = float(changes.mean())
    return f"{number(float(np.exp(mean)), 3)} times" if ratio else signed(mean)


def _gap(claim: Claim, ours: pd.DataFrame, theirs: pd.DataFrame, level: float) -> Finding:
    """Test the gap in this study against that in the reference, over the batch sizes and seeds that both have."""
    sizes = list(ours)
    small = [study[sizes[0]].to_numpy(dtype=float) for study in (ours, theirs)]
    large = [study[sizes[1:]].mean(axis=1).to_numpy(dtype=float) for study in (ours, theirs)]
    gap = large[1] - small[1]
    change = large[0] - small[0] - REMOVED[claim.test] * gap
    outcome = _shrinks(claim, change, gap, large[0] - large[1], level)
    half = "half of " if REMOVED[claim.test] < 1 else ""
    test = f"paired t test over seeds, of the gap minus {half}the reference's"
    test += ", and of the larger batches' own change" if claim.test in REMEDIES else ""
    own = [signed((of[0] - of[1]).mean()) for of in (small, large)]
    also = f"changes against the reference: smallest batch {own[0]}, larger ones {own[1]} {claim.unit}"
    levels = f"{', '.join(f'{size:g}' for size in sizes[1:])} minus {sizes[0]:g}"
    none = (
        no_effect(claim, change[:, None]) if claim.test != "removes_half" else None
    )  # half a gap more or less is no null

    def seeds_needed(alpha: float) -> int | None:
        decided = power.seeds_for_difference(-change, alpha)
        return min((n for n in (decided, none and none.seeds(alpha)) if n), default=None)

    return Finding(
        len(ours), levels, test, tests.interval(change), claim.unit, outcome, -1, also,
        p_none=none.p if none else 1.0, margin=none.text if none else "", seeds_needed=seeds_needed,
    )  # fmt: skip


def _shrinks(claim: Claim, change: Array, gap: Array, larger: Array, level: float) -> Outcome:
    """Combine tests that all have to reject: the gap shrinks, there was one, and (a remedy) large batches improve."""
    shrinks, shown, improves = (tests.paired(of) for of in (change, gap, larger))
    falls = [shrinks.p_falls, shown.p_rises, *([improves.p_falls] if claim.test in REMEDIES else [])]
    no_gap = f"no gap is shown for the reference (p = {number(shown.p_rises, 2)})"
    why = shrinks.why if shown.p_rises <= level else no_gap
    tested = shrinks.tested and shown.tested
    return Outcome(max(shrinks.p_rises, shown.p_rises), max(falls), shrinks.statistic, why, tested)
