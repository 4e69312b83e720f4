"""Three effective ranks, which need no threshold, and the condition number.

Stable rank: Rudelson & Vershynin 2007. Effective rank: exp of the entropy of sigma / sum(sigma), Roy & Vetterli 2007.
Participation ratio: that of the squared values, known as the dimension of principal components. All three are between 1
and the number of values, or 0 if all values are zero. Structural zeros are left out, also of the condition number.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gapscope.numerics.hosvd.spectrum import ModeSpectrum


@dataclass(frozen=True)
class EffectiveRanks:
    """Effective ranks of one mode.

    Attributes:
        stable_rank: sum of squares over the largest square.
        effective_rank: exp(entropy).
        participation_ratio: (sum of squares)^2 over the sum of fourth powers.
        condition_number: largest over smallest value; infinite if the smallest may be zero within its error bound.
    """

    stable_rank: float
    effective_rank: float
    participation_ratio: float
    condition_number: float


def effective_ranks(spectra: Sequence[ModeSpectrum]) -> list[EffectiveRanks]:
    """Return the effective ranks of each mode.

    Example:
        >>> mode = ModeSpectrum(np.array([2.0, 2.0, 2.0]), size=9, error_bound=1e-15, method="qr")
        >>> effective_ranks([mode])[0].stable_rank
        3.0
    """
    return [_of_mode(spectrum) for spectrum in spectra]


def condition_number(largest: float, smallest: float, smallest_bound: float) -> float:
    """Return largest over smallest value; infinite if the smallest may be zero within its error bound."""
    return largest / smallest if smallest > smallest_bound else np.inf


def _of_mode(spectrum: ModeSpectrum) -> EffectiveRanks:
    largest, smallest = float(spectrum.values[0]), float(spectrum.values[-1])
    if largest == 0:
        return EffectiveRanks(0.0, 0.0, 0.0, np.inf)
    parts = spectrum.values / largest  # so that no square overflows
    squares = parts**2
    weights = parts[parts > 0] / parts.sum()
    return EffectiveRanks(
        stable_rank=float(squares.sum()),
        effective_rank=float(np.exp(-(weights * np.log(weights)).sum())),
        participation_ratio=float(squares.sum() ** 2 / (squares**2).sum()),
        condition_number=condition_number(largest, smallest, float(spectrum.error_bound[-1])),
    )
