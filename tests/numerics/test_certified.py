"""Counts on dense tensors of known spectra: right, or flagged; float32 SVDs and plain Gram matrices get them wrong.

The oracles are exact integers and 60-digit arithmetic (mpmath). Values are dense in the rows of every unfolding: graded
and diagonal matrices would flatter a Gram matrix.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gapscope.numerics.hosvd import gram, unfold
from gapscope.numerics.hosvd.effective_ranks import EffectiveRanks, effective_ranks
from gapscope.numerics.hosvd.near_rank import NearRank, near_rank_count
from gapscope.numerics.hosvd.singular_values import METHODS, mode_singular_values
from gapscope.numerics.hosvd.spectrum import ModeSpectrum, round_up

THRESHOLDS = (1e-4, 1e-5)  # Oyedotun et al. 2022, sections 4.4 and 5.4.1
SIGMA_MAX = (1e2, 1e3, 1e4)
Spectra = Callable[[np.ndarray], list[ModeSpectrum]]


def unfolding(tensor: np.ndarray, mode: int) -> np.ndarray:
    matrix = np.moveaxis(tensor, mode, 0).reshape(tensor.shape[mode], -1)
    return matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T


def plain_gram(tensor: np.ndarray) -> list[ModeSpectrum]:
    found = [
        np.linalg.eigvalsh(a @ a.T)[::-1] for a in (unfolding(tensor.astype(float), k) for k in range(tensor.ndim))
    ]
    return [
        ModeSpectrum(np.sqrt(np.maximum(v, 0)), n, 1e-14 * v[0] ** 0.5, "planted") for v, n in zip(found, tensor.shape)
    ]


def float32_svd(tensor: np.ndarray) -> list[ModeSpectrum]:
    given32 = torch.from_numpy(tensor.astype(np.float32))  # torch, since numpy computes float32 input in float64
    found = [torch.linalg.svdvals(torch.from_numpy(unfolding(given32.numpy(), k))) for k in range(tensor.ndim)]
    return [ModeSpectrum(v.double().numpy(), n, 1e-14 * float(v[0]), "planted") for v, n in zip(found, tensor.shape)]


PLANTED = {"plain Gram": plain_gram, "float32 SVD": float32_svd}


def exact(matrix: np.ndarray) -> list[float]:
    """Singular values from 60-digit arithmetic, descending; the Gram matrix's squaring costs half of the digits."""
    mpmath = pytest.importorskip("mpmath")
    with mpmath.workdps(60):
        rows = [[mpmath.mpf(float(value)) for value in row] for row in matrix]
        squares = mpmath.eigsy(mpmath.matrix([[mpmath.fdot(a, b) for b in rows] for a in rows]), eigvals_only=True)
        return sorted((float(mpmath.sqrt(abs(square))) for square in squares), reverse=True)


@cache
def two_scales(sigma_max: float) -> np.ndarray:
    """A tensor (20, 12, 20), float32-exact: columns of rank 5 and norm sigma_max, columns of values 1e-6 to 1e-3."""
    rng = np.random.default_rng(int(sigma_max))
    big = (rng.integers(-8, 9, (20, 5)) @ rng.integers(-8, 9, (5, 200))).astype(float)
    big *= 2.0 ** np.floor(np.log2(sigma_max / np.linalg.norm(big, 2)))
    left, right = (np.linalg.qr(rng.standard_normal((n, 20)))[0] for n in (20, 40))
    small = (left * np.geomspace(1e-6, 1e-3, 20)) @ right.T
    columns = np.concatenate([big, small], axis=1)[:, rng.permutation(240)]
    return columns.astype(np.float32).reshape(20, 12, 20)


@cache
def low_rank(sigma_max: float) -> np.ndarray:
    """Whole numbers (30, 9, 20) of multilinear rank (7, 4, 6), all within 2^24."""
    rng = np.random.default_rng(int(sigma_max))
    tensor = rng.integers(-3, 4, (7, 4, 6))
    for axis, size in enumerate((30, 9, 20)):
        factor = rng.integers(-2, 3, (size, tensor.shape[axis]))
        tensor = np.moveaxis(np.tensordot(factor, tensor, axes=(1, axis)), 0, axis)
    scale = max(1, round(sigma_max / np.linalg.norm(unfolding(tensor, 0).astype(float), 2)))
    return tensor * scale


@cache
def dead_and_double(sigma_max: float) -> np.ndarray:
    """Activations (60, 12, 5, 5) after a ReLU; 3 dead channels, 10 samples that occur twice, a border of one value."""
    rng = np.random.default_rng(int(sigma_max))
    mixture = rng.standard_normal((60, 8)) @ rng.standard_normal((8, 300)) + 0.1 * rng.standard_normal((60, 300))
    tensor = np.maximum(mixture.reshape(60, 12, 5, 5), 0).astype(np.float32)
    tensor[:, [2, 5, 7]] = 0
    tensor[:10] = tensor[50:]
    tensor *= np.float32(2.0 ** np.ceil(np.log2(sigma_max / np.linalg.norm(tensor))))
    tensor[:, :, :, 0] = tensor[0, 0, 0, 0] + np.float32(sigma_max / 64)
    tensor[:, [2, 5, 7]] = 0
    return tensor


def check_counts(spectra: Spectra, tensor: np.ndarray, known: list[list[float]]) -> None:
    """Every count is right, its interval holds the truth, and none is undecidable."""
    found = spectra(tensor)
    for threshold in THRESHOLDS:
        for count, values in zip(near_rank_count(found, threshold), known, strict=True):
            right = sum(value <= threshold for value in values)
            assert count.economy == right
            assert count.certain <= right <= count.possible
            assert not count.undecidable


def check_bounds(spectra: Spectra, tensor: np.ndarray, known: list[list[float]]) -> None:
    for spectrum, values in zip(spectra(tensor), known, strict=True):
        assert (np.abs(spectrum.values - np.array(values)) <= spectrum.error_bound).all()


@cache
def truth(make: Callable[[float], np.ndarray], sigma_max: float) -> list[list[float]]:
    return [exact(unfolding(make(sigma_max), mode)) for mode in range(3)]


def zeros_known(tensor: np.ndarray, zeros: list[int]) -> list[list[float]]:
    """Spectra of which only the number of zeros is known; the others are far above the thresholds."""
    counts = [min(unfolding(tensor, mode).shape) for mode in range(tensor.ndim)]
    return [[1.0] * (count - none) + [0.0] * none for count, none in zip(counts, zeros, strict=True)]


def both_scales(check: Callable[..., None], spectra: Spectra, sigma_max: float) -> None:
    check(spectra, two_scales(sigma_max), truth(two_scales, sigma_max))


def whole_numbers(check: Callable[..., None], spectra: Spectra, sigma_max: float) -> None:
    check(spectra, low_rank(sigma_max), zeros_known(low_rank(sigma_max), [23, 5, 14]))


def activations(check: Callable[..., None], spectra: Spectra, sigma_max: float) -> None:
    check(spectra, dead_and_double(sigma_max), zeros_known(dead_and_double(sigma_max), [10, 3, 0, 0]))


CASES = [both_scales, whole_numbers, activations]


@pytest.mark.parametrize("sigma_max", SIGMA_MAX)
def test_the_two_scales_are_on_both_sides_of_both_thresholds(sigma_max: float) -> None:
    first = np.array(truth(two_scales, sigma_max)[0])
    assert sigma_max / 2 < first[0] < sigma_max * 2
    assert np.histogram(first, [0, 1e-5, 1e-4, 1e-3, 1e5])[0].min() >= 2


@pytest.mark.parametrize("sigma_max", SIGMA_MAX)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("method", ["certified", "qr"])
def test_counts_are_right(case: Callable[..., None], sigma_max: float, method: str) -> None:
    case(check_counts, lambda tensor: mode_singular_values(tensor, method=method), sigma_max)


# float32 is off by about 1e-7 sigma_max, a Gram matrix by 1e-8 sigma_max: too much from 50-150 and from 1e3 upwards
@pytest.mark.parametrize(("planted", "sigma_max"), [("plain Gram", 1e4), ("float32 SVD", 1e3), ("float32 SVD", 1e4)])
@pytest.mark.parametrize("case", CASES)
def test_counts_expose(case: Callable[..., None], planted: str, sigma_max: float) -> None:
    with pytest.raises(AssertionError):
        case(check_counts, PLANTED[planted], sigma_max)


def check_flagged(spectra: Spectra, sigma_max: float) -> None:
    """Whatever is wrong is within the interval, and an interval wide enough to matter is flagged."""
    known = truth(two_scales, sigma_max)
    for threshold in THRESHOLDS:
        for count, values in zip(near_rank_count(spectra(two_scales(sigma_max)), threshold), known, strict=True):
            right = sum(value <= threshold for value in values)
            assert count.certain <= right <= count.possible
            assert count.undecidable or abs(count.economy - right) <= max(1.0, 0.01 * right)


@pytest.mark.parametrize("sigma_max", SIGMA_MAX)
def test_tensorly_in_float32_is_flagged(sigma_max: float) -> None:
    check_flagged(lambda tensor: mode_singular_values(tensor, method="tensorly"), sigma_max)


@pytest.mark.parametrize("sigma_max", SIGMA_MAX[1:])
def test_float32_under_a_float64_bound_would_not_be_flagged(sigma_max: float) -> None:
    with pytest.raises(AssertionError):
        check_flagged(float32_svd, sigma_max)


@pytest.mark.parametrize("sigma_max", SIGMA_MAX)
@pytest.mark.parametrize("method", METHODS)
def test_every_bound_holds(sigma_max: float, method: str) -> None:
    both_scales(check_bounds, lambda tensor: mode_singular_values(tensor, method=method), sigma_max)


def test_much_smaller_bounds_would_not_hold() -> None:
    def narrowed(tensor: np.ndarray) -> list[ModeSpectrum]:
        found = mode_singular_values(tensor)
        return [ModeSpectrum(s.values, s.size, s.error_bound / 2**10, s.method) for s in found]

    with pytest.raises(AssertionError):
        both_scales(check_bounds, narrowed, 1e4)


def decaying(rows: int, columns: int, seed: int, decades: float, sigma_max: float) -> np.ndarray:
    rng = np.random.default_rng(seed)
    short = min(rows, columns)
    left, right = (np.linalg.qr(rng.standard_normal((n, short)))[0] for n in (rows, columns))
    return sigma_max * (left * np.logspace(0, -decades, short)) @ right.T


@pytest.mark.parametrize("shape", [(12, 8), (10, 10), (5, 60), (24, 300)])
@pytest.mark.parametrize("decades", [4.0, 9.0, 14.0])
def test_every_bound_holds_for_decaying_values(shape: tuple[int, int], decades: float) -> None:
    matrix = decaying(*shape, 0, decades, 1e3)
    (spectrum,) = mode_singular_values(matrix)
    assert (np.abs(spectrum.values - exact(unfolding(matrix, 0))) <= spectrum.error_bound).all()
    assert (spectrum.error_bound <= 2 * np.maximum(gram.RELATIVE * spectrum.values, gram.ABSOLUTE * 1e3)).all()


@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 400)),
    decades=st.floats(0, 20),
    exponent=st.floats(-8, 8),
    seed=st.integers(0, 2**32 - 1),
)
def test_certified_agrees_with_qr_within_their_bounds(
    shape: tuple[int, int], decades: float, exponent: float, seed: int
) -> None:
    matrix = decaying(*shape, seed, decades, 10.0**exponent)
    ((ours,), (qr,)) = (mode_singular_values(matrix, method=method) for method in ("certified", "qr"))
    assert (np.abs(ours.values - qr.values) <= ours.error_bound + qr.error_bound).all()
    assert (np.diff(ours.values) <= 0).all()


def tilted(angle: float) -> Callable[..., tuple[torch.Tensor, torch.Tensor]]:
    """An eigenvalue solver whose leading and trailing eigenvectors lean towards each other by `angle`."""
    right = gram._eigenvectors

    def eigh(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        squares, vectors = right(matrix)
        small = int((squares < gram.LEVEL**2 * float(squares.sum())).sum())
        turn = torch.zeros_like(matrix)
        turn[:small, small:] = angle
        return squares, vectors @ torch.linalg.matrix_exp(turn - turn.T)

    return eigh


def check_tilted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gram, "_eigenvectors", tilted(1e-9))
    matrix = decaying(24, 300, 0, 9.0, 1e3)
    (spectrum,) = mode_singular_values(matrix)
    assert spectrum.method == "deflation"
    assert (np.abs(spectrum.values - exact(matrix)) <= spectrum.error_bound).all()


def test_the_bound_covers_eigenvectors_that_are_slightly_off(monkeypatch: pytest.MonkeyPatch) -> None:
    check_tilted(monkeypatch)


def test_the_bound_does_not_hold_if_the_coupling_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    right = gram.Sum.add
    monkeypatch.setattr(gram.Sum, "add", lambda self, X, Y=None: right(self, X, None if Y is None else 0 * Y))
    with pytest.raises(AssertionError):
        check_tilted(monkeypatch)


def check_deflated() -> None:
    """Eigenvectors that lean by 1e-4 and eigenvalues that are off by 1 %, both as declared."""
    matrix = torch.from_numpy(decaying(24, 300, 0, 9.0, 1e3))
    squares, vectors = tilted(1e-4)(matrix @ matrix.T)
    trace = float(squares.sum())
    large = squares[squares >= gram.LEVEL**2 * trace]
    found = gram._deflated(lambda: [matrix], trace, 1.01 * large, vectors, theta=0.02)
    known = np.array(exact(matrix.numpy()))[len(large) :]
    assert (np.abs(found.values - known) <= found.error).all()


def test_the_coupling_covers_what_is_known_of_the_large_values() -> None:
    check_deflated()


def test_without_the_coupling_the_bound_does_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gram, "_coupling", lambda *_: 0.0)
    with pytest.raises(AssertionError):
        check_deflated()


@pytest.mark.parametrize("theta", [1e-3, 0.1, 0.185, 0.1897, 0.19, 0.195, 0.2, 0.25])
def test_values_at_the_cut_are_covered(theta: float) -> None:
    """Values 1.0 and 0.9 on either side of the cut, eigenvectors that lean towards each other; theta on both sides."""
    rng = np.random.default_rng(0)
    values = np.array([10.0, 10.0, 10.0, 1.0, 0.9, 1e-3, 1e-3, 1e-3])
    left, right = (np.linalg.qr(rng.standard_normal((n, 8)))[0] for n in (8, 60))
    matrix = torch.from_numpy((left * values) @ right.T)
    squares, vectors = torch.linalg.eigh(matrix @ matrix.T)
    turn = torch.zeros_like(vectors)
    turn[3, 4] = 0.05
    found = gram._deflated(
        lambda: [matrix], float(squares.sum()), squares[4:], vectors @ torch.linalg.matrix_exp(turn - turn.T), theta
    )
    assert (np.abs(found.values - values[4:]) <= found.error).all()


@pytest.mark.parametrize(("rows", "columns"), [(40, 26_214), (2, 100_000)])
@pytest.mark.parametrize("method", ["certified", "qr"])
def test_rounding_that_adds_up_is_covered(rows: int, columns: int, method: str) -> None:
    (spectrum,) = mode_singular_values(np.full((rows, columns), 1 / 3), method=method)
    known = np.zeros(rows)
    known[0] = (rows * columns) ** 0.5 / 3
    assert (np.abs(spectrum.values - known) <= spectrum.error_bound).all()


def test_intervals_are_put_in_order() -> None:
    found = gram.Intervals(
        *(np.array(column) for column in ([2.0, 2.5, 1.0], [1.5, 1.9, 0.5], [2.6, 3.0, 1.2]))
    ).sorted()
    assert [column.tolist() for column in (found.values, found.low, found.high)] == [
        [2.5, 2.0, 1.0], [1.9, 1.5, 0.5], [3.0, 2.6, 1.2],
    ]  # fmt: skip


def test_what_deflation_leaves_inaccurate_goes_to_qr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gram, "_eigenvectors", tilted(1e-3))  # far too much
    matrix = decaying(24, 300, 0, 9.0, 1e3)
    (spectrum,) = mode_singular_values(matrix)
    assert spectrum.method == "qr"
    assert (np.abs(spectrum.values - exact(matrix)) <= spectrum.error_bound).all()


@pytest.mark.parametrize("scale", [1e-200, 1e-120, 1e120, 1e200])
def test_squares_that_over_or_underflow_do_no_harm(scale: float) -> None:
    matrix = np.random.default_rng(0).standard_normal((5, 40))
    (found,), (known,) = mode_singular_values(matrix * scale), mode_singular_values(matrix)
    torch.testing.assert_close(found.values / scale, known.values, rtol=1e-12, atol=0)


class Watched(np.memmap):
    """A memory map that notes how many values each access reads."""

    reads: list[int]

    def __getitem__(self, index):
        piece = super().__getitem__(index)
        type(self).reads.append(np.size(piece))
        return piece


@pytest.mark.parametrize("shape", [(64, 6, 8, 8), (300, 3, 4, 5), (4, 60, 5, 70)])
def test_small_blocks_give_the_same_spectra(
    shape: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensor = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    tensor[:, 1] = tensor[:, 2]  # so that some modes need the second pass
    np.save(tmp_path / "layer.npy", tensor)
    whole = mode_singular_values(tensor)
    monkeypatch.setattr(unfold, "BLOCK", 1000)
    monkeypatch.setattr(unfold, "COLUMNS", 7)
    monkeypatch.setattr(unfold.Unfolding.blocks, "__defaults__", (7,))
    monkeypatch.setattr(gram, "CHUNK", 5)
    monkeypatch.setattr(gram, "PANEL", 3)
    Watched.reads = []
    found = mode_singular_values(np.load(tmp_path / "layer.npy", mmap_mode="r").view(Watched))
    assert max(Watched.reads) <= max(1000, 7 * 240)
    assert {spectrum.method for spectrum in found} == {"gram", "deflation"}
    for ours, known in zip(found, whole, strict=True):
        assert (np.abs(ours.values - known.values) <= ours.error_bound + known.error_bound).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_raise(method: str, bad: float) -> None:
    tensor = np.ones((4, 3, 5))
    tensor[2, 1, 3] = bad
    with pytest.raises(ValueError, match="NaN or infinity"):
        mode_singular_values(tensor, method=method)


def test_an_empty_axis_and_an_unknown_method_raise() -> None:
    with pytest.raises(ValueError, match="two or more axes"):
        mode_singular_values(np.ones((3, 0, 2)))
    with pytest.raises(ValueError, match="certified, qr, tensorly"):
        mode_singular_values(np.ones((3, 2)), method="gram")


@pytest.mark.parametrize("dtype", ["bool", "uint8", "uint16", "int32", "int64", "float16"])
@pytest.mark.parametrize("method", METHODS)
def test_whole_numbers_are_widened_first(dtype: str, method: str) -> None:
    tensor = np.random.default_rng(0).integers(0, 200, (6, 3, 4)).astype(dtype)
    for found, known in zip(mode_singular_values(tensor, method=method), mode_singular_values(tensor.astype(float))):
        assert (np.abs(found.values - known.values) <= found.error_bound + known.error_bound).all()


def test_zeros_are_known_to_be_zeros() -> None:
    for spectrum in mode_singular_values(np.zeros((4, 3, 2))):
        assert spectrum.values.tolist() == spectrum.error_bound.tolist() == [0.0] * spectrum.size


# --- what is done with the bounds -------------------------------------------------------------------------------------


def test_counts_use_each_values_own_bound() -> None:
    spectrum = ModeSpectrum(np.array([9.0, 2e-5, 1.1e-5, 0.9e-5]), 4, np.array([1.0, 1e-7, 0.2e-5, 1e-7]), "planted")
    (found,) = near_rank_count([spectrum], 1e-5)
    assert (found.certain, found.economy, found.possible) == (1, 1, 2)


def test_a_relative_threshold_is_a_part_of_each_modes_largest_value() -> None:
    spectra = [ModeSpectrum(np.array([top, 3.0, 0.1]), 5, 0.0, "planted") for top in (200.0, 20.0)]
    assert near_rank_count(spectra, 0.02, relative=True) == [
        NearRank(economy=2, structural=2, full=4, fraction=2 / 3, certain=2, possible=2),
        NearRank(economy=1, structural=2, full=3, fraction=1 / 3, certain=1, possible=1),
    ]
    unsure = ModeSpectrum(np.array([100.0, 2.01, 0.1]), 3, np.array([1.0, 0.0, 0.0]), "planted")
    (found,) = near_rank_count([unsure], 0.02, relative=True)  # the threshold lies in 1.98 .. 2.02
    assert (found.certain, found.economy, found.possible) == (1, 1, 2)


def test_bounds_are_rounded_up_and_few_differ() -> None:
    given_bounds = np.array([0.0, 1.0, 1.0000001, 0.3, 5e-320])
    assert (round_up(given_bounds) >= given_bounds).all()
    assert round_up(given_bounds)[:4].tolist() == [0.0, 1.0, 2.0, 0.5]
    np.testing.assert_array_equal(round_up(np.array([np.inf, np.nan])), [np.inf, np.nan])
    (spectrum,) = mode_singular_values(decaying(40, 400, 0, 9.0, 1e3))
    assert len(np.flatnonzero(np.diff(spectrum.error_bound))) + 1 < 25


@pytest.mark.parametrize("count", [1, 4])
def test_equal_values_amount_to_their_number(count: int) -> None:
    (found,) = effective_ranks([ModeSpectrum(np.full(count, 3.0), count + 2, 1e-15, "planted")])
    ranks = (found.stable_rank, found.effective_rank, found.participation_ratio)
    torch.testing.assert_close(ranks, (float(count),) * 3, rtol=1e-12, atol=0)
    assert found.condition_number == 1


def test_effective_ranks_of_two_values() -> None:
    (found,) = effective_ranks([ModeSpectrum(np.array([2.0, 1.0]), 2, 1e-15, "planted")])
    torch.testing.assert_close(found.stable_rank, 1.25, rtol=1e-12, atol=0)
    torch.testing.assert_close(found.participation_ratio, 25 / 17, rtol=1e-12, atol=0)
    torch.testing.assert_close(found.effective_rank, 3 / 2 ** (2 / 3), rtol=1e-12, atol=0)
    assert found.condition_number == 2


def test_a_condition_number_is_infinite_where_the_smallest_value_may_be_zero() -> None:
    may_be, zeros = ModeSpectrum(np.array([2.0, 1e-9]), 2, 1e-8, "planted"), ModeSpectrum(np.zeros(3), 3, 0, "planted")
    assert effective_ranks([may_be])[0].condition_number == np.inf
    assert effective_ranks([zeros]) == [EffectiveRanks(0.0, 0.0, 0.0, condition_number=np.inf)]
