"""One mode's singular values and what is known of their accuracy. No torch: counting and plotting need only this."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np


@dataclass(frozen=True)
class ModeSpectrum:
    """Singular values of one mode-n unfolding, I_n x (product of the other sizes).

    Attributes:
        values: float64, descending; min(I_n, product of the others) of them.
        size: I_n; for a matrix, which has one spectrum, its larger side.
        error_bound: float64, one a value: it is off by no more than this (absolute); a number stands for all of them.
            The solvers round it up to powers of two, so that few runs of equal ones are kept in a record.
        method: how they were computed.
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
        """Number of zeros that the shape alone forces: I_n minus the number of values."""
        return self.size - len(self.values)

    def widened(self, by: float) -> "ModeSpectrum":
        """Return the same values, each known to `by` less: for data that are off by a matrix of that norm (Weyl)."""
        return replace(self, error_bound=round_up(self.error_bound + by)) if by else self

    def to_row(self) -> dict[str, Any]:
        """Return a JSON object; the bounds as runs [count, bound]."""
        return {
            "size": self.size,
            "structural": self.structural,
            "error_bound": [[len(list(run)), bound] for bound, run in groupby(self.error_bound.tolist())],
            "method": self.method,
            "values": self.values.tolist(),
        }

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "ModeSpectrum":
        """Return the spectrum that `to_row` gave; other keys are ignored."""
        counts, bounds = zip(*row["error_bound"], strict=True)
        return cls(
            np.asarray(row["values"], dtype=np.float64),
            row["size"],
            np.repeat(np.asarray(bounds, dtype=np.float64), counts),
            row["method"],
        )


def round_up(bound: np.ndarray) -> np.ndarray:
    """Return each bound rounded up to a power of two; zero, infinity and NaN stay as they are."""
    mantissa, exponent = np.frexp(bound)
    rounded = np.ldexp(np.where(mantissa > 0.5, 1.0, 0.5), exponent)
    return np.asarray(np.where((bound > 0) & np.isfinite(bound), rounded, bound))
