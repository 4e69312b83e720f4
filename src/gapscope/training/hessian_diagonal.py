"""The diagonal of the Hessian of a network's mean cross-entropy, tensor by tensor, each by the best way that it allows.

For a tensor in which the logits are piecewise linear it is the Gauss-Newton diagonal: exact, or estimated by labels
that are drawn from the softmax. For any other tensor, and for all of them where examples share batch-norm statistics,
it is an estimate by probes, with standard errors. `numerics.loss_surface.hessian_diagonal` has the three ways.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from gapscope.numerics.loss_surface import hessian_diagonal as ways
from gapscope.numerics.loss_surface.piecewise_linear import are_independent, curved_parameters
from gapscope.numerics.loss_surface.squared_jacobian import Columns, SquaredJacobian
from gapscope.training.objective import Objective

METHODS = ("exact", "sampled", "hutchinson")
PROBES = 50  # their error is that of the off-diagonal entries: compare the standard errors with the values
FEW = 4  # examples that are enough to see what kind of network it is


@dataclass(frozen=True)
class Diagonal:
    """What is known over the first examples; each dict is by name of the parameter, its tensors flat.

    Attributes:
        examples: how many.
        values: the diagonal; it can be negative only where it is estimated by probes.
        standard_errors: of the tensors that are estimated by probes, and of no others.
        fisher: mean squared gradient of an example (empirical Fisher); empty where examples share statistics.
    """

    examples: int
    values: dict[str, Tensor]
    standard_errors: dict[str, Tensor]
    fisher: dict[str, Tensor]


def hessian_diagonals(
    loss: Objective,
    *,
    method: str = METHODS[0],
    probes: int = PROBES,
    generator: torch.Generator,
    at: Sequence[int] = (),
) -> Iterator[Diagonal]:
    """Yield the diagonal at the network's own weights, over the first examples and at last over all of them.

    Args:
        loss: mean cross-entropy over examples that are tensors.
        method: "exact"; "sampled", one label per example; "hutchinson", by probes whatever the network.
        probes: of Hutchinson's estimate, where it is needed; a product with the Hessian each.
        generator: CPU generator of labels and probes.
        at: numbers of examples at which to yield before the end. Estimates by probes are not in these.

    Raises:
        ValueError: the loss or a product with the Hessian is not finite; an unknown method.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    x, count = loss.weights(), len(loss.examples)
    if not bool(loss(x).isfinite()):
        raise ValueError(f"the loss at these weights is {float(loss(x))}: no curvature there")
    model = copy.deepcopy(loss.model).to(loss.dtype)
    few = loss.task.batch(loss.examples, slice(0, FEW), dtype=loss.dtype).inputs
    independent = are_independent(model, few)
    by_probes = {*loss.names}
    if method != "hutchinson" and independent:
        by_probes &= curved_parameters(model, few)
    values, errors, fisher = dict[str, Tensor](), dict[str, Tensor](), dict[str, Tensor]()
    if independent:
        columns = ways.softmax_columns
        if method == "sampled":
            columns = partial(ways.sampled_columns, draws=1, generator=generator)
        sums = _Sums(loss, SquaredJacobian(model, few), columns, by_probes)
        for start, end in pairwise(sorted({0, *(n for n in at if n < count), count})):
            sums.add(start, end)
            values, fisher = sums.means()
            if end < count:
                yield Diagonal(end, values, {}, fisher)
    if by_probes:
        found = ways.hutchinson_diagonal(lambda v: loss.hvp(x, v), x, probes=probes, generator=generator)
        sizes = [shape.numel() for shape in loss.shapes]
        for name, value, error in zip(loss.names, found.values.split(sizes), found.standard_errors.split(sizes)):
            if name in by_probes:
                values[name], errors[name] = value, error
    yield Diagonal(count, {name: values[name] for name in loss.names}, errors, fisher)


class _Sums:
    """Sums over examples of the Gauss-Newton diagonal and of squared gradients."""

    def __init__(self, loss: Objective, squares: SquaredJacobian, columns: Columns, skipped: set[str]) -> None:
        self._loss, self._squares, self._columns = loss, squares, columns
        self._kept = [name for name in loss.names if name not in skipped]
        self._examples = 0
        self._values: dict[str, Tensor] = {}
        self._fisher: dict[str, Tensor] = {}

    def add(self, start: int, end: int) -> None:
        """Add the examples from `start` up to `end`."""
        loss = self._loss
        for first in range(start, end, loss.micro_batch):
            places = slice(first, min(first + loss.micro_batch, end))
            batch = loss.task.batch(loss.examples, places, dtype=loss.dtype)
            labels = partial(ways.label_columns, labels=batch.targets)
            _add(self._fisher, self._squares(batch.inputs, labels), loss.names)
            if self._kept:
                _add(self._values, self._squares(batch.inputs, self._columns), self._kept)
        self._examples = end

    def means(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return both over the examples so far, each tensor flat."""
        diagonal, fisher = (
            {name: total.reshape(-1) / self._examples for name, total in sums.items()}
            for sums in (self._values, self._fisher)
        )
        return diagonal, fisher


def _add(sums: dict[str, Tensor], more: dict[str, Tensor], names: Sequence[str]) -> None:
    for name in names:
        sums[name] = sums[name] + more[name] if name in sums else more[name]
