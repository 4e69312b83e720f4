"""Sharpness against its closed forms: linear losses, separable quadratics, and a manifold of a fixed basis."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import oracles
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gapscope.errors import InputError
from gapscope.measures.sharpness import QUANTITIES, SharpnessSettings, conditions, measure, measure_all, rows
from gapscope.numerics.loss_surface import sharpness
from gapscope.numerics.loss_surface.manifold import random_basis
from gapscope.numerics.loss_surface.sharpness import TEN_ITERATIONS, Sharpness, keskar_sharpness

DIRECT = 1e-9  # a difference of losses of 1e-3 to 1 beside a loss of about 1: direct algebra at 1e-12 to 1e-16 of it
STANDARD_ERRORS = 4  # of an estimate at a fixed seed

Loss = Callable[[Tensor], Tensor]


def find(loss: Loss, x: np.ndarray, epsilon: float, basis: np.ndarray | None = None, **options) -> Sharpness:
    generator = torch.Generator().manual_seed(options.pop("seed", 0))
    columns = None if basis is None else torch.from_numpy(basis)
    starts = {name: options.pop(name) for name in ("restarts", "converged_starts") if name in options}
    return keskar_sharpness(
        loss, torch.from_numpy(x), epsilon=epsilon, basis=columns, generator=generator,
        solver=replace(TEN_ITERATIONS, **options), **starts,
    )  # fmt: skip


def equal(found: float, known: float) -> None:
    torch.testing.assert_close(found, known, rtol=DIRECT, atol=0)


class Linear:
    """base + slope . (w - x), with every slope in +-[0.5, 1.5]: ten iterations are then enough for a corner."""

    def __init__(self, n: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.base, self.x = 1.7, rng.standard_normal(n)
        self.slope = rng.choice([-1, 1], n) * rng.uniform(0.5, 1.5, n)

    def __call__(self, w: Tensor) -> Tensor:
        return self.base + (w - torch.from_numpy(self.x)) @ torch.from_numpy(self.slope)

    def sharpness(self, epsilon: float, basis: np.ndarray | None = None, variant: str = "right") -> float:
        return oracles.linear_sharpness(self.base, self.slope, self.x, epsilon=epsilon, basis=basis, variant=variant)


class Quadratic:
    """floor + sum curvature (w - minimum)^2 / 2."""

    def __init__(self, n: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.floor, self.minimum, self.curvature = 0.3, rng.standard_normal(n), rng.uniform(0.5, 2, n)

    def __call__(self, w: Tensor) -> Tensor:
        off = w - torch.from_numpy(self.minimum)
        return self.floor + (torch.from_numpy(self.curvature) * off**2).sum() / 2

    def sharpness(self, x: np.ndarray, epsilon: float, variant: str = "right") -> float:
        return oracles.quadratic_sharpness(
            self.floor, self.curvature, self.minimum, x, epsilon=epsilon, variant=variant
        )


BASIS = np.random.default_rng(7).standard_normal((30, 6)) * np.array([0.5, 1, 1, 2, 2, 3])
FAR = np.where(np.arange(12) % 2, 0.4, -0.4)  # the minimum is outside the box: one corner is the highest, from anywhere


def linear_in_full_space(variant: str) -> None:
    loss = Linear(30)
    equal(find(loss, loss.x, 1e-3).sharpness, loss.sharpness(1e-3, variant=variant))


def linear_in_a_manifold(variant: str) -> None:
    loss = Linear(30)
    equal(find(loss, loss.x, 1e-3, BASIS, iterations=100).sharpness, loss.sharpness(1e-3, BASIS, variant))


def quadratic_at_its_minimum(variant: str) -> None:
    loss = Quadratic(12)
    equal(find(loss, loss.minimum, 0.1).sharpness, loss.sharpness(loss.minimum, 0.1, variant))


def quadratic_off_its_minimum(variant: str) -> None:
    loss = Quadratic(12)
    x = loss.minimum + FAR
    equal(find(loss, x, 0.05).sharpness, loss.sharpness(x, 0.05, variant))


FULL = [linear_in_full_space, quadratic_at_its_minimum, quadratic_off_its_minimum]


@pytest.mark.parametrize("check", [*FULL, linear_in_a_manifold])
def test_sharpness_equals_its_closed_form(check: Callable[[str], None]) -> None:
    check("right")


@pytest.mark.parametrize("variant", ["denominator without its 1", "box without its 1", "box without |A+ x|"])
@pytest.mark.parametrize("check", [*FULL, linear_in_a_manifold])
def test_sharpness_is_not(check: Callable[[str], None], variant: str) -> None:
    with pytest.raises(AssertionError):
        check(variant)


@pytest.mark.parametrize("variant", ["transpose for pseudo-inverse", "columns normalised"])
def test_sharpness_in_a_manifold_is_not(variant: str) -> None:
    with pytest.raises(AssertionError):
        linear_in_a_manifold(variant)


@pytest.mark.parametrize("check", [quadratic_at_its_minimum, quadratic_off_its_minimum])
def test_sharpness_has_no_weight_penalty(check: Callable[[str], None]) -> None:
    with pytest.raises(AssertionError):
        check("weight penalty")


def test_restarts_find_the_highest_of_many_corners() -> None:
    loss = Quadratic(4)
    x = loss.minimum + np.array([0.01, -0.02, 0.03, 0.01])  # inside the box, so all 16 corners are local maxima
    known = loss.sharpness(x, 0.1)
    single = [find(loss, x, 0.1, seed=seed).sharpness for seed in range(8)]
    assert min(single) < known * (1 - DIRECT)
    assert max(single) <= known * (1 + DIRECT)
    equal(find(loss, x, 0.1, restarts=100).sharpness, known)


COUPLED = oracles.symmetric(np.linspace(0.5, 3, 30))[0]
CENTRE = np.random.default_rng(3).standard_normal(30)
SHIFT = 0.2 * np.sign(np.random.default_rng(4).standard_normal(30))


def coupled(w: np.ndarray | Tensor) -> float | Tensor:
    """A convex quadratic that no rotation of the box separates."""
    if isinstance(w, Tensor):
        off = w - torch.from_numpy(CENTRE)
        return 0.3 + off @ torch.from_numpy(COUPLED) @ off / 2
    return 0.3 + float((w - CENTRE) @ COUPLED @ (w - CENTRE)) / 2


def coupled_in_a_manifold(variant: str, x: np.ndarray) -> None:
    known = oracles.convex_sharpness(coupled, x, epsilon=0.05, basis=BASIS, variant=variant)
    equal(find(coupled, x, 0.05, BASIS, restarts=50, iterations=50).sharpness, known)


@pytest.mark.parametrize("x", [CENTRE, CENTRE + SHIFT], ids=["at its minimum", "off it"])
def test_sharpness_of_a_quadratic_that_is_not_separable(x: np.ndarray) -> None:
    coupled_in_a_manifold("right", x)
    for variant in ("box without |A+ x|", "transpose for pseudo-inverse", "columns normalised"):
        with pytest.raises(AssertionError):
            coupled_in_a_manifold(variant, x)


def test_sharpness_in_full_space_of_a_quadratic_that_is_not_separable() -> None:
    matrix, centre, x = COUPLED[:9, :9], CENTRE[:9], CENTRE[:9] + SHIFT[:9]

    def loss(w: Tensor) -> Tensor:
        return 0.3 + (w - torch.from_numpy(centre)) @ torch.from_numpy(matrix) @ (w - torch.from_numpy(centre)) / 2

    def known(variant: str) -> float:
        in_numpy = lambda w: 0.3 + float((w - centre) @ matrix @ (w - centre)) / 2  # noqa: E731
        return oracles.convex_sharpness(in_numpy, x, epsilon=0.05, basis=np.eye(9), variant=variant)

    found = find(loss, x, 0.05, restarts=50, iterations=50).sharpness
    equal(found, known("right"))
    with pytest.raises(AssertionError):
        equal(found, known("box without |A+ x|"))


@pytest.mark.parametrize("basis", [None, BASIS])
def test_all_zero_weights_have_a_box_of_epsilon(basis: np.ndarray | None) -> None:
    loss = Linear(30)
    loss.x = np.zeros(30)
    equal(find(loss, loss.x, 0.1, basis, iterations=100).sharpness, loss.sharpness(0.1, basis))
    spread = np.abs(loss.slope if basis is None else basis.T @ loss.slope).sum()
    equal(loss.sharpness(0.1, basis), 100 * 0.1 * spread / (1 + loss.base))


def test_a_permutation_for_a_basis_is_the_full_space() -> None:
    loss, order = Linear(20), np.random.default_rng(0).permutation(20)
    full, permuted = find(loss, loss.x, 1e-3), find(loss, loss.x, 1e-3, np.eye(20)[:, order])
    equal(permuted.sharpness, full.sharpness)
    torch.testing.assert_close(permuted.point, full.point[order], rtol=DIRECT, atol=0)


@given(n=st.integers(1, 40), epsilon=st.floats(1e-4, 1.0), seed=st.integers(0, 2**32 - 1))
def test_any_linear_loss_reaches_its_corner(n: int, epsilon: float, seed: int) -> None:
    loss = Linear(n, seed)
    equal(find(loss, loss.x, epsilon, seed=seed).sharpness, loss.sharpness(epsilon))


def bumpy(w: Tensor) -> Tensor:
    return 2 + (3 * w).sin().sum() / len(w)


@pytest.mark.parametrize("basis", [None, BASIS])
def test_the_result_describes_its_point(basis: np.ndarray | None) -> None:
    x, calls = np.random.default_rng(0).standard_normal(30), []

    def loss(w: Tensor) -> Tensor:
        calls.append(w)
        return bumpy(w)

    found = find(loss, x, 0.1, basis, restarts=3)
    moved = found.point if basis is None else torch.from_numpy(basis) @ found.point
    equal(found.largest, bumpy(torch.from_numpy(x) + moved).item())
    assert found.base == bumpy(torch.from_numpy(x)).item()
    equal(found.sharpness, 100 * (found.largest - found.base) / (1 + found.base))
    half = 0.1 * (np.abs(x if basis is None else np.linalg.pinv(basis) @ x) + 1)
    assert bool((found.point.abs() <= torch.from_numpy(half) * (1 + 1e-12)).all())
    assert found.evaluations == len(calls) - 1  # the loss at x is taken twice, to see that it is the same
    assert found.start in range(3)
    assert 3 <= found.iterations <= 30


def test_iterations_are_a_limit() -> None:
    x = np.random.default_rng(0).standard_normal(30)
    one, many = find(bumpy, x, 2.0, iterations=1), find(bumpy, x, 2.0, iterations=200, max_evaluations=1000)
    assert (one.iterations, one.converged, many.converged) == (1, False, True)
    assert one.largest < many.largest


@given(n=st.integers(1, 10), offset=st.floats(0, 0.2), seed=st.integers(0, 2**32 - 1))
def test_sharpness_is_never_negative(n: int, offset: float, seed: int) -> None:
    hill = Quadratic(n, seed)
    found = find(lambda w: 100 - hill(w), hill.minimum + offset, 1e-2, seed=seed)
    assert found.sharpness >= 0
    if offset == 0:  # at the summit
        assert (found.sharpness, found.start, found.point.abs().max().item()) == (0, -1, 0)


OTHER = torch.ones(3, dtype=torch.float64, requires_grad=True)  # a parameter that is no part of x


@pytest.mark.parametrize(
    "loss", [lambda w: 1 + 0 * w.sum(), lambda w: torch.tensor(1.0, dtype=torch.float64), lambda w: OTHER.sum()]
)
def test_a_loss_that_ignores_x_has_none(loss: Loss) -> None:
    found = find(loss, np.ones(4), 1e-3, restarts=3)
    assert (found.sharpness, found.start, found.evaluations, found.iterations) == (0, -1, 4, 0)
    assert found.point.tolist() == [0] * 4


def test_a_plateau_above_x_counts() -> None:
    x = np.ones(3)
    plateau = find(lambda w: torch.where((w == 1).all(), 1.0, 4.0).double() + 0 * w.sum(), x, 0.1)
    equal(plateau.sharpness, 100 * (4 - 1) / (1 + 1))


def test_equal_generators_give_equal_results() -> None:
    x = np.random.default_rng(0).standard_normal(10)
    again = [find(bumpy, x, 1.0, seed=seed) for seed in (1, 1, 2)]
    assert again[0].sharpness == again[1].sharpness
    assert again[0].point.tolist() == again[1].point.tolist()
    assert again[0].sharpness != again[2].sharpness


def test_single_precision_is_taken_as_it_is() -> None:
    loss, single = Linear(5), torch.float32
    found = keskar_sharpness(
        lambda w: loss.base + (w - torch.from_numpy(loss.x).to(single)) @ torch.from_numpy(loss.slope).to(single),
        torch.from_numpy(loss.x).to(single),
        epsilon=0.1,
        generator=torch.Generator().manual_seed(0),
    )
    assert found.point.dtype == single
    torch.testing.assert_close(found.sharpness, loss.sharpness(0.1), rtol=1e-5, atol=0)  # eps32, times 100 for slack


@pytest.mark.parametrize("epsilon", [0.0, -1e-3, float("nan")])
def test_an_epsilon_that_is_not_positive_raises(epsilon: float) -> None:
    with pytest.raises(ValueError, match="epsilon"):
        find(bumpy, np.ones(3), epsilon)


def test_no_restart_raises() -> None:
    with pytest.raises(ValueError, match="restarts"):
        find(bumpy, np.ones(3), 1e-3, restarts=0)


def test_the_solvers_own_tests_are_arguments() -> None:
    x = np.ones(6)
    plain = find(bumpy, x, 0.5, iterations=50)
    assert find(bumpy, x, 0.5, iterations=50, factr=1e17).iterations < plain.iterations
    assert find(bumpy, x, 0.5, iterations=50, pgtol=1e9).iterations == 0
    with pytest.raises(ValueError, match="maxls"):
        find(bumpy, x, 0.5, line_search=0)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_at_x_raises(value: float) -> None:
    with pytest.raises(ValueError, match=r"nan|inf"):
        find(lambda w: w.sum() * 0 + value, np.ones(3), 1e-3)


def test_a_loss_that_is_not_finitein_the_box_raises() -> None:
    with pytest.raises(ValueError, match="epsilon"):
        find(lambda w: torch.where((w == 1).all(), w.sum(), w.sum() * float("nan")), np.ones(3), 1e-3)


def test_a_manifold_of_more_dimensions_than_the_space_raises() -> None:
    with pytest.raises(ValueError, match=r"\b5\b.*\b4\b"):
        random_basis(4, 5, generator=torch.Generator())


def check_standard_normal(basis: Tensor) -> None:
    count = basis.numel()
    assert abs(basis.mean().item()) <= STANDARD_ERRORS / count**0.5
    assert abs(basis.square().mean().item() - 1) <= STANDARD_ERRORS * (2 / count) ** 0.5


def test_a_random_basis_is_standard_normal() -> None:
    basis = random_basis(400, generator=torch.Generator().manual_seed(0))
    assert (basis.shape, basis.dtype) == ((400, 100), torch.float64)  # p = 100 as in the paper
    check_standard_normal(basis)
    assert basis.equal(random_basis(400, generator=torch.Generator().manual_seed(0)))
    with pytest.raises(AssertionError):  # normalised columns
        check_standard_normal(basis / basis.norm(dim=0))


SETTINGS = {
    "epsilons": (1e-3, 5e-4),
    "manifold_dimension": 6,
    "restarts": 2,
    "converged_starts": 0,
    "splits": ("train",),
    "images": None,
    "batch_norm_statistics": "running",
    "micro_batch": 10,
    "precision": "float64",
    "threads": 1,
}


def test_the_stage_measures_each_epsilon_in_both_spaces() -> None:
    loss, settings = Linear(30), SharpnessSettings(**SETTINGS)
    x = torch.from_numpy(loss.x)
    rows = list(measure(loss, x, settings, seed=3))
    assert [(row["space"], row["dimension"], row["epsilon"]) for row in rows] == [
        ("full", None, 1e-3),
        ("full", None, 5e-4),
        ("manifold", 6, 1e-3),
        ("manifold", 6, 5e-4),
    ]
    for row in rows[:2]:
        equal(row["sharpness"], loss.sharpness(row["epsilon"]))
    assert set(rows[0]) == {"space", "dimension", "epsilon", *(set(vars(find(loss, loss.x, 1e-3))) - {"point"})}
    assert rows == list(measure(loss, x, settings, seed=3))
    assert rows[2]["sharpness"] != list(measure(loss, x, settings, seed=4))[2]["sharpness"]


def test_the_manifold_is_that_of_the_seed_whatever_the_weights() -> None:
    def directions(x: Tensor) -> Tensor:
        """The span of the points at which the manifold's loss is asked for."""
        asked: list[Tensor] = []

        def loss(w: Tensor) -> Tensor:
            asked.append(w.detach() - x)
            return 1 + w.square().sum()

        rows = measure(loss, x, SharpnessSettings(**{**SETTINGS, "manifold_dimension": 2}), seed=3)
        for row in rows:
            if row["space"] == "full":
                asked.clear()
        span = torch.linalg.svd(torch.stack(asked)).Vh[:2]
        return span.T @ span

    first, second = (directions(torch.full((8,), value, dtype=torch.float64)) for value in (0.1, 2.0))
    torch.testing.assert_close(first, second, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    "wrong",
    [
        {"restarts": 0},
        {"manifold_dimension": 0},
        {"micro_batch": 0},
        {"epsilons": ()},
        {"epsilons": (1, 0)},
        {"precision": "float16"},
        {"splits": ()},
        {"splits": ("train", "validation")},
        {"converged_starts": 1},
        {"converged_starts": -1},
        {"batch_norm_statistics": ()},
        {"batch_norm_statistics": ("running", "running")},
        {"batch_norm_statistics": ("running", "ghost")},
        {"batch_norm_statistics": "ghost"},
    ],
)
def test_settings_that_cannot_be_raise(wrong: dict) -> None:
    with pytest.raises(InputError, match="sharpness"):
        SharpnessSettings(**{**SETTINGS, **wrong})


@pytest.mark.parametrize("value", [-1.0, -2.5])
def test_a_loss_at_which_the_metric_has_no_denominator_raises(value: float) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        find(lambda w: value + 0 * w.sum(), np.zeros(3), 0.1)


@pytest.mark.parametrize("shape", [(3, 4), (2, 1), (3,)])
def test_a_basis_of_another_shape_raises(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="basis"):
        find(lambda w: w.sum(), np.zeros(3), 0.1, basis=np.ones(shape))


# --- the search that goes on until it converges ---
X = np.random.default_rng(0).standard_normal(30)
SEARCHED = [(bumpy, X, 2.0, None), (bumpy, X, 0.3, BASIS), (Quadratic(30), X, 0.5, None), (Linear(30), X, 0.1, None)]


@pytest.mark.parametrize(("loss", "x", "epsilon", "basis"), SEARCHED)
def test_the_number_of_ten_iterations_is_that_of_a_search_without_convergence(
    loss: Loss, x: np.ndarray, epsilon: float, basis: np.ndarray | None
) -> None:
    alone = find(loss, x, epsilon, basis, restarts=3)
    beside = find(loss, x, epsilon, basis, restarts=3, converged_starts=4)
    for name in ("sharpness", "base", "largest", "evaluations", "iterations", "converged", "start"):
        assert getattr(alone, name) == getattr(beside, name)
    assert alone.point.equal(beside.point)
    assert alone.search is None


@pytest.mark.parametrize(("loss", "x", "epsilon", "basis"), SEARCHED)
def test_a_converged_search_is_never_below_ten_iterations(
    loss: Loss, x: np.ndarray, epsilon: float, basis: np.ndarray | None
) -> None:
    found = find(loss, x, epsilon, basis, restarts=2, converged_starts=4)
    assert found.search is not None
    assert found.search.sharpness >= found.sharpness


def test_a_search_climbs_where_ten_iterations_do_not_suffice() -> None:
    matrix, _ = oracles.symmetric(np.geomspace(1, 1000, 30))
    summit = torch.from_numpy(CENTRE)  # within the box around x, whose half-width is at least 0.5

    def hill(w: Tensor) -> Tensor:
        return 10 - (w - summit) @ torch.from_numpy(matrix) @ (w - summit) / 2

    found = find(hill, CENTRE + SHIFT / 20, 0.5, converged_starts=3)
    assert found.search is not None
    assert (found.converged, found.search.converged) == (False, True)
    known = 100 * (10 - found.base) / (1 + found.base)
    assert found.sharpness < 0.999 * known
    torch.testing.assert_close(found.search.sharpness, known, rtol=1e-5, atol=0)  # a summit of condition 1000


def at_best_corner(wrong: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A convex quadratic in 8 dimensions, whose maximum over the box is the best of its 256 corners."""
    matrix, x = COUPLED[:8, :8], CENTRE[:8]
    if wrong == "no corners":
        monkeypatch.setattr(sharpness, "maximise", partial(sharpness.maximise, kinds=("interior",)))
    elif wrong == "the last start":
        plain = sharpness.maximise
        last = lambda *args, **options: replace(f := plain(*args, **options), value=f.values[-1])  # noqa: E731
        monkeypatch.setattr(sharpness, "maximise", last)
    elif wrong == "flipped sign":
        plain_function = sharpness.in_the_box

        def flipped(*args: object) -> Callable:
            function = plain_function(*args)
            return lambda u: tuple(-part for part in function(u))

        monkeypatch.setattr(sharpness, "in_the_box", flipped)

    def loss(w: Tensor) -> Tensor:
        off = w - torch.from_numpy(x)
        return 0.3 + off @ torch.from_numpy(matrix) @ off / 2

    for seed in range(8):
        found = find(loss, x, 0.05, seed=seed, converged_starts=5)
        assert found.search is not None
        known = oracles.convex_sharpness(
            lambda w: 0.3 + float((w - x) @ matrix @ (w - x)) / 2, x, epsilon=0.05, basis=np.eye(8)
        )
        equal(found.search.sharpness, known)


@pytest.mark.parametrize("wrong", ["no corners", "the last start", "flipped sign"])
def test_the_search_finds_the_best_corner(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    at_best_corner(None, monkeypatch)
    with pytest.raises(AssertionError):
        at_best_corner(wrong, monkeypatch)


def test_a_search_at_a_summit_finds_nothing_and_agrees() -> None:
    hill = Quadratic(5)
    found = find(lambda w: 100 - hill(w), hill.minimum, 1e-2, converged_starts=3).search
    assert found is not None
    assert (found.sharpness, found.starts, found.agreeing, found.converged) == (0, 3, 3, True)


def test_the_spread_over_starts_is_recorded() -> None:
    settings = SharpnessSettings(**{**SETTINGS, "restarts": 1, "converged_starts": 3, "epsilons": (2.0,)})
    result = {"split": "train", **next(iter(measure(bumpy, torch.from_numpy(X), settings, seed=3)))}
    by_quantity = {row["quantity"]: row["value"] for row in rows([result])}
    search = result["search"]
    assert by_quantity["sharpness_pct"] == result["sharpness"]
    assert by_quantity["sharpness_converged_pct"] == max(search.by_start)
    assert by_quantity["sharpness_least_start_pct"] == min(search.by_start)
    assert by_quantity["sharpness_median_start_pct"] == np.median(search.by_start)
    assert by_quantity["sharpness_starts"] == len(search.by_start) >= 3
    near = sum(phi >= 0.997 * max(search.by_start) for phi in search.by_start)
    assert by_quantity["sharpness_starts_agreeing"] == near
    assert by_quantity["search_converged"] == (near >= 3)
    assert by_quantity["search_evaluations"] > by_quantity["evaluations"]
    assert {name for name in QUANTITIES if name not in by_quantity} == set()


class Counted:
    """A loss at weights of its own, as an objective."""

    def __init__(self, name: str) -> None:
        self.name, self.loss = name, Linear(30)

    def weights(self) -> Tensor:
        return torch.from_numpy(self.loss.x)

    def __call__(self, w: Tensor) -> Tensor:
        return self.loss(w)

    def conditions(self) -> dict:
        return {"images": 5, "batch_norm": self.name}


@pytest.mark.parametrize(
    ("setting", "axes", "condition"),
    [
        ("batch", [None], "batch"),
        (("running",), ["reestimated"], "running"),
        (("running", "batch"), ["reestimated", "batch"], ["running", "batch"]),
    ],
)
def test_several_statistics_of_batch_norm_are_an_axis_of_the_record(
    setting: str | tuple, axes: list, condition: object
) -> None:
    settings = SharpnessSettings(**{**SETTINGS, "batch_norm_statistics": setting, "epsilons": (1e-3,)})
    losses = {name: {"train": Counted(name)} for name in settings.statistics}
    found = list(rows(measure_all(losses, settings, seed=0)))
    assert list(dict.fromkeys(row.get("statistics") for row in found)) == axes
    assert settings.maximisations == 2 * len(axes)
    assert conditions(losses) == {"train": {"images": 5, "batch_norm": condition}}


def test_settings_at_their_no_op_value_are_in_no_record() -> None:
    assert "converged_starts" not in SharpnessSettings(**SETTINGS).identity()
    assert SharpnessSettings(**{**SETTINGS, "converged_starts": 5}).identity()["converged_starts"] == 5
