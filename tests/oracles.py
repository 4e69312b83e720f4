"""Closed forms and dense references, written from the papers and not from the package, which is never imported here.

Where a test needs a planted wrong variant, it stands beside the right form as `variant=`: a check that a wrong variant
passes checks nothing.
"""

import copy
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

# --- spectra ----------------------------------------------------------------------------------------------------------


def orthogonal(n: int, rng: np.random.Generator) -> np.ndarray:
    """Return a random orthogonal matrix (n, n)."""
    q, r = np.linalg.qr(rng.standard_normal((n, n)))
    return q * np.sign(np.diag(r))


def planted_tensor(
    spectra: Sequence[Sequence[float]], batch: int, rng: np.random.Generator
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return a dense tensor (batch, len(spectra[0]), len(spectra[1]), ...) and the exact spectrum of each mode.

    Its core has one entry a fibre of the first axis, outer(spectra) / norm^(N-2), so that the rows of every unfolding
    are orthogonal and mode k + 1 has the spectrum spectra[k]: all of equal norm. Mode 0 has the core's entries.
    """
    norms = [math.sqrt(math.fsum(s * s for s in spectrum)) for spectrum in spectra]
    assert max(norms) - min(norms) <= 1e-15 * max(norms)
    entries = np.ones(())
    for spectrum in spectra:
        entries = np.multiply.outer(entries, np.asarray(spectrum))
    entries = entries / norms[0] ** (len(spectra) - 1)
    assert batch >= entries.size
    core = np.zeros((batch, entries.size))
    np.fill_diagonal(core, entries.ravel())
    tensor = core.reshape(batch, *entries.shape)
    for axis, size in enumerate(tensor.shape):
        tensor = np.moveaxis(np.tensordot(orthogonal(size, rng), tensor, axes=(1, axis)), 0, axis)
    modes = [entries.ravel(), *(np.asarray(spectrum) for spectrum in spectra)]
    return np.ascontiguousarray(tensor), [np.sort(mode)[::-1].copy() for mode in modes]


def of_norm(norm: float, smaller: Sequence[float]) -> list[float]:
    """Return `smaller` with one large value in front, so that the whole has that norm."""
    return [math.sqrt(norm**2 - math.fsum(s * s for s in smaller)), *smaller]


def unfolding(tensor: np.ndarray, mode: int) -> np.ndarray:
    """Return the mode-n unfolding (I_n, product of the others)."""
    return np.moveaxis(tensor, mode, 0).reshape(tensor.shape[mode], -1)


def dense_spectrum(tensor: np.ndarray, mode: int, variant: str = "right") -> np.ndarray:
    """Return one mode's singular values by numpy's dense SVD, or as a plausible shortcut would have them."""
    matrix = unfolding(tensor, mode)
    if variant == "float32 svd":
        return np.linalg.svd(matrix.astype(np.float32), compute_uv=False).astype(np.float64)
    if variant == "float64 gram":
        tall = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T
        return np.sort(np.sqrt(np.abs(np.linalg.eigvalsh(tall.T @ tall))))[::-1].copy()
    if variant == "next mode":
        matrix = unfolding(tensor, (mode + 1) % tensor.ndim)
    return np.linalg.svd(matrix.astype(np.float64), compute_uv=False)


def exact_singular_values(matrix: np.ndarray) -> list:
    """Return the singular values in 60-digit arithmetic, as mpmath numbers, descending.

    Through the Gram matrix, which squares the condition number: here that costs 30 of 60 digits, and none that matter.
    """
    import mpmath

    tall = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T
    if np.issubdtype(tall.dtype, np.integer):
        gram = (tall.T.astype(np.int64) @ tall.astype(np.int64)).tolist()  # exact
    else:
        with mpmath.workdps(60):
            columns = [[mpmath.mpf(float(v)) for v in column] for column in tall.T]
            gram = [[mpmath.fdot(a, b) for b in columns] for a in columns]
    with mpmath.workdps(60):
        eigenvalues = mpmath.eigsy(mpmath.matrix(gram), eigvals_only=True)
        return sorted((mpmath.sqrt(abs(v)) for v in eigenvalues), reverse=True)


def mode_sizes(shape: Sequence[int]) -> list[tuple[int, int]]:
    """Return (size, number of values) of each mode of a tensor; a matrix has one spectrum, sized by its larger side."""
    if len(shape) == 2:
        return [(max(shape), min(shape))]
    return [(side, min(side, math.prod(shape) // side)) for side in shape]


def lenet5_shapes(
    batch: int, channels: tuple[int, int], dense: tuple[int, ...], padding: int, side: int = 28
) -> list[tuple[int, ...]]:
    """Return the shapes of LeNet-5's hidden activations: 5 x 5 convolutions unpooled, then the dense layers."""
    first = side + 2 * padding - 4
    second = first // 2 - 4
    convolutions = [(batch, channels[0], first, first), (batch, channels[1], second, second)]
    return [*convolutions, *((batch, units) for units in dense)]


# --- sharpness: Keskar et al. 2017, equations 3 and 4 -----------------------------------------------------------------


def _box(x: np.ndarray, epsilon: float, basis: np.ndarray | None, variant: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the half-widths of the box and the matrix that takes it into weight space."""
    A = np.eye(len(x)) if basis is None else basis
    if variant == "columns normalised":
        A = A / np.linalg.norm(A, axis=0)
    coordinates = A.T @ x if variant == "transpose for pseudo-inverse" else np.linalg.pinv(A) @ x
    width = {
        "box without its 1": np.abs(coordinates),
        "box without |A+ x|": np.ones_like(coordinates),
    }.get(variant, np.abs(coordinates) + 1)
    return epsilon * width, A


def _phi(base: float, largest: float, variant: str) -> float:
    return 100 * (largest - base) / (base if variant == "denominator without its 1" else 1 + base)


def linear_sharpness(
    base: float,
    slope: np.ndarray,
    x: np.ndarray,
    *,
    epsilon: float,
    basis: np.ndarray | None = None,
    variant: str = "right",
) -> float:
    """Return phi of f(x + d) = base + slope . d: the maximum is the box's corner of the slope's signs."""
    half, A = _box(x, epsilon, basis, variant)
    return _phi(base, base + float(np.abs(A.T @ slope) @ half), variant)


def quadratic_sharpness(
    floor: float, curvature: np.ndarray, minimum: np.ndarray, x: np.ndarray, *, epsilon: float, variant: str = "right"
) -> float:
    """Return phi of f(w) = floor + sum curvature (w - minimum)^2 / 2: highest at the farther end of each interval."""
    half, _ = _box(x, epsilon, None, variant)
    off = np.abs(x - minimum)
    base = floor + float(curvature @ off**2) / 2
    largest = floor + float(curvature @ (off + half) ** 2) / 2
    if variant == "weight penalty":
        base, largest = base + 0.25 * float(x @ x), largest + 0.25 * float((np.abs(x) + half) @ (np.abs(x) + half))
    return _phi(base, largest, variant)


def convex_sharpness(
    f: Callable[[np.ndarray], float],
    x: np.ndarray,
    *,
    epsilon: float,
    basis: np.ndarray | None = None,
    variant: str = "right",
) -> float:
    """Return phi of a convex f, which is highest at a corner of the box: all 2^p are tried."""
    half, A = _box(x, epsilon, basis, variant)
    corners = (half * (1 - 2 * np.array(signs)) for signs in np.ndindex(*([2] * len(half))))
    return _phi(f(x), max(f(x + A @ z) for z in corners), variant)


# --- training ---------------------------------------------------------------------------------------------------------


def normalised(images: np.ndarray, training_images: np.ndarray, variant: str = "right") -> np.ndarray:
    """Return (uint8 / 255 - mean) / deviation, mean and deviation of each channel over the training images."""
    scaled, training = images.astype(np.float64) / 255, training_images.astype(np.float64) / 255
    axes = (2, 3) if variant == "statistics an image" else (0, 2, 3)
    source = scaled if variant == "statistics an image" else training
    return (scaled - source.mean(axis=axes, keepdims=True)) / source.std(axis=axes, keepdims=True)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Return log probabilities (b, classes)."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def error_and_cross_entropy(
    logits: np.ndarray, labels: np.ndarray, batch: int, variant: str = "right"
) -> tuple[float, float]:
    """Return error (%) and mean cross-entropy over all rows; the wrong variant averages the batches' averages."""
    wrong = (logits.argmax(axis=1) != labels).astype(np.float64)
    entropy = -log_softmax(logits)[np.arange(len(labels)), labels]
    if variant == "mean of batch means":
        cuts = range(0, len(labels), batch)
        wrong, entropy = (np.array([v[c : c + batch].mean() for c in cuts]) for v in (wrong, entropy))
    return 100 * float(wrong.mean()), float(entropy.mean())


def softmax_regression_gradient(
    weights: dict[str, np.ndarray], inputs: np.ndarray, labels: np.ndarray
) -> dict[str, np.ndarray]:
    """Return the gradient of the mean cross-entropy of inputs @ weight.T + bias."""
    probabilities = np.exp(log_softmax(inputs @ weights["weight"].T + weights["bias"]))
    probabilities[np.arange(len(labels)), labels] -= 1
    probabilities /= len(labels)
    return {"weight": probabilities.T @ inputs, "bias": probabilities.sum(axis=0)}


def sgd(
    weights: dict[str, np.ndarray],
    gradients: Iterator[Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]],
    rates: Sequence[float],
    *,
    momentum: float,
    weight_decay: float,
    decayed: Sequence[str],
    variant: str = "right",
) -> dict[str, np.ndarray]:
    """Return the weights after heavy-ball SGD: v = momentum v + g + weight_decay w from v = 0, then w = w - rate v."""
    weights = {name: w.copy() for name, w in weights.items()}
    velocity = {name: np.zeros_like(w) for name, w in weights.items()}
    covered = set(weights) if variant == "decay of every parameter" else set(decayed)
    factor = 2 * weight_decay if variant == "decay of lambda w^2" else weight_decay
    for rate, gradient in zip(rates, gradients, strict=True):
        for name, g in gradient(weights).items():
            step = g + (factor * weights[name] if name in covered else 0)
            kept = 0 if variant == "no momentum" else momentum
            new = step * (1 - kept) if variant == "dampened" else step
            velocity[name] = kept * velocity[name] + new
            ahead = step + kept * velocity[name] if variant == "Nesterov" else velocity[name]
            weights[name] = weights[name] - rate * ahead
    return weights


def half_squares(arrays: Sequence[np.ndarray], weight_decay: float, variant: str = "right") -> float:
    """Return 0.5 lambda sum w^2; Keras's convention leaves out the half."""
    return (1.0 if variant == "Keras" else 0.5) * weight_decay * math.fsum(float((a**2).sum()) for a in arrays)


def batch_norm_statistics(
    inputs: np.ndarray, weights: Sequence[np.ndarray], batch: int, variant: str = "right"
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (mean, variance) of each layer of x -> relu(norm(x @ w.T)) ..., averaged over batches of equal size (+-1).

    In every batch a layer is normalised by that batch's own mean and biased variance (eps 1e-5), and the unbiased
    variance is what is averaged.
    """
    batches = np.array_split(inputs, -(-len(inputs) // batch))
    if variant == "unequal batches":
        batches = [inputs[start : start + batch] for start in range(0, len(inputs), batch)]
    found: list[list[tuple[np.ndarray, np.ndarray]]] = []
    for hidden in batches:
        row = []
        for w in weights:
            z = hidden @ w.T
            row.append((z.mean(axis=0), z.var(axis=0, ddof=0 if variant == "biased variance" else 1)))
            hidden = np.maximum((z - z.mean(axis=0)) / np.sqrt(z.var(axis=0) + 1e-5), 0)  # noqa: PLW2901
        found.append(row)
    if variant == "momentum 0.1":
        return [_moving([row[i] for row in found]) for i in range(len(weights))]
    return [tuple(np.mean([row[i][k] for row in found], axis=0) for k in (0, 1)) for i in range(len(weights))]


def _moving(rows: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    mean, variance = np.zeros_like(rows[0][0]), np.ones_like(rows[0][1])
    for m, v in rows:
        mean, variance = 0.9 * mean + 0.1 * m, 0.9 * variance + 0.1 * v
    return mean, variance


# --- objective --------------------------------------------------------------------------------------------------------


def plain_loss_and_gradient(
    model: nn.Module, inputs: Tensor, labels: Tensor, variant: str = "right", batch: int = 5
) -> tuple[Tensor, Tensor]:
    """Return the mean cross-entropy and its flat gradient, of a float64 copy in eval mode over the whole batch."""
    net = copy.deepcopy(model).double().train(variant == "train mode")
    losses = [cross_entropy(net(inputs), labels)]
    if variant == "mean of batch means":
        losses = [cross_entropy(net(x), y) for x, y in zip(inputs.split(batch), labels.split(batch), strict=True)]
    loss = torch.stack(losses).mean()
    if variant == "weight penalty":
        loss = loss + 5e-4 / 2 * sum(p.square().sum() for p in net.parameters())
    gradients = torch.autograd.grad(loss, list(net.parameters()))
    return loss.detach(), torch.cat([g.reshape(-1) for g in gradients])


# --- curvature --------------------------------------------------------------------------------------------------------


def symmetric(eigenvalues: Sequence[float], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return a dense matrix of those eigenvalues and its eigenvectors, columns in their order."""
    vectors = orthogonal(len(eigenvalues), np.random.default_rng(seed))
    return (vectors * np.asarray(eigenvalues)) @ vectors.T, vectors


def softmax_regression_hessian(inputs: np.ndarray, classes: int, variant: str = "right") -> np.ndarray:
    """Return the Hessian of the mean cross-entropy of inputs @ W.T at W = 0, W flat by rows, whatever the labels.

    At W = 0 every probability is 1 / classes, so it is (I - 11^T / classes) / classes (x) X^T X / images.
    """
    outputs = np.eye(classes) - (0 if variant == "without the mean" else 1 / classes)
    images = 1 if variant == "sum over images" else len(inputs)
    return np.kron(outputs / classes, inputs.T @ inputs / images)


def dense_hessian(model: nn.Module, inputs: Tensor, labels: Tensor, variant: str = "right") -> Tensor:
    """Return the Hessian (n, n) of the mean cross-entropy of a float64 model as it stands, or its Gauss-Newton matrix.

    Row by row over the whole batch; the Gauss-Newton matrix is the Hessian for linearised logits.
    """
    names = [name for name, _ in model.named_parameters()]
    shapes = [p.shape for p in model.parameters()]
    x = torch.cat([p.detach().reshape(-1) for p in model.parameters()])

    def logits(flat: Tensor) -> Tensor:
        pieces = flat.split([shape.numel() for shape in shapes])
        weights = {n: p.view(s) for n, p, s in zip(names, pieces, shapes, strict=True)}
        return torch.func.functional_call(model, weights, (inputs,))

    if variant == "gauss-newton":
        point, jacobian = logits(x).detach(), torch.autograd.functional.jacobian(logits, x)

        def loss(flat: Tensor) -> Tensor:
            return cross_entropy(point + jacobian @ (flat - x), labels)

    else:

        def loss(flat: Tensor) -> Tensor:
            return cross_entropy(logits(flat), labels)

    rows = []
    point_x = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(point_x), point_x, create_graph=True)
    for entry in gradient:
        rows.append(torch.autograd.grad(entry, point_x, retain_graph=True)[0])
    return torch.stack(rows).detach()


class WrittenNorm(nn.Module):
    """A layer norm in plain operations, with the parameters of one.

    `torch.func.jacrev`, and so `torch.func.hessian`, differentiates PyTorch's own wrongly (torch 2.15): rows of its
    weight come out wrong, and the Hessian is not symmetric. Backward twice, as the package goes, it is right.
    """

    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        return centred / (centred.square().mean(-1, keepdim=True) + self.eps).sqrt() * self.weight + self.bias


def with_written_norms(model: nn.Module) -> nn.Module:
    """Return a copy whose layer norms are written out; names and order of its parameters are the same."""
    model = copy.deepcopy(model)
    norms = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.LayerNorm)]
    for name, norm in norms:
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, WrittenNorm(norm))
    return model


def diagonal_entries(
    model: nn.Module, examples: tuple[Tensor, Tensor], weight: Tensor, places: Tensor, variant: str = "right"
) -> Tensor:
    """Return d2 L / dw_i2 of the mean cross-entropy at some places of one parameter, by two backward passes each."""
    inputs, labels = examples
    loss = cross_entropy(model(inputs), labels, reduction="sum" if variant == "sum of losses" else "mean")
    (gradient,) = torch.autograd.grad(loss, weight, create_graph=True)
    if variant == "square of the gradient":
        return gradient.detach().reshape(-1)[places].square()
    flat = gradient.reshape(-1)
    rows = [torch.autograd.grad(flat[i], weight, retain_graph=True, materialize_grads=True)[0] for i in places]
    return torch.stack([row.reshape(-1)[i] for row, i in zip(rows, places, strict=True)])


def example_gradients(model: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
    """Return the gradient of each example's cross-entropy, (b, n)."""
    rows = []
    for x, y in zip(inputs.split(1), labels.split(1), strict=True):
        found = torch.autograd.grad(cross_entropy(model(x), y), list(model.parameters()), materialize_grads=True)
        rows.append(torch.cat([of.reshape(-1) for of in found]))
    return torch.stack(rows)


def dense_gauss_newton(model: nn.Module, inputs: Tensor) -> Tensor:
    """Return the mean over examples of J^T (diag(p) - p p^T) J, (n, n), each row of J by a backward pass."""
    total, weights = 0.0, list(model.parameters())
    for x in inputs.split(1):
        logits = model(x)[0]
        rows = [torch.autograd.grad(z, weights, retain_graph=True, materialize_grads=True) for z in logits]
        jacobian = torch.stack([torch.cat([of.reshape(-1) for of in row]) for row in rows])
        p = logits.detach().softmax(0)
        total = total + jacobian.T @ (p.diag() - torch.outer(p, p)) @ jacobian
    return total / len(inputs)


def noise_scale(mean: np.ndarray, deviations: np.ndarray, variant: str = "right") -> float:
    """Return tr(Sigma) / |G|^2 of one example's gradient N(mean, diag(deviations^2))."""
    trace, squared = float((deviations**2).sum()), float(mean @ mean)
    if variant == "deviation for variance":
        trace = float(deviations.sum())
    return trace / (math.sqrt(squared) if variant == "norm not squared" else squared)
