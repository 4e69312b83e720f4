"""Parts of networks: unit layers, with or without batch norm and non-linearity, and chains of them.

Oyedotun et al. 2022, section 3, write a hidden layer as phi(W H): a layer of weights and all that follows it, up to its
non-linearity. Here that is a `Unit`, and the activations stage measures its output.

Their section 4 is about linear networks. Max pooling is a non-linearity, so a network that is linear throughout needs
average pooling. Their Tables 9 and 10 have linear activation functions. On MNIST they print test errors of 1.03 to
1.73 %, and no linear map comes near those (LeCun et al. 1998: 8.4 to 12 %), so they probably kept max pooling.
"""

import math
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gapscope.errors import InputError
from gapscope.models import kernels


class Unit(nn.Sequential):
    """A layer of weights, its norm and its non-linearity; the last two may be the identity."""

    def __init__(self, layer: nn.Module, norm: nn.Module, activation: nn.Module) -> None:
        super().__init__(OrderedDict(layer=layer, norm=norm, activation=activation))


@dataclass(frozen=True)
class Units:
    """Makes a network's parts.

    Args:
        batch_norm: normalise before each non-linearity, and leave out the biases, which it would cancel.
        linear_units: the identity instead of ReLU.
        average_pooling: averages instead of max pooling. With `linear_units` the network is a linear map.
    """

    batch_norm: bool
    linear_units: bool = False
    average_pooling: bool = False

    def conv(
        self, depth: int, channels: int, size: int, *, stride: int = 1, padding: int = 0, activate: bool = True
    ) -> Unit:
        """Return a unit of `channels` convolutions, size x size, of `depth` channels."""
        layer = kernels.Conv2d(depth, channels, size, stride, padding, bias=not self.batch_norm)
        norm = nn.BatchNorm2d(channels) if self.batch_norm else nn.Identity()
        return Unit(layer, norm, self.activation() if activate else nn.Identity())

    def dense(self, fan_in: int, units: int) -> Unit:
        """Return a unit of `units` weighted sums of `fan_in` values."""
        layer = nn.Linear(fan_in, units, bias=not self.batch_norm)
        return Unit(layer, nn.BatchNorm1d(units) if self.batch_norm else nn.Identity(), self.activation())

    def activation(self) -> nn.Module:
        """Return the non-linearity, a new module at each call: a hook must fire once per forward pass."""
        return nn.Identity() if self.linear_units else nn.ReLU(inplace=True)

    def pool(self, size: int, stride: int | None = None, *, padding: int = 0, ceil: bool = False) -> nn.Module:
        """Return pooling over size x size; `ceil` keeps a last window that is not full."""
        if self.average_pooling:  # over the pixels of the image only: padding does not count
            return nn.AvgPool2d(size, stride, padding, ceil_mode=ceil, count_include_pad=False)
        return kernels.MaxPool2d(size, stride, padding, ceil_mode=ceil)


class Chain(nn.Module):
    """Convolutions and pooling, then dense layers, then a softmax head: every network here but LeNet-5 and ResNets."""

    def __init__(self, features: Iterable[nn.Module], dense: Iterable[nn.Module], head: nn.Linear) -> None:
        super().__init__()
        self.features, self.dense, self.head = nn.Sequential(*features), nn.Sequential(*dense), head

    @property
    def unit_layers(self) -> dict[str, nn.Module]:
        """Hidden layers by name, in forward order."""
        return numbered("conv", self.features) | numbered("fc", self.dense)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (b, classes) of images (b, channels, height, width)."""
        return self.head(self.dense(torch.flatten(self.features(images), 1)))  # type: ignore[no-any-return]


def numbered(kind: str, modules: Iterable[nn.Module]) -> dict[str, nn.Module]:
    """Name the units among the modules conv1, conv2, ... (or fc1, ...): the l of the papers' H^l."""
    return {f"{kind}{number}": m for number, m in enumerate((m for m in modules if isinstance(m, Unit)), 1)}


def flat_size(network: str, image_shape: tuple[int, ...], features: Iterable[nn.Module]) -> int:
    """Return how many values convolutions and pooling, `features`, leave of an image; of a table, its features.

    Raises:
        InputError: no value is left.
    """
    if len(image_shape) == 1:
        return image_shape[0]
    # by arithmetic: a forward pass on the meta device imports compilers, which takes seconds in each stage
    depth, height, width = image_shape
    sides = [height, width]
    for module in (module for feature in features for module in feature.modules()):
        if isinstance(module, nn.Conv2d):
            depth = module.out_channels
        if isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
            sides = [_windows(module, side) for side in sides]
        if min(sides) < 1:
            raise InputError(
                f"{network} needs larger images than {height} x {width}: nothing is left after its pooling"
            )
    return depth * math.prod(sides)


def _windows(module: nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d, side: int) -> int:
    size, stride, padding = (
        int(number if isinstance(number, int) else number[0])
        for number in (module.kernel_size, module.stride, module.padding)
    )
    beyond_first = side + 2 * padding - size
    return 1 + (-(-beyond_first // stride) if getattr(module, "ceil_mode", False) else beyond_first // stride)


def glorot_uniform(model: nn.Module) -> None:
    """Draw all weights as in Glorot & Bengio 2010, eq. 16, and set all biases to zero: Keras's default."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def he_normal(model: nn.Module) -> None:
    """Draw the weights of convolutions as in He et al. 2015, eq. 14 (by fan-out), and set their biases to zero."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
