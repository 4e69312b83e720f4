"""Claims that state a value, and the shape of a U.

A stated value is tested at every level. "Equal to it" is supported where two one-sided t tests reject at every level
(Schuirmann 1987; all have to reject, so no correction is needed). It is contradicted where the value is outside the
margin at one level at least, by t tests corrected for the number of levels (Holm 1979). A power law is a stated value
of the local exponents, log(y' / y) / log(x' / x), from each level to the next. Ratios are tested as logarithms, and
correlations as Fisher's z: near 1 they are too skewed for a t test, which would err in 5 % of cases instead of 2 %.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from gapscope.claims import hypothesis_tests as tests
from gapscope.claims import power
from gapscope.claims.claim import Claim
from gapscope.claims.finding import Finding, log, no_effect
from gapscope.claims.hypothesis_tests import Array, Effect, Outcome
from gapscope.drawing.numbers import number

Scale = Callable[[Any], Any]
LARGEST = 0.99  # correlation
NAMES = {"batch_size": "b", "images": "n", "discarded": "share discarded"}  # of levels
U_SHAPE = "paired t tests over seeds, both ends above one level between, corrected for the levels between (Bonferroni)"


def run_test(claim: Claim, found: pd.DataFrame, level: float) -> Finding | str:
    """Test a claim that states a value, or say why it cannot be tested.

    Args:
        claim: with the test equals, exceeds or follows_power.
        found: (seeds, levels), as `evidence.blocks` gives them.
        level: at or below which a single level counts as significantly outside.
    """
    assert claim.value is not None
    if claim.test == "follows_power":
        if found.shape[1] < 2 or not (found > 0).all(axis=None):
            return "a power law needs values above 0 at two levels at least"
        found = exponents(found)
    found = found.loc[:, ~found.T.duplicated()]  # initial weights are the same at every batch size
    values = found.to_numpy(dtype=float)
    if claim.unit == "times" and not (values > 0).all():
        return "a ratio of 0 or below cannot be compared with a stated one"
    scale, back = _scale(claim)
    differences = scale(values) - scale(np.array(claim.value))
    if claim.margin is None and differences.any():  # the scale is free, and differences may be tiny
        differences = differences / np.abs(differences).max()
    finding, outside = (_exceeds if claim.test == "exceeds" else _equals)(claim, found, differences)
    means = differences.mean(axis=0)
    farthest = int((means if claim.test == "exceeds" else -np.abs(means)).argmin())
    ends = tests.interval(scale(values[:, farthest]))
    effect = Effect(*(None if end is None else float(back(end)) for end in (ends.mean, ends.low, ends.high)))
    return replace(
        finding,
        effect=effect,
        also="; ".join(filter(None, [_where(claim, found, farthest), _excluded(claim, found, outside, level)])),
    )


def fisher(correlations: Array) -> Array:
    """Return Fisher's z, which is nearly normal; correlations beyond 0.99 count as 0.99, since that of 1 is infinite.

    Example:
        >>> fisher(np.array([0.5, 1.0])).round(3).tolist()
        [0.549, 2.647]
    """
    return np.asarray(np.arctanh(np.clip(correlations, -LARGEST, LARGEST)))


def exponents(found: pd.DataFrame) -> pd.DataFrame:
    """Return the local exponent from each level to the next, named by the lower one.

    Example:
        >>> exponents(pd.DataFrame({32: [8.0], 64: [4.0], 256: [2.0]})).iloc[0].to_dict()
        {32: -1.0, 64: -0.5}
    """
    steps = np.diff(np.log(found.to_numpy(dtype=float)), axis=1) / np.diff(np.log(found.columns.to_numpy(dtype=float)))
    return pd.DataFrame(steps, index=found.index, columns=found.columns[:-1])


def within(claim: Claim, differences: Array) -> tuple[Outcome, list[float], str]:
    """Test differences from a stated value against the claim's margin.

    Returns:
        The outcome, `p_rises` for "within the margin at every level" and `p_falls` for "outside at one"; the p value of
        each level for the latter, corrected; the margin as a reader writes it, empty where the claim has none.
    """
    same = no_effect(claim, differences)
    outside = tests.outside(differences, same.margin if same else 0.0)
    return Outcome(same.p if same else 1.0, min(outside), 0.0), outside, same.text if same else ""


def seeds_for_value(claim: Claim, differences: Array, alpha: float) -> int | None:
    """Return how many seeds would show that all levels are within the margin, or that one of them is outside."""
    same = no_effect(claim, differences)
    margin, level = (same.margin if same else 0.0), alpha / (2 * differences.shape[1])
    shown = [same.seeds(alpha) if same else None]
    shown += [power.seeds_for_difference(np.sign(of.mean()) * of - margin, level) for of in differences.T]
    return min((n for n in shown if n), default=None)


def u_shape(claim: Claim, found: pd.DataFrame) -> Finding | str:
    """Test whether both ends are above one level between them; `found` as of `run_test`."""
    if found.shape[1] < 3:
        return "fewer than three levels that all seeds have: no level between two ends"
    raw = found.to_numpy(dtype=float)
    if (ratio := claim.unit == "times") and not (raw > 0).all():
        return "a value of 0 or below has no ratio"
    values = log(raw) if ratio else raw
    outcome, lowest = tests.u_shape(values)
    ends = [values[:, end] - values[:, lowest] for end in (0, -1)]
    lower = min(ends, key=lambda of: float(of.mean()))

    def seeds_needed(alpha: float) -> int | None:
        needed = [power.seeds_for_difference(end, alpha / (values.shape[1] - 2)) for end in ends]
        return None if None in needed else max(n for n in needed if n is not None)

    return Finding(
        len(values), _levels(claim, found), U_SHAPE, tests.interval(np.exp(lower) if ratio else lower, ratio=ratio),
        claim.unit, outcome, 1, f"the effect is that of the lower end against {_name(claim)}{found.columns[lowest]:g}",
        opposite="an end is significantly below every level between", seeds_needed=seeds_needed,
    )  # fmt: skip


def _equals(claim: Claim, found: pd.DataFrame, differences: Array) -> tuple[Finding, list[float]]:
    outcome, outside, margin = within(claim, differences)
    step = "step from one level to the next" if claim.test == "follows_power" else "level"
    inside = f"two one-sided t tests over seeds at every {step}, margin {margin}; " if margin else ""
    several = f" at each {step}, corrected for their number (Holm)" if len(outside) > 1 else ""
    finding = Finding(
        len(found), _levels(claim, found), f"{inside}{'outside: ' if inside else ''}t test over seeds{several}",
        tests.NONE, claim.unit, outcome, 1,
        opposite="significantly outside the margin" if margin else "significantly different",
        seeds_needed=lambda alpha: seeds_for_value(claim, differences, alpha),
    )  # fmt: skip
    return finding, outside


def _scale(claim: Claim) -> tuple[Scale, Scale]:
    """Return the scale of the test, and the way back: ratios as logarithms, correlations as Fisher's z."""
    if claim.unit == "times":
        return log, np.exp
    if claim.unit == "correlation" and claim.compared_with is None:
        return fisher, np.tanh
    return np.asarray, np.asarray


def _exceeds(claim: Claim, found: pd.DataFrame, differences: Array) -> tuple[Finding, list[float]]:
    p_above, below = tests.above(differences)

    def seeds_needed(alpha: float) -> int | None:
        each = [power.seeds_for_difference(of, alpha) for of in differences.T]
        shown = [None if None in each else max(n for n in each if n is not None)]
        shown += [power.seeds_for_difference(-of, alpha / len(below)) for of in differences.T]
        return min((n for n in shown if n), default=None)

    everywhere = " at every level" if len(below) > 1 else ""
    finding = Finding(
        len(found), _levels(claim, found), f"t test over seeds, above {claim.value:g}{everywhere}",
        tests.NONE, claim.unit, Outcome(p_above, min(below), 0.0), 1,
        opposite=f"significantly below {claim.value:g}", seeds_needed=seeds_needed,
    )  # fmt: skip
    return finding, below


def _where(claim: Claim, found: pd.DataFrame, place: int) -> str:
    """Say at which level the effect was taken; empty where there is one level only."""
    if found.shape[1] < 2:
        return ""
    end = "lowest" if claim.test == "exceeds" else f"farthest from {number(float(claim.value or 0))}"
    return f"the effect is that at {_name(claim)}{found.columns[place]:g}, {end}"


def _excluded(claim: Claim, found: pd.DataFrame, p_outside: list[float], level: float) -> str:
    """Name the levels at which the stated value is excluded."""
    out = [name for name, p in zip(found.columns, p_outside, strict=True) if p <= level]
    if not out or found.shape[1] < 2 or len(found) < tests.ENOUGH:
        return ""
    last = list(found.columns[-len(out) :]) == out
    listed = f"{out[0]:g} on" if last and len(out) > 1 else ", ".join(f"{name:g}" for name in out)
    return f"excluded {'from' if last and len(out) > 1 else 'at'} {_name(claim)}{listed}"


def _name(claim: Claim) -> str:
    return f"{NAMES[claim.over]} = " if claim.over in NAMES else ""


def _levels(claim: Claim, found: pd.DataFrame) -> str:
    return ", ".join(f"{level:g}" for level in found) if claim.over != "none" else ""
