"""Mode-n singular values of a tensor (HOSVD): the spectra of its unfoldings, in float64, by backward-stable steps.

De Lathauwer et al. 2000; used by Oyedotun et al. 2022, section 4.4, to count values under 1e-4 and 1e-5. Such counts
need an error far below the threshold: a float32 SVD is off by 5-20 eps32 sigma_max, an eigenvalue solver on the float64
Gram matrix by 1.5e-8 sigma_max, so both invent or lose small values once sigma_max is large. Here each unfolding is
reduced to a small triangle by Householder QR, block by block (TSQR), and the triangle's singular values are computed by
LAPACK's gesdd. Both steps are backward stable: by Weyl's inequality no value moves by more than a modest multiple of
eps64 sigma_max. Only a block of the data is ever copied to float64.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gapscope.errors import InputError
from gapscope.measure.spectrum import ModeSpectrum

METHODS = ("qr",)
# Growth of the backward error in n: LAPACK's users' guide (section 4.9) has "a modestly growing function of n" times
# eps sigma_max; measured 5-10 for n of 120-400. sqrt(n), at least 10, held in every test against 200-bit arithmetic.
ERROR_FLOOR = 10.0


@dataclass(frozen=True)
class SpectraSettings:
    """Params of the spectra stage."""

    method: str
    threads: int

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InputError(f"spectra.method must be one of {', '.join(METHODS)}, got {self.method!r}")


def mode_singular_values(tensor: Tensor | np.ndarray, *, device: str | torch.device = "cpu") -> list[ModeSpectrum]:
    """Return the singular values of every unfolding of a tensor.

    Args:
        tensor: shape (I_1, ..., I_N), N >= 2; any real or whole-number type; may be a memory-mapped array. It is read
            in blocks along its first axis.
        device: where the work is done.

    Returns:
        One spectrum a mode, in the order of the axes. A matrix has one spectrum, not two; its size is the larger side.

    Raises:
        ValueError: fewer than two axes, a zero-size axis, a complex type, NaN or infinity.

    Example:
        >>> [spectrum.values.tolist() for spectrum in mode_singular_values(np.diag([3.0, 4.0]))]
        [[4.0, 3.0]]
    """
    shape = tuple(tensor.shape)
    if len(shape) < 2 or 0 in shape:
        raise ValueError(f"a tensor needs two or more axes of size >= 1, got shape {shape}")
    if tensor.is_complex() if isinstance(tensor, Tensor) else np.iscomplexobj(tensor):
        raise ValueError("complex tensors are not supported: give real and imaginary parts apart")
    modes = range(1) if len(shape) == 2 else range(len(shape))
    return [_mode(tensor, mode, torch.device(device)) for mode in modes]


def _mode(tensor: Tensor | np.ndarray, mode: int, device: torch.device) -> ModeSpectrum:
    shape = tuple(tensor.shape)
    rows, columns = shape[mode], math.prod(shape) // shape[mode]
    triangle: Tensor | None = None
    merges = 0
    for block in _tall_blocks(tensor, mode, device):
        if not bool(block.isfinite().all()):
            raise ValueError("the tensor holds NaN or infinity")
        stacked = block if triangle is None else torch.cat([triangle, block])
        merges += 1
        triangle = torch.linalg.qr(stacked, mode="r").R if stacked.shape[0] > stacked.shape[1] else stacked
    assert triangle is not None
    values = torch.linalg.svdvals(triangle).cpu().numpy()
    bound = max(ERROR_FLOOR, math.sqrt(len(values) + merges)) * np.finfo(np.float64).eps * float(values[0])
    size = max(rows, columns) if len(shape) == 2 else rows
    return ModeSpectrum(values=values, size=size, error_bound=bound, method="qr")


def _tall_blocks(tensor: Tensor | np.ndarray, mode: int, device: torch.device) -> Iterator[Tensor]:
    """Yield float64 row blocks (k, s) of the unfolding, or of its transpose, whichever has fewer columns s."""
    shape = tuple(tensor.shape)
    rows, columns = shape[mode], math.prod(shape) // shape[mode]
    first, per_first = shape[0], math.prod(shape) // shape[0]

    def part(index: slice | tuple[slice, ...]) -> Tensor:
        piece = tensor[index]
        return torch.as_tensor(np.array(piece) if isinstance(piece, np.ndarray) else piece.detach()).to(
            device, torch.float64
        )

    if mode == 0 and rows >= columns:  # rows of the unfolding as they lie
        for start in range(0, first, step := _step(columns, 1, first)):
            yield part(slice(start, start + step)).reshape(-1, columns)
    elif mode == 0:  # columns of the unfolding: slabs along the second axis
        slab = per_first // shape[1]
        for start in range(0, shape[1], step := _step(rows, slab, shape[1])):
            yield part((slice(None), slice(start, start + step))).reshape(rows, -1).T
    elif rows <= columns:  # fibres of this mode, a slab of the first axis at a time
        for start in range(0, first, step := _step(rows, per_first // rows, first)):
            yield part(slice(start, start + step)).movedim(mode, -1).reshape(-1, rows)
    else:  # few columns: the unfolding fits
        yield part(slice(None)).movedim(mode, 0).reshape(rows, columns)


def _step(side: int, rows_each: int, count: int) -> int:
    # blocks about twice as tall as wide: QR of a stacked triangle then wastes a third of its work
    return min(count, max(1, -(-2 * side // rows_each)))
