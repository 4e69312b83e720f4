"""A made-up regression whose noise scale is known in closed form: Gaussian features, a linear target, Gaussian noise.

The features of an example are a stationary autoregression: of mean 0 and variance 1, with the covariance
C_ij = CORRELATION^|i - j|. The target is w* x + e, with w*_i proportional to 1 / i, e normal and independent of x. It
has mean 0 and variance 1, of which w* x makes the part SIGNAL. So no model has an R^2 above SIGNAL.

Every number is made by single additions, multiplications and roots of numpy's normal draws, and is rounded to float32:
the bytes are the same wherever numpy's generator gives the same numbers.
"""

from pathlib import Path

import numpy as np

NAME = "linear_gaussian"
TRAIN, TEST, FEATURES = 8192, 2048, 16
CORRELATION, SIGNAL = 0.5, 0.8


def covariance() -> np.ndarray:
    """Return the covariance C of the features, (features, features)."""
    places = np.arange(FEATURES)
    found: np.ndarray = CORRELATION ** np.abs(places[:, None] - places).astype(float)
    return found


def truth() -> np.ndarray:
    """Return the weights w* of the target, (features,)."""
    weights: np.ndarray = 1 / np.arange(1, FEATURES + 1)
    variance = 0.0
    for weight, row in zip(weights, covariance(), strict=True):
        for other, entry in zip(weights, row, strict=True):
            variance += float(weight * other * entry)
    return weights * float(np.sqrt(SIGNAL / variance))


def noise_scale(weights: np.ndarray, bias: float = 0.0) -> float:
    r"""Return tr(Sigma) / |G|^2 of the squared error of the linear model w x + b, over all examples that may be drawn.

    With d = w - w*, an example's gradient is 2 (d x + b - e) (x, 1). Its mean G has |G|^2 = 4 (|C d|^2 + b^2). By
    Isserlis' theorem E (d x)^2 |x|^2 = d^T C d tr C + 2 |C d|^2, so with the loss L = d^T C d + b^2 + E e^2 it is

        tr(Sigma) = 4 (L (tr C + 1) + |C d|^2 - b^2)

    Args:
        weights: w (features,).
        bias: b.
    """
    c, distance = covariance(), weights - truth()
    slope = float((c @ distance) @ (c @ distance))
    loss = float(distance @ c @ distance) + bias**2 + 1 - SIGNAL
    return float((loss * (np.trace(c) + 1) + slope - bias**2) / (slope + bias**2))


def written(scratch: Path) -> tuple[str, Path]:
    """Write the data set; return its source in words, and its file."""
    draw = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {}
    for split, count in (("train", TRAIN), ("test", TEST)):
        x, noise = draw.standard_normal((count, FEATURES)), draw.standard_normal(count)
        for place in range(1, FEATURES):
            x[:, place] = CORRELATION * x[:, place - 1] + np.sqrt(1 - CORRELATION**2) * x[:, place]
        y = np.sqrt(1 - SIGNAL) * noise
        for weight, feature in zip(truth(), x.T, strict=True):  # no product of matrices: its sums have no fixed order
            y = y + weight * feature
        arrays |= {f"x_{split}": x.astype(np.float32), f"y_{split}": y.astype(np.float32)}
    path = scratch / f"{NAME}.npz"
    np.savez(path, standardise=np.bool_(False), **arrays)  # type: ignore[arg-type]
    return "made up: Gaussian features, a linear target and noise (gapscope.data.made_up)", path
