"""A caller's model, data and loss as the `Objective` that the pipeline's measures take.

The loss is a function `loss(model, batch)` that returns each example's loss. The objective is the mean over all
examples, however they are split into batches: the batches of a DataLoader have no weight of their own. The function is
called with the caller's own model, whose weights are exchanged for the duration of the call.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from gapscope import seeds
from gapscope.errors import InputError
from gapscope.numerics.loss_surface.sharpness import PRECISIONS
from gapscope.tasks.task import Batch, Task
from gapscope.training.objective import Objective

Loss = Callable[[nn.Module, Any], Tensor]  # model, batch -> each example's loss (b,)

MICRO_BATCH = 256  # examples in one pass: limits memory, changes no number
WANTED = "data must be tensors with one first axis, such as (inputs, labels), a Dataset or a DataLoader"


def cross_entropy(model: nn.Module, batch: Any) -> Tensor:
    """Return each example's softmax cross-entropy (b,) in nats.

    Args:
        model: gives logits (b, classes).
        batch: inputs (b, ...) and integer labels (b,).

    Raises:
        InputError: a batch, labels or outputs that are not those of classification.
    """
    if not (isinstance(batch, tuple) and len(batch) == 2 and all(isinstance(part, Tensor) for part in batch)):
        raise InputError(f"classification needs pairs (inputs, labels), got {_kind(batch)}; give loss=")
    inputs, labels = batch
    if labels.ndim != 1 or labels.is_floating_point() or labels.dtype == torch.bool:
        raise InputError(
            f"classification needs whole numbers (n,) as labels, got {_kind(labels)}; give loss= for another task"
        )
    if inputs.dtype == torch.uint8:
        raise InputError("inputs must be normalised as the model wants them, got uint8; give e.g. images.float() / 255")
    outputs = model(inputs)
    if not (isinstance(outputs, Tensor) and outputs.ndim == 2):
        raise InputError(f"classification needs logits (b, classes), the model returned {_kind(outputs)}; give loss=")
    classes = outputs.shape[1]
    if labels.min() < 0 or labels.max() >= classes:
        raise InputError(
            f"labels must be in 0..{classes - 1}, as the model has {classes} outputs, "
            f"got {int(labels.min())}..{int(labels.max())}"
        )
    return nn.functional.cross_entropy(outputs, labels, reduction="none")


@dataclass(frozen=True)
class Examples:
    """All examples: the structure of a batch (tuples, dicts) of tensors whose first axis has one entry per example."""

    batch: Any
    device: torch.device

    def __len__(self) -> int:
        return len(_leaves(self.batch)[0])

    def at(self, index: Tensor | slice, dtype: torch.dtype) -> Any:
        """Return the batch at `index`, on the model's device; floating-point tensors get the dtype."""

        def part(tensor: Tensor) -> Tensor:
            chosen = tensor[index.to(tensor.device) if isinstance(index, Tensor) else index]
            return chosen.to(self.device, dtype if tensor.is_floating_point() else tensor.dtype)

        return _mapped(part, self.batch)


def examples(data: Any, device: torch.device, *, seed: int) -> Examples:
    """Return all examples of a caller's data.

    Args:
        data: tensors or arrays of one first axis, alone or in a tuple, list or dict; a Dataset; or a DataLoader, which
            is read once, whatever it leaves out or changes at random.
        device: of the model.
        seed: a Dataset or DataLoader that draws from torch's global generator gives the same examples at equal seeds.

    Raises:
        InputError: something else, no examples, or tensors of several lengths.
    """
    if isinstance(data, Dataset):
        data = DataLoader(data, batch_size=MICRO_BATCH)
    if isinstance(data, DataLoader):
        try:
            with seeds.seeded(seed, "library", "data"):
                batches = [_tensors(batch) for batch in data]
        except TypeError as error:  # of torch's collate function: PIL images, for instance
            raise InputError(f"the Dataset must give tensors, arrays or numbers: {error}") from error
        if not batches:
            raise InputError("data hold no examples")
        whole = _joined(batches)
    else:
        whole = _tensors(data)
    lengths = {len(leaf) if leaf.ndim else 0 for leaf in _leaves(whole)}
    if len(lengths) != 1 or 0 in lengths:
        raise InputError(f"{WANTED}; got {_kind(whole)}")
    return Examples(whole, device)


@contextmanager
def objective(
    model: nn.Module,
    data: Any,
    loss: Loss,
    *,
    seed: int,
    micro_batch: int = MICRO_BATCH,
    precision: str = "float64",
    batch_norm_statistics: str = "running",
) -> Iterator[Objective]:
    """Give the mean loss as a function of the weights; afterwards the model is as it was.

    Args:
        model: on its device.
        data: as `examples` takes them.
        loss: model, batch -> each example's loss (b,).
        seed: for data that draw at random.
        micro_batch: examples in one pass.
        precision: float64 or float32, of weights, inputs and both passes.
        batch_norm_statistics: running or batch, as in `Objective`.

    Raises:
        InputError: no such model, data, loss or setting.
    """
    if precision not in PRECISIONS:
        raise InputError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    if micro_batch < 1:
        raise InputError(f"micro_batch must be at least 1, got {micro_batch}")
    if not callable(loss) or isinstance(loss, type):
        raise InputError(f"loss must be a function loss(model, batch), got {_kind(loss)}")
    device = device_of(model)
    with unchanged(model), torch.inference_mode(False):  # which also records gradients within no_grad
        yield Objective(
            _Applied(model),
            examples(data, device, seed=seed),
            micro_batch=micro_batch,
            dtype=PRECISIONS[precision],
            batch_norm_statistics=batch_norm_statistics,
            task=_PerExample(loss),
        )


def device_of(model: Any) -> torch.device:
    """Return the device of a model's weights.

    Raises:
        InputError: no model with weights.
    """
    if not isinstance(model, nn.Module):
        raise InputError(f"model must be a torch.nn.Module, got {_kind(model)}")
    first = next(model.parameters(), None)
    if first is None:
        raise InputError(f"model must have weights, but {type(model).__name__} has no parameters")
    return first.device


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Put every module back into its mode (train or eval) after the block; the measures change nothing else."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


class _Applied(nn.Module):
    """A model to which a function is applied: so that the function sees the model itself, with exchanged weights."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, loss: Loss, batch: Any) -> Any:
        return loss(self.model, batch)


class _PerExample(Task):
    """A caller's loss as a task. Its outputs are the losses themselves, so there is no Gauss-Newton matrix of it."""

    unit = "example"
    loss_name = "loss"
    error_name = "error"

    def __init__(self, loss: Loss) -> None:
        self.loss = loss

    def batch(
        self,
        examples: Examples,
        index: Tensor | slice,
        *,
        dtype: torch.dtype = torch.float32,
        augmentation: Any = None,
        channels_last: bool = False,
    ) -> Batch:
        return Batch(examples.at(index, dtype), None)

    def outputs(self, model: Callable[..., Any], batch: Batch) -> Tensor:
        """Return each example's loss.

        Raises:
            InputError: the function returns something else, or its result does not depend on the weights.
        """
        losses = model(self.loss, batch.inputs)
        count = len(_leaves(batch.inputs)[0])
        if not (isinstance(losses, Tensor) and losses.shape == (count,)):
            raise InputError(
                f"loss must return each example's loss, a tensor of shape ({count},), got {_kind(losses)}; "
                "losses of PyTorch do so with reduction='none'"
            )
        if torch.is_grad_enabled() and not losses.requires_grad:
            raise InputError("loss does not depend on the weights: it must call the model, and not under no_grad")
        return losses

    def losses(self, outputs: Tensor, batch: Batch) -> Tensor:
        return outputs

    def sum_loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return outputs.sum()

    def errors(self, outputs: Tensor, batch: Batch) -> Tensor:
        raise NotImplementedError("a loss alone says nothing about errors")

    def error(self, total: float, weight: float) -> float:
        raise NotImplementedError("a loss alone says nothing about errors")


def _tensors(batch: Any) -> Any:
    if isinstance(batch, Tensor):  # autograd refuses tensors made in inference mode
        return batch.clone() if batch.is_inference() else batch.detach()
    if isinstance(batch, np.ndarray):
        return torch.from_numpy(batch)
    if isinstance(batch, Mapping) and batch:
        return {key: _tensors(part) for key, part in batch.items()}
    if isinstance(batch, tuple | list) and batch:
        return tuple(_tensors(part) for part in batch)
    raise InputError(f"{WANTED}; got {_kind(batch)}")


def _mapped(function: Callable[[Tensor], Tensor], batch: Any) -> Any:
    if isinstance(batch, Mapping):
        return {key: _mapped(function, part) for key, part in batch.items()}
    return tuple(_mapped(function, part) for part in batch) if isinstance(batch, tuple) else function(batch)


def _joined(batches: Sequence[Any]) -> Any:
    first = batches[0]
    if isinstance(first, Mapping):
        return {key: _joined([batch[key] for batch in batches]) for key in first}
    if isinstance(first, tuple):
        return tuple(_joined(parts) for parts in zip(*batches, strict=True))
    return torch.cat(list(batches))


def _leaves(batch: Any) -> list[Tensor]:
    if isinstance(batch, Tensor):
        return [batch]
    return [leaf for part in (batch.values() if isinstance(batch, Mapping) else batch) for leaf in _leaves(part)]


def _kind(value: Any) -> str:
    """Return in words what a value is, for a message."""
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} of shape {tuple(value.shape)}"
    if isinstance(value, tuple | list) and 0 < len(value) <= 4:
        return f"({', '.join(_kind(part) for part in value)})"
    return f"a {type(value).__name__}"
