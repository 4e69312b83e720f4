"""Exact and paired tests for a few seeds, intervals of effects, and Holm's correction.

Every test returns two one-sided p values. Trends over levels are tested with Page's test (Page 1963) with midranks. Its
p values come from permutations within each seed and stay exact under ties, which counts of singular values have.
Student's t test on the differences within a seed is used where there are only two levels, or where a spread that grows
with the level would pass for a trend. It assumes normal differences. Counts are whole numbers: the spread of their
differences is taken to be at least that of rounding, 1 / sqrt(12).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

SIGNS = {"supported": "✔", "contradicted": "✘", "undecided": "?", "not testable": "\u2013"}  # verdict -> sign
ENOUGH = 3  # seeds; fewer decide nothing
DRAWS = 9_999  # of a permutation test: p values down to 1e-4
CONFIDENCE = 0.95  # of intervals of effects
DECIMALS = 12  # of differences: smaller ones come from subtracting in floating point


@dataclass(frozen=True)
class Outcome:
    """A test's one-sided p values and what they were computed from."""

    p_rises: float
    p_falls: float
    statistic: float  # mean rank correlation within a block, in [-1, 1], or Student's t
    why: str = ""  # why it decides nothing, where the p values alone do not say so
    tested: bool = True  # false: it could not have rejected at any level


UNCHANGED = Outcome(1.0, 1.0, 0.0, "no change in any seed: nothing to test", tested=False)


@dataclass(frozen=True)
class Effect:
    """A mean over seeds with its 95 % interval (Student's t); None where it is not finite."""

    mean: float | None
    low: float | None = None
    high: float | None = None


def trend(predictor: Array, response: Array, generator: np.random.Generator) -> Outcome:
    """Test whether the response rises with the predictor, from level to level within each block.

    Args:
        predictor: (blocks, levels), or (levels,) if it is the same in every block; at least 3 levels.
        response: (blocks, levels); infinities are ranked.
        generator: draws the permutations.

    Raises:
        ValueError: fewer than 3 levels, or a NaN.
    """
    x, y = np.broadcast_to(predictor, response.shape), np.asarray(response, dtype=float)
    if y.shape[1] < 3:
        raise ValueError(f"a trend needs at least 3 levels, got {y.shape[1]}")
    if np.isnan(x).any() or np.isnan(y).any():
        raise ValueError("a trend needs complete blocks, found NaN")
    x, y = _scores(x), _scores(y)
    if not (x.any(axis=1) & y.any(axis=1)).any():
        return UNCHANGED
    observed = float((x * y).sum(axis=1).mean())
    shuffled = generator.permuted(np.broadcast_to(y, (DRAWS, *y.shape)), axis=2)
    drawn = (x * shuffled).sum(axis=2).mean(axis=1)
    slack = 1e-12  # sums in another order
    above, below = (drawn >= observed - slack).sum(), (drawn <= observed + slack).sum()
    return Outcome(float(1 + above) / (1 + DRAWS), float(1 + below) / (1 + DRAWS), observed)


def rank_correlations(predictor: Array, response: Array) -> Array:
    """Return Spearman's rank correlation within each block; 0 in a block in which either side never changes."""
    return np.asarray((_scores(predictor) * _scores(response)).sum(axis=1))


def paired(differences: Array, resolution: float = 0.0) -> Outcome:
    """Test whether the differences, one per seed, are above zero on average (rises) or below it (falls).

    Args:
        differences: (seeds,). If one is infinite, as a condition number may be, there is no mean to test.
        resolution: 1 for counts, whose differences are whole numbers; else 0.
    """
    n, differences = len(differences), np.round(differences, DECIMALS)
    if not np.isfinite(differences).all():
        return Outcome(1.0, 1.0, 0.0, "no finite difference", tested=False)
    if not differences.any():
        return UNCHANGED
    spread = math.hypot(differences.std(ddof=1), resolution / math.sqrt(12)) if n > 1 else 0.0
    if spread == 0:  # all differences are equal: the sign test
        above, below = (0.5**n if sign * differences[0] > 0 else 1.0 for sign in (1, -1))
        return Outcome(above, below, 0.0)
    from scipy.special import stdtr  # imported here and below: it takes a second, and pages do not need it

    t = float(differences.mean() / spread * math.sqrt(n))
    return Outcome(float(stdtr(n - 1, -t)), float(stdtr(n - 1, t)), t)


def interval(values: Array, *, ratio: bool = False, within: tuple[float, float] = (-math.inf, math.inf)) -> Effect:
    """Return the mean of one value per seed with its interval, clipped to `within`; `ratio`: the geometric mean."""
    values = np.log(values) if ratio else values
    if not np.isfinite(values).all():
        return Effect(None)
    back = np.exp if ratio else float
    mean = values.mean()
    if len(values) < 2:
        return Effect(float(back(mean)))
    from scipy.special import stdtrit

    reach = stdtrit(len(values) - 1, (1 + CONFIDENCE) / 2) * values.std(ddof=1) / np.sqrt(len(values))
    low, high = np.clip([mean - reach, mean + reach], *within)
    return Effect(*(float(back(value)) for value in (mean, low, high)))


def holm(p_values: list[float], tested: int) -> list[float]:
    """Return the p values corrected for their number (Holm 1979).

    Args:
        p_values: of all hypotheses.
        tested: how many of them could have been rejected at some level. The others have p values of 1 and are not
            corrected for (Tarone 1990).
    """
    corrected, largest = [0.0] * len(p_values), 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, max(1, tested - place) * p_values[index]))
        corrected[index] = largest
    return corrected


def _scores(values: Array) -> Array:
    """Midranks within each block, centred and of length 1: their sum of products is Spearman's correlation."""
    from scipy import stats

    ranks = stats.rankdata(values, axis=1)
    centred = ranks - ranks.mean(axis=1, keepdims=True)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.asarray(np.divide(centred, length, out=np.zeros_like(centred), where=length > 0))
