"""AlexNet for 32 x 32 images, as Gao & Zhong may have used it on CIFAR-10: they only name it and PyTorch.

This is torchvision's AlexNet (Krizhevsky 2014, one tower: 64-192-384-256-256, 4096-4096, dropout), changed only where
small images need it. Its first convolution, 11 x 11 with stride 4, becomes 3 x 3 with stride 2; its pooling, 3 x 3 with
stride 2, becomes 2 x 2. The original has no batch norm: set `train.batch_norm=false`. Initialisation: PyTorch's
default, as in torchvision.
"""

from torch import nn

from gapscope.models.units import Chain, Units, flat_size


class AlexNet(Chain):
    """Five convolutional unit layers, pooled after the first, second and fifth, two dense ones, and a softmax head.

    Args:
        image_shape: channels, height, width.
        classes: number of outputs.
        batch_norm: as in `Units`.
        linear_units: as in `Units`.
        average_pooling: as in `Units`.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        classes: int,
        *,
        batch_norm: bool = True,
        linear_units: bool = False,
        average_pooling: bool = False,
    ) -> None:
        make = Units(batch_norm, linear_units, average_pooling)
        features = [
            make.conv(image_shape[0], 64, 3, stride=2, padding=1),
            make.pool(2),
            make.conv(64, 192, 5, padding=2),
            make.pool(2),
            make.conv(192, 384, 3, padding=1),
            make.conv(384, 256, 3, padding=1),
            make.conv(256, 256, 3, padding=1),
            make.pool(2),
        ]
        fan_in = flat_size("AlexNet", image_shape, features)
        dense = [nn.Dropout(0.5), make.dense(fan_in, 4096), nn.Dropout(0.5), make.dense(4096, 4096)]
        super().__init__(features, dense, nn.Linear(4096, classes))
