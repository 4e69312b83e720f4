"""LeNet-5: LeCun et al. 1998 in its modern form (ReLU, max pooling, dense layers), with batch norm or without.

Oyedotun et al. 2022 cite a pruning paper for it and give no widths. Both usual forms are available (`models.MODELS`):
the classic 6-16-120-84 and Caffe's 20-50-500. A factor widens either of them (their section 6.1.4: width reduces the
gap).
Initialisation: PyTorch's default.
"""

import torch
from torch import Tensor, nn

from gapscope.errors import InputError
from gapscope.models.units import Units, flat_size, numbered


class LeNet5(nn.Module):
    """Two unit layers of 5 x 5 convolutions, each followed by 2 x 2 pooling, then dense unit layers and a softmax head.

    Args:
        image_shape: channels, height, width.
        classes: number of outputs.
        batch_norm: as in `Units`.
        linear_units: as in `Units`.
        average_pooling: as in `Units`.
        width: multiplies the widths of all hidden layers, which are rounded to whole numbers.
        channels: widths of the convolutions.
        dense: widths of the dense layers.
        padding: of the first convolution. With 2, images of 28 x 28 give 28 x 28, as those of 32 x 32 do without.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        classes: int,
        *,
        batch_norm: bool = True,
        linear_units: bool = False,
        average_pooling: bool = False,
        width: float = 1.0,
        channels: tuple[int, int] = (6, 16),
        dense: tuple[int, ...] = (120, 84),
        padding: int = 2,
    ) -> None:
        super().__init__()
        make = Units(batch_norm, linear_units, average_pooling)
        first, second, *dense_widths = (round(width * units) for units in (*channels, *dense))
        if first < 1:  # the narrowest
            raise InputError(
                f"a width of {width:g} leaves no channel in LeNet-5's first layer of {channels[0]}; use a larger one"
            )
        self.conv1 = make.conv(image_shape[0], first, 5, padding=padding)
        self.conv2 = make.conv(first, second, 5)
        self.pool = make.pool(2)
        fan_in = flat_size("LeNet-5", image_shape, [self.conv1, self.pool, self.conv2, self.pool])
        self.dense = nn.ModuleList()
        for units in dense_widths:
            self.dense.append(make.dense(fan_in, units))
            fan_in = units
        self.head = nn.Linear(fan_in, classes)

    @property
    def unit_layers(self) -> dict[str, nn.Module]:
        """Hidden layers by name, in forward order."""
        return numbered("conv", [self.conv1, self.conv2]) | numbered("fc", self.dense)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (b, classes) of images (b, channels, height, width)."""
        hidden = torch.flatten(self.pool(self.conv2(self.pool(self.conv1(images)))), 1)
        for layer in self.dense:
            hidden = layer(hidden)
        return self.head(hidden)  # type: ignore[no-any-return]
