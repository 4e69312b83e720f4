"""Singular values of every unfolding of a tensor, and counts of the smallest: `gapscope.spectra`.

The solver and its error bounds are in `gapscope.numerics.hosvd.singular_values`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from gapscope.errors import InputError
from gapscope.library.result import Result
from gapscope.numerics.hosvd.near_rank import near_rank_count
from gapscope.numerics.hosvd.singular_values import mode_singular_values
from gapscope.numerics.hosvd.spectrum import METHODS, ModeSpectrum


@dataclass(frozen=True, repr=False)
class SpectraResult(Result):
    """Spectra of a tensor.

    Attributes:
        shape: of the tensor.
        modes: one spectrum per axis; a matrix has one. Each has `values`, `error_bound`, `size` and `structural`.
    """

    shape: tuple[int, ...]
    modes: tuple[ModeSpectrum, ...]

    def __str__(self) -> str:
        ends = ", ".join(f"{mode.values[0]:.4g} to {mode.values[-1]:.4g} ({len(mode.values)})" for mode in self.modes)
        return f"singular values of a tensor {self.shape}, by mode: {ends}"

    def rows(self) -> Iterator[Mapping[str, Any]]:
        """Yield one row per singular value: mode, index, value and error bound."""
        for number, mode in enumerate(self.modes):
            for index, (value, bound) in enumerate(zip(mode.values.tolist(), mode.error_bound.tolist(), strict=True)):
                yield {"mode": number, "index": index, "value": value, "error_bound": bound}


def spectra(tensor: Tensor | np.ndarray, *, method: str = "certified") -> SpectraResult:
    """Return the singular values of every unfolding of a tensor, in float64, each with an error bound.

    Args:
        tensor: two or more axes, any real type; a memory-mapped array is read in blocks. A tensor on a GPU is worked on
            there.
        method: certified, qr or tensorly.

    Raises:
        InputError: no such tensor or method.
        ValueError: NaN, infinity or complex numbers.

    Example:
        >>> spectra(np.diag([3.0, 4.0])).modes[0].values.tolist()
        [4.0, 3.0]
    """
    if not isinstance(tensor, Tensor | np.ndarray) or tensor.ndim < 2 or 0 in tensor.shape:
        got = tuple(tensor.shape) if isinstance(tensor, Tensor | np.ndarray) else type(tensor).__name__
        raise InputError(f"tensor must be a tensor or array of two or more axes, none of size 0, got {got}")
    if method not in METHODS:
        raise InputError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    device = tensor.device if isinstance(tensor, Tensor) else "cpu"
    modes = mode_singular_values(tensor, method=method, device=device)
    return SpectraResult(tuple(map(int, tensor.shape)), tuple(modes))


def counts(found: SpectraResult, threshold: float, *, relative: bool) -> Iterator[dict[str, Any]]:
    """Yield the near-rank counts of each mode.

    Args:
        found: spectra of a tensor.
        threshold: values at or below it count.
        relative: whether it is a fraction of each mode's largest value.
    """
    for mode, count in enumerate(near_rank_count(found.modes, threshold, relative=relative)):
        spectrum = found.modes[mode]
        yield {
            "mode": mode,
            "size": spectrum.size,
            "singular_values": len(spectrum.values),
            "structural": count.structural,
            "excess": count.economy,
            "low": count.certain,
            "high": count.possible,
        }
