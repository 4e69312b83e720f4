"""Curvature radii, rank correlations and spreads, against numpy and SciPy and on tensors with known answers."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr
from torch import Tensor

from gapscope.numerics.curvature_radius import (
    ESTIMATES,
    distances,
    live,
    median,
    radii,
    rank_correlation,
    spread,
    within_factor_pct,
)

DIRECT = 1e-12  # float64 algebra
SCALE, REACH = 1000.0, 3.0  # of the loss; of weights under batch norm


def drawn(n: int = 50, dead: int = 10) -> tuple[Tensor, Tensor, Tensor]:
    """Weights, gradient and diagonal; the last entries are those of a dead unit."""
    w, g, h = torch.randn(3, n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    g[n - dead :] = h[n - dead :] = 0
    return w, g, h.abs()


def known(w: Tensor, g: Tensor, h: Tensor, variant: str = "right") -> dict[str, float]:
    """Return the radii by numpy, entry by entry as the equations have them."""
    w, g, h = (of.numpy() for of in (w, g, h))
    on = h > 0 if variant != "dead units too" else np.ones(len(h), dtype=bool)
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            "hessian": np.median(1 / h[on]),
            "hessian_mean": 1 / np.mean(h[on] if variant == "mean over live entries" else h),
            "eq9": np.median((1 + g[on] ** 2) ** (1.0 if variant == "another power" else 1.5) / h[on]),
            "eq17": np.median(np.abs(w[g != 0] / g[g != 0])),
            "eq17_mean": np.mean(np.abs(w[g != 0] / g[g != 0])),
            "eq20": np.median(np.abs(w[on])) / np.median(np.abs(g[on])),
            "eq20_signed": abs(np.median(w) / np.median(g)),
            "lars": np.linalg.norm(w) / np.linalg.norm(g),
            "percent_delta": 1 / np.mean(np.abs(w / g if variant == "upside down" else g / w)),
        }


def check_radii(variant: str) -> None:
    w, g, h = drawn()
    found, expected = radii(w, g, h, live(h)), known(w, g, h, variant)
    assert tuple(found) == ESTIMATES
    for name, value in found.items():
        assert value == pytest.approx(expected[name], rel=DIRECT), name


def test_the_radii_are_those_of_the_equations() -> None:
    check_radii("right")


@pytest.mark.parametrize("variant", ["dead units too", "mean over live entries", "another power", "upside down"])
def test_the_radii_are_not(variant: str) -> None:
    with pytest.raises(AssertionError):
        check_radii(variant)


def test_a_larger_loss_makes_all_radii_smaller_but_that_of_equation_9() -> None:
    w, g, h = drawn()
    one, other = radii(w, g, h, live(h)), radii(w, SCALE * g, SCALE * h, live(h))
    for name in ESTIMATES:
        same = other[name] == pytest.approx(one[name] / SCALE, rel=DIRECT)
        assert same == (name != "eq9")


def test_larger_weights_under_batch_norm_have_larger_radii_by_each_of_them() -> None:
    w, g, h = drawn()
    h = h + 10  # so large that g^2 plays no part in equation 9
    one, other = radii(w, 1e-4 * g, h, live(h)), radii(REACH * w, 1e-4 * g / REACH, h / REACH**2, live(h))
    for name in ESTIMATES:
        assert other[name] == pytest.approx(REACH**2 * one[name], rel=1e-7)  # g^2 = 1e-8 in equation 9


def test_a_parabola_s_distance_is_that_to_its_minimum() -> None:
    a, b, w = torch.rand(3, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    g, h = 2 * a * (w - b), 2 * a  # equation 12 of the paper
    found = distances(g, h, live(h), damping=0.0)
    assert found["damped"] == pytest.approx(float((w - b).abs().quantile(0.5)), rel=DIRECT)
    assert found["common"] == pytest.approx(float(g.abs().mean() / h.mean()), rel=DIRECT)
    assert distances(g, h, live(h), damping=1.0)["damped"] < found["damped"] / 1.5


# --- tensors that have no radius ---


def test_a_dead_tensor_has_none() -> None:
    w, none = torch.ones(4), torch.zeros(4)
    found = radii(w, none, none, live(none))
    infinite = {"hessian_mean", "eq20_signed", "lars", "percent_delta"}
    assert {name for name, value in found.items() if math.isinf(value)} == infinite
    assert all(math.isnan(found[name]) for name in set(ESTIMATES) - infinite)
    assert all(map(math.isnan, distances(none, none, live(none), 0.1).values()))


def test_zero_weights_have_a_hessian_s_radius_and_none_of_the_paper_s() -> None:
    none, one = torch.zeros(4), torch.ones(4)
    found = radii(none, one, one, live(one))
    assert [found[name] for name in ("hessian", "eq17", "eq20", "lars")] == [1, 0, 0, 0]
    assert math.isnan(found["percent_delta"])  # equation 24 divides by w


def test_an_estimate_is_live_where_it_is_told_from_zero() -> None:
    h, errors = torch.tensor([1.0, 1.0, -1.0, 0.0]), torch.tensor([0.4, 0.6, 0.1, 0.0])
    assert live(h, errors).tolist() == [True, False, False, False]
    assert live(h).tolist() == [True, True, False, False]


# --- statistics ---

VALUES = st.lists(st.sampled_from([-2.0, 0.0, 0.5, 1.0, 3.0, math.inf]), min_size=2, max_size=12)


@given(VALUES, st.integers(0, 99))
def test_rank_correlation_is_scipy_s(x: list[float], seed: int) -> None:
    y = np.random.default_rng(seed).integers(0, 5, len(x)).astype(float)
    found = rank_correlation(torch.tensor(x), torch.tensor(y))
    if len(set(x)) < 2 or len(set(y)) < 2:
        assert math.isnan(found)
    else:
        assert found == pytest.approx(spearmanr(x, y).statistic, abs=DIRECT)


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=9))
def test_the_median_is_numpy_s(values: list[float]) -> None:
    assert median(torch.tensor(values, dtype=torch.float64)) == np.median(values)


def test_no_value_has_no_median_and_no_rank() -> None:
    none = torch.ones(0)
    assert math.isnan(median(none))
    assert math.isnan(rank_correlation(none, none))
    assert math.isnan(within_factor_pct(none, none, 2))


def test_a_factor_holds_on_both_sides() -> None:
    found, right = torch.tensor([1.0, 2.0, 2.1, 0.5, 0.4, 0.0, math.inf]), torch.ones(7)
    assert within_factor_pct(found, right, 2) == pytest.approx(100 * 3 / 7)


def test_spread_is_of_logarithms_and_only_its_cv_changes_with_the_unit() -> None:
    one, other = spread([1.0, 10.0, 100.0, math.nan, 0.0, math.inf]), spread([2.0, 20.0, 200.0])
    assert one["radius_spread"] == pytest.approx(100)
    assert one["log_radius_sd"] == pytest.approx(math.log(10))
    assert one["log_radius_cv"] == pytest.approx(1)
    assert [one[name] == pytest.approx(other[name]) for name in one] == [True, True, False]
    assert all(map(math.isnan, spread([1.0, math.nan]).values()))
