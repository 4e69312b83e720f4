"""The slope of a quantity over its level, one per seed: their mean with its interval, and whether it is a trend.

One slope per seed leaves each seed a level and a slope of its own (a random effect), and lets the spread differ from
level to level. Page's test alone takes slopes that are zero on average, but not in each seed, for a trend.
"""

from dataclasses import dataclass

import numpy as np

from gapscope.claims import hypothesis_tests as tests
from gapscope.claims import power
from gapscope.claims.claim import Claim
from gapscope.claims.finding import COUNTS, log
from gapscope.claims.hypothesis_tests import Array, Effect, Outcome

PER = {
    "batch_size": "per doubling of b", "width": "per doubling of the width", "start_epoch": "per 10 epochs",
    "images": "per doubling of n", "discarded": "per 10 % discarded",
}  # fmt: skip
STEP = {"start_epoch": 10.0, "discarded": 0.1}  # of levels whose slope is not per doubling


@dataclass(frozen=True)
class Slopes:
    """The slope of each seed over the level, on the scale on which it is tested."""

    each: Array  # (seeds,)
    resolution: float  # of counts, as `hypothesis_tests.paired` takes it
    logarithmic: bool
    unit: str

    @property
    def effect(self) -> Effect:
        """Mean over seeds with its interval."""
        return tests.interval(np.exp(self.each) if self.logarithmic else self.each, ratio=self.logarithmic)

    @property
    def outcome(self) -> Outcome:
        """Student's t test over seeds."""
        return tests.paired(self.each, self.resolution)

    def seeds(self, way: int, alpha: float) -> int | None:
        """Return how many seeds would show slopes above 0 (way 1) or below."""
        return power.seeds_for_difference(way * self.each, alpha, self.resolution)


def slopes_of(claim: Claim, levels: Array, values: Array, ratio: bool) -> Slopes | None:
    """Return the slopes over the level; None where a value is not finite.

    Ratios and counts are on a logarithmic scale, where their spread is more even.
    """
    x = levels / STEP[claim.over] if claim.over in STEP else np.log2(levels)
    counts = claim.unit in COUNTS and claim.compared_with is None and not claim.ends
    y = log(values) if ratio else log(1 + values) if counts else values
    if not np.isfinite(y).all():
        return None
    worth = 1 / (1 + values.mean(axis=0)) if counts else np.full(len(x), float(claim.unit in COUNTS))
    unit = "times (1 + count)" if counts else "as a difference" if claim.unit == "times" and not ratio else claim.unit
    resolution = slope_resolution(x, worth)
    return Slopes(slopes(x, y), resolution, ratio or counts, f"{unit} {PER[claim.over]}")


def slopes(x: Array, y: Array) -> Array:
    """Return the least-squares slope of y over x within each seed.

    Args:
        x: (levels,), such as log2 of the batch size.
        y: (seeds, levels).
    """
    return np.asarray(y @ _slope_weights(x))


def slope_resolution(x: Array, unit: Array) -> float:
    """Return by how much rounding moves a slope, in units of `ROUNDING`: for `paired`, as its `resolution`.

    Args:
        x: (levels,), as of `slopes`.
        unit: (levels,), what a difference of 1 in the rounded number is worth on the scale of the slope.

    Example:
        A slope through two levels one apart is their difference.

        >>> round(slope_resolution(np.array([0.0, 1.0]), np.array([3.0, 4.0])), 12)
        5.0
    """
    return float(np.linalg.norm(_slope_weights(x) * unit))


def _slope_weights(x: Array) -> Array:
    centred = x - x.mean()
    return np.asarray(centred / (centred @ centred))
