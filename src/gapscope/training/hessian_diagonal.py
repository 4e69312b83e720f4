"""The diagonal of the Hessian of a network's mean loss, tensor by tensor, each by the best way that it allows.

For a tensor in which the outputs are piecewise linear it is the Gauss-Newton diagonal: exact, or estimated by drawn
vectors. For any other tensor it is an estimate by probes, with standard errors. All tensors go by probes where a pass
for each output of an example is impossible. That is so where examples share batch-norm statistics, where they have more
than `MOST_OUTPUTS` outputs, as sequences of tokens do, and where a task has an `outputs` of its own.
`numerics.loss_surface.hessian_diagonal` has the three ways.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from gapscope.numerics.loss_surface import hessian_diagonal as ways
from gapscope.numerics.loss_surface.piecewise_linear import are_independent, curved_parameters
from gapscope.numerics.loss_surface.squared_jacobian import SquaredJacobian
from gapscope.tasks.task import Batch, Task
from gapscope.training.objective import Objective

METHODS = ("exact", "sampled", "hutchinson")
PROBES = 50  # their error is that of the off-diagonal entries: compare the standard errors with the values
FEW = 4  # examples that are enough to see what kind of network it is
MOST_OUTPUTS = 1024  # of an example: each costs a backward pass, and a probe is cheaper


@dataclass(frozen=True)
class Diagonal:
    """What is known over the first examples; each dict is by name of the parameter, its tensors flat.

    Attributes:
        examples: how many.
        values: the diagonal; it can be negative only where it is estimated by probes.
        standard_errors: of the tensors that are estimated by probes, and of no others.
        fisher: mean squared gradient of an example (empirical Fisher); empty where all tensors go by probes.
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
        loss: mean loss over examples.
        method: "exact"; "sampled", one drawn vector per example; "hutchinson", by probes whatever the network.
        probes: of Hutchinson's estimate, where it is needed; a product with the Hessian each.
        generator: CPU generator of drawn vectors and probes.
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
    independent = _by_examples(model, loss.task, few)
    by_probes = {*loss.names}
    if method != "hutchinson" and independent:
        by_probes &= curved_parameters(model, few)
    values, errors, fisher = dict[str, Tensor](), dict[str, Tensor](), dict[str, Tensor]()
    if independent:
        sums = _Sums(loss, SquaredJacobian(model, few), generator if method == "sampled" else None, by_probes)
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


def _by_examples(model: nn.Module, task: Task, few: Any) -> bool:
    """Return whether each example has outputs of its own, so few that a backward pass for each is possible."""
    if type(task).outputs is not Task.outputs or not isinstance(few, Tensor):
        return False
    with torch.no_grad():
        outputs = model(few)
    return outputs[0].numel() <= MOST_OUTPUTS and are_independent(model, few)


class _Sums:
    """Sums over examples of the Gauss-Newton diagonal and of squared gradients.

    Args:
        loss: the mean loss.
        squares: of its network.
        generator: draws the vectors of each example; None: all of them, for the exact diagonal.
        skipped: names of the parameters of which the diagonal is not asked for.
    """

    def __init__(
        self, loss: Objective, squares: SquaredJacobian, generator: torch.Generator | None, skipped: set[str]
    ) -> None:
        self._loss, self._squares, self._generator = loss, squares, generator
        self._kept = [name for name in loss.names if name not in skipped]
        self._device = loss.weights().device
        self._weight = 0.0
        self._values: dict[str, Tensor] = {}
        self._fisher: dict[str, Tensor] = {}

    def add(self, start: int, end: int) -> None:
        """Add the examples from `start` up to `end`."""
        loss = self._loss
        for first in range(start, end, loss.micro_batch):
            places = slice(first, min(first + loss.micro_batch, end))
            batch = loss.task.batch(loss.examples, places, dtype=loss.dtype)
            _add(self._fisher, self._squares(batch.inputs, partial(self._gradients, batch)), loss.names)
            if self._kept:
                self._add_diagonal(batch)
        self._weight = loss.task.total_weight(loss.examples, torch.arange(end, device=self._device))

    def _gradients(self, batch: Batch, outputs: Tensor) -> Tensor:
        """Return (b, 1, k): each example's gradient in its outputs, by the root of its weight."""
        task = self._loss.task
        gradients = task.loss_gradients(outputs, batch).reshape(len(outputs), 1, -1)
        return gradients * task.weights(batch).to(gradients).sqrt()[:, None, None]

    def _add_diagonal(self, batch: Batch) -> None:
        drawn: list[tuple[Tensor, Tensor]] = []  # of the one call: a second one would draw again

        def rising(outputs: Tensor) -> Tensor:
            drawn.append(self._loss.task.hessian_columns(outputs, batch, self._generator))
            vectors, signs = drawn[0]
            return vectors * (signs > 0)[..., None]

        _add(self._values, self._squares(batch.inputs, rising), self._kept)
        vectors, signs = drawn[0]
        if bool((signs < 0).any()):  # the loss is not convex in the outputs
            falling = self._squares(batch.inputs, lambda _: vectors * (signs < 0)[..., None])
            _add(self._values, {name: -of for name, of in falling.items()}, self._kept)

    def means(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return both over the examples so far, each tensor flat."""
        diagonal, fisher = (
            {name: total.reshape(-1) / self._weight for name, total in sums.items()}
            for sums in (self._values, self._fisher)
        )
        return diagonal, fisher


def _add(sums: dict[str, Tensor], more: dict[str, Tensor], names: Sequence[str]) -> None:
    for name in names:
        sums[name] = sums[name] + more[name] if name in sums else more[name]
