"""How much a loss curve fluctuates: the scatter of its logarithm about a running median."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

LEAST = 5  # values of which a scatter is taken


def log_residuals(losses: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Return the logarithm of each loss minus its median over the window around it, shorter at both ends.

    Args:
        losses: (n,), in the order of training, above 0.
        window: odd number of values.

    Raises:
        ValueError: an even window, or a loss that is not above 0.

    Example:
        >>> log_residuals(np.exp([0.0, 1.0, 5.0, 3.0, 4.0]), 3).round(9).tolist()
        [-0.5, 0.0, 2.0, -1.0, 0.5]
    """
    if window % 2 == 0:
        raise ValueError(f"the window of a running median must be odd, got {window}")
    if not (losses > 0).all():
        raise ValueError("a loss is not above 0: it has no logarithm")
    logs = np.log(losses)
    padded = np.pad(logs, window // 2, constant_values=np.nan)
    medians: NDArray[np.float64] = np.nanmedian(sliding_window_view(padded, window), axis=1)
    return logs - medians


def scatter(residuals: NDArray[np.float64]) -> float:
    """Return the standard deviation of residuals about 0; NaN where there are fewer than `LEAST`."""
    return float(np.sqrt(np.mean(residuals**2))) if len(residuals) >= LEAST else float("nan")
