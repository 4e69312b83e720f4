"""Exact permutation distributions of rank statistics: Page's trend and a rank correlation given the level.

Both statistics are sums over i of C[i, pi(i)] for an integer matrix C and a permutation pi; the observed value is the
trace. For Page's L (Page 1963) there is one matrix per block, x y^T with the ranks x of the predictor and y of the
response, and every order of a block's responses is equally likely under the null hypothesis. Doubled midranks are whole
numbers, so the sums lie on a lattice. The distribution of one matrix is counted over subsets of its columns; those of
independent matrices are convolved. No p value depends on a random generator.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Array = NDArray[np.float64]
Matrix = NDArray[np.int64]
LARGEST_EXACT = 12  # side of a matrix: 2^12 subsets; for larger ones see `p_values`


def p_values(matrices: Sequence[Matrix]) -> tuple[float, float]:
    """Return P(S >= observed) and P(S <= observed) for S, the sum over all matrices of sum_i C[i, pi(i)].

    The permutations of different matrices are independent, and each is uniform. Matrices with more than `LARGEST_EXACT`
    rows are too many subsets to count: S is then taken as normal with its exact mean and variance (Hoeffding 1951).

    Args:
        matrices: square, of non-negative integers.

    Example:
        Three responses in rising order are one of 3! = 6 orders.

        >>> rises, falls = p_values([np.outer([2, 4, 6], [2, 4, 6])])
        >>> round(rises, 12), falls
        (0.166666666667, 1.0)
    """
    if max(len(matrix) for matrix in matrices) > LARGEST_EXACT:
        return _normal_p_values(matrices)
    lowered = [matrix - matrix.min(axis=1, keepdims=True) for matrix in matrices]  # every sum is less by a constant
    observed = int(sum(np.trace(matrix) for matrix in lowered))
    null = np.ones(1)
    for matrix in lowered:
        null = np.convolve(null, _distribution(_in_one_order(matrix)))
    return min(1.0, float(null[observed:].sum())), min(1.0, float(null[: observed + 1].sum()))


def page_matrices(predictor: Array, response: Array) -> list[Matrix]:
    """Return the matrices of Page's test, one per block.

    Args:
        predictor: (blocks, levels), without NaN; infinities are ranked.
        response: (blocks, levels).
    """
    return [np.outer(x, y) for x, y in zip(doubled_midranks(predictor), doubled_midranks(response), strict=True)]


def given_level_matrix(one: Array, other: Array) -> Matrix:
    """Return the matrix of the rank correlation of two quantities over seeds, given the level.

    Seeds are ranked within each level, so what changes with the level alone does not count. A permutation exchanges
    whole seeds: the runs of a seed share their initial weights, so they are not independent of one another.

    Args:
        one: (seeds, levels), without NaN.
        other: (seeds, levels).

    Returns:
        (seeds, seeds): sum over levels of the product of doubled midranks.
    """
    return doubled_midranks(one.T).T @ doubled_midranks(other.T)


def doubled_midranks(values: Array) -> Matrix:
    """Return twice the midranks within each row, which are whole numbers."""
    return np.rint(2 * rankdata(values, axis=1)).astype(np.int64)


def _in_one_order(matrix: Matrix) -> tuple[tuple[int, ...], ...]:
    """Return the matrix with sorted rows and columns: their order changes no distribution; equal blocks count once."""
    columns = sorted(zip(*sorted(matrix.tolist()), strict=True))
    return tuple(zip(*columns, strict=True))


@lru_cache(maxsize=256)
def _distribution(matrix: tuple[tuple[int, ...], ...]) -> Array:
    """Return the probability of each sum 0, 1, ... over all permutations."""
    size = len(matrix)
    longest = sum(max(row) for row in matrix) + 1
    # counts[subset]: in how many ways the rows so far can be assigned to that subset of the columns, by their sum
    counts: dict[int, Array] = {0: np.ones(1)}
    for row in matrix:
        grown: dict[int, Array] = {}
        for subset, ways in counts.items():
            for column in range(size):
                if subset >> column & 1:
                    continue
                sums = grown.setdefault(subset | 1 << column, np.zeros(longest))
                end = min(longest, row[column] + len(ways))
                sums[row[column] : end] += ways[: end - row[column]]
        counts = grown
    (ways,) = counts.values()
    return ways / math.factorial(size)


def _normal_p_values(matrices: Sequence[Matrix]) -> tuple[float, float]:
    from scipy.special import ndtr

    observed = sum(float(np.trace(matrix)) for matrix in matrices)
    mean = sum(float(matrix.sum()) / len(matrix) for matrix in matrices)
    variance = sum(float((_centred(matrix) ** 2).sum()) / (len(matrix) - 1) for matrix in matrices)
    deviation = (observed - mean) / math.sqrt(variance)
    return float(ndtr(-deviation)), float(ndtr(deviation))


def _centred(matrix: Matrix) -> Array:
    values = matrix.astype(float)
    return np.asarray(values - values.mean(axis=0) - values.mean(axis=1, keepdims=True) + values.mean())
