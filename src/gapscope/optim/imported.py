"""Optimisers by import path: any `torch.optim.Optimizer`, with a state that a checkpoint can hold."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from gapscope.errors import InputError
from gapscope.import_paths import imported
from gapscope.optim.optimizer import Optimizer


class TorchOptimizer(Optimizer):
    """A `torch.optim.Optimizer` of any class.

    Its step can be part of a CUDA graph if all its groups are `capturable`, PyTorch's own word for that.

    Args:
        path: import path of the class.
        decayed: parameters that weight decay covers.
        others: parameters that it does not cover: a group of its own, with a weight decay of 0.
        weight_decay: in the sense of that class.
        settings: further arguments of the class.

    Raises:
        InputError: the path leads to no optimiser, or to one that needs a closure, or its arguments do not suit it.
    """

    def __init__(
        self,
        path: str,
        decayed: Sequence[Tensor],
        others: Sequence[Tensor],
        *,
        weight_decay: float,
        settings: Mapping[str, Any],
    ) -> None:
        make = cls = imported(path, "train.optimizer.name")
        if not (isinstance(cls, type) and issubclass(cls, torch.optim.Optimizer)):
            raise InputError(f"train.optimizer.name: {path} is not a subclass of torch.optim.Optimizer")
        closure = inspect.signature(cls.step).parameters.get("closure")
        if closure is not None and closure.default is inspect.Parameter.empty:
            raise InputError(
                f"train.optimizer.name: {path} needs a closure that evaluates the loss several times in an update; "
                "choose an optimiser that takes one gradient"
            )
        set_elsewhere = {"params", "lr", "weight_decay"} & set(settings)
        if set_elsewhere:
            raise InputError(
                f"train.optimizer.settings must not hold {', '.join(sorted(set_elsewhere))}: the rate is set by "
                "train.schedule, weight decay by train.optimizer.weight_decay"
            )
        pairs = ((decayed, weight_decay), (others, 0.0))
        groups = [{"params": list(members), "weight_decay": decay} for members, decay in pairs if members]
        values = {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
        try:
            self._optimizer: torch.optim.Optimizer = make(groups, lr=1.0, **values)  # `step` sets the rate
        except (TypeError, ValueError) as error:
            given = ", ".join(f"{name}={value!r}" for name, value in settings.items()) or "no settings"
            raise InputError(f"train.optimizer: {path} cannot be made with {given}: {error}") from error
        if weight_decay and "weight_decay" not in self._optimizer.defaults:
            raise InputError(f"train.optimizer: {path} has no weight decay; set train.optimizer.weight_decay=0.0")
        self.name = path
        self.in_graphs = all(group.get("capturable") is True for group in self._optimizer.param_groups)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        self._optimizer.zero_grad(set_to_none=True)

    def step(self, lr: float | Tensor) -> None:
        """Update every parameter that has a gradient."""
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        self._optimizer.step()

    def state(self) -> dict[str, Tensor]:
        """Return the tensors of the state and of the groups, named by their place."""
        tensors: dict[str, Tensor] = {}
        self._encoded(tensors)
        return tensors

    def numbers(self) -> dict[str, Any]:
        """Return the rest: numbers, and where each tensor belongs.

        Raises:
            InputError: the state has something that a checkpoint cannot hold.
        """
        return self._encoded({})

    def restore(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
        """Take over state and groups, each tensor in its own type: `load_state_dict` would cast some of them."""
        parameters = self._parameters()
        device = parameters[0].device
        for parameter, state in zip(parameters, numbers["states"], strict=True):
            if state:
                self._optimizer.state[parameter] = _decoded(state, tensors, device)
        for group, own in zip(self._optimizer.param_groups, numbers["groups"], strict=True):
            group.update(_decoded(own, tensors, device))

    def _parameters(self) -> list[Tensor]:
        return [p for group in self._optimizer.param_groups for p in group["params"]]

    def _encoded(self, tensors: dict[str, Tensor]) -> dict[str, Any]:
        states = [self._optimizer.state.get(parameter) for parameter in self._parameters()]
        groups = [
            {key: value for key, value in group.items() if key not in ("params", "param_names", "lr")}
            for group in self._optimizer.param_groups
        ]
        try:
            return {
                "states": [state and _encoded(state, f"state.{n}", tensors) for n, state in enumerate(states)],
                "groups": [_encoded(group, f"group.{n}", tensors) for n, group in enumerate(groups)],
            }
        except TypeError as error:
            raise InputError(
                f"train.optimizer.name: a checkpoint cannot hold the state of {self.name}: {error}"
            ) from error


def _encoded(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """Return a JSON object of a state; its tensors go into `tensors`, under names that begin with `name`."""
    if isinstance(value, Tensor):
        tensors[name] = value
        # some steps are counted on the CPU, whatever the parameters' device
        return {"tensor": name, "cpu": value.device.type == "cpu"}
    if isinstance(value, dict):
        return {"dict": {str(key): _encoded(item, f"{name}.{key}", tensors) for key, item in value.items()}}
    if isinstance(value, list | tuple):
        items = [_encoded(item, f"{name}.{number}", tensors) for number, item in enumerate(value)]
        return {type(value).__name__: items}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{name} is a {type(value).__name__}")


def _decoded(value: Any, tensors: Mapping[str, Tensor], device: torch.device) -> Any:
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        return tensors[value["tensor"]].to("cpu" if value["cpu"] else device, copy=True)
    if "dict" in value:
        return {key: _decoded(item, tensors, device) for key, item in value["dict"].items()}
    items = [_decoded(item, tensors, device) for items in value.values() for item in items]
    return tuple(items) if "tuple" in value else items
