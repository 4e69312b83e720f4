"""How the mean gradient of a layer falls with the batch size n: Gao & Zhong, equations 1 to 4, and what replaces them.

The paper takes every gradient of a layer as N(0, sigma) and finds E|g| = 2 sigma / sqrt(pi n) (equation 4; the constant
is sqrt 2 too large). With a mean mu_i and a deviation sigma_i per parameter, the gradient of n out of N images has

    E g_i^2 = mu_i^2 + s_i^2,   s_i^2 = sigma_i^2 (1/n - 1/N)                           exactly, for any distribution
    E |g_i| = s_i sqrt(2/pi) exp(-mu_i^2 / 2 s_i^2) + |mu_i| erf(|mu_i| / (s_i sqrt 2))  the folded normal

where mu_i is the gradient of all N images. Both stop falling at n* = mean_i sigma_i^2 / mean_i mu_i^2, the layer's own
noise scale (McCandlish et al. 2018, by layer).

Gradients of disjoint random batches of b images come as a stream. A binary counter joins them two by two, so one pass
gives means over b, 2b, 4b, ... images. Vectors keep the stream's precision, reductions are float64.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import pi, sqrt

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import t as student
from torch import Tensor

from gapscope.numerics.binary_counter import BinaryCounter

Values = NDArray[np.float64]
GROUPS = 16  # at least so many groups of batches in a jackknife, where there are enough batches
CONFIDENCE = 0.95
LAWS = ("equation_4", "equation_4_corrected", "common_sigma", "folded_normal")


@dataclass(frozen=True)
class GradientLaw:
    """What one pass of gradients gives, by parameter tensor (T of them, P entries in all).

    Attributes:
        batch_size: b, images in each gradient of the stream.
        images: N, images in all of them.
        sizes: entries of each tensor.
        mean_abs, mean_square: batch size n -> the mean over a tensor's entries of |g| and g^2, (replicates, T).
        mean: mu_i, the gradient of all N images (P,).
        variance: sigma_i^2, the unbiased variance of one image's gradient (P,).
        group: batches of b in each group of the jackknife.
        of_groups: of the groups' means G_j and their own mean G, by tensor: mean of G_j^2 and of G_j G, each
            (groups, T).
    """

    batch_size: int
    images: int
    sizes: tuple[int, ...]
    mean_abs: Mapping[int, Values]
    mean_square: Mapping[int, Values]
    mean: Tensor
    variance: Tensor
    group: int
    of_groups: tuple[Values, Values]

    @property
    def sigma2(self) -> Values:
        """Mean of sigma_i^2 over each tensor (T,)."""
        return _tensor_means(self.variance, self.sizes)

    @property
    def mu2(self) -> Values:
        """Mean of mu_i^2 over each tensor (T,), without the noise of N images: unbiased, and may be negative."""
        return _tensor_means(self.mean.square(), self.sizes) - self.sigma2 / self.images

    @property
    def live_share(self) -> Values:
        """Share of entries whose gradient is not 0 for every image (T,)."""
        return _tensor_means(((self.variance > 0) | (self.mean != 0)).to(self.mean.dtype), self.sizes)

    def square_law(self, n: int) -> Values:
        """Return the predicted mean of g^2 at batch size n (T,): mu^2 + sigma^2 / n."""
        return self.mu2 + self.sigma2 / n

    def abs_laws(self, n: int) -> dict[str, Values]:
        """Return the mean of |g| at batch size n by each of `LAWS`, each (T,).

        equation_4: as printed, 2 sigma / sqrt(pi n), with sigma^2 the mean over the tensor. equation_4_corrected: sigma
        sqrt(2 / (pi n)). common_sigma: the folded normal with each mu_i and that one sigma. folded_normal: with each
        mu_i and sigma_i.
        """
        left = max(1 / n - 1 / self.images, 0.0)
        common = np.sqrt(self.sigma2)
        found = {
            "equation_4": 2 * common / sqrt(pi * n),
            "equation_4_corrected": common * sqrt(2 / (pi * n)),
            "common_sigma": np.empty(len(self.sizes)),
            "folded_normal": np.empty(len(self.sizes)),
        }
        for number, (mu, variance) in enumerate(zip(self.mean.split(self.sizes), self.variance.split(self.sizes))):
            one = torch.tensor(float(common[number]) * sqrt(left), dtype=mu.dtype, device=mu.device)
            for law, deviation in (("common_sigma", one), ("folded_normal", (variance * left).sqrt())):
                found[law][number] = float(folded_normal_mean(mu, deviation).mean(dtype=torch.float64))
        return found


def gradient_law(
    gradients: Iterable[Tensor],
    batch_size: int,
    sizes: Sequence[int],
    *,
    batches: int,
    seen: Callable[[int, Tensor], None] = lambda _n, _gradient: None,
) -> GradientLaw:
    """Return how the gradients of each parameter tensor depend on the batch size, from one pass.

    Batch sizes are b, 2b, 4b, ... up to N, then 3/2 times the largest of these and N itself, where they fit between.
    Memory: about 4 + log2(batches) vectors (P,), and `GROUPS` to 2 `GROUPS` more for the intervals.

    Args:
        gradients: `batches` vectors (P,), of disjoint random batches of one size.
        batch_size: b, images in each of them.
        sizes: entries of each parameter tensor; they add up to P.
        batches: how many gradients come.
        seen: called with each batch size n and each gradient (P,) of n images, as they are made.

    Raises:
        ValueError: fewer than 4 batches, another number than said, or a gradient that is not finite.
    """
    if batches < 4:
        raise ValueError(f"the gradient law needs at least 4 batches, got {batches}: take smaller ones")
    group = 1 << max((batches // GROUPS).bit_length() - 1, 0)
    found: dict[int, list[tuple[Tensor, Tensor]]] = {}
    groups: list[Tensor] = []
    counter = BinaryCounter()
    for gradient in gradients:
        nodes = counter.add(gradient)
        if counter.count in joined_counts(batches):
            nodes.append(counter.joined())
        for node in nodes:
            n = node.count * batch_size
            found.setdefault(n, []).append(_sums(node.mean, sizes))
            seen(n, node.mean)
            if node.count == group:
                groups.append(node.mean)
    if counter.count != batches:
        raise ValueError(f"{batches} gradients were to come, got {counter.count}")
    means = {n: _means(found[n], sizes) for n in sorted(found)}
    mean_abs, mean_square = ({n: pair[part] for n, pair in means.items()} for part in (0, 1))
    if not np.isfinite(mean_square[batch_size]).all():
        raise ValueError("a gradient is not finite: a diverged model has no gradient law")
    between = torch.stack(groups).mean(0)
    of_groups = (
        np.stack([_tensor_means(of.square(), sizes) for of in groups]),
        np.stack([_tensor_means(of * between, sizes) for of in groups]),
    )
    variance = counter.scatter() * (batch_size / (batches - 1))
    return GradientLaw(
        batch_size, batches * batch_size, tuple(sizes), mean_abs, mean_square, counter.joined().mean, variance, group,
        of_groups,
    )  # fmt: skip


def batch_means(gradients: Iterable[Tensor], sizes: Sequence[int]) -> tuple[Values, Values]:
    """Return the means of |g| and of g^2 over the entries of each tensor, each (gradients, T)."""
    return _means([_sums(gradient, sizes) for gradient in gradients], sizes)


def joined_counts(batches: int) -> set[int]:
    """Return the numbers of batches that are no power of two and whose mean is taken too: 3/2 of the largest, and all.

    Example:
        >>> sorted(joined_counts(1875)), sorted(joined_counts(1024))
        ([1536, 1875], [])
    """
    largest = 1 << (batches.bit_length() - 1)
    return {count for count in (3 * largest // 2, batches) if largest < count <= batches}


def folded_normal_mean(mean: Tensor, deviation: Tensor) -> Tensor:
    """Return E|x| of x ~ N(mean, deviation^2), entry by entry; |mean| where the deviation is 0.

    Example:
        >>> float(folded_normal_mean(torch.tensor(-3.0), torch.tensor(0.0)))
        3.0
    """
    ratio = (mean / deviation).abs().nan_to_num(0.0, posinf=float("inf"))  # 0/0: a dead unit
    spread = deviation * sqrt(2 / pi) * torch.exp(-ratio.square() / 2)
    return spread + mean.abs() * torch.erf(ratio / sqrt(2))


# --- exponents, noise scales and intervals ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Estimate:
    """A value and its interval for each tensor (T,); NaN ends where there is no second batch to compare with."""

    value: Values
    low: Values
    high: Values


def average(law: GradientLaw, values: Mapping[int, Values], n: int) -> Estimate:
    """Return the mean over replicates at batch size n; `values` is `law.mean_abs` or `law.mean_square`."""
    (parts,) = _grouped(law, values, n)
    return _jackknife(values[n].mean(axis=0), _left_out(parts))


def exponent(law: GradientLaw, values: Mapping[int, Values], n: int, larger: int) -> Estimate:
    """Return log(value at `larger` / value at n) / log(larger / n): -1/2 for |g| where there is only noise.

    NaN for a tensor whose gradients are all 0.
    """
    small, large = (_left_out(parts) for parts in _grouped(law, values, n, larger))
    with np.errstate(divide="ignore", invalid="ignore"):
        whole, parts = np.log(values[larger].mean(axis=0) / values[n].mean(axis=0)), np.log(large / small)
    return _jackknife(whole / np.log(larger / n), parts / np.log(larger / n))


def spread(law: GradientLaw) -> dict[str, Estimate]:
    """Return mu2, sigma2 and noise_scale = sigma2 / mu2 of each tensor, with jackknife intervals over the groups.

    The noise scale is infinite where mu2 is not positive, 0 without noise, and NaN for a tensor whose gradients are all
    0. Its interval is that of its inverse, as in `gapscope.numerics.loss_surface.noise_scale`.
    """
    squares, products = law.of_groups
    groups, total = len(squares), products.mean(axis=0)
    first = law.mean_square[law.batch_size][: groups * law.group].reshape(groups, law.group, -1).mean(axis=1)
    batches = (groups - 1) * law.group
    left = (groups**2 * total - 2 * groups * products + squares) / (groups - 1) ** 2  # square of the others' mean
    sigma2 = law.batch_size * batches / (batches - 1) * np.maximum(_left_out(first) - left, 0)
    mu2 = left - sigma2 / (law.batch_size * batches)
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = _jackknife(law.mu2 / law.sigma2, mu2 / sigma2)
    return {
        "mu2": _jackknife(law.mu2, mu2),
        "sigma2": _jackknife(law.sigma2, sigma2),
        "noise_scale": Estimate(*(_inverted(end) for end in (inverse.value, inverse.high, inverse.low))),
    }


def _inverted(values: Values) -> Values:
    with np.errstate(divide="ignore"):
        return np.where(np.isnan(values), np.nan, np.where(values > 0, 1 / values, np.inf))


def _grouped(law: GradientLaw, values: Mapping[int, Values], *sizes: int) -> list[Values]:
    """Return values at several batch sizes as means over the same groups of images, each (groups, T)."""
    counts = [n // law.batch_size for n in sizes]
    group = max(law.group, *counts)
    parts = []
    for n, count in zip(sizes, counts, strict=True):
        each = max(group // count, 1)
        whole = len(values[n]) // each
        parts.append(values[n][: whole * each].reshape(whole, each, -1).mean(axis=1))
    least = min(map(len, parts))
    return [part[:least] for part in parts]


def _left_out(parts: Values) -> Values:
    """Return the mean of all groups but one, for each of them; no rows where there is only one group."""
    groups = len(parts)
    return (parts.sum(axis=0) - parts) / (groups - 1) if groups > 1 else parts[:0]


def _jackknife(value: Values, left_out: Values) -> Estimate:
    """Return a value with its interval, by Student's t, from the estimates without each group in turn (groups, T)."""
    groups = len(left_out)
    if groups < 2:
        none = np.full(np.shape(value), np.nan)
        return Estimate(value, none, none)
    with np.errstate(invalid="ignore"):
        error = np.sqrt((groups - 1) / groups * ((left_out - left_out.mean(axis=0)) ** 2).sum(axis=0))
    reach = float(student.ppf((1 + CONFIDENCE) / 2, groups - 1)) * error
    return Estimate(value, value - reach, value + reach)


def _means(sums: Sequence[tuple[Tensor, Tensor]], sizes: Sequence[int]) -> tuple[Values, Values]:
    absolute, square = (torch.stack(of).double().cpu().numpy() / sizes for of in zip(*sums, strict=True))
    return absolute, square


def _sums(vector: Tensor, sizes: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return the sums of |v| and of v^2 over each tensor; torch sums in pairs, which keeps float32's digits."""
    magnitude = vector.abs()
    absolute = torch.stack([part.sum() for part in magnitude.split(list(sizes))])
    return absolute, torch.stack([part.sum() for part in magnitude.square_().split(list(sizes))])


def _tensor_means(vector: Tensor, sizes: Sequence[int]) -> Values:
    return np.array([float(part.mean(dtype=torch.float64)) for part in vector.split(list(sizes))])
