"""A network called with other weights, also one whose weights are used in several places.

`torch.func.functional_call` ties names by itself, but leaves a module that is registered under two names with the
exchanged weights. Here every place is named once, and nothing is tied behind it.
"""

from collections.abc import Mapping
from itertools import chain
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call

Shared = dict[str, list[str]]  # name of a parameter or buffer -> further places that hold the same tensor


def shared_weights(model: nn.Module) -> Shared:
    """Return the parameters and buffers that several modules hold; one module under two names is one."""
    first: dict[int, str] = {}
    found: Shared = {}
    for name, module in model.named_modules():
        options = {"prefix": name, "recurse": False, "remove_duplicate": False}
        for own, tensor in chain(module.named_parameters(**options), module.named_buffers(**options)):  # type: ignore[arg-type]
            if id(tensor) in first:
                found.setdefault(first[id(tensor)], []).append(own)
            else:
                first[id(tensor)] = own
    return found


def call_with(model: nn.Module, tensors: Mapping[str, Tensor], inputs: tuple[Any, ...], shared: Shared) -> Any:
    """Return the outputs with other weights, given by the names of `named_parameters` and `named_buffers`.

    Args:
        model: it is not changed.
        tensors: by name; those that are left out are the model's own.
        inputs: of the model.
        shared: of `shared_weights`.
    """
    others = {place: tensors[name] for name, places in shared.items() if name in tensors for place in places}
    return functional_call(model, {**tensors, **others}, inputs, tie_weights=False)
