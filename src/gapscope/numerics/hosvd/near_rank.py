"""Near-rank loss: how many singular values are at most a threshold. Oyedotun et al. 2022, Definition 1, Algorithm 1.

The paper does not say which values count. Mode-n has I_n of them if its structural zeros (zero by shape: I_n minus the
number of columns, where that is positive) are included ("full"), min(I_n, columns) if not ("economy"). Structural zeros
follow the batch size whatever training did (a dense layer of u units has |b - u|), so both are given apart, with the
interval that the solver's error leaves.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from gapscope.errors import InputError
from gapscope.numerics.hosvd.spectrum import ModeSpectrum


@dataclass(frozen=True)
class NearRankSettings:
    """Params of the near_rank stage beside the study's `thresholds`; `conf/config.yaml` says what each is."""

    relative_thresholds: tuple[float, ...]

    def __post_init__(self) -> None:
        if not all(0 <= threshold < 1 for threshold in self.relative_thresholds):
            raise InputError(f"near_rank.relative_thresholds must lie in [0, 1), got {list(self.relative_thresholds)}")


@dataclass(frozen=True)
class NearRank:
    """Counts of one mode at one threshold.

    Attributes:
        economy: values <= threshold, structural zeros left out ("excess").
        structural: zeros by shape.
        full: their sum.
        fraction: economy over the number of values.
        certain, possible: economy lies in this interval whatever each value's error within its bound was (Weyl).
    """

    economy: int
    structural: int
    full: int
    fraction: float
    certain: int
    possible: int

    @property
    def undecidable(self) -> bool:
        """Whether the interval is wider than 1 % of the number of values it counts (and than one value)."""
        return self.possible - self.certain > max(1.0, 0.01 * self.possible)

    def to_row(self) -> dict[str, Any]:
        """Return the columns of a table."""
        return {**asdict(self), "undecidable": self.undecidable}


def near_rank_count(spectra: Sequence[ModeSpectrum], threshold: float, *, relative: bool = False) -> list[NearRank]:
    """Return the counts of each mode.

    Args:
        spectra: one a mode.
        threshold: counted are values at most this.
        relative: the threshold is a part of each mode's largest value.

    Raises:
        ValueError: a threshold that is negative or not finite.

    Example:
        >>> spectrum = ModeSpectrum(np.array([2.0, 1e-6]), size=5, error_bound=1e-15, method="qr")
        >>> near_rank_count([spectrum], 1e-4)[0].economy, near_rank_count([spectrum], 1e-4)[0].full
        (1, 4)
    """
    if not (np.isfinite(threshold) and threshold >= 0):
        raise ValueError(f"threshold must be a finite number >= 0, got {threshold}")
    return [_count(spectrum, threshold, relative) for spectrum in spectra]


def _count(spectrum: ModeSpectrum, threshold: float, relative: bool) -> NearRank:
    values, bounds = spectrum.values, spectrum.error_bound
    if relative:
        bounds = bounds + threshold * bounds[0]  # the largest value is itself known to its bound only
        threshold *= float(values[0])
    economy, certain, possible = (
        int(np.count_nonzero(shifted <= threshold)) for shifted in (values, values + bounds, values - bounds)
    )
    structural = spectrum.structural
    return NearRank(economy, structural, economy + structural, economy / len(values), certain, possible)
