"""What one claim's test found, and whether an effect is shown to be smaller than its margin."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from gapscope.claims import hypothesis_tests as tests
from gapscope.claims import power
from gapscope.claims.claim import Claim
from gapscope.claims.hypothesis_tests import Array, Effect, Outcome

COUNTS = ("values", "eigenvalues")  # units of what is counted


@dataclass(frozen=True)
class Finding:
    """What one claim's test found.

    Attributes:
        effect: last level minus first, or the correlation, or the change of the gap.
        slope: of the quantity over the level, with a slope for each seed.
        slope_test: of the slopes, where it has to reject as well as the test of `outcome`.
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
    slope: Effect = tests.NONE
    slope_unit: str = ""
    slope_test: Outcome | None = None
    p_none: float = 1.0
    margin: str = ""
    by_construction: str = ""
    opposite: str = "significant in the opposite direction"  # what contradicts the claim, in words
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

    @property
    def p_slope(self) -> float | None:
        """One-sided p value of the slopes, in the direction of the smaller p value of `outcome`; None: not tested."""
        if self.slope_test is None:
            return None
        rises = (self.sign > 0) == (self.p_for <= self.p_against)
        return self.slope_test.p_rises if rises else self.slope_test.p_falls


@dataclass(frozen=True)
class Equivalence:
    """Changes from the first level to each other one, and the largest that counts as none, on the scale of the test."""

    changes: Array  # (seeds, levels)
    margin: float
    text: str

    @property
    def p(self) -> float:
        """P value of "a change is as large as the margin"."""
        return tests.equivalence(self.changes, self.margin)

    def seeds(self, alpha: float) -> int | None:
        """Return how many seeds would show that no change is as large as the margin."""
        return power.seeds_for_equivalence(self.changes, self.margin, alpha)


def no_effect(claim: Claim, changes: Array) -> Equivalence | None:
    """Return what is tested for "no effect"; None where the claim has no margin.

    Args:
        claim: the claim.
        changes: (seeds, levels), on the scale of the test: logarithms of ratios, differences of anything else.
    """
    if claim.margin is None:
        return None
    margin = claim.margin.value
    text = {"times": f"a factor of {margin:g}", "values": f"{margin:.0%} of all values", "share": f"{margin:.0%}"}
    scale = math.log(margin) if claim.unit == "times" else margin
    return Equivalence(changes, scale, text.get(claim.unit, f"{margin:g} {claim.unit}"))


def log(values: Array) -> Array:
    """Return logarithms; what is not finite is tested no further."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.log(values))
