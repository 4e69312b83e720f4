"""Squares of J^T s summed over examples, J being the Jacobian of an example's outputs in the weights.

With the columns s of a square root of the loss's Hessian in the outputs, the sum is the diagonal of the Gauss-Newton
matrix (Schraudolph 2002; Martens & Grosse 2015). With s = p - e_y it is the empirical Fisher's. The derivatives of the
outputs in a layer's output come from one backward pass per s, in which no weight has a gradient. What remains is
cheap for three kinds of layers, and no example's gradient is formed for a dense layer:

- dense: (sum over s of delta^2)^T (a^2), with a its input and delta the derivative in its output (LeCun et al. 1990);
- convolution: for each example, the matrix product of delta with the unfolded input, squared;
- batch norm by running statistics: for each example, the sum over pixels of delta times the normalised input, squared.

All other parameters take torch.func's vmap over examples, a Jacobian each. So does a layer for which the above does not
give autograd's own gradient of single examples: because it is used twice, or its weights are used elsewhere too, or it
is a class of the user's with another forward pass.
"""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import vjp, vmap
from torch.nn.functional import unfold
from torch.nn.modules.batchnorm import _BatchNorm

from gapscope.numerics.loss_surface.shared_weights import call_with, shared_weights

Columns = Callable[[Tensor], Tensor]  # outputs (b, ...) of k entries each -> vectors (b, m, k), s of each example
Seen = dict[str, tuple[Tensor, Tensor]]  # layer -> input, and a zero that was added to its output

HELD = 2**24  # entries of examples' gradients at a time, 128 MB in float64
CHECKED = 3  # examples for which a layer's squares are compared with autograd's
SAME = 1e-3  # relative: a layer that differs at all differs by its own size


class SquaredJacobian:
    """Sums of squares of J^T s for one network.

    Args:
        model: in the mode and precision of the measurement. It is copied. Its outputs are (b, ...), and those of an
            example must not depend on the other examples.
        inputs: (b, ...), of which the first few are used to find out which layers are of the cheap kinds.

    Attributes:
        by_layer: names of the parameters that take no vmap.
    """

    def __init__(self, model: nn.Module, inputs: Tensor) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.parameters = dict(self.model.named_parameters())
        self._shared = shared_weights(self.model)
        self._layers = {name: layer for name, layer in self.model.named_modules() if _is_cheap(layer)}
        self.by_layer = set(self.parameters)
        for example in inputs[:CHECKED].split(1):
            self.by_layer -= self._wrong(example)
        self._each = vmap if self._vmap_works(inputs[:CHECKED]) else _one_by_one

    def __call__(self, inputs: Tensor, columns: Columns) -> dict[str, Tensor]:
        """Return by parameter its shape of sums over examples and over each example's vectors s.

        Args:
            inputs: (b, ...).
            columns: outputs (b, ...) of k entries each -> vectors (b, m, k).
        """
        found, vectors = self._from_layers(inputs, columns)
        others = {name: p for name, p in self.parameters.items() if name not in self.by_layer}
        if others:
            found |= self._from_jacobians(others, inputs, vectors)
        return {name: found[name] for name in self.parameters}

    def _from_layers(self, inputs: Tensor, columns: Columns) -> tuple[dict[str, Tensor], Tensor]:
        seen: Seen = {}
        with _probes(self._layers, seen), torch.enable_grad():
            outputs = self.model(inputs)
            flat = outputs.reshape(len(outputs), -1)
        vectors = columns(outputs.detach())
        probes, m = [probe for _, probe in seen.values()], vectors.shape[1]
        deltas = [
            torch.autograd.grad(flat, probes, vector, retain_graph=number < m, materialize_grads=True)
            for number, vector in enumerate(vectors.unbind(1) if probes else (), 1)
        ]
        found = {}
        for place, (name, (entering, _)) in enumerate(seen.items()):
            delta = torch.stack([of[place] for of in deltas], dim=1)
            for own, squares in _squares(self._layers[name], entering, delta):
                if (whole := f"{name}.{own}".lstrip(".")) in self.by_layer:
                    found[whole] = squares
        return found, vectors

    def _from_jacobians(self, others: Mapping[str, Tensor], inputs: Tensor, vectors: Tensor) -> dict[str, Tensor]:
        fixed = {name: p for name, p in self.parameters.items() if name not in others}
        each = self._each

        def of_example(example: Tensor, rows: Tensor) -> dict[str, Tensor]:
            def outputs(own: dict[str, Tensor]) -> Tensor:
                outputs: Tensor = call_with(self.model, {**fixed, **own}, (example[None],), self._shared)
                return outputs.reshape(-1)

            _, pull = vjp(outputs, dict(others))  # type: ignore[misc]
            return {name: of.square().sum(0) for name, of in each(lambda row: pull(row)[0])(rows).items()}

        size = max(1, HELD // (vectors.shape[1] * sum(p.numel() for p in others.values())))
        total = {name: torch.zeros_like(p) for name, p in others.items()}
        for some, rows in zip(inputs.split(size), vectors.split(size), strict=True):
            for name, squares in each(of_example)(some, rows).items():
                total[name] += squares.sum(0)
        return total

    def _vmap_works(self, inputs: Tensor) -> bool:
        """Whether vmap has a rule, and a right one, for all that lies behind the other parameters: PReLU has none."""
        others = {name: p for name, p in self.parameters.items() if name not in self.by_layer}
        with torch.no_grad():
            outputs = self.model(inputs[:1])
        vectors = torch.eye(outputs.numel()).to(outputs).expand(len(inputs), -1, -1)
        found = []
        for self._each in (_one_by_one, vmap) if others else ():
            try:
                found.append(self._from_jacobians(others, inputs, vectors))
            except RuntimeError:
                return False
        return not others or all((found[1][name] - of).norm() <= SAME * of.norm() for name, of in found[0].items())

    def _wrong(self, example: Tensor) -> set[str]:
        """Return the parameters of which the layers give other squares than autograd's gradient of one example."""
        draws = torch.Generator().manual_seed(0)
        mixed: list[Tensor] = []

        def column(outputs: Tensor) -> Tensor:
            mixed.append(torch.randn(outputs.shape, generator=draws, dtype=torch.float64).to(outputs))
            return mixed[0].reshape(len(outputs), 1, -1)

        found, _ = self._from_layers(example, column)
        weights = {name: p.detach().clone().requires_grad_() for name, p in self.parameters.items()}
        with torch.enable_grad():
            outputs = call_with(self.model, weights, (example,), self._shared)
        known = torch.autograd.grad(outputs, list(weights.values()), mixed[0], materialize_grads=True)
        return {
            name
            for name, gradient in zip(weights, known, strict=True)
            if name not in found or (found[name] - gradient.square()).norm() > SAME * gradient.square().norm()
        }


def _one_by_one(function: Callable[..., dict[str, Tensor]]) -> Callable[..., dict[str, Tensor]]:
    """Return what `vmap(function)` should be, without vmap."""

    def stacked(*arguments: Tensor) -> dict[str, Tensor]:
        found = [function(*own) for own in zip(*arguments, strict=True)]
        return {name: torch.stack([of[name] for of in found]) for name in found[0]}

    return stacked


def _is_cheap(layer: nn.Module) -> bool:
    if isinstance(layer, nn.Conv2d):
        return layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
    if isinstance(layer, _BatchNorm):
        return layer.running_mean is not None and not layer.training
    return isinstance(layer, nn.Linear)


@contextmanager
def _probes(layers: dict[str, nn.Module], seen: Seen) -> Iterator[None]:
    """Add a zero to each layer's output, to get the derivative there: a later layer may change the output in place."""

    def hook(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
        def add(_: nn.Module, entering: tuple[Tensor, ...], output: Tensor) -> Tensor:
            probe = torch.zeros_like(output, requires_grad=True)
            seen[name] = (entering[0].detach(), probe)
            return output + probe

        return add

    handles = [layer.register_forward_hook(hook(name)) for name, layer in layers.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _squares(layer: nn.Module, entering: Tensor, delta: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Yield name and sum of squares of each parameter that such a layer may have.

    Args:
        layer: dense, convolution or batch norm.
        entering: its input, (b, ...).
        delta: derivatives in its output, (b, m, ...).
    """
    if isinstance(layer, nn.Linear):
        delta = delta.flatten(2).unflatten(2, (-1, layer.out_features)).transpose(2, 3)
    else:
        delta = delta.reshape(*delta.shape[:3], -1)  # (b, m, out, places)
    yield "bias", delta.sum(3).square().sum((0, 1))
    if isinstance(layer, nn.Linear):
        yield "weight", _product(delta, entering.flatten(1).unflatten(1, (-1, layer.in_features)))
    elif isinstance(layer, nn.Conv2d):
        assert not isinstance(layer.padding, str)
        patches = unfold(entering, layer.kernel_size, layer.dilation, layer.padding, layer.stride)
        by_group = patches.unflatten(1, (layer.groups, -1)).transpose(2, 3).unbind(1)
        groups = zip(delta.chunk(layer.groups, 2), by_group, strict=True)
        yield "weight", torch.cat([_product(of, patch) for of, patch in groups]).view_as(layer.weight)
    else:
        assert isinstance(layer, _BatchNorm)
        assert layer.running_mean is not None
        assert layer.running_var is not None
        mean, deviation = layer.running_mean[:, None], (layer.running_var[:, None] + layer.eps).sqrt()
        normalised = (entering.reshape(*entering.shape[:2], -1) - mean) / deviation
        yield "weight", delta.mul_(normalised[:, None]).sum(3).square().sum((0, 1))  # in place, for delta is large


def _product(delta: Tensor, entering: Tensor) -> Tensor:
    """Return (out, in): squares of delta @ entering, summed over examples and vectors.

    Args:
        delta: (b, m, out, places).
        entering: (b, places, in).
    """
    _, m, out, places = delta.shape
    if places == 1:
        return delta[..., 0].square().sum(1).T @ entering[:, 0].square()
    total = entering.new_zeros(out, entering.shape[2])
    size = max(1, HELD // (m * total.numel()))
    for some, of in zip(delta.split(size), entering.split(size), strict=True):
        total += torch.bmm(some.flatten(1, 2), of).square_().view(-1, *total.shape).sum(0)
    return total
