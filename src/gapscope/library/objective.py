"""A caller's model, data and loss as one function of the weights: `gapscope.Objective`, beneath every measure of loss.

It is the pipeline's own `Objective` with a task that is made of the caller's loss. So the numbers are those of the
studies' measures: the loss is a mean over all examples, however they are split into batches, and the batches of a
DataLoader have no weight of their own. The loss is called with the caller's own model, whose weights are exchanged for
the duration of the call.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, RandomSampler, SubsetRandomSampler, WeightedRandomSampler

from gapscope.errors import InputError
from gapscope.library.examples import Examples, examples, kind, leaves
from gapscope.library.inputs import MICRO_BATCH, Loss, cross_entropy, device_of, unchanged
from gapscope.models.layers import parameters_within
from gapscope.numerics.loss_surface.sharpness import PRECISIONS
from gapscope.tasks.task import Batch, Task
from gapscope.training import objective as training

SHUFFLING = (RandomSampler, SubsetRandomSampler, WeightedRandomSampler)
Parameters = str | Sequence[str] | Callable[[str, nn.Parameter], bool]


class Objective(training.Objective):
    """The mean loss of a model over all examples, as a function of its weights, or of some of them.

    The weights are one flat vector. `weights()` is where the model stands; calling the objective gives the loss, which
    can be differentiated once; `hvp(x, v)` is the Hessian at x times v. `gapscope.sharpness`, `gapscope.hessian` and
    `gapscope.noise_scale` make one of their arguments, and take the same `parameters`.

    Args:
        model: on its device. It is as it was after each call.
        batches: a batch, which holds all examples; a list of batches; a Dataset; or a DataLoader that does not shuffle.
            A batch is a tensor, or a tuple or dict of tensors whose first axis has one entry per example.
        loss: model, batch -> each example's loss (b,). Or the sum of losses and their number, where they are not of
            examples: the tokens of sequences, say. The objective is then the sum of sums over the sum of numbers.
        parameters: which are moved. Names as `named_parameters` gives them, or of modules ("encoder.layer1"), one or a
            list; or a function of name and parameter. None: all that are trainable.
        micro_batch: examples in one pass: limits memory, changes no number.
        precision: float64 or float32, of weights, inputs and both passes.
        batch_norm_statistics: "running", or "batch" for those of each micro-batch.
        seed: for data that draw at random.

    Raises:
        InputError: no such model, data, loss or setting.

    Example:
        >>> layer = Objective(model, {"inputs": x, "targets": y}, loss, parameters="layer1")
        >>> layer.hvp(layer.weights(), v)
    """

    def __init__(
        self,
        model: nn.Module,
        batches: Any,
        loss: Loss = cross_entropy,
        *,
        parameters: Parameters | None = None,
        micro_batch: int = MICRO_BATCH,
        precision: str = "float64",
        batch_norm_statistics: str = "running",
        seed: int = 0,
    ) -> None:
        if precision not in PRECISIONS:
            raise InputError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
        if micro_batch < 1:
            raise InputError(f"micro_batch must be at least 1, got {micro_batch}")
        if not callable(loss) or isinstance(loss, type):
            raise InputError(f"loss must be a function loss(model, batch), got {kind(loss)}")
        device = device_of(model)
        _check_order(batches)
        held = batches if isinstance(batches, Examples) else examples(batches, device, seed=seed)
        task = _OfLoss(loss)
        with unchanged(model):
            super().__init__(
                _Applied(model),
                held,
                micro_batch=micro_batch,
                dtype=PRECISIONS[precision],
                batch_norm_statistics=batch_norm_statistics,
                task=task,
                parameters=None if parameters is None else [f"model.{name}" for name in chosen(model, parameters)],
            )
        self.check_steady()
        if task.sums:
            whole = self._number(None)
            task.numbers = lambda index: whole if index is None else self._number(index)

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters that are the weights, in their order."""
        return tuple(name.removeprefix("model.") for name in self.names)

    def conditions(self) -> dict[str, Any]:
        """Return what a measured value depends on, by the names of the results' attributes."""
        frozen = tuple(name.removeprefix("model.") for name in self.frozen)
        return super().conditions() | {"frozen": frozen}

    def gnvp(self, x: Tensor, v: Tensor) -> Tensor:
        """Raise InputError: a loss that hides the model's outputs has no Gauss-Newton matrix."""
        raise InputError(
            "a loss(model, batch) shows no outputs, and without them there is no Gauss-Newton matrix; a task has one "
            "(docs/extend.md)"
        )

    def _outputs(self, flat: Tensor, batch: Batch) -> Tensor:
        with unchanged(self.model):
            self.model.eval()
            return super()._outputs(flat, batch)

    def _number(self, index: Tensor | None) -> float:
        """Return how many losses there are among the examples at `index`; None: among all."""
        parts = self._parts() if index is None else index.split(self.micro_batch)
        total = 0.0
        with torch.no_grad():
            for part in parts:
                self._outputs(self.weights(), batch := self._batch(part))
                total += float(batch.targets["number"])
        return total


@contextmanager
def objective(model: nn.Module, data: Any, loss: Loss, *, seed: int, **options: Any) -> Iterator[Objective]:
    """Give the objective, also within torch's inference mode; data that shuffle are read once, in a fixed order.

    Args:
        model: as in `Objective`, as are loss and the options.
        data: as `examples` takes them.
        loss: of the examples.
        seed: for data that draw at random.
        options: of `Objective`.

    Raises:
        InputError: as `Objective` does.
    """
    device = device_of(model)
    with unchanged(model), torch.inference_mode(False):  # which also records gradients within no_grad
        yield Objective(model, examples(data, device, seed=seed), loss, seed=seed, **options)


def chosen(model: nn.Module, parameters: Parameters) -> list[str]:
    """Return the names of the trainable parameters that are asked for.

    Args:
        model: the network.
        parameters: as in `Objective`.

    Raises:
        InputError: a name that is of no parameter and of no module, or none left that is trainable.
    """
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if callable(parameters):
        found = [name for name, p in named.items() if parameters(name, p)]
    else:
        found = parameters_within(model, [parameters] if isinstance(parameters, str) else parameters, "parameters")
    if not found:
        raise InputError(f"parameters chooses none of the {len(named)} trainable parameters of {type(model).__name__}")
    return found


def _check_order(batches: Any) -> None:
    if isinstance(batches, DataLoader) and isinstance(batches.sampler, SHUFFLING):
        raise InputError(
            f"the DataLoader takes its examples in another order each time ({type(batches.sampler).__name__}), and an "
            "objective is a function of fixed ones: give one with shuffle=False, or the Dataset itself"
        )


class _Applied(nn.Module):
    """A model to which a function is applied: so that the function sees the model itself, with exchanged weights."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, loss: Loss, batch: Any) -> Any:
        return loss(self.model, batch)


class _OfLoss(Task):
    """A caller's loss as a task. Its outputs are the losses themselves, or one sum of them.

    Attributes:
        sums: whether the loss returns a sum and a number; known after its first call.
        numbers: index of examples -> how many losses they have; of sums only.
    """

    unit = "example"
    loss_name = "loss"
    error_name = "error"

    def __init__(self, loss: Loss) -> None:
        self.loss, self.sums = loss, False
        self.numbers: Callable[[Tensor | None], float] | None = None

    def batch(
        self,
        examples: Examples,
        index: Tensor | slice,
        *,
        dtype: torch.dtype = torch.float32,
        augmentation: Any = None,
        channels_last: bool = False,
    ) -> Batch:
        return Batch(examples.at(index, dtype), {})

    def outputs(self, model: Callable[..., Any], batch: Batch) -> Tensor:
        """Return each example's loss, or the sum of losses (1,), whose number goes into the batch's targets.

        Raises:
            InputError: the function returns something else, or its result does not depend on the weights.
        """
        found = model(self.loss, batch.inputs)
        count = len(leaves(batch.inputs)[0])
        self.sums = isinstance(found, tuple) and len(found) == 2
        losses = found[0] if self.sums else found
        wanted = () if self.sums else (count,)
        if not (isinstance(losses, Tensor) and losses.shape == wanted):
            raise InputError(
                f"loss must return each example's loss, a tensor of shape ({count},), got {kind(found)}; losses of "
                "PyTorch do so with reduction='none'. Or return their (sum, number)"
            )
        if torch.is_grad_enabled() and not losses.requires_grad:
            raise InputError("loss does not depend on the weights: it must call the model, and not under no_grad")
        if self.sums:
            batch.targets["number"] = _number(found[1])
        return losses.reshape(-1)

    def losses(self, outputs: Tensor, batch: Batch) -> Tensor:
        return outputs

    def sum_loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return outputs.sum()

    def total_weight(self, examples: Examples, index: Tensor | None = None) -> float:
        return super().total_weight(examples, index) if self.numbers is None else self.numbers(index)

    def errors(self, outputs: Tensor, batch: Batch) -> Tensor:
        raise NotImplementedError("a loss alone says nothing about errors")

    def error(self, total: float, weight: float) -> float:
        raise NotImplementedError("a loss alone says nothing about errors")


def _number(count: Any) -> float:
    number = float(count)
    if not number >= 0:
        raise InputError(f"loss must return (sum, number) with a number of losses >= 0, got {number}")
    return number
