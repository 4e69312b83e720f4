"""Random matrices against closed forms, dense references and Marchenko and Pastur's law; the perturbation bound."""

import math
from functools import partial

import numpy as np
import oracles
import pytest
import torch

from gapscope import seeds
from gapscope.errors import InputError
from gapscope.measures.perturbation import PerturbationSettings, perturb
from gapscope.measures.random_matrices import RandomMatrixSettings, repetition
from gapscope.numerics import perturbation, random_matrices

SETTINGS = {"law": "gaussian", "seed": 0, "spectrum_values": 1000, "bins": 20}


def extremes_of(matrix: np.ndarray) -> tuple[float, float]:
    R = random_matrices.triangle(torch.from_numpy(matrix))
    return random_matrices.extreme_singular_values(R, seeds.generator("test"))


def with_spectrum(m: int, values: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(0)
    n = len(values)
    return oracles.orthogonal(m, rng)[:, :n] @ np.diag(values) @ oracles.orthogonal(n, rng)


@pytest.mark.parametrize("n", [1, 3, random_matrices.SMALL, random_matrices.SMALL + 1, 320])
@pytest.mark.parametrize("extra", [0, 30])
def test_known_extremes_are_found(n: int, extra: int) -> None:
    smallest, largest = extremes_of(with_spectrum(n + extra, np.linspace(2.0, 90.0, n)))
    assert largest == pytest.approx(90.0 if n > 1 else 2.0, rel=random_matrices.TOLERANCE)
    assert smallest == pytest.approx(2.0, rel=random_matrices.TOLERANCE)


@pytest.mark.parametrize("variant", ["right", "float64 gram", "float32 svd"])
def test_a_tiny_smallest_value_is_found_and_shortcuts_lose_it(variant: str) -> None:
    matrix = with_spectrum(300, np.geomspace(1e-6, 1e3, 300))
    known = pytest.approx(1e-6, rel=1e-4)  # eps64 sigma_max is 2e-13
    if variant == "right":
        assert extremes_of(matrix)[0] == known
    else:  # by how much it is missed depends on the processor
        assert oracles.dense_spectrum(matrix, 0, variant)[-1] != known


@pytest.mark.parametrize("law", random_matrices.LAWS)
def test_a_random_square_matrix_agrees_with_a_dense_svd(law: str) -> None:
    matrix = random_matrices.law(law).draw((260, 260), seeds.generator(law)).numpy()
    values = oracles.dense_spectrum(matrix, 0)
    bound = 100 * np.finfo(float).eps * values[0]  # two backward-stable ways, each within a modest multiple of eps
    smallest, largest = extremes_of(matrix)
    assert abs(smallest - values[-1]) <= bound + random_matrices.TOLERANCE / 2 * values[-1]
    assert abs(largest - values[0]) <= bound


def test_a_wide_matrix_and_float32_are_refused() -> None:
    for matrix in (torch.zeros(2, 3, dtype=torch.float64), torch.zeros(3, 2)):
        with pytest.raises(ValueError, match="float64"):
            random_matrices.triangle(matrix)


@pytest.mark.parametrize("name", random_matrices.LAWS)
def test_a_law_has_the_moments_that_it_states(name: str) -> None:
    law = random_matrices.law(name)
    entries = law.draw((2000, 1000), seeds.generator("moments", name)).numpy()
    assert abs(entries.mean() - law.mean) < 4 * law.std / math.sqrt(entries.size)
    # the standard error of a variance holds the fourth moment, large for the lognormal law
    squares = (entries - law.mean) ** 2
    assert abs(squares.mean() - law.std**2) < 4 * squares.std() / math.sqrt(entries.size)
    other = random_matrices.law("uniform" if name != "uniform" else "gaussian")
    assert abs(squares.mean() - other.std**2) > 4 * squares.std() / math.sqrt(entries.size)


def test_an_unknown_law_is_refused() -> None:
    with pytest.raises(InputError, match=r"'gausian'.*'gaussian'"):
        random_matrices.law("gausian")


@pytest.mark.parametrize("ratio", [0.01, 0.25, 0.5, 1.0])
def test_marchenko_pastur_is_a_law_between_its_edges(ratio: float) -> None:
    low, high = 1 - math.sqrt(ratio), 1 + math.sqrt(ratio)
    cdf = partial(random_matrices.marchenko_pastur_cdf, ratio=ratio)
    assert cdf(0.0) == 0.0
    assert cdf(low) < 1e-12
    assert cdf(high) == pytest.approx(1.0, abs=1e-9)
    assert cdf(high + 1) == cdf(high)
    assert 0 < cdf(low + 1e-3) < cdf(high - 1e-3) < 1
    x = np.linspace(low, high, 20_001)
    mean_square = np.sum((x[1:] ** 2 + x[:-1] ** 2) / 2 * np.diff([cdf(edge) for edge in x]))
    assert mean_square == pytest.approx(1.0, abs=1e-4)  # of an entry, over m of them in a column: the trace of A^T A


def test_the_quarter_circle_is_the_square_case() -> None:
    for x in (0.1, 0.7, 1.9):  # density sqrt(4 - x^2) / pi
        area = (x * math.sqrt(4 - x**2) / 2 + 2 * math.asin(x / 2)) / math.pi
        assert random_matrices.marchenko_pastur_cdf(x, 1.0) == pytest.approx(area, abs=1e-9)


def test_a_histogram_holds_every_value_and_lies_on_the_law() -> None:
    rows = [repetition((400, 200, index), SETTINGS) for index in range(6)]
    assert [row["histogram"] is not None for row in rows] == [True] * 5 + [False]  # 5 x 200 are 1000 values
    table = random_matrices.histogram_rows(rows, "gaussian", SETTINGS["bins"])
    assert sum(row["count"] for row in table) == 1000
    assert sum(row["expected"] for row in table) == pytest.approx(1000)
    apart = [abs(row["count"] - row["expected"]) for row in table]
    assert max(apart) < 25  # values repel each other: far fewer than a Poisson law's 4 sqrt(1000 / 28)
    wrong = [abs(row["count"] - other["expected"]) for row, other in zip(table, table[3:], strict=False)]
    assert max(wrong) > 25


def test_a_repetition_is_the_same_alone_and_another_one_differs() -> None:
    first = repetition((30, 20, 1), SETTINGS)
    repetition((30, 20, 0), SETTINGS)
    again = repetition((30, 20, 1), SETTINGS)
    others = [
        repetition((30, 20, 2), SETTINGS),
        repetition((30, 20, 1), SETTINGS | {"seed": 1}),
        repetition((30, 20, 1), SETTINGS | {"law": "uniform"}),
    ]
    assert first | {"cpu_s": 0} == again | {"cpu_s": 0}
    assert first["sigma_min"] not in [other["sigma_min"] for other in others]


def test_two_laws_that_transform_one_normal_variable_draw_different_ones() -> None:
    found = {law: repetition((1, 1, 0), SETTINGS | {"law": law}) for law in ("gaussian", "lognormal")}
    assert abs(math.log(found["lognormal"]["sigma_min"])) != pytest.approx(found["gaussian"]["sigma_min"])


@pytest.mark.parametrize(("m", "n"), [(60, 60), (60, 30), (200, 10)])
def test_proposition_2_holds_for_gaussian_matrices_and_not_with_its_bounds_swapped(m: int, n: int) -> None:
    rows = [repetition((m, n, index), SETTINGS) for index in range(60)]
    smallest, largest = (np.array([row[name] for row in rows]) for name in ("sigma_min", "sigma_max"))
    for values, bound, sign in (
        (smallest, math.sqrt(m) - math.sqrt(n), 1),
        (largest, math.sqrt(m) + math.sqrt(n), -1),
    ):
        error = values.std(ddof=1) / math.sqrt(len(values))
        assert sign * (values.mean() - bound) > 2 * error


def test_the_smallest_value_of_a_square_gaussian_matrix_has_edelmans_mean() -> None:
    # Edelman 1988: n sigma_min^2 has the law 1 - exp(-x / 2 - sqrt(x)), so sqrt(n) E sigma_min = 0.6557 for large n
    n, count = 100, 200
    values = math.sqrt(n) * np.array([repetition((n, n, i), SETTINGS)["sigma_min"] for i in range(count)])
    known = math.sqrt(math.pi / 2) * math.exp(0.5) * math.erfc(math.sqrt(0.5))
    assert abs(values.mean() - known) < 4 * values.std(ddof=1) / math.sqrt(count)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shapes": ((3, 4),)}, r"shapes.*\[3, 4\]"),
        ({"shapes": ((3, 0),)}, "shapes"),
        ({"shapes": ((3,),)}, "shapes"),
        ({"repetitions": 1}, "repetitions.*2.*1"),
    ],
)
def test_settings_out_of_range(change: dict, message: str) -> None:
    good = {"shapes": ((4, 3),), "repetitions": 2, "seed": 0, "spectrum_values": 1, "bins": 1}
    RandomMatrixSettings(**good)
    with pytest.raises(InputError, match=message):
        RandomMatrixSettings(**good | change)


# --- Proposition 3 ----------------------------------------------------------------------------------------------------

PROBLEM = PerturbationSettings(units=20, samples=(8, 20, 40), size=1e-8, repetitions=10, seed=0)


def changes(samples: int) -> list[dict[str, float]]:
    return [perturb(samples, index, PROBLEM) for index in range(PROBLEM.repetitions)]


@pytest.mark.parametrize("samples", [20, 21, 40])
def test_with_as_many_samples_as_units_both_bounds_hold_and_the_tight_one_is_reached(samples: int) -> None:
    for row in changes(samples):
        first_order = 1 + 3 * row["tight"]  # eq. 5 leaves out the product of the changes
        assert row["estimate"] <= row["tight"] * first_order < row["bound"]
        assert row["estimate"] == pytest.approx(row["smallest"], rel=1e-4)
        assert row["worst_estimate"] == pytest.approx(row["tight"], rel=1e-3)
        assert row["estimate"] < 0.9 * row["worst_estimate"]


@pytest.mark.parametrize("samples", [8, 19])
def test_with_fewer_samples_the_estimate_breaks_the_bound_and_the_smallest_change_does_not(samples: int) -> None:
    for row in changes(samples):
        assert row["estimate"] > 1e4 * row["bound"]
        assert row["smallest"] <= row["tight"] * (1 + 3 * row["tight"])


def test_a_diagonal_problem_by_hand() -> None:
    theta, X = torch.diag(torch.tensor([3.0, 1.0]).double()), torch.diag(torch.tensor([2.0, 0.5]).double())
    change = perturbation.worst_change(theta, X, 1e-9)
    assert change.abs().tolist() == [[0.0, 1e-9], [0.0, 0.0]]
    found = perturbation.solution_change(theta, X, change)
    assert found.bound == pytest.approx(1e-9 * (1 / 2 + 1 / 0.5))
    assert found.tight == pytest.approx(1e-9 / 0.5)
    assert found.estimate == pytest.approx(found.tight, rel=1e-6)


@pytest.mark.parametrize(
    "change", [{"units": 0}, {"samples": ()}, {"samples": (0,)}, {"repetitions": 0}, {"size": 0.0}, {"size": 2.0}]
)
def test_perturbation_settings_out_of_range(change: dict) -> None:
    with pytest.raises(InputError, match=r"perturbation[.:]"):
        PerturbationSettings(**vars(PROBLEM) | change)
