"""Curvature radii of a tensor of weights, and what Gao & Zhong put in their place; rank correlations and spreads.

For weights w, gradient g and the Hessian's diagonal h of one tensor the paper's equations are, as `radii` gives them:

    hessian         median of 1/h over live entries: equation 9 without its factor (1 + g^2)^1.5, by which the radius
                    changes when the loss is multiplied by a number
    hessian_mean    1 / mean h
    eq9             median of (1 + g^2)^1.5 / h over live entries, as printed
    eq17            median of |w/g| over entries with g != 0; the paper calls it a rough estimate of 1/h
    eq17_mean       its mean, heavy-tailed because g is near 0 somewhere
    eq20            median|w| / median|g| over live entries: the robust reading of the printed equation
    eq20_signed     |median w / median g| over all entries: the printed one, a ratio of two numbers near zero
    lars            ||w|| / ||g||, equation 23 (You et al. 2017a)
    percent_delta   1 / mean|g/w| over entries with w != 0, equation 24 (Abu-El-Haija 2017)

An entry is live where the diagonal exceeds two of its standard errors: for an exact diagonal where h > 0. A dead unit's
weights have h = g = 0, and no radius. A value that does not exist, as of a tensor without a live entry, is NaN.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

ESTIMATES = ("hessian", "hessian_mean", "eq9", "eq17", "eq17_mean", "eq20", "eq20_signed", "lars", "percent_delta")
TOLD_FROM_ZERO = 2  # standard errors


def live(h: Tensor, standard_errors: Tensor | None = None) -> Tensor:
    """Return which entries of a diagonal (n,) are told from zero."""
    return h > (0 if standard_errors is None else TOLD_FROM_ZERO * standard_errors)


def radii(w: Tensor, g: Tensor, h: Tensor, alive: Tensor) -> dict[str, float]:
    """Return the radii of one tensor by each of ESTIMATES.

    Args:
        w: weights (n,).
        g: gradient of the loss (n,).
        h: diagonal of its Hessian (n,).
        alive: (n,), which entries are live.

    Example:
        >>> w, g, h = torch.tensor([[4.0, 1.0, 2.0, 0.0], [2.0, -1.0, 1.0, 0.0], [0.5, 0.25, 1.0, 0.0]])
        >>> found = radii(w, g, h, live(h))
        >>> [found[name] for name in ("hessian", "eq17", "eq20", "eq20_signed")]
        [2.0, 2.0, 2.0, 3.0]
    """
    moving, standing = g != 0, w != 0
    ratio = (w[moving] / g[moving]).abs()
    inverse = h[alive].reciprocal()
    return {
        "hessian": median(inverse),
        "hessian_mean": _quotient(1.0, float(h.mean())),
        "eq9": median((1 + g[alive].square()) ** 1.5 * inverse),
        "eq17": median(ratio),
        "eq17_mean": _mean(ratio),
        "eq20": _quotient(median(w[alive].abs()), median(g[alive].abs())),
        "eq20_signed": abs(_quotient(median(w), median(g))),
        "lars": _quotient(float(w.norm()), float(g.norm())),
        "percent_delta": _quotient(1.0, _mean((g[standing] / w[standing]).abs())),
    }


def distances(g: Tensor, h: Tensor, alive: Tensor, damping: float) -> dict[str, float]:
    """Return the distance to the minimum, |d| of equations 25-28, over one tensor's live entries.

    Returns:
        damped: median of |g_i| / (h_i + damping mean h), since the parabola of equation 12 has h_i = 2 a_i.
        common: mean of |g_i| / mean h, the paper's a = const (equation 28 is of the mean).

    Args:
        g: gradient (n,).
        h: diagonal (n,).
        alive: (n,), which entries are live.
        damping: as a part of the mean of h over live entries.
    """
    g, h = g[alive].abs(), h[alive]
    common = _mean(h)
    return {
        "damped": median(g / (h + damping * common)),
        "common": _quotient(_mean(g), common),
    }


def within_factor_pct(found: Tensor, known: Tensor, factor: float) -> float:
    """Return the percentage of entries (n,) in which `found` lies within a factor of `known`; NaN without an entry."""
    ratio = found / known
    return 100 * _mean(((ratio <= factor) & (ratio >= 1 / factor)).to(known.dtype))


def rank_correlation(x: Tensor, y: Tensor) -> float:
    """Return Spearman's rank correlation of x and y (n,), with mean ranks for ties; infinities are values like others.

    NaN for fewer than two entries, or where one of the two is constant.

    Example:
        >>> rank_correlation(torch.tensor([1.0, 2.0, 2.0, 9.0]), torch.tensor([1.0, 3.0, 3.0, float("inf")]))
        1.0
    """
    if len(x) < 2:
        return math.nan
    a, b = (_ranks(of) for of in (x, y))
    a, b = a - a.mean(), b - b.mean()
    return _quotient(float(a @ b), math.sqrt(float(a @ a) * float(b @ b)))


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return how far radii of several tensors lie apart.

    Returns:
        `radius_spread`: largest / smallest. `log_radius_sd`: standard deviation of log R. `log_radius_cv`: the same
        over |mean log R|; it changes with the unit of the loss, which the other two do not.

    Args:
        values: of each tensor. Those that are not positive and finite are left out; NaN for fewer than two.
    """
    logs = torch.tensor([math.log(v) for v in values if v > 0 and math.isfinite(v)], dtype=torch.float64)
    if len(logs) < 2:
        return dict.fromkeys(("radius_spread", "log_radius_sd", "log_radius_cv"), math.nan)
    deviation = float(logs.std())
    return {
        "radius_spread": math.exp(float(logs.max() - logs.min())),
        "log_radius_sd": deviation,
        "log_radius_cv": _quotient(deviation, abs(float(logs.mean()))),
    }


def median(values: Tensor) -> float:
    """Return the median of (n,), the mean of both middle values where n is even; NaN without a value.

    Example:
        >>> median(torch.tensor([4.0, 1.0, 3.0, 9.0]))
        3.5
    """
    n = len(values)
    if not n:
        return math.nan
    below = float(values.kthvalue((n + 1) // 2).values)
    return below if n % 2 else (below + float(values.kthvalue(n // 2 + 1).values)) / 2


def _ranks(values: Tensor) -> Tensor:
    _, place, counts = values.unique(return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    means: Tensor = last - (counts - 1) / 2
    return means[place]


def _mean(values: Tensor) -> float:
    return float(values.mean()) if len(values) else math.nan


def _quotient(above: float, below: float) -> float:
    """Return above / below: infinite over zero, and NaN for 0 / 0."""
    if below == 0:
        return math.nan if above == 0 or math.isnan(above) else math.inf
    return above / below
