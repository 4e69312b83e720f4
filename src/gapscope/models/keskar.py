"""The networks of Keskar et al. 2017, table 1 and appendix B: F1, F2 (dense), C1, C3 (shallow), C2, C4 (deep).

C3 is C1, and C4 is C2, with the classes of CIFAR-100 instead of CIFAR-10; the data give the number of classes. The
convolutional networks follow the authors' code (keskarnitish/large-batch-training, network_zoo.py), and so does their
initialisation, Keras's default: Glorot's uniform. No code of F1 and F2 was published, so they have PyTorch's default.
Differs: no biases under batch norm, which would cancel them. Their batch norm uses the statistics of the batch also in
testing (Keras's mode 2); ours uses those of the training set.
"""

from functools import partial

from torch import nn

from gapscope.models.units import Chain, Units, flat_size, glorot_uniform
from gapscope.models.vgg import VGG16


class Perceptron(Chain):
    """Dense layers of equal width and a linear head; an image is flattened to a vector. It takes tables too.

    F1 is 784-512 x 5-10 on MNIST. F2 is 360-512 x 7-1973 on TIMIT, which is licensed: users supply it as an `.npz` with
    x_train and x_test of shape (N, 1, 360), images of one row. The 1,973 classes come from the labels.

    Args:
        image_shape: channels, height, width; of a table (features,).
        classes: number of outputs.
        batch_norm: as in `Units`.
        linear_units: as in `Units`.
        average_pooling: as in `Units`.
        layers: number of hidden layers.
        units: width of each.
        width: factor of the width.
    """

    def __init__(
        self,
        image_shape: tuple[int, ...],
        classes: int,
        *,
        batch_norm: bool = True,
        linear_units: bool = False,
        average_pooling: bool = False,
        layers: int,
        units: int = 512,
        width: float = 1.0,
    ) -> None:
        units = max(1, round(width * units))
        make = Units(batch_norm, linear_units, average_pooling)
        widths = [flat_size("a perceptron", image_shape, []), *(units,) * (layers - 1)]
        super().__init__([], [make.dense(fan_in, units) for fan_in in widths], nn.Linear(units, classes))


class Shallow(Chain):
    """C1 and C3: two unit layers of 5 x 5 convolutions, each pooled 3 x 3 with stride 2, then two dense unit layers.

    Keras's "same" pooling halves an image, rounded up; its backends place the windows differently. Here they are placed
    as by Theano, which the authors used: one row and column of padding on every side.

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
        features: list[nn.Module] = []
        for depth in (image_shape[0], 64):
            features += [make.conv(depth, 64, 5, padding=2), make.pool(3, 2, padding=1)]
        fan_in = flat_size("C1", image_shape, features)
        dense = [make.dense(fan_in, 384), nn.Dropout(0.5), make.dense(384, 192), nn.Dropout(0.5)]
        super().__init__(features, dense, nn.Linear(192, classes))
        glorot_uniform(self)


# C2 and C4 are VGG-16 with one dense layer of 512 and dropout; their pooling is Keras's "same", which rounds up
Deep = partial(VGG16, dense=(512,), conv_dropout=(0.3, 0.4, 0.4, 0.4, 0.4), dense_dropout=0.5)
