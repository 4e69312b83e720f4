"""Layers of any network: its hidden unit layers by name, and its batch norm layers."""

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from gapscope.errors import InputError

NON_LINEARITIES = (
    nn.ReLU,
    nn.LeakyReLU,
    nn.GELU,
    nn.SiLU,
    nn.ELU,
    nn.SELU,
    nn.Tanh,
    nn.Sigmoid,
    nn.Hardswish,
    nn.Mish,
)


def unit_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Return the model's unit layers by name: its own `unit_layers`, or else its non-linearities in module order.

    Raises:
        InputError: it has neither.
    """
    if hasattr(model, "unit_layers"):
        return dict(model.unit_layers)  # type: ignore[arg-type]
    found: dict[str, nn.Module] = {
        name: module for name, module in model.named_modules() if isinstance(module, NON_LINEARITIES)
    }
    if not found:
        raise InputError(
            f"{type(model).__name__} has no `unit_layers` and no non-linearity as a module: give it `unit_layers`, a "
            "dict from layer name to the module whose output is measured"
        )
    return found


def batch_norms(model: nn.Module) -> list[_BatchNorm]:
    """Return the batch norm layers."""
    return [module for module in model.modules() if isinstance(module, _BatchNorm)]
