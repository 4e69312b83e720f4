"""Singular values against planted spectra, dense SVDs and 60-digit arithmetic."""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import oracles
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gapscope.errors import InputError
from gapscope.measures.spectra import SpectraSettings
from gapscope.numerics.hosvd.singular_values import mode_singular_values

EPS = float(np.finfo(np.float64).eps)
# multiples of eps sigma_max: the solver's own error (up to 10), and as much for rounding in the dense construction
DENSE = 20 * EPS
THRESHOLDS = (1e-4, 1e-5)  # Oyedotun et al. 2022, sections 4.4 and 5.4.1
GAP = 1e-4  # relative distance of planted values from a threshold: 1e-9, 50 times the error at sigma_max 1e4
SIGMA_MAX = (1e2, 1e3, 1e4)

Spectra = Callable[[np.ndarray], list[np.ndarray]]


METHODS = ("certified", "qr")  # the two that are right


def ours(tensor: np.ndarray, method: str = "certified") -> list[np.ndarray]:
    return [spectrum.values for spectrum in mode_singular_values(tensor, method=method)]


def dense(variant: str) -> Spectra:
    return lambda tensor: [oracles.dense_spectrum(tensor, mode, variant) for mode in range(tensor.ndim)]


@cache
def planted(sigma_max: float) -> tuple[np.ndarray, list[np.ndarray]]:
    """A dense tensor (200, 7, 6, 4) whose modes all have values just above and just below both thresholds."""
    upper, lower = ([t * (1 - GAP), t * (1 + GAP)] for t in THRESHOLDS)
    spectra = [
        oracles.of_norm(sigma_max, [1.0, *upper, *lower, 1e-9]),
        oracles.of_norm(sigma_max, [2e-3, *upper, *lower]),
        oracles.of_norm(sigma_max, [*upper, lower[0]]),
    ]
    return oracles.planted_tensor(spectra, 200, np.random.default_rng(int(sigma_max)))


def check_counts(spectra: Spectra, sigma_max: float) -> None:
    tensor, truth = planted(sigma_max)
    for found, known in zip(spectra(tensor), truth, strict=True):
        for threshold in THRESHOLDS:
            assert np.count_nonzero(found <= threshold) == np.count_nonzero(known <= threshold)


def check_values(spectra: Spectra, sigma_max: float) -> None:
    tensor, truth = planted(sigma_max)
    for found, known in zip(spectra(tensor), truth, strict=True):
        torch.testing.assert_close(found, known, rtol=0, atol=DENSE * known[0])


@pytest.mark.parametrize("sigma_max", SIGMA_MAX)
@pytest.mark.parametrize("check", [check_counts, check_values])
def test_planted_spectra_are_found(check: Callable[[Spectra, float], None], sigma_max: float) -> None:
    check(lambda tensor: ours(tensor, "qr"), sigma_max)
    check(dense("right"), sigma_max)


@pytest.mark.parametrize("sigma_max", SIGMA_MAX)
def test_planted_spectra_lie_within_certified_bounds(sigma_max: float) -> None:
    tensor, truth = planted(sigma_max)
    for spectrum, known in zip(mode_singular_values(tensor), truth, strict=True):
        assert (abs(spectrum.values - known) <= spectrum.error_bound + DENSE * known[0]).all()


@pytest.mark.parametrize("variant", ["float32 svd", "float64 gram", "next mode"])
@pytest.mark.parametrize("sigma_max", SIGMA_MAX)
@pytest.mark.parametrize("check", [check_counts, check_values])
def test_planted_spectra_expose(check: Callable[[Spectra, float], None], sigma_max: float, variant: str) -> None:
    with pytest.raises(AssertionError):
        check(dense(variant), sigma_max)


def check_against_dense(tensor: np.ndarray, variant: str = "right", method: str = "certified") -> None:
    found = mode_singular_values(tensor, method=method)
    sizes = oracles.mode_sizes(tensor.shape)
    assert [(spectrum.size, len(spectrum.values)) for spectrum in found] == sizes
    for mode, spectrum in enumerate(found):
        known = oracles.dense_spectrum(tensor, mode, variant)
        assert spectrum.values.dtype == np.float64
        assert (abs(spectrum.values - known) <= spectrum.error_bound + DENSE * known[0]).all()


BLOCKINGS = {
    "mode 0 tall, many blocks": (300, 3, 2, 2),
    "mode 0 tall, last block short": (61, 3, 3, 3),
    "mode 0 as tall as wide": (12, 3, 2, 2),
    "mode 0 wide, many slabs": (5, 23, 4, 3),
    "mode 0 wide, last slab short": (9, 7, 5, 1),
    "mode 0 wide, one slab": (20, 3, 10, 10),
    "middle modes, last slab short": (13, 8, 2, 2),
    "middle mode with few columns": (2, 30, 3, 2),
    "last mode with few columns": (2, 3, 2, 30),
    "last mode, nearly few columns": (7, 2, 3, 41),
    "three axes": (40, 6, 5),
    "five axes": (9, 2, 3, 2, 4),
    "axes of one": (1, 4, 1, 3),
    "one value": (1, 1, 1),
    "tall matrix": (250, 7),
    "wide matrix": (7, 250),
    "square matrix": (8, 8),
    "row": (1, 9),
    "column": (9, 1),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", BLOCKINGS.values(), ids=BLOCKINGS.keys())
def test_every_blocking_equals_the_plain_unfolding(
    shape: tuple[int, ...], method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gapscope.numerics.hosvd.unfold.BLOCK", 40)
    monkeypatch.setattr("gapscope.numerics.hosvd.unfold.COLUMNS", 4)
    check_against_dense(np.random.default_rng(0).standard_normal(shape), method=method)


@given(
    shape=st.lists(st.integers(1, 9), min_size=2, max_size=4),
    tall=st.integers(1, 8),
    seed=st.integers(0, 2**32),
    method=st.sampled_from(METHODS),
)
def test_any_shape_equals_the_plain_unfolding(shape: list[int], tall: int, seed: int, method: str) -> None:
    check_against_dense(np.random.default_rng(seed).standard_normal([shape[0] * tall, *shape[1:]]), method=method)


def test_swapped_modes_would_be_seen() -> None:
    tensor = np.random.default_rng(0).standard_normal((6, 6, 6))
    with pytest.raises(AssertionError):
        check_against_dense(tensor, variant="next mode")


def test_structural_zeros_are_no_values() -> None:
    tensor = np.random.default_rng(0).standard_normal((30, 2, 3, 4))
    batch, *others = mode_singular_values(tensor)
    assert (batch.size, len(batch.values), batch.structural) == (30, 24, 6)
    assert [spectrum.structural for spectrum in others] == [0, 0, 0]


@pytest.mark.parametrize("shape", [(50, 8), (8, 50)])
def test_a_matrix_has_one_spectrum_of_its_larger_side(shape: tuple[int, int]) -> None:
    (spectrum,) = mode_singular_values(np.random.default_rng(0).standard_normal(shape))
    assert (spectrum.size, len(spectrum.values), spectrum.structural) == (50, 8, 42)


def test_dead_channels_give_values_of_zero() -> None:
    tensor = np.random.default_rng(0).standard_normal((40, 5, 3, 3))
    tensor[:, 1] = 0
    tensor[:, 3] = tensor[:, 2]
    _, channels, _, _ = mode_singular_values(tensor)
    assert np.count_nonzero(channels.values <= channels.error_bound) == 2


def test_a_tensor_of_zeros_has_a_spectrum_of_zeros() -> None:
    for spectrum in mode_singular_values(np.zeros((4, 3, 2))):
        assert spectrum.values.tolist() == [0.0] * spectrum.size
        assert spectrum.error_bound.tolist() == [0.0] * spectrum.size


class Watched(np.memmap):
    """A memory map that notes how many values each access reads."""

    reads: list[int]

    def __getitem__(self, index):
        piece = super().__getitem__(index)
        type(self).reads.append(np.size(piece))
        return piece


def test_a_memory_map_is_read_in_blocks(tmp_path: Path) -> None:
    tensor = np.random.default_rng(0).standard_normal((256, 8, 32, 32), dtype=np.float32)
    np.save(tmp_path / "layer.npy", tensor)
    mapped = np.load(tmp_path / "layer.npy", mmap_mode="r")
    Watched.reads = []
    found = mode_singular_values(mapped.view(Watched))
    assert Watched.reads
    assert max(Watched.reads) <= tensor.size / 2
    for spectrum, known in zip(found, mode_singular_values(tensor), strict=True):
        assert spectrum.values.tolist() == known.values.tolist()


@pytest.mark.parametrize("dtype", ["float16", "float32", "int64", "uint8", "bool"])
def test_every_real_type_is_widened_first(dtype: str) -> None:
    tensor = np.random.default_rng(0).uniform(0, 200, (20, 3, 4)).astype(dtype)
    for argument in (tensor, torch.from_numpy(tensor)):
        for found, known in zip(ours(argument), ours(tensor.astype(np.float64)), strict=True):
            assert found.tolist() == known.tolist()


def test_a_view_and_a_tensor_with_gradient_are_taken() -> None:
    tensor = np.random.default_rng(0).standard_normal((4, 3, 20))
    known = ours(np.ascontiguousarray(tensor.transpose(2, 0, 1)))
    views = [tensor.transpose(2, 0, 1), torch.from_numpy(tensor).permute(2, 0, 1).requires_grad_()]
    for view in views:
        for found, values in zip(ours(view), known, strict=True):
            assert found.tolist() == values.tolist()


def check_error_bound(
    matrix: np.ndarray, variant: str | None = None, methods: Sequence[str] = METHODS, mode: int = 0
) -> None:
    exact = oracles.exact_singular_values(oracles.unfolding(matrix, mode))
    for method in methods:
        spectrum = mode_singular_values(matrix, method=method)[mode]
        values = spectrum.values if variant is None else oracles.dense_spectrum(matrix, mode, variant)
        errors = [float(abs(known - float(value))) for known, value in zip(exact, values, strict=True)]
        assert (errors <= spectrum.error_bound).all()


def ill_conditioned(rows: int, columns: int, seed: int) -> np.ndarray:
    rng, short = np.random.default_rng(seed), min(rows, columns)
    left, right = oracles.orthogonal(rows, rng)[:, :short], oracles.orthogonal(columns, rng)[:, :short]
    return (left * np.logspace(3, -9, short)) @ right.T


@pytest.mark.parametrize("shape", [(12, 8), (8, 12), (10, 10), (60, 5), (5, 60)])
@pytest.mark.parametrize("seed", range(3))
def test_the_error_bound_holds_for_ill_conditioned_matrices(shape: tuple[int, int], seed: int) -> None:
    pytest.importorskip("mpmath")
    check_error_bound(ill_conditioned(*shape, seed))


@pytest.mark.parametrize("variant", ["float32 svd", "float64 gram"])
@pytest.mark.parametrize("method", METHODS)
def test_the_error_bound_does_not_hold_for(variant: str, method: str) -> None:
    pytest.importorskip("mpmath")
    with pytest.raises(AssertionError):
        check_error_bound(ill_conditioned(12, 8, 0), variant, [method])


@pytest.mark.parametrize("shape", [(60000, 10), (10, 60000)])
@pytest.mark.parametrize("seed", range(2))
def test_the_error_bound_holds_after_many_blocks(shape: tuple[int, int], seed: int) -> None:
    pytest.importorskip("mpmath")
    check_error_bound(np.random.default_rng(seed).integers(-500, 1500, shape).clip(0))  # as after a ReLU


def test_the_error_bound_holds_after_many_blocks_of_a_middle_mode() -> None:
    pytest.importorskip("mpmath")
    tensor = np.random.default_rng(0).integers(-500, 500, (4000, 8, 4, 4)).clip(0)
    check_error_bound(tensor, mode=1)


@pytest.mark.parametrize("shape", [(12, 8), (400, 20), (60, 4, 5, 5), (60000, 10)])
@pytest.mark.parametrize("method", METHODS)
def test_the_error_bound_leaves_the_thresholds_in_sight(shape: tuple[int, ...], method: str) -> None:
    tensor = np.random.default_rng(0).standard_normal(shape)
    for spectrum in mode_singular_values(1e4 * tensor / np.linalg.norm(tensor), method=method):  # sigma_max below 1e4
        enough = np.maximum(min(THRESHOLDS) / 10, 2e-3 * spectrum.values)
        assert ((spectrum.error_bound > 0) & (spectrum.error_bound < enough)).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, -1])
@pytest.mark.parametrize("shape", [(90, 2, 2), (3, 50, 2), (90, 5), (5, 90)])
def test_nan_and_infinity_raise(value: float, place: int, shape: tuple[int, ...]) -> None:
    tensor = np.ones(shape)
    tensor.ravel()[place] = value
    with pytest.raises(ValueError, match="NaN or infinity"):
        mode_singular_values(tensor)


@pytest.mark.parametrize("shape", [(), (4,), (0, 3), (3, 0), (2, 0, 3), (0,)])
def test_too_few_axes_and_empty_ones_raise(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="two or more axes"):
        mode_singular_values(np.ones(shape))


def test_complex_raises() -> None:
    for tensor in (np.ones((2, 3), complex), torch.ones(2, 3, dtype=torch.complex64)):
        with pytest.raises(ValueError, match="complex"):
            mode_singular_values(tensor)


def test_an_unknown_method_raises() -> None:
    with pytest.raises(InputError, match="'gram'"):
        SpectraSettings(method="gram", cut=1e-2, threads=1)


@pytest.mark.parametrize("scale", [5e-324, 1e-310, 1e-300, 1e-160, 1e160, 1e306])
@pytest.mark.parametrize("method", METHODS)
def test_values_at_the_ends_of_the_range_are_found(scale: float, method: str) -> None:
    (spectrum,) = mode_singular_values(np.full((4, 40), scale), method=method)
    known = [scale * np.sqrt(160), 0, 0, 0]
    assert (abs(spectrum.values - known) <= spectrum.error_bound).all()
    assert spectrum.error_bound[0] <= max(1e-11 * known[0], 1e-323)


def test_a_value_beyond_float64_raises() -> None:
    with pytest.raises(ValueError, match="beyond float64"):
        mode_singular_values(np.full((4, 40), 1.7e308))
