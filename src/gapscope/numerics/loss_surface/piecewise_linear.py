"""In which tensors of weights a network's outputs are piecewise linear, read off the graph that autograd has recorded.

There the Hessian of the loss has the Gauss-Newton matrix's block, and its diagonal: what is left out, the derivative of
the loss times the second derivative of the outputs, is zero (Schraudolph 2002, section 3). It is so for every tensor of
a network of dense layers, convolutions, ReLU, max pooling and batch norm by running statistics.

An operation that is not listed here counts as curved. So the answer errs to one side: a tensor may be called curved and
be none.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gapscope.numerics.loss_surface.shared_weights import call_with, shared_weights

# names of autograd's nodes, without Backward0
PIECEWISE = {  # linear, or so between kinks, in all operands together
    *("Add", "Sub", "Neg", "Sum", "Mean", "Clone", "ToCopy", "Alias", "AsStrided", "T", "Transpose", "Permute", "View"),
    *("UnsafeView", "Squeeze", "Unsqueeze", "Expand", "Repeat", "Flip", "Roll", "Select", "Slice", "Index", "Cat"),
    *("Stack", "Split", "SplitWithSizes", "Unbind", "ConstantPadNd", "ReflectionPad2D", "ReplicationPad2D", "Where"),
    *("MaskedFill", "Relu", "LeakyRelu", "Threshold", "Hardtanh", "Abs", "Maximum", "Minimum", "Amax", "Max"),
    *("MaxPool2DWithIndices", "AvgPool2D", "AdaptiveAvgPool2D", "UpsampleNearest2D"),
    "_Pooling",  # of gapscope.models.kernels
}
PRODUCTS = {  # linear in each operand while the others stay
    *("Mul", "Mm", "Bmm", "Mv", "Dot", "Addmm", "Addmv", "Addbmm", "Baddbmm", "Convolution", "PreluKernel"),
    "_Convolution",  # of gapscope.models.kernels
}
BATCH_NORMS = {"NativeBatchNorm", "CudnnBatchNorm", "MiopenBatchNorm"}  # products, of running statistics
SAME = 1e-4  # relative, in float32 too
NONE: frozenset[str] = frozenset()
Leaves = tuple[frozenset[str], frozenset[str]]  # which tensors a node depends on, and on which of them not linearly


def are_independent(model: nn.Module, inputs: Tensor) -> bool:
    """Return whether each example's outputs are the same beside the others, (b, ...), and beside copies of itself."""
    with torch.no_grad():  # not alone: batch norm refuses a single example
        together = model(inputs)
        apart = torch.cat([model(x.expand_as(inputs).contiguous())[:1] for x in inputs.split(1)])
    return bool((together - apart).abs().max() <= SAME * together.abs().max())


def curved_parameters(model: nn.Module, inputs: Tensor) -> set[str]:
    """Return the names of the parameters in which the outputs may be other than piecewise linear.

    Args:
        model: in the mode of the measurement.
        inputs: (b, ...).
    """
    weights = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
    with torch.enable_grad():
        return curved(call_with(model, weights, (inputs,), shared_weights(model)), weights)


def curved(outputs: Tensor, leaves: Mapping[str, Tensor]) -> set[str]:
    """Return the names of the leaves in which `outputs` may be other than piecewise linear.

    Example:
        >>> a, b = (torch.ones(2, requires_grad=True) for _ in range(2))
        >>> sorted(curved((a * b.relu()).sum(), {"a": a, "b": b}))
        []
        >>> sorted(curved((a * b * b).sum() + a.tanh().sum(), {"a": a, "b": b}))
        ['a', 'b']
    """
    names = {id(leaf): name for name, leaf in leaves.items()}
    known: dict[Any, Leaves] = {}
    todo = [outputs.grad_fn] if outputs.grad_fn else []
    while todo:  # no recursion: deep networks have more nodes in a row than Python allows calls
        node = todo[-1]
        operands = [operand for operand, _ in node.next_functions if operand]
        if missing := [operand for operand in operands if operand not in known]:
            todo += missing
            continue
        todo.pop()
        if hasattr(node, "variable"):
            known[node] = (frozenset({names[id(node.variable)]} if id(node.variable) in names else ()), NONE)
        else:
            known[node] = _combined(node, [known[o] if o else (NONE, NONE) for o, _ in node.next_functions])
    return set(known[outputs.grad_fn][1]) if outputs.grad_fn else set()


def _combined(node: Any, operands: list[Leaves]) -> Leaves:
    every = frozenset[str]().union(*(leaves for leaves, _ in operands))
    bent = frozenset[str]().union(*(of for _, of in operands))
    name = re.sub(r"Backward\d*$", "", type(node).__name__)
    if name in PIECEWISE:
        return every, bent
    if name in PRODUCTS or (name in BATCH_NORMS and not node._saved_training):
        return every, bent | {leaf for leaf in every if sum(leaf in leaves for leaves, _ in operands) > 1}
    if name == "Div":  # linear in the numerator; in the denominator curved
        return every, bent | (operands[1][0] if len(operands) > 1 else NONE)
    return every, every
