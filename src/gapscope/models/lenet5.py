"""LeNet-5: LeCun et al. 1998 in its modern form (ReLU, max pooling, dense layers), with batch norm or without.

Oyedotun et al. 2022 cite a pruning paper for it and give no widths; both forms in use are built (`models.MODELS`):
the classic 6-16-120-84 and Caffe's 20-50-500. A linear network has no non-linearity at all, so it pools by averages.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from gapscope.errors import InputError


class LeNet5(nn.Module):
    """Two unit layers of 5 x 5 convolutions, each followed by 2 x 2 pooling, then dense unit layers and a softmax head.

    Args:
        image_shape: channels, height, width.
        classes: number of outputs.
        batch_norm: normalise before each non-linearity (and then leave out the biases, which it would cancel).
        linear: identity in place of ReLU, average in place of maximum pooling.
        channels: widths of the convolutions.
        dense: widths of the dense layers.
        padding: of the first convolution; 2 keeps 28 x 28 as 28 x 28, as the classic 32 x 32 input did.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        classes: int,
        *,
        batch_norm: bool = True,
        linear: bool = False,
        channels: tuple[int, int] = (6, 16),
        dense: tuple[int, ...] = (120, 84),
        padding: int = 2,
    ) -> None:
        super().__init__()
        depth, height, width = image_shape
        bias = not batch_norm

        def unit(layer: nn.Module, norm: nn.Module) -> nn.Sequential:
            parts = [("layer", layer), ("norm", norm if batch_norm else nn.Identity())]
            parts.append(("activation", nn.Identity() if linear else nn.ReLU()))
            return nn.Sequential(OrderedDict(parts))

        first, second = channels
        self.conv1 = unit(
            nn.Conv2d(depth, first, 5, padding=padding, bias=bias),
            nn.BatchNorm2d(first),
        )
        self.conv2 = unit(nn.Conv2d(first, second, 5, bias=bias), nn.BatchNorm2d(second))
        self.pool = nn.AvgPool2d(2) if linear else nn.MaxPool2d(2)
        rows, columns = (((side + 2 * padding - 4) // 2 - 4) // 2 for side in (height, width))
        if min(rows, columns) < 1:
            raise InputError(f"LeNet-5 needs larger images than {height} x {width}: nothing is left after its pooling")
        fan_in = second * rows * columns
        self.dense = nn.ModuleList()
        for units in dense:
            self.dense.append(unit(nn.Linear(fan_in, units, bias=bias), nn.BatchNorm1d(units)))
            fan_in = units
        self.head = nn.Linear(fan_in, classes)

    @property
    def unit_layers(self) -> dict[str, nn.Module]:
        """Hidden layers by name, in forward order."""
        return {"conv1": self.conv1, "conv2": self.conv2} | {f"fc{i}": m for i, m in enumerate(self.dense, 1)}

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (b, classes) of images (b, channels, height, width)."""
        hidden = torch.flatten(self.pool(self.conv2(self.pool(self.conv1(images)))), 1)
        for layer in self.dense:
            hidden = layer(hidden)
        return self.head(hidden)  # type: ignore[no-any-return]
