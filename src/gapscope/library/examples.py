"""All examples of a caller's data, in the structure of a batch: tensors, or tuples and dicts of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from gapscope import seeds
from gapscope.errors import InputError

READ_BATCH = 256  # examples of a Dataset that are read at a time; changes nothing
WANTED = "data must be tensors with one first axis, such as (inputs, labels), a Dataset or a DataLoader"


@dataclass(frozen=True)
class Examples:
    """All examples: the structure of a batch (tuples, dicts) of tensors whose first axis has one entry per example."""

    batch: Any
    device: torch.device

    def __len__(self) -> int:
        return len(leaves(self.batch)[0])

    def at(self, index: Tensor | slice, dtype: torch.dtype) -> Any:
        """Return the batch at `index`, on the model's device; floating-point tensors get the dtype."""

        def part(tensor: Tensor) -> Tensor:
            chosen = tensor[index.to(tensor.device) if isinstance(index, Tensor) else index]
            return chosen.to(self.device, dtype if tensor.is_floating_point() else tensor.dtype)

        return _mapped(part, self.batch)


def examples(data: Any, device: torch.device, *, seed: int) -> Examples:
    """Return all examples of a caller's data.

    Args:
        data: tensors or arrays of one first axis, alone or in a tuple, list or dict; a list of such tuples or dicts,
            which are batches; a Dataset; or a DataLoader, which is read once, whatever it leaves out or changes at
            random.
        device: of the model.
        seed: a Dataset or DataLoader that draws from torch's global generator gives the same examples at equal seeds.

    Raises:
        InputError: something else, no examples, or tensors of several lengths.
    """
    if isinstance(data, Dataset):
        data = DataLoader(data, batch_size=READ_BATCH)
    if isinstance(data, DataLoader):
        try:
            with seeds.seeded(seed, "library", "data"):
                batches = [_tensors(batch) for batch in data]
        except TypeError as error:  # of torch's collate function: PIL images, for instance
            raise InputError(f"the Dataset must give tensors, arrays or numbers: {error}") from error
        if not batches:
            raise InputError("data hold no examples")
        whole = _joined(batches)
    elif isinstance(data, list) and data and all(isinstance(batch, tuple | Mapping) for batch in data):
        whole = _joined([_tensors(batch) for batch in data])
    else:
        whole = _tensors(data)
    lengths = {len(leaf) if leaf.ndim else 0 for leaf in leaves(whole)}
    if len(lengths) != 1 or 0 in lengths:
        raise InputError(f"{WANTED}; got {kind(whole)}")
    return Examples(whole, device)


def _tensors(batch: Any) -> Any:
    if isinstance(batch, Tensor):  # autograd refuses tensors made in inference mode
        return batch.clone() if batch.is_inference() else batch.detach()
    if isinstance(batch, np.ndarray):
        return torch.from_numpy(batch)
    if isinstance(batch, Mapping) and batch:
        return {key: _tensors(part) for key, part in batch.items()}
    if isinstance(batch, tuple | list) and batch:
        return tuple(_tensors(part) for part in batch)
    raise InputError(f"{WANTED}; got {kind(batch)}")


def _mapped(function: Callable[[Tensor], Tensor], batch: Any) -> Any:
    if isinstance(batch, Mapping):
        return {key: _mapped(function, part) for key, part in batch.items()}
    return tuple(_mapped(function, part) for part in batch) if isinstance(batch, tuple) else function(batch)


def _joined(batches: Sequence[Any]) -> Any:
    first = batches[0]
    if isinstance(first, Mapping):
        if any(batch.keys() != first.keys() for batch in batches):
            raise InputError(f"all batches must have the entries of the first, {', '.join(map(str, first))}")
        return {key: _joined([batch[key] for batch in batches]) for key in first}
    if isinstance(first, tuple):
        return tuple(_joined(parts) for parts in zip(*batches, strict=True))
    if len({batch.shape[1:] for batch in batches}) > 1:
        shapes = ", ".join(str(tuple(shape)) for shape in sorted({batch.shape for batch in batches})[:3])
        raise InputError(f"batches have tensors of different shapes, {shapes}: pad them to one length")
    return torch.cat(list(batches))


def leaves(batch: Any) -> list[Tensor]:
    """Return the tensors of a batch."""
    if isinstance(batch, Tensor):
        return [batch]
    return [leaf for part in (batch.values() if isinstance(batch, Mapping) else batch) for leaf in leaves(part)]


def kind(value: Any) -> str:
    """Return in words what a value is, for a message."""
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} of shape {tuple(value.shape)}"
    if isinstance(value, tuple | list) and 0 < len(value) <= 4:
        return f"({', '.join(kind(part) for part in value)})"
    return f"a {type(value).__name__}"
