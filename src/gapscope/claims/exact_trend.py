"""The exact null distribution of Page's trend statistic, with midranks, by convolution over blocks.

L = sum over blocks and levels of predictor rank times response rank (Page 1963). Under the null hypothesis every order
of a block's responses over its levels is equally likely, given their ties, and blocks are independent. Doubled midranks
are whole numbers, so L lies on a lattice: the distribution of one block is counted over subsets of its levels, and
those of the blocks are convolved. No p value depends on a random generator.
"""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Array = NDArray[np.float64]
MOST_LEVELS = 16  # of a block: subsets are counted, 2^16 of them, each with up to 6,000 sums


def page_p_values(predictor: Array, response: Array) -> tuple[float, float]:
    """Return the exact one-sided p values P(L >= observed) and P(L <= observed).

    Args:
        predictor: (blocks, levels); NaN is not allowed, infinities are ranked.
        response: (blocks, levels).

    Raises:
        ValueError: more than `MOST_LEVELS` levels.

    Example:
        One block in rising order is one of 3! = 6 orders.

        >>> rises, falls = page_p_values(np.array([[1.0, 2.0, 3.0]]), np.array([[0.1, 0.2, 0.3]]))
        >>> round(rises, 12), falls
        (0.166666666667, 1.0)
    """
    if response.shape[1] > MOST_LEVELS:
        raise ValueError(f"Page's exact test is for at most {MOST_LEVELS} levels, got {response.shape[1]}")
    x, y = doubled_midranks(predictor), doubled_midranks(response)
    observed = int((x * y).sum())
    null = np.ones(1)
    for of_x, of_y in zip(x.tolist(), y.tolist(), strict=True):
        # only the ranks that a block holds matter to its distribution, not their order
        null = np.convolve(null, block_null(tuple(sorted(of_x)), tuple(sorted(of_y))))
    return min(1.0, float(null[observed:].sum())), min(1.0, float(null[: observed + 1].sum()))


def doubled_midranks(values: Array) -> NDArray[np.int64]:
    """Return twice the midranks within each block (row), which are whole numbers."""
    return np.rint(2 * rankdata(values, axis=1)).astype(np.int64)


@lru_cache(maxsize=256)
def block_null(predictor: tuple[int, ...], response: tuple[int, ...]) -> Array:
    """Return the probability of each sum 0, 1, ... of products of paired ranks, over all orders of `response`.

    Args:
        predictor: doubled midranks of one block.
        response: those of its responses, the same number of them.

    Returns:
        (largest sum + 1,), which adds up to 1.
    """
    levels = len(predictor)
    longest = sum(x * y for x, y in zip(sorted(predictor), sorted(response), strict=True)) + 1
    # counts[subset]: in how many ways the first |subset| predictors can be paired with that subset of the responses
    counts: dict[int, Array] = {0: np.ones(1)}
    for x in predictor:
        grown: dict[int, Array] = {}
        for subset, ways in counts.items():
            for place in range(levels):
                if subset >> place & 1:
                    continue
                moved = x * response[place]
                known = grown.setdefault(subset | 1 << place, np.zeros(longest))
                end = min(longest, moved + len(ways))
                known[moved:end] += ways[: end - moved]
        counts = grown
    (ways,) = counts.values()
    return ways / math.factorial(levels)
