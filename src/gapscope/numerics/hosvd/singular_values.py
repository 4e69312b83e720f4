"""Mode-n singular values of a tensor (HOSVD): the spectra of its unfoldings, each value with an error bound.

De Lathauwer et al. 2000. Oyedotun et al. 2022, section 4.4, count such values below 1e-4 and 1e-5. Such a count needs
an error far below the threshold. A float32 SVD has an error of 5-20 eps32 sigma_max, and an eigenvalue solver on the
float64 Gram matrix one of 1.5e-8 sigma_max. Both miscount small values once sigma_max is large. Methods:

- `certified` (the default): a Gram matrix; then deflation if some values are not accurate enough; then Householder QR
  if some still are not. A value is accurate enough if its error is at most 1e-3 of itself or 2e-10 sigma_max. The Gram
  matrices of all modes cost a tenth to a third of SVDs, and most layers need no more. Deflation costs at most about as
  much as QR. `gram` has the proof of the bounds.
- `qr`: Householder QR reduces each unfolding to a small triangle, block by block (TSQR). LAPACK's gesdd computes the
  triangle's singular values. We assume a backward error of (k + 10) u ||X||_F in each step, where X has k rows.
  Rounding adds up over long columns (1e-12 sigma_max for 2 x 10^6 equal values) and over blocks.
- `tensorly`: tensorly's own HOSVD in float32, with the bound of float32, for comparison. It uses the PyTorch backend;
  the NumPy backend would compute in float64 and round the result.
"""

import math

import numpy as np
import torch
from torch import Tensor

from gapscope.numerics.hosvd.gram import Gram, gram_singular_values, solver
from gapscope.numerics.hosvd.spectrum import ModeSpectrum, round_up
from gapscope.numerics.hosvd.unfold import Unfolding, shared_blocks

DENORMAL = 2.0**-1074  # the smallest float64, which is the rounding error of results near it
SAFE = (1e-120, 1e120)  # outside this range, a product of two sums of squares may over- or underflow


def mode_singular_values(
    tensor: Tensor | np.ndarray, *, method: str = "certified", device: str | torch.device = "cpu"
) -> list[ModeSpectrum]:
    """Return the singular values of every unfolding of a tensor.

    Args:
        tensor: shape (I_1, ..., I_N), N >= 2; any real or integer type; may be a memory-mapped array. It is read in
            blocks (except by `tensorly`).
        method: one of METHODS.
        device: where the work is done.

    Returns:
        One spectrum per mode, in the order of the axes. A matrix has one spectrum; its size is the longer side.

    Raises:
        ValueError: fewer than two axes, a zero-size axis, a complex type, NaN or infinity, an unknown method.

    Example:
        >>> [spectrum.values.tolist() for spectrum in mode_singular_values(np.diag([3.0, 4.0]))]
        [[4.0, 3.0]]
    """
    shape = tuple(tensor.shape)
    if len(shape) < 2 or 0 in shape:
        raise ValueError(f"a tensor needs two or more axes of size >= 1, got shape {shape}")
    if tensor.is_complex() if isinstance(tensor, Tensor) else np.iscomplexobj(tensor):
        raise ValueError("complex tensors are not supported: pass the real and imaginary parts separately")
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    modes = range(1) if len(shape) == 2 else range(len(shape))
    return METHODS[method]([Unfolding(tensor, mode, torch.device(device)) for mode in modes])


def _certified(unfoldings: list[Unfolding]) -> list[ModeSpectrum]:
    grams = [Gram.empty(unfolding.rows, unfolding.device) for unfolding in unfoldings]
    for index, block in shared_blocks(unfoldings):
        grams[index].add(block)
    return [_gram_or_qr(unfolding, gram) for unfolding, gram in zip(unfoldings, grams)]


def _gram_or_qr(unfolding: Unfolding, gram: Gram) -> ModeSpectrum:
    if SAFE[0] < gram.trace < SAFE[1]:
        intervals, method = gram_singular_values(unfolding.blocks, gram)
        if intervals.accurate:
            return _spectrum(unfolding, intervals.values, intervals.error, method)
    return _qr(unfolding)


def _qr(unfolding: Unfolding) -> ModeSpectrum:
    peak = _peak(unfolding)
    if peak == 0:
        return _spectrum(unfolding, np.zeros(unfolding.rows), 0.0, "qr")
    half = math.frexp(peak)[1] // 2  # powers of two in two steps: one step may over- or underflow
    triangle: Tensor | None = None
    terms = unfolding.rows  # of svdvals
    # blocks about twice as tall as wide: QR of a stacked triangle then wastes a third of its work
    for block in unfolding.blocks(columns=2 * unfolding.rows):
        scaled = (block * 2.0**-half * 2.0**-half).T
        stacked = scaled if triangle is None else torch.cat([triangle, scaled])
        terms += len(stacked) + 10
        triangle = torch.linalg.qr(stacked, mode="r").R if stacked.shape[0] > stacked.shape[1] else stacked
    assert triangle is not None
    values = torch.linalg.svdvals(triangle).cpu().numpy()
    error = solver(terms) * math.hypot(*values)
    with np.errstate(over="ignore"):
        values = values * 2.0**half * 2.0**half
    if not np.isfinite(values).all():
        raise ValueError("the largest singular value is beyond float64")
    return _spectrum(unfolding, values, error * 2.0**half * 2.0**half + DENORMAL, "qr")


def _peak(unfolding: Unfolding) -> float:
    peak = 0.0
    for block in unfolding.blocks():
        if not bool(block.isfinite().all()):
            raise ValueError("the tensor holds NaN or infinity")
        peak = max(peak, float(block.abs().max()))
    return peak


def _tensorly(unfolding: Unfolding) -> ModeSpectrum:
    import tensorly
    from tensorly.tenalg.svd import svd_interface

    given = unfolding.tensor
    given = given.detach() if isinstance(given, Tensor) else torch.from_numpy(np.array(given, dtype=np.float32))
    with tensorly.backend_context("pytorch"):
        matrix = tensorly.unfold(given.to(unfolding.device, torch.float32), unfolding.mode)
        if not bool(matrix.isfinite().all()):
            raise ValueError("the tensor holds NaN or infinity, or values beyond float32")
        _, values32, _ = svd_interface(matrix, method="truncated_svd", n_eigenvecs=unfolding.rows)
    values = values32.double().cpu().numpy()
    eps = float(torch.finfo(torch.float32).eps)
    rounding = eps / 2 * float(np.linalg.norm(values))
    # "a modestly growing function of n" times eps sigma_max (LAPACK users' guide, 4.9); measured 5-20
    error = max(20.0, math.sqrt(len(values))) * eps * float(values[0]) + rounding
    return _spectrum(unfolding, values, error, "tensorly")


def _spectrum(unfolding: Unfolding, values: np.ndarray, error: float | np.ndarray, method: str) -> ModeSpectrum:
    shape = unfolding.tensor.shape
    size = max(shape) if len(shape) == 2 else shape[unfolding.mode]
    return ModeSpectrum(values=values, size=int(size), error_bound=round_up(np.asarray(error)), method=method)


METHODS = {  # the names are spectrum.METHODS
    "certified": _certified,
    "qr": lambda unfoldings: [_qr(unfolding) for unfolding in unfoldings],
    "tensorly": lambda unfoldings: [_tensorly(unfolding) for unfolding in unfoldings],
}
