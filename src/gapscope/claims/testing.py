"""The test of one claim on one network and data set: a trend, a correlation, or a gap against another study's."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from gapscope.claims import hypothesis_tests as tests
from gapscope.claims import power
from gapscope.claims.claim import MARGINS, REMEDIES, REMOVED, Claim
from gapscope.claims.evidence import blocks
from gapscope.claims.hypothesis_tests import Array, Effect, Outcome
from gapscope.drawing.numbers import number, signed

COUNTS = ("values", "eigenvalues")  # units of what is counted
TOO_FEW_LEVELS = Outcome(1.0, 1.0, 0.0, "fewer than three levels that all seeds have: no order to test", tested=False)
PAGE = "Page's trend test, seeds as blocks, exact"
PAIRED = "paired t test over seeds, last level minus first"
GIVEN_LEVEL = "rank correlation with {other} over seeds at the same {level}, exact"
FEW = 5  # seeds; with fewer, permutations of seeds cannot reach 2 %
NO_EFFECT = Effect(None)
HALF = 0.5  # of a change: if that much is there without training, the claim holds by construction
PER = {"batch_size": "per doubling of b", "width": "per doubling of the width", "start_epoch": "per 10 epochs"}


@dataclass(frozen=True)
class Finding:
    """What one claim's test found.

    Attributes:
        effect: last level minus first, or the correlation, or the change of the gap.
        slope: of the quantity over the level, with a slope for each seed.
        p_none: p value of "the effect is as large as the margin", 1 where no margin applies.
        margin: the largest effect that counts as none, as a reader writes it; empty where none applies.
        by_construction: how much of the change is there without training; empty where it is not most of it.
        seeds_needed: level of the first step of the correction -> seeds that would decide; None: over 100, or unknown.
    """

    n: int
    levels: str
    test: str
    effect: Effect
    unit: str
    outcome: Outcome
    sign: int  # +1 where the claim is that the tested value rises
    also: str = ""  # what else a reader needs to judge the effect
    one_way: bool = False  # the opposite direction is not tested
    slope: Effect = NO_EFFECT
    slope_unit: str = ""
    p_none: float = 1.0
    margin: str = ""
    by_construction: str = ""
    seeds_needed: Callable[[float], int | None] = field(default=lambda _: None, compare=False)

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


@dataclass(frozen=True)
class _Equivalence:
    """Changes from the first level to each other one, and the largest that counts as none, on the scale of the test."""

    changes: Array  # (seeds, levels)
    margin: float
    text: str

    @property
    def p(self) -> float:
        return tests.equivalence(self.changes, self.margin)

    def seeds(self, alpha: float) -> int | None:
        return power.seeds_for_equivalence(self.changes, self.margin, alpha)


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
    return _correlation(claim, table, found) if claim.correlated_with else _trend(claim, table, found)


def _trend(claim: Claim, table: pd.DataFrame, found: pd.DataFrame) -> Finding:
    values, levels = found.to_numpy(dtype=float), found.columns.to_numpy(dtype=float)
    ratio = claim.unit == "times" and bool((values[:, [0, -1]] > 0).all())
    unit = claim.unit if ratio or claim.unit != "times" else "as a difference"  # 0 has no multiple
    change = _change(values[:, [0, -1]], ratio)
    difference, resolution = np.log(change) if ratio else change, 1.0 if claim.unit in COUNTS else 0.0
    ordered = len(levels) > 2 and not claim.ends
    outcome = tests.trend(levels, values) if ordered else tests.paired(difference, resolution)
    sign, none = -1 if claim.test == "falls" else 1, _equivalence(claim, table, found, ratio)
    slope, per = _slope(claim, levels, values, ratio)
    of = {"largest": ", at the largest batch size", "gap": ", of the gap: largest minus smallest batch size"}

    def seeds_needed(alpha: float) -> int | None:
        if ordered:
            each = sign * tests.rank_correlations(np.broadcast_to(levels, values.shape), values)
            decided = [power.seeds_for_trend(way * each, len(levels), alpha) for way in _ways(claim)]
        else:
            decided = [power.seeds_for_difference(way * sign * difference, alpha, resolution) for way in _ways(claim)]
        return min((n for n in (*decided, none and none.seeds(alpha)) if n), default=None)

    return Finding(
        len(values), _levels(found), (PAGE if ordered else PAIRED) + of.get(claim.of, ""),
        tests.interval(change, ratio=ratio), unit, outcome, sign, one_way=claim.one_way, slope=slope, slope_unit=per,
        p_none=none.p if none else 1.0, margin=none.text if none else "",
        by_construction=_by_construction(claim, table, found), seeds_needed=seeds_needed,
    )  # fmt: skip


def _correlation(claim: Claim, table: pd.DataFrame, found: pd.DataFrame) -> Finding:
    values, beside = found.to_numpy(dtype=float), blocks(table, "beside").to_numpy(dtype=float)
    test = GIVEN_LEVEL.format(other=claim.correlated_with, level=PER[claim.over].removeprefix("per doubling of "))
    outcome = tests.correlation_given_level(values, beside)
    effect = tests.correlation_interval(values, beside) if outcome.tested else Effect(None)
    by_construction = "" if outcome.tested else _by_construction(claim, table, found)
    least = 1 / math.factorial(len(values))  # the seeds of one order among all orders
    also = f"with {len(values)} seeds no p value can be below {number(least, 2)}" if len(values) < FEW else ""
    return Finding(
        len(values), _levels(found), test, effect, claim.unit, outcome, 1, also, by_construction=by_construction
    )


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
    none = _none(claim, change[:, None]) if claim.test != "removes_half" else None  # half a gap more or less is no null

    def seeds_needed(alpha: float) -> int | None:
        decided = power.seeds_for_difference(-change, alpha)
        return min((n for n in (decided, none and none.seeds(alpha)) if n), default=None)

    return Finding(
        len(seeds), levels, test, tests.interval(change), claim.unit, outcome, -1, also,
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


def _equivalence(claim: Claim, table: pd.DataFrame, found: pd.DataFrame, ratio: bool) -> _Equivalence | None:
    """Return what is tested for "no effect", at every level against the first one; None where no margin applies.

    A claim that chance works against (`one_way`) has none: the same bias would count as evidence of no effect.
    """
    if claim.one_way:
        return None
    values = found.to_numpy(dtype=float)
    if claim.unit == "values":
        if "share" not in table:
            return None
        values = blocks(table, "share").reindex(index=found.index, columns=found.columns).to_numpy(dtype=float)
    if claim.unit == "times":
        if not ratio:
            return None
        values = _log(values)
    with np.errstate(invalid="ignore"):  # both infinite
        return _none(claim, values[:, 1:] - values[:, :1])


def _none(claim: Claim, changes: Array) -> _Equivalence | None:
    if claim.unit not in MARGINS:
        return None
    margin = MARGINS[claim.unit]
    text = {"times": f"a factor of {margin:g}", "values": f"{margin:.0%} of all values", "share": f"{margin:.0%}"}
    scale = math.log(margin) if claim.unit == "times" else margin
    return _Equivalence(changes, scale, text.get(claim.unit, f"{margin:g} {claim.unit}"))


def _slope(claim: Claim, levels: Array, values: Array, ratio: bool) -> tuple[Effect, str]:
    """Return the slope over the level: ratios and counts on a logarithmic scale, where their spread is more even."""
    if len(levels) < 3:
        return Effect(None), ""  # the change from the first to the last level says the same
    x = levels / 10 if claim.over == "start_epoch" else np.log2(levels)
    counts = claim.unit in COUNTS and claim.compared_with is None and not claim.ends
    y = _log(values) if ratio else _log(1 + values) if counts else values
    unit = "times" if ratio else "times (1 + count)" if counts else claim.unit
    if (unit == "times" and not ratio) or not np.isfinite(y).all():
        return Effect(None), ""
    each = tests.slopes(x, y)
    return tests.interval(np.exp(each) if ratio or counts else each, ratio=ratio or counts), f"{unit} {PER[claim.over]}"


def _by_construction(claim: Claim, table: pd.DataFrame, found: pd.DataFrame) -> str:
    """Return how much of a change is there without training, if that is most of it in every seed; else nothing."""
    if "untrained" not in table:
        return ""
    without = blocks(table, "untrained").reindex(index=found.index, columns=found.columns)
    change, own = (float((of.iloc[:, -1] - of.iloc[:, 0]).agg(how)) for of, how in ((found, "mean"), (without, "min")))
    if math.isnan(own) or own <= 0 or own < HALF * change or change <= 0:
        return ""
    return f"of the change of {change:+,.0f}, at least {own:+,.0f} is there without training ({claim.untrained})"


def _ways(claim: Claim) -> tuple[int, ...]:
    return (1,) if claim.one_way else (1, -1)


def _change(ends: Array, ratio: bool) -> Array:
    with np.errstate(invalid="ignore"):  # both infinite
        return ends[:, 1] / ends[:, 0] if ratio else ends[:, 1] - ends[:, 0]


def _log(values: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):  # what is not finite is tested no further
        return np.asarray(np.log(values))


def _levels(found: pd.DataFrame) -> str:
    return ", ".join(f"{level:g}" for level in found)


def _plural(claim: Claim) -> str:
    return {"batch_size": "batch sizes", "width": "widths", "start_epoch": "starts"}[claim.over]
