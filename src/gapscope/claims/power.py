"""How many seeds would decide an undecided claim, if effect and spread stay as they were seen.

"Would decide" is a power of 80 % at the level of the first step of Holm's correction. The effect that was seen is taken
as the true one, which is optimistic where it was large by chance: the numbers are for planning, and no evidence.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.special import nctdtr, ndtri, stdtrit

from gapscope.claims.hypothesis_tests import DECIMALS, ENOUGH, spread

Array = NDArray[np.float64]
POWER = 0.8
MOST = 100  # seeds; more are not planned


def seeds_for_trend(correlations: Array, levels: int, alpha: float) -> int | None:
    """Return how many seeds Page's test needs, by the normal approximation of its statistic.

    Args:
        correlations: (seeds,) rank correlation of each seed with the level, in the tested direction above 0.
        levels: their number; the null variance of a correlation is 1 / (levels - 1).
        alpha: one-sided level.
    """
    if len(correlations) < 2 or correlations.mean() <= 0:
        return None
    reach = float(ndtri(1 - alpha)) / math.sqrt(levels - 1) + float(ndtri(POWER)) * float(correlations.std(ddof=1))
    return _at_most(math.ceil((reach / float(correlations.mean())) ** 2))


def seeds_for_correlation(correlation: float, variance: float, alpha: float) -> int | None:
    """Return how many seeds the exact test of a correlation given the level needs, by its normal approximation.

    The variance under the null hypothesis is taken for that of the correlation itself, which is smaller: the number is
    rather too large than too small. One order of n seeds has the probability 1 / n!, so it also has to be below alpha.

    Args:
        correlation: mean over levels of the rank correlation over seeds, in the tested direction above 0.
        variance: as `hypothesis_tests.correlation_variance` gives it.
        alpha: one-sided level.
    """
    if not correlation > 0:
        return None
    reach = (float(ndtri(1 - alpha)) + float(ndtri(POWER))) * math.sqrt(variance)
    return _first(lambda n: alpha * math.factorial(n) >= 1 and correlation * math.sqrt(n - 1) >= reach)


def seeds_for_difference(differences: Array, alpha: float, resolution: float = 0.0) -> int | None:
    """Return how many seeds the one-sided t test on differences needs.

    Args:
        differences: (seeds,), above 0 in the tested direction.
        alpha: one-sided level.
        resolution: as in `hypothesis_tests.paired`.
    """
    differences = np.round(differences, DECIMALS)
    if len(differences) < 2 or not np.isfinite(differences).all() or differences.mean() <= 0:
        return None
    return _smallest(float(differences.mean()), spread(differences, resolution), alpha, POWER)


def seeds_for_equivalence(changes: Array, margin: float, alpha: float) -> int | None:
    """Return how many seeds two one-sided t tests need at the level where they need most.

    Args:
        changes: (seeds, levels), as `hypothesis_tests.equivalence` takes them.
        margin: in the same unit.
        alpha: level of each one-sided test.
    """
    changes = np.round(changes, DECIMALS)
    if len(changes) < 2 or not np.isfinite(changes).all():
        return None
    each = [(margin - abs(float(of.mean())), spread(of)) for of in changes.T]
    if min(room for room, _ in each) <= 0:
        return None
    # both one-sided tests have to reject, so each gets half of what may go wrong
    needed = [_smallest(room, deviation, alpha, (1 + POWER) / 2) for room, deviation in each]
    return None if None in needed else max(n for n in needed if n is not None)


def _smallest(mean: float, deviation: float, alpha: float, power: float) -> int | None:
    if deviation == 0:
        return _at_most(math.ceil(math.log(alpha) / math.log(0.5)))  # all equal: the sign test
    return _first(
        lambda n: 1 - float(nctdtr(n - 1, mean / deviation * math.sqrt(n), stdtrit(n - 1, 1 - alpha))) >= power
    )


def _first(enough: Callable[[int], bool]) -> int | None:
    return next((n for n in range(ENOUGH, MOST + 1) if enough(n)), None)


def _at_most(n: int) -> int | None:
    return max(n, ENOUGH) if n <= MOST else None
