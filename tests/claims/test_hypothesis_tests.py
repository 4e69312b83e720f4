"""The tests of hypotheses against known values and a second implementation."""

import numpy as np
import pytest
from scipy import stats

from gapscope.claims import hypothesis_tests as tests


def test_holm_is_the_known_one() -> None:
    assert tests.holm([0.01, 0.04, 0.03, 0.005], 4) == pytest.approx([0.03, 0.06, 0.06, 0.02])  # 1979, by hand
    assert tests.holm([1.0, 0.01, 1.0, 0.04, 0.03, 0.005], 4) == pytest.approx([1, 0.03, 1, 0.06, 0.06, 0.02])
    assert tests.holm([0.9, 0.8], 2) == [1.0, 1.0]


def test_the_trend_is_pages_where_there_are_no_ties() -> None:
    values = np.random.default_rng(3).normal(size=(3, 4)) + np.arange(4)
    exact = stats.page_trend_test(values, method="exact").pvalue
    assert tests.trend(np.arange(4.0), values).p_rises == pytest.approx(exact, rel=1e-12)
    assert 0.0001 < exact < 0.2


def test_ties_and_infinities_are_ranked_and_a_nan_is_refused() -> None:
    values = np.array([[1, 1, np.inf], [0, 2, np.inf], [0, 0, 5.0]])
    found = tests.trend(np.arange(3.0), values)
    assert found.p_rises < 0.02 < found.p_falls
    with pytest.raises(ValueError, match="NaN"):
        tests.trend(np.arange(3.0), np.array([[1, np.nan, 2.0]]))
    with pytest.raises(ValueError, match="3 levels"):
        tests.trend(np.arange(2.0), np.ones((3, 2)))


def test_what_no_seed_sees_change_is_unchanged_though_seeds_differ() -> None:
    values = np.repeat([[1.0], [2.0], [np.inf]], 3, axis=1)
    levels = np.arange(3.0)
    assert tests.trend(levels, values) == tests.UNCHANGED
    assert tests.paired(values[:2, 1] - values[:2, 0]) == tests.UNCHANGED
    values[0, 1] += 1
    assert tests.trend(levels, values).tested
    assert tests.paired(values[:2, 1] - values[:2, 0]).tested
