"""Layers of any network: its hidden unit layers by name, and its batch norm layers.

A network says with `unit_layers` which modules' outputs are measured. Of any other network every non-linearity is
measured, each time that a forward pass uses it: those of `torch.nn` as modules, and those that it calls as functions,
such as `F.relu(x)` or `x.tanh()`. Softmax, attention, recurrent layers and clamps are non-linear too, but their outputs
are no hidden units. They are named, so that nobody takes them for measured.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

from gapscope.errors import InputError

NON_LINEARITIES = (  # "non-linear activations" of the documentation of torch.nn
    *(nn.ELU, nn.Hardshrink, nn.Hardsigmoid, nn.Hardtanh, nn.Hardswish, nn.LeakyReLU, nn.LogSigmoid, nn.PReLU, nn.ReLU),
    *(nn.ReLU6, nn.RReLU, nn.SELU, nn.CELU, nn.GELU, nn.Sigmoid, nn.SiLU, nn.Mish, nn.Softplus, nn.Softshrink),
    *(nn.Softsign, nn.Tanh, nn.Tanhshrink, nn.Threshold, nn.GLU),
)
NOT_UNITS = (
    *(nn.Softmin, nn.Softmax, nn.Softmax2d, nn.LogSoftmax, nn.AdaptiveLogSoftmaxWithLoss, nn.MultiheadAttention),
    *(nn.RNNBase, nn.RNNCellBase),
)


def _functions(names: Collection[str]) -> dict[Any, str]:
    """Return every function of PyTorch with one of the names, also those that end in _, and its name."""
    places = (functional, torch, torch.Tensor)
    spelled = {spelling: name for name in names for spelling in (name, f"{name}_")}
    return {getattr(of, at): name for at, name in spelled.items() for of in places if hasattr(of, at)}


FUNCTIONS = _functions((
    *("elu", "hardshrink", "hardsigmoid", "hardtanh", "hardswish", "leaky_relu", "logsigmoid", "prelu", "relu"),
    *("relu6", "rrelu", "selu", "celu", "gelu", "sigmoid", "silu", "mish", "softplus", "softshrink", "softsign"),
    *("tanh", "tanhshrink", "threshold", "glu"),
))  # fmt: skip
NOT_UNIT_FUNCTIONS = _functions((
    *("softmin", "softmax", "log_softmax", "gumbel_softmax", "scaled_dot_product_attention"),
    *("multi_head_attention_forward", "clamp", "clamp_min", "clamp_max", "clip", "maximum", "minimum", "where", "abs"),
    *("exp", "sin", "cos", "erf"),
))  # fmt: skip


def unit_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Return the modules whose outputs are measured: the model's own `unit_layers`, or else its non-linearities."""
    if hasattr(model, "unit_layers"):
        return dict(model.unit_layers)  # type: ignore[arg-type]
    return {name: module for name, module in model.named_modules() if isinstance(module, NON_LINEARITIES)}


@contextmanager
def unit_outputs(
    model: nn.Module,
    batch: Callable[[], int],
    take: Callable[[str, Tensor], None],
    left_out: Callable[[str], None] = lambda _: None,
) -> Iterator[None]:
    """Within the block, each forward pass gives the output of every unit layer, in the order of their use.

    A layer that is used twice in a pass is two: `relu` and `relu#2`.

    Args:
        model: with `unit_layers` or without.
        batch: the number of examples in the pass that runs.
        take: name and output (b, ...) of a unit layer. The output may change afterwards.
        left_out: name and kind of a non-linearity whose output is not measured.
    """
    uses: Counter[str] = Counter()

    def numbered(name: str, output: Any) -> None:
        uses[name] += 1
        unit = name if uses[name] == 1 else f"{name}#{uses[name]}"
        if isinstance(output, Tensor) and output.ndim > 1 and len(output) == batch():
            take(unit, output)
        elif hasattr(model, "unit_layers"):
            shape = f"shape {tuple(output.shape)}" if isinstance(output, Tensor) else f"type {type(output).__name__}"
            raise InputError(f"unit layer {name} must give a tensor ({batch()}, ...), one row per example, not {shape}")
        else:
            left_out(f"{unit} (no units by example)")

    with ExitStack() as stack:
        stack.callback(model.register_forward_pre_hook(lambda *_: uses.clear()).remove)
        for name, module in unit_layers(model).items():
            hook = partial(_give, numbered, name)
            stack.callback(module.register_forward_hook(hook).remove)
        if not hasattr(model, "unit_layers"):
            stack.enter_context(_called_functions(model, numbered, left_out))
        yield


def _give(give: Callable[[str, Any], None], name: str, _module: nn.Module, _inputs: Any, output: Any) -> None:
    give(name, output)


@contextmanager
def _called_functions(
    model: nn.Module, give: Callable[[str, Any], None], left_out: Callable[[str], None]
) -> Iterator[None]:
    """Give the output of each non-linearity that is called as a function, outside a module that has its own name."""
    within: list[tuple[str, nn.Module]] = []

    def enter(name: str, module: nn.Module, _inputs: Any) -> None:
        if isinstance(module, NOT_UNITS) and not _known(within):
            left_out(f"{name} ({type(module).__name__})")
        within.append((name, module))

    def called(function: Any, output: Any) -> None:
        if _known(within):
            return
        kind = FUNCTIONS.get(function) or NOT_UNIT_FUNCTIONS.get(function)
        name = ".".join(filter(None, (within[-1][0] if within else "", kind)))
        give(name, output) if function in FUNCTIONS else left_out(name)

    with ExitStack() as stack:
        for name, module in model.named_modules():
            stack.callback(module.register_forward_pre_hook(partial(enter, name)).remove)
            stack.callback(module.register_forward_hook(lambda *_: within.pop() and None, always_call=True).remove)
        stack.enter_context(_Functions(called))
        yield


def _known(within: list[tuple[str, nn.Module]]) -> bool:
    """Whether one of the modules that run is taken, or named, as a whole."""
    return any(isinstance(module, NON_LINEARITIES + NOT_UNITS) for _, module in within)


class _Functions(TorchFunctionMode):
    """Tells of each call of a non-linear function of PyTorch."""

    def __init__(self, called: Callable[[Any, Any], None]) -> None:
        super().__init__()
        self.called = called

    def __torch_function__(self, function: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        output = function(*args, **(kwargs or {}))
        if function in FUNCTIONS or function in NOT_UNIT_FUNCTIONS:
            self.called(function, output)
        return output


def nothing_measured(model: nn.Module, left_out: Collection[str] = ()) -> InputError:
    """Return what to say of a network without a unit layer."""
    named = f" ({', '.join(dict.fromkeys(left_out))} are none)" if left_out else ""
    return InputError(
        f"{type(model).__name__} has no `unit_layers`, and its forward pass uses no non-linearity that is measured"
        f"{named}: give it `unit_layers`, a dict from layer name to the module whose output is measured"
    )


def batch_norms(model: nn.Module) -> list[_BatchNorm]:
    """Return the batch norm layers."""
    return [module for module in model.modules() if isinstance(module, _BatchNorm)]


def untracked_batch_norms(model: nn.Module) -> list[str]:
    """Return the names of batch norm layers that keep no running statistics: they use those of the batch, always."""
    return [
        name for name, module in model.named_modules() if isinstance(module, _BatchNorm) and module.running_mean is None
    ]


def on_meta_or_cpu(build: Callable[[], nn.Module]) -> nn.Module:
    """Return a network without values, or with them where its constructor needs some (as `.item()` does)."""
    try:
        with torch.device("meta"):
            return build()
    except InputError:
        raise
    except (
        RuntimeError,
        TypeError,
        ValueError,
        AssertionError,
    ):  # the CPU says whether the network is at fault, or the meta device
        return build()
