"""Exact distributions against all permutations, a second implementation, and known table values."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from gapscope.claims import permutation
from gapscope.claims.hypothesis_tests import correlation_variance, rank_correlations
from gapscope.claims.permutation import LARGEST_EXACT, given_level_matrix, p_values, page_matrices

EXACT = 1e-12  # sums of some hundreds of positive float64 probabilities
NORMAL = 0.05  # of a p value near 0.05: the normal approximation's error at 13 levels and 3 blocks


def over_all_permutations(matrices: list[np.ndarray]) -> tuple[float, float]:
    """P(S >= observed) and P(S <= observed) by going through every permutation of every matrix."""
    sums = [0]
    for matrix in matrices:
        rows = range(len(matrix))
        own = [
            sum(int(matrix[i, j]) for i, j in zip(rows, order, strict=True)) for order in itertools.permutations(rows)
        ]
        sums = [before + value for before in sums for value in own]
    observed = sum(int(np.trace(matrix)) for matrix in matrices)
    return (
        float(Fraction(sum(value >= observed for value in sums), len(sums))),
        float(Fraction(sum(value <= observed for value in sums), len(sums))),
    )


def page_p_values(predictor: np.ndarray, response: np.ndarray) -> tuple[float, float]:
    return p_values(page_matrices(predictor, response))


@pytest.mark.parametrize(("blocks", "levels"), [(1, 3), (3, 3), (5, 3), (2, 4), (3, 4), (2, 5), (1, 7)])
@pytest.mark.parametrize("ties", ["none", "response", "both"])
def test_p_values_are_those_of_all_permutations(blocks: int, levels: int, ties: str) -> None:
    draw = np.random.default_rng(blocks * 100 + levels)
    for _ in range(4):
        predictor = np.tile(np.arange(levels, dtype=float), (blocks, 1))
        if ties == "both":
            predictor = draw.integers(0, levels - 1, (blocks, levels)).astype(float)
        response = draw.normal(size=(blocks, levels))
        if ties != "none":
            response = draw.integers(0, 3, (blocks, levels)).astype(float)
        expected = over_all_permutations(page_matrices(predictor, response))
        assert page_p_values(predictor, response) == pytest.approx(expected, rel=EXACT)


@pytest.mark.parametrize(("blocks", "levels"), [(3, 6), (5, 4), (8, 5)])
def test_p_values_without_ties_are_scipys(blocks: int, levels: int) -> None:
    response = np.random.default_rng(levels).normal(size=(blocks, levels))
    predictor = np.tile(np.arange(levels, dtype=float), (blocks, 1))
    expected = stats.page_trend_test(response, method="exact").pvalue
    assert page_p_values(predictor, response)[0] == pytest.approx(expected, rel=EXACT)


@pytest.mark.parametrize(("seeds", "levels"), [(2, 3), (3, 1), (4, 3), (6, 2)])
@pytest.mark.parametrize("tied", [False, True])
def test_a_correlation_given_the_level_is_that_of_all_permutations_of_seeds(
    seeds: int, levels: int, tied: bool
) -> None:
    draw = np.random.default_rng(seeds * 10 + levels)
    one, other = (draw.integers(0, 3, (seeds, levels)) if tied else draw.normal(size=(seeds, levels)) for _ in "ab")
    ranks = [stats.rankdata(of, axis=0) for of in (one, other)]
    sums = [(ranks[0] * ranks[1][list(order)]).sum() for order in itertools.permutations(range(seeds))]
    observed, slack = (ranks[0] * ranks[1]).sum(), 1e-9  # half ranks: sums lie a quarter apart
    expected = np.mean([s >= observed - slack for s in sums]), np.mean([s <= observed + slack for s in sums])
    assert p_values([given_level_matrix(one, other)]) == pytest.approx(expected, rel=EXACT)


@pytest.mark.parametrize("tied", [False, True])
def test_the_null_variance_of_a_correlation_given_the_level_is_that_of_all_permutations(tied: bool) -> None:
    draw = np.random.default_rng(5)
    one, other = (draw.integers(0, 3, (5, 3)) if tied else draw.normal(size=(5, 3)) for _ in "ab")
    orders = [list(order) for order in itertools.permutations(range(5))]
    each = [rank_correlations(one[order].T, other.T).mean() for order in orders]
    assert correlation_variance(one, other) / 4 == pytest.approx(np.var(each), rel=EXACT)
    assert correlation_variance(one, one) < correlation_variance(one[:, :1], one[:, :1]) == pytest.approx(1, rel=EXACT)


def test_what_follows_the_level_alone_does_not_correlate_given_the_level() -> None:
    level, noise = np.tile([1.0, 10.0, 100.0], (4, 1)), np.random.default_rng(0).normal(size=(4, 3))
    alike = given_level_matrix(level + noise, noise)
    assert (alike == given_level_matrix(noise, noise)).all()
    assert p_values([alike])[0] == pytest.approx(1 / 24, rel=EXACT)
    assert p_values([given_level_matrix(level, noise)]) == pytest.approx((1.0, 1.0), rel=EXACT)


def test_three_seeds_in_one_order_of_three_levels() -> None:
    rising = np.tile([1.0, 2.0, 3.0], (3, 1))
    assert page_p_values(rising, rising)[0] == pytest.approx(1 / 216, rel=EXACT)
    assert page_p_values(rising, -rising)[1] == pytest.approx(1 / 216, rel=EXACT)


def test_a_block_without_change_says_nothing() -> None:
    rising, flat = np.array([[1.0, 2.0, 3.0]]), np.ones((1, 3))
    both = page_p_values(np.vstack([rising, rising]), np.vstack([rising, flat]))
    assert both == pytest.approx(page_p_values(rising, rising), rel=EXACT)
    assert page_p_values(rising, flat) == pytest.approx((1.0, 1.0), rel=EXACT)


def test_a_distribution_adds_up_to_one_at_the_largest_size() -> None:
    ranks = 2 * np.arange(1, LARGEST_EXACT + 1)
    null = permutation._distribution(permutation._in_one_order(np.outer(ranks, ranks)))
    assert null.sum() == pytest.approx(1.0, rel=EXACT)
    mean = (null * np.arange(len(null))).sum()
    assert mean == pytest.approx(ranks.sum() ** 2 / len(ranks), rel=EXACT)


def test_many_levels_are_taken_as_normal() -> None:
    levels = np.tile(np.arange(LARGEST_EXACT + 1.0), (3, 1))
    response = 0.12 * levels + np.random.default_rng(1).normal(size=levels.shape)
    draws = np.random.default_rng(2).permuted(
        np.broadcast_to(stats.rankdata(response, axis=1), (4000, *levels.shape)), axis=2
    )
    sums = (draws * (levels + 1)).sum(axis=(1, 2))
    observed = (stats.rankdata(response, axis=1) * (levels + 1)).sum()
    rises, falls = page_p_values(levels, response)
    assert rises == pytest.approx((sums >= observed).mean(), abs=NORMAL)
    assert rises + falls == pytest.approx(1.0, rel=EXACT)
    assert rises < 0.2
