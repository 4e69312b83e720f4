"""Singular values of one mode and their error bounds. This module does without torch, for counting and drawing."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

METHODS = ("certified", "qr", "tensorly")  # of singular_values, which imports torch


@dataclass(frozen=True)
class SpectrumTail:
    """The smallest singular values of one mode: all that a threshold up to `cut` can count.

    Attributes:
        values: float64, descending; every value that lies at or below `cut` within its error bound.
        error_bound: float64, one per value: the value is off by at most this (absolute).
        count: number of values in the whole spectrum.
        size: I_n, as in `ModeSpectrum`.
        largest: the largest value of the whole spectrum.
        largest_bound: its error bound.
        cut: infinite if `values` are all values of the spectrum.
    """

    values: np.ndarray
    error_bound: np.ndarray
    count: int
    size: int
    largest: float
    largest_bound: float
    cut: float

    @property
    def structural(self) -> int:
        """Number of structural zeros: I_n minus the number of values."""
        return self.size - self.count


@dataclass(frozen=True)
class ModeSpectrum:
    """Singular values of one mode-n unfolding, I_n x (product of the other sizes).

    Attributes:
        values: float64, descending; there are min(I_n, product of the others).
        size: I_n. A matrix has one spectrum; its size is the longer side.
        error_bound: float64, one per value: the value is off by at most this (absolute). A single number holds for all
            values. The solvers round bounds up to powers of two, so that a record has few different ones.
        method: how the values were computed.
    """

    values: np.ndarray
    size: int
    error_bound: np.ndarray
    method: str

    def __post_init__(self) -> None:
        bound = np.broadcast_to(np.asarray(self.error_bound, dtype=np.float64), self.values.shape)
        object.__setattr__(self, "error_bound", bound)

    @property
    def structural(self) -> int:
        """Number of structural zeros, which the shape alone forces: I_n minus the number of values."""
        return self.size - len(self.values)

    def widened(self, by: float) -> "ModeSpectrum":
        """Return a copy with `by` added to every bound, for data with an error matrix of that norm (Weyl)."""
        return replace(self, error_bound=round_up(self.error_bound + by)) if by else self

    def tail(self, cut: float = math.inf) -> SpectrumTail:
        """Return the values that a threshold up to `cut` can count, be it absolute or a fraction of the largest value.

        These are the values that may be at or below the cut within their bounds. A relative threshold also has the
        error of the largest value, so the cut is widened by it.

        Example:
            >>> ModeSpectrum(np.array([2.0, 1e-3]), size=2, error_bound=1e-15, method="qr").tail(1e-2).values
            array([0.001])
        """
        largest, bound = float(self.values[0]), float(self.error_bound[0])
        reach = cut * (1 + 1e-9) * (1 + bound / largest) if largest > 0 else math.inf  # 1e-9: its own rounding
        first = int(np.argmax(np.append(self.values - self.error_bound <= reach, True)))
        return SpectrumTail(
            self.values[first:], self.error_bound[first:], len(self.values), self.size, largest, bound, cut
        )


def mode_sizes(shape: Sequence[int]) -> list[tuple[int, int]]:
    """Return size I_n and number of values for each spectrum of a tensor of this shape; a matrix has one spectrum.

    Example:
        >>> mode_sizes((128, 6, 5)), mode_sizes((128, 84))
        ([(128, 30), (6, 6), (5, 5)], [(128, 84)])
    """
    if len(shape) == 2:
        return [(max(shape), min(shape))]
    whole = math.prod(shape)
    return [(size, min(size, whole // size) if size else 0) for size in shape]


def round_up(bound: np.ndarray) -> np.ndarray:
    """Return each bound rounded up to a power of two; zero, infinity and NaN stay as they are."""
    mantissa, exponent = np.frexp(bound)
    rounded = np.ldexp(np.where(mantissa > 0.5, 1.0, 0.5), exponent)
    return np.asarray(np.where((bound > 0) & np.isfinite(bound), rounded, bound))
