"""VGG-16 for 32 x 32 images: Simonyan & Zisserman 2015, configuration D, as the pruning papers use it on CIFAR.

Oyedotun et al. 2022 give neither head nor initialisation. For the network they cite Ding et al. 2018, whose public code
(DingXiaoH/AOFP, models/vc_model.py) has 13 convolutions, one dense layer of 512 instead of two of 4096, no dropout, and
Glorot's uniform initialisation. Simonyan & Zisserman (section 3.1) also suggest that initialisation. All this is
followed here. Differs: the dense layer is normalised like every other. Pooling keeps a last window that is not full:
28 x 28 images need that, and 32 x 32 images have no such window. Another usual form has no dense layer, 512 -> classes:
`dense=()`.
"""

from collections.abc import Iterator, Sequence

from torch import nn

from gapscope.models.units import Chain, Units, flat_size, glorot_uniform

CONFIGURATION_D = ((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3)


class VGG16(Chain):
    """Five blocks of 3 x 3 convolutions, each followed by 2 x 2 pooling, then dense layers and a softmax head.

    Args:
        image_shape: channels, height, width.
        classes: number of outputs.
        batch_norm: as in `Units`.
        linear_units: as in `Units`.
        average_pooling: as in `Units`.
        dense: widths of the dense layers.
        conv_dropout: rate of the dropout between the convolutions of each block.
        dense_dropout: rate of the dropout before each dense layer and before the head.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        classes: int,
        *,
        batch_norm: bool = True,
        linear_units: bool = False,
        average_pooling: bool = False,
        dense: tuple[int, ...] = (512,),
        conv_dropout: Sequence[float] = (0, 0, 0, 0, 0),
        dense_dropout: float = 0,
    ) -> None:
        make = Units(batch_norm, linear_units, average_pooling)
        features = list(_convolutions(make, image_shape[0], conv_dropout))
        widths = [flat_size("VGG-16", image_shape, features), *dense]
        layers: list[nn.Module] = [nn.Dropout(dense_dropout)]
        for fan_in, units in zip(widths, dense):
            layers += [make.dense(fan_in, units), nn.Dropout(dense_dropout)]
        super().__init__(features, layers, nn.Linear(widths[-1], classes))
        glorot_uniform(self)


def _convolutions(make: Units, depth: int, dropout: Sequence[float]) -> Iterator[nn.Module]:
    for block, rate in zip(CONFIGURATION_D, dropout, strict=True):
        for number, channels in enumerate(block):
            if number > 0:
                yield nn.Dropout(rate)
            yield make.conv(depth, channels, 3, padding=1)
            depth = channels
        yield make.pool(2, ceil=True)
