"""Tests of one claim over seeds: exact where an order is tested, Student's t where a difference is.

Every test returns two one-sided p values.

- Trends over three levels or more: Page's test with midranks, exact (`permutation`), and Student's t on the slopes, one
  per seed. Both have to reject. Page's test alone takes slopes that differ from seed to seed for a trend of all seeds.
- Two quantities, given the level: rank correlation over seeds within each level, exact over permutations of seeds.
- Two levels: Student's t on the differences within a seed, of logarithms for what is skewed. It assumes normal
  differences. A sign test would be exact, and could not reach 2 % with fewer than six seeds. `benchmarks/verdicts.md`
  has the false positive rates of the t test under skewed noise that grows with the level.
- "No effect larger than a margin": two one-sided t tests (Schuirmann 1987) at every level against the first one.
- A stated value: two one-sided t tests at every level, or at one level outside the margin, corrected for the levels.
- A U shape: both ends above one level between them, by t tests that both have to reject.
- Less spread over seeds: Brown & Forsythe 1974.

Counts are whole numbers: the spread of their differences is taken to be at least that of rounding, 1 / sqrt(12).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gapscope.claims import permutation

Array = NDArray[np.float64]

ENOUGH = 3  # seeds; fewer decide nothing
CONFIDENCE = 0.95  # of intervals
DECIMALS = 12  # of differences: smaller ones come from subtracting in floating point
ROUNDING = 1 / math.sqrt(12)  # standard deviation of rounding to whole numbers


@dataclass(frozen=True)
class Outcome:
    """A test's one-sided p values and what they were computed from."""

    p_rises: float
    p_falls: float
    statistic: float  # mean rank correlation, in [-1, 1], or Student's t
    why: str = ""  # why it decides nothing, where the p values alone do not say so
    tested: bool = True  # false: it could not have rejected at any level


UNCHANGED = Outcome(1.0, 1.0, 0.0, "no change in any seed: nothing to test", tested=False)


@dataclass(frozen=True)
class Effect:
    """An estimate with its 95 % interval; None where it is not finite or cannot be told."""

    mean: float | None
    low: float | None = None
    high: float | None = None


NONE = Effect(None)


def trend(levels: Array, response: Array) -> Outcome:
    """Test whether the response rises from level to level within each seed: Page's test, exact.

    Args:
        levels: (levels,), at least 3, rising.
        response: (seeds, levels); infinities are ranked.

    Raises:
        ValueError: fewer than 3 levels, or a NaN.
    """
    y = np.asarray(response, dtype=float)
    x = np.broadcast_to(np.asarray(levels, dtype=float), y.shape)
    if y.shape[1] < 3:
        raise ValueError(f"a trend needs at least 3 levels, got {y.shape[1]}")
    if np.isnan(y).any():
        raise ValueError("a trend needs complete blocks, found NaN")
    if (y == y[:, :1]).all():
        return UNCHANGED
    return Outcome(*permutation.p_values(permutation.page_matrices(x, y)), float(rank_correlations(x, y).mean()))


def correlation_given_level(one: Array, other: Array) -> Outcome:
    """Test whether two quantities rise together from seed to seed at the same level: exact over permutations of seeds.

    Args:
        one: (seeds, levels), without NaN; infinities are ranked.
        other: (seeds, levels).
    """
    varied = ((one != one[:1]).any(axis=0) & (other != other[:1]).any(axis=0)).any()
    if len(one) < 2 or not varied:
        return Outcome(1.0, 1.0, 0.0, "at the same level the runs do not differ: nothing to test", tested=False)
    matrix = permutation.given_level_matrix(one, other)
    return Outcome(*permutation.p_values([matrix]), float(rank_correlations(one.T, other.T).mean()))


def rank_correlations(one: Array, other: Array) -> Array:
    """Return Spearman's correlation within each row; 0 in a row in which either quantity never differs."""
    return np.asarray((_scores(one) * _scores(other)).sum(axis=1))


def correlation_variance(one: Array, other: Array) -> float:
    """Return (seeds - 1) times the null variance of the mean over levels of the correlation given the level.

    It is the variance over permutations of whole seeds (Hoeffding 1951, theorem 2): 1 where all levels order the seeds
    alike, and 1 over the number of levels where they are independent.

    Args:
        one: (seeds, levels), as `correlation_given_level` takes them.
        other: (seeds, levels).
    """
    products = _scores(one.T).T @ _scores(other.T) / one.shape[1]  # rows and columns sum to 0
    return float((products**2).sum())


def correlation_interval(one: Array, other: Array) -> Effect:
    """Return the mean over levels of the correlation given the level, with a jackknife interval over seeds.

    Leaving a seed out needs three that remain, so with fewer than four seeds there is no interval.
    """
    from scipy.special import stdtrit

    n, whole = len(one), float(rank_correlations(one.T, other.T).mean())
    if n < 4:
        return Effect(whole)
    others = [np.arange(n) != seed for seed in range(n)]
    each = np.array([n * whole - (n - 1) * rank_correlations(one[of].T, other[of].T).mean() for of in others])
    reach = stdtrit(n - 1, (1 + CONFIDENCE) / 2) * each.std(ddof=1) / math.sqrt(n)
    low, high = np.clip([whole - reach, whole + reach], -1.0, 1.0)
    return Effect(whole, float(low), float(high))


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
    deviation = spread(differences, resolution)
    if deviation == 0:  # all differences are equal: the sign test
        above, below = (0.5**n if sign * differences[0] > 0 else 1.0 for sign in (1, -1))
        return Outcome(above, below, 0.0)
    from scipy.special import stdtr  # imported here and below: it takes a second, and pages do not need it

    t = float(differences.mean() / deviation * math.sqrt(n))
    return Outcome(float(stdtr(n - 1, -t)), float(stdtr(n - 1, t)), t)


def equivalence(changes: Array, margin: float) -> float:
    """Return the p value of "the mean change is at least the margin, up or down, at one of the levels".

    Two one-sided t tests at each level (Schuirmann 1987). All have to reject, so the largest p value is taken, and it
    needs no correction for the number of levels.

    Args:
        changes: (seeds, levels): each level minus the first one.
        margin: in the same unit, above 0.
    """
    n, changes = len(changes), np.round(changes, DECIMALS)
    if n < 2 or not np.isfinite(changes).all():
        return 1.0
    from scipy.special import stdtr

    return max(
        float(stdtr(n - 1, (abs(of.mean()) - margin) / deviation * math.sqrt(n)))
        if (deviation := spread(of))
        else (0.5**n if abs(of[0]) < margin else 1.0)
        for of in changes.T
    )


def outside(differences: Array, margin: float) -> list[float]:
    """Return for each level the p value of "the mean is within the margin", corrected for their number (Holm).

    Both sides of the margin are tested, each at half of the level.

    Args:
        differences: (seeds, levels), from the stated value.
        margin: in the same unit, 0 or above.
    """
    each = [min(paired(of - margin).p_rises, paired(of + margin).p_falls) for of in differences.T]
    return holm([min(1.0, 2 * p) for p in each], len(each))


def above(differences: Array) -> tuple[float, list[float]]:
    """Return the p value of "not above 0 at every level", and for each level of "not below 0" (Holm).

    The first is an intersection-union test: every level has to reject, so it needs no correction.

    Args:
        differences: (seeds, levels), from the stated value.
    """
    outcomes = [paired(of) for of in differences.T]
    return max(of.p_rises for of in outcomes), holm([of.p_falls for of in outcomes], len(outcomes))


def u_shape(values: Array) -> tuple[Outcome, int]:
    """Test whether both ends are above one of the levels between them, each paired by seed.

    For a level between, both t tests have to reject (intersection-union). The level with the smallest p value is
    chosen from the data, so that value is multiplied by the number of levels between (Bonferroni). The opposite is
    that one end is below every level between.

    Args:
        values: (seeds, levels), at least 3 levels.

    Returns:
        The outcome, `p_rises` for a U; and the index of the lowest level between, by its mean.

    Raises:
        ValueError: fewer than 3 levels.
    """
    if values.shape[1] < 3:
        raise ValueError(f"a U needs at least 3 levels, got {values.shape[1]}")
    between = values[:, 1:-1].T
    ends = [[paired(end - of) for of in between] for end in (values[:, 0], values[:, -1])]
    shaped = [max(first.p_rises, last.p_rises) for first, last in zip(*ends, strict=True)]
    against = min(max(of.p_falls for of in end) for end in ends)
    lowest = int(between.mean(axis=1).argmin())
    statistic = min(end[lowest].statistic for end in ends)
    return Outcome(min(1.0, len(shaped) * min(shaped)), min(1.0, 2 * against), statistic), lowest + 1


def dispersion(one: Array, other: Array) -> tuple[Outcome, Effect]:
    """Test whether one group varies more than the other (`rises`) or less: Brown & Forsythe 1974, one-sided.

    The t test of two groups on distances from each group's median. With few values it errs less often than it says.

    Args:
        one: (n,).
        other: (m,).

    Returns:
        The outcome, and the mean distance of `one` minus that of `other` with its interval.
    """
    distances = [np.abs(of - np.median(of)) for of in (one, other)]
    freedom = len(one) + len(other) - 2
    if freedom < 1 or not all(np.isfinite(of).all() for of in distances):
        return Outcome(1.0, 1.0, 0.0, "too few finite values", tested=False), Effect(None)
    pooled = sum(float(((of - of.mean()) ** 2).sum()) for of in distances) / freedom
    error = math.sqrt(pooled * (1 / len(one) + 1 / len(other)))
    difference = float(distances[0].mean() - distances[1].mean())
    if error == 0:
        return UNCHANGED, Effect(difference)
    from scipy.special import stdtr, stdtrit

    t, reach = difference / error, error * float(stdtrit(freedom, (1 + CONFIDENCE) / 2))
    outcome = Outcome(float(stdtr(freedom, -t)), float(stdtr(freedom, t)), t)
    return outcome, Effect(difference, difference - reach, difference + reach)


def interval(values: Array, *, ratio: bool = False) -> Effect:
    """Return the mean of one value per seed with Student's interval; `ratio`: the geometric mean."""
    values = np.log(values) if ratio else values
    if not np.isfinite(values).all():
        return Effect(None)
    back = np.exp if ratio else float
    mean = values.mean()
    if len(values) < 2:
        return Effect(float(back(mean)))
    from scipy.special import stdtrit

    reach = stdtrit(len(values) - 1, (1 + CONFIDENCE) / 2) * values.std(ddof=1) / np.sqrt(len(values))
    return Effect(*(float(back(value)) for value in (mean, mean - reach, mean + reach)))


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


def spread(differences: Array, resolution: float = 0.0) -> float:
    """Return the standard deviation of differences over seeds; of counts at least that of rounding."""
    return math.hypot(differences.std(ddof=1), resolution * ROUNDING) if len(differences) > 1 else 0.0


def _scores(values: Array) -> Array:
    """Midranks within each row, centred and of length 1: their sum of products is Spearman's correlation."""
    ranks = permutation.doubled_midranks(values).astype(float)
    centred = ranks - ranks.mean(axis=1, keepdims=True)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.asarray(np.divide(centred, length, out=np.zeros_like(centred), where=length > 0))
