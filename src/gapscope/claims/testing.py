"""The test of one claim on one network and data set: a trend or a correlation here, all others in their own modules."""

import math

import numpy as np
import pandas as pd

from gapscope.claims import against_reference, power, stated_values
from gapscope.claims import hypothesis_tests as tests
from gapscope.claims.claim import OF_REFERENCE, STATED, Claim
from gapscope.claims.evidence import blocks
from gapscope.claims.finding import COUNTS, Equivalence, Finding, log, no_effect
from gapscope.claims.hypothesis_tests import Array, Effect, Outcome
from gapscope.claims.slopes import PER, slopes_of
from gapscope.drawing.numbers import number

TOO_FEW_LEVELS = Outcome(1.0, 1.0, 0.0, "fewer than three levels that all seeds have: no order to test", tested=False)
PAGE = "Page's trend test, seeds as blocks, exact"
PAGE_AND_SLOPE = f"{PAGE}; and a t test of the slopes over seeds"
NO_SLOPE = "infinite values have no slope: the test is of the order of the levels alone"
PAIRED = "paired t test over seeds, last level minus first"
GIVEN_LEVEL = "rank correlation with {other} over seeds at the same {level}, exact"
FEW = 5  # seeds; with fewer, permutations of seeds cannot reach 2 %
HALF = 0.5  # of a change: if that much is there without training, the claim holds by construction


def run_test(claim: Claim, table: pd.DataFrame, reference: pd.DataFrame, level: float) -> Finding | str:
    """Test a claim, or say why it cannot be tested.

    Args:
        claim: the claim.
        table: the runs of one network and data set, as `evidence.tabulate` gives them.
        reference: those of the reference study, for a claim about its gap; may be empty.
        level: at which the reference's gap has to be shown, and single levels are named.
    """
    if claim.test in OF_REFERENCE:
        return against_reference.run_test(claim, table, reference, level)
    found = blocks(table)
    n, k = found.shape
    if claim.test in STATED and n and k:
        return stated_values.run_test(claim, found, level)
    if claim.test == "u_shaped" and n and k:
        return stated_values.u_shape(claim, found)
    if n < 1 or k < 2:
        return f"fewer than two {_plural(claim)} at which every seed has a value"
    return _correlation(claim, table, found) if claim.correlated_with else _trend(claim, table, found, level)


def _trend(claim: Claim, table: pd.DataFrame, found: pd.DataFrame, level: float) -> Finding:
    values, levels = found.to_numpy(dtype=float), found.columns.to_numpy(dtype=float)
    ratio = claim.unit == "times" and bool((values[:, [0, -1]] > 0).all())
    unit = claim.unit if ratio or claim.unit != "times" else "as a difference"  # 0 has no multiple
    change = _change(values[:, [0, -1]], ratio)
    difference, resolution = np.log(change) if ratio else change, 1.0 if claim.unit in COUNTS else 0.0
    ordered = len(levels) > 2 and not claim.ends
    outcome = tests.trend(levels, values) if ordered else tests.paired(difference, resolution)
    sign, none = -1 if claim.test == "falls" else 1, _equivalence(claim, table, found, ratio)
    slopes = slopes_of(claim, levels, values, ratio) if len(levels) > 2 else None  # of two, the change says the same
    needed = slopes if ordered else None
    name = (PAGE_AND_SLOPE if needed else PAGE) if ordered else PAIRED
    of = {"largest": ", at the largest batch size", "gap": ", of the gap: largest minus smallest batch size"}

    def seeds_needed(alpha: float) -> int | None:
        if ordered:
            each = sign * tests.rank_correlations(np.broadcast_to(levels, values.shape), values)
            decided = [
                _all_of(
                    power.seeds_for_trend(way * each, len(levels), alpha),
                    *([needed.seeds(way * sign, level)] if needed else []),
                )
                for way in _ways(claim)
            ]
        else:
            decided = [power.seeds_for_difference(way * sign * difference, alpha, resolution) for way in _ways(claim)]
        return min((n for n in (*decided, none and none.seeds(alpha)) if n), default=None)

    return Finding(
        len(values), _levels(found), name + of.get(claim.of, ""),
        tests.interval(change, ratio=ratio), unit, outcome, sign, one_way=claim.one_way,
        slope=slopes.effect if slopes else tests.NONE, slope_unit=slopes.unit if slopes else "",
        slope_test=needed.outcome if needed else None, also=NO_SLOPE if ordered and not needed else "",
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

    def seeds_needed(alpha: float) -> int | None:
        if effect.mean is None:
            return None
        variance = tests.correlation_variance(values, beside)
        each = [power.seeds_for_correlation(way * effect.mean, variance, alpha) for way in _ways(claim)]
        return min((n for n in each if n), default=None)

    return Finding(
        len(values), _levels(found), test, effect, claim.unit, outcome, 1, also,
        by_construction=by_construction, seeds_needed=seeds_needed,
    )  # fmt: skip


def _equivalence(claim: Claim, table: pd.DataFrame, found: pd.DataFrame, ratio: bool) -> Equivalence | None:
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
        values = log(values)
    with np.errstate(invalid="ignore"):  # both infinite
        return no_effect(claim, values[:, 1:] - values[:, :1])


def _by_construction(claim: Claim, table: pd.DataFrame, found: pd.DataFrame) -> str:
    """Return how much of a change is there without training, if that is most of it in every seed; else nothing."""
    if "untrained" not in table:
        return ""
    without = blocks(table, "untrained").reindex(index=found.index, columns=found.columns)
    change, own = (float((of.iloc[:, -1] - of.iloc[:, 0]).agg(how)) for of, how in ((found, "mean"), (without, "min")))
    if math.isnan(own) or own <= 0 or own < HALF * change or change <= 0:
        return ""
    return f"of the change of {change:+,.0f}, at least {own:+,.0f} is there without training"


def _all_of(*seeds: int | None) -> int | None:
    """Return the largest of several numbers of seeds; None if one of them is not known."""
    return None if None in seeds else max(n for n in seeds if n is not None)


def _ways(claim: Claim) -> tuple[int, ...]:
    return (1,) if claim.one_way else (1, -1)


def _change(ends: Array, ratio: bool) -> Array:
    with np.errstate(invalid="ignore"):  # both infinite
        return ends[:, 1] / ends[:, 0] if ratio else ends[:, 1] - ends[:, 0]


def _levels(found: pd.DataFrame) -> str:
    return ", ".join(f"{level:g}" for level in found)


def _plural(claim: Claim) -> str:
    names = {"batch_size": "batch sizes", "width": "widths", "start_epoch": "starts", "images": "numbers of images"}
    return names.get(claim.over, "levels")
