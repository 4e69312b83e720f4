"""Companions of the near-rank count that need no threshold: how many singular values a spectrum amounts to.

Stable rank: Rudelson & Vershynin 2007. Effective rank: exp of the entropy of sigma / sum(sigma), Roy & Vetterli 2007.
Participation ratio: of the squares, as in principal-component dimension. All lie between 1 and the number of values
(0 for a spectrum of zeros) and do not see structural zeros; nor does the condition number.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from gapscope.numerics.hosvd.spectrum import ModeSpectrum


@dataclass(frozen=True)
class Companions:
    """Figures of one mode.

    Attributes:
        stable_rank: sum of squares over the largest square.
        effective_rank: exp(entropy).
        participation_ratio: (sum of squares)^2 over sum of fourth powers.
        condition_number: largest over smallest value; infinite where the smallest may be zero within its error bound.
    """

    stable_rank: float
    effective_rank: float
    participation_ratio: float
    condition_number: float

    def to_row(self) -> dict[str, float]:
        """Return the columns of a table."""
        return asdict(self)


def companions(spectra: Sequence[ModeSpectrum]) -> list[Companions]:
    """Return the figures of each mode.

    Example:
        >>> companions([ModeSpectrum(np.array([2.0, 2.0, 2.0]), size=9, error_bound=1e-15, method="qr")])[0].stable_rank
        3.0
    """
    return [_figures(spectrum) for spectrum in spectra]


def _figures(spectrum: ModeSpectrum) -> Companions:
    largest, smallest = float(spectrum.values[0]), float(spectrum.values[-1])
    if largest == 0:
        return Companions(0.0, 0.0, 0.0, np.inf)
    parts = spectrum.values / largest  # so that no square overflows
    squares = parts**2
    weights = parts[parts > 0] / parts.sum()
    return Companions(
        stable_rank=float(squares.sum()),
        effective_rank=float(np.exp(-(weights * np.log(weights)).sum())),
        participation_ratio=float(squares.sum() ** 2 / (squares**2).sum()),
        condition_number=largest / smallest if smallest > spectrum.error_bound[-1] else np.inf,
    )
