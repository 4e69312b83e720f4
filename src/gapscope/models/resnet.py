"""ResNet-56 and ResNet-18 for 32 x 32 images: He et al. 2016.

ResNet-56 is their CIFAR network (section 4.2): 3 stages of 9 blocks, 16-32-64 channels, and option A, shortcuts without
parameters.

ResNet-18 is their ImageNet network (table 1): 4 stages of 2 blocks, 64-128-256-512 channels, option B, projections by
1 x 1 convolutions. Its first layer is that of ResNet-56, 3 x 3 without pooling, as is usual on CIFAR. Gao & Zhong, who
use it, do not describe theirs. torchvision's resnet18 begins with 7 x 7, stride 2, and pooling instead; the rest is the
same.

He et al. initialise as in their paper of 2015: normal, here by fan-out, as in the published code
(facebook/fb.resnet.torch) and in torchvision. The head has PyTorch's default, as there. Option A does not say where the
zero channels go: here after the others, as in fb.resnet.torch.

Unit layers are hidden layers in the sense of Oyedotun et al. 2022, section 3: one for each layer of weights with a
non-linearity. They are the first convolution's ReLU, each block's first ReLU, and its second one, after the addition. A
projection has no non-linearity, so it is not a unit layer.
"""

from functools import partial

from torch import Tensor, nn
from torch.nn.functional import pad

from gapscope.models.units import Units, he_normal


class Subsample(nn.Module):
    """Option A: every `stride`-th row and column, and `extra` channels of zeros after the others."""

    def __init__(self, stride: int, extra: int) -> None:
        super().__init__()
        self.stride, self.extra = stride, extra

    def forward(self, images: Tensor) -> Tensor:
        """Return (b, c + extra, h / stride, w / stride), rounded up, of images (b, c, h, w)."""
        return pad(images[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.extra))


class Block(nn.Module):
    """Two unit layers of 3 x 3 convolutions; the block's input is added before the second non-linearity.

    Args:
        make: makes the units.
        depth: input channels.
        channels: output channels.
        stride: of the first convolution.
        projection: option B, a 1 x 1 convolution on shortcuts that change shape; otherwise option A.
    """

    def __init__(self, make: Units, depth: int, channels: int, stride: int, projection: bool) -> None:
        super().__init__()
        self.first = make.conv(depth, channels, 3, stride=stride, padding=1)
        self.second = make.conv(channels, channels, 3, padding=1, activate=False)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or depth != channels:
            self.shortcut = (
                make.conv(depth, channels, 1, stride=stride, activate=False)
                if projection
                else Subsample(stride, channels - depth)
            )
        self.activation = make.activation()

    def forward(self, images: Tensor) -> Tensor:
        """Return (b, channels, h / stride, w / stride), rounded up, of images (b, depth, h, w)."""
        return self.activation(self.second(self.first(images)) + self.shortcut(images))  # type: ignore[no-any-return]


class ResNet(nn.Module):
    """A 3 x 3 convolution, stages of blocks, the average over each channel, and a softmax head.

    Args:
        image_shape: channels, height, width.
        classes: number of outputs.
        batch_norm: as in `Units`. Without it every block adds variance: ResNet-56 starts with logits in the thousands,
            and diverges at a learning rate of 0.1.
        linear_units: as in `Units`.
        average_pooling: as in `Units`.
        stages: channels of each stage; all but the first begin with stride 2.
        blocks: number of blocks in each stage.
        projection: as in `Block`.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        classes: int,
        *,
        batch_norm: bool = True,
        linear_units: bool = False,
        average_pooling: bool = False,
        stages: tuple[int, ...],
        blocks: int,
        projection: bool,
    ) -> None:
        super().__init__()
        make = Units(batch_norm, linear_units, average_pooling)
        self.stem = make.conv(image_shape[0], stages[0], 3, padding=1)
        self.blocks = nn.Sequential()
        depth = stages[0]
        for number, channels in enumerate(stages):
            for block in range(blocks):
                stride = 2 if number > 0 and block == 0 else 1
                self.blocks.append(Block(make, depth, channels, stride, projection))
                depth = channels
        self.head = nn.Linear(depth, classes)
        he_normal(self)

    @property
    def unit_layers(self) -> dict[str, nn.Module]:
        """Hidden layers by name, in forward order: conv1, conv2, ... by their convolution."""
        hidden = [self.stem, *(block.get_submodule(part) for block in self.blocks for part in ("first", "activation"))]
        return {f"conv{number}": module for number, module in enumerate(hidden, 1)}

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (b, classes) of images (b, channels, height, width)."""
        return self.head(self.blocks(self.stem(images)).mean((2, 3)))  # type: ignore[no-any-return]


ResNet56 = partial(ResNet, stages=(16, 32, 64), blocks=9, projection=False)
ResNet18 = partial(ResNet, stages=(64, 128, 256, 512), blocks=2, projection=True)
