"""Page's exact null distribution against all permutations, a second implementation, and known table values."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from gapscope.claims.exact_trend import MOST_LEVELS, block_null, doubled_midranks, page_p_values

EXACT = 1e-12  # sums of some hundreds of positive float64 probabilities


def over_all_permutations(predictor: np.ndarray, response: np.ndarray) -> tuple[Fraction, Fraction]:
    """P(L >= observed) and P(L <= observed) by going through every order of every block."""
    x, y = doubled_midranks(predictor), doubled_midranks(response)
    sums = [0]
    for of_x, of_y in zip(x.tolist(), y.tolist(), strict=True):
        block = [sum(a * b for a, b in zip(of_x, order, strict=True)) for order in itertools.permutations(of_y)]
        sums = [before + own for before in sums for own in block]
    observed = int((x * y).sum())
    return (
        Fraction(sum(value >= observed for value in sums), len(sums)),
        Fraction(sum(value <= observed for value in sums), len(sums)),
    )


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
        expected = over_all_permutations(predictor, response)
        assert page_p_values(predictor, response) == pytest.approx([float(p) for p in expected], rel=EXACT)


@pytest.mark.parametrize(("blocks", "levels"), [(3, 6), (5, 4), (8, 5)])
def test_p_values_without_ties_are_scipys(blocks: int, levels: int) -> None:
    response = np.random.default_rng(levels).normal(size=(blocks, levels))
    predictor = np.tile(np.arange(levels, dtype=float), (blocks, 1))
    expected = stats.page_trend_test(response, method="exact").pvalue
    assert page_p_values(predictor, response)[0] == pytest.approx(expected, rel=EXACT)


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
    ranks = tuple(2 * rank for rank in range(1, 13))
    null = block_null(ranks, ranks)
    assert null.sum() == pytest.approx(1.0, rel=EXACT)
    mean = (null * np.arange(len(null))).sum()
    assert mean == pytest.approx(12 * (2 * 6.5) ** 2, rel=EXACT)  # independent ranks: k times the product of means


def test_too_many_levels_are_refused() -> None:
    many = np.zeros((1, MOST_LEVELS + 1))
    with pytest.raises(ValueError, match=str(MOST_LEVELS)):
        page_p_values(many, many)
