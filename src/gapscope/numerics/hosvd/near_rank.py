"""Near-rank loss: the number of singular values at or below a threshold. Oyedotun et al. 2022, Algorithm 1.

The paper does not say which values count. The mode-n unfolding has I_n rows but only min(I_n, columns) singular values;
the rest are structural zeros, which the shape forces. The paper's count may include them ("full") or leave them out
("economy", also called excess). The number of structural zeros depends on the batch size b but not on training: a dense
layer of u units has |b - u|. So the two counts are given separately. The solver's error bounds give each count an
interval.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gapscope.numerics.hosvd.spectrum import ModeSpectrum, SpectrumTail


@dataclass(frozen=True)
class NearRank:
    """Counts of one mode at one threshold.

    Attributes:
        economy: values at or below the threshold, without structural zeros (the excess).
        structural: zeros that the shape forces.
        full: economy plus structural.
        fraction: economy over the number of values.
        certain: values that are at or below the threshold for every error within its bound (Weyl).
        possible: values that are there for some error within its bound.
    """

    economy: int
    structural: int
    full: int
    fraction: float
    certain: int
    possible: int

    @property
    def undecidable(self) -> bool:
        """Whether the interval is wider than one value and wider than 1 % of its upper end."""
        return undecidable(self.certain, self.possible)


def undecidable(certain: int, possible: int) -> bool:
    """Return whether an interval of counts is wider than one value and wider than 1 % of its upper end."""
    return possible - certain > max(1.0, 0.01 * possible)


def near_rank_count(
    spectra: Sequence[ModeSpectrum | SpectrumTail], threshold: float, *, relative: bool = False
) -> list[NearRank]:
    """Return the counts of each mode.

    Args:
        spectra: one per mode, whole or the tails.
        threshold: values at or below it count.
        relative: whether the threshold is a fraction of each mode's largest value.

    Raises:
        ValueError: a threshold that is negative, not finite, or above the cut of a tail.

    Example:
        >>> spectrum = ModeSpectrum(np.array([2.0, 1e-6]), size=5, error_bound=1e-15, method="qr")
        >>> near_rank_count([spectrum], 1e-4)[0].economy, near_rank_count([spectrum], 1e-4)[0].full
        (1, 4)
    """
    if not (np.isfinite(threshold) and threshold >= 0):
        raise ValueError(f"threshold must be a finite number >= 0, got {threshold}")
    tails = (spectrum.tail() if isinstance(spectrum, ModeSpectrum) else spectrum for spectrum in spectra)
    return [_count(tail, threshold, relative) for tail in tails]


def absolute(threshold: float, largest: float, *, relative: bool) -> float:
    """Return an absolute threshold; a relative one is a fraction of the largest value."""
    return threshold * largest if relative else threshold


def _count(tail: SpectrumTail, threshold: float, relative: bool) -> NearRank:
    values, bounds = tail.values, tail.error_bound
    if relative:
        bounds = bounds + threshold * tail.largest_bound  # the largest value has an error of its own
    threshold = absolute(threshold, tail.largest, relative=relative)
    if threshold > tail.cut:
        raise ValueError(f"threshold {threshold:g} is above {tail.cut:g}, up to which this spectrum has every value")
    economy, certain, possible = (
        int(np.count_nonzero(shifted <= threshold)) for shifted in (values, values + bounds, values - bounds)
    )
    structural = tail.structural
    return NearRank(economy, structural, economy + structural, economy / tail.count, certain, possible)
