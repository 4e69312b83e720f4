"""One mode's singular values and what is known of their accuracy. No torch: counting and plotting need only this."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class ModeSpectrum:
    """Singular values of one mode-n unfolding, I_n x (product of the other sizes).

    Attributes:
        values: float64, descending; min(I_n, product of the others) of them.
        size: I_n; for a matrix, which has one spectrum, its larger side.
        error_bound: no value is off by more than this (absolute).
        method: how they were computed.
    """

    values: np.ndarray
    size: int
    error_bound: float
    method: str

    @property
    def structural(self) -> int:
        """Number of zeros that the shape alone forces: I_n minus the number of values."""
        return self.size - len(self.values)

    def to_row(self) -> dict[str, Any]:
        """Return a JSON object."""
        return {
            "size": self.size,
            "structural": self.structural,
            "error_bound": self.error_bound,
            "method": self.method,
            "values": self.values.tolist(),
        }

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "ModeSpectrum":
        """Return the spectrum that `to_row` gave; other keys are ignored."""
        return cls(
            np.asarray(row["values"], dtype=np.float64),
            row["size"],
            row["error_bound"],
            row["method"],
        )
