"""Networks by name, from a dict, or by an import path `package.module:Class` of your own.

Both may end in a width factor, if the network takes `width`: `lenet5_w2` is `lenet5` with hidden layers twice as wide.
The factor is part of the name, since a study of width lists several: `models: [lenet5_w0.5, lenet5, lenet5_w2]`.

A network is a class (or function) called as `Net(image_shape=(channels, height, width), classes=n)`. It may also take
`batch_norm`, `linear_units`, `average_pooling` and `width`. It may have `unit_layers`, a dict from layer name to the
module whose output is that layer's unit activations (after the non-linearity, before pooling), in forward order.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from gapscope.errors import InputError, did_you_mean
from gapscope.import_paths import imported
from gapscope.models.alexnet import AlexNet
from gapscope.models.hidden import batch_norms as batch_norms
from gapscope.models.hidden import unit_layers as unit_layers
from gapscope.models.keskar import Deep, Perceptron, Shallow
from gapscope.models.lenet5 import LeNet5
from gapscope.models.resnet import ResNet18, ResNet56
from gapscope.models.vgg import VGG16
from gapscope.records.cells import WIDENED

MODELS: dict[str, Callable[..., nn.Module]] = {
    "lenet5": LeNet5,
    "lenet5_caffe": partial(LeNet5, channels=(20, 50), dense=(500,), padding=0),
    "vgg16": VGG16,
    "resnet56": ResNet56,
    "resnet18": ResNet18,
    "alexnet": AlexNet,
    "f1": partial(Perceptron, layers=5),
    "f2": partial(Perceptron, layers=7),
    "c1": Shallow,
    "c2": Deep,
    "c3": Shallow,  # C1 with the classes of CIFAR-100
    "c4": Deep,  # C2 with the same
}


# (linear_units, average_pooling) -> the field `linear` of a record
LINEAR: dict[tuple[bool, bool], bool | str] = {
    (False, False): False, (True, False): "units", (True, True): True, (False, True): "pooling",
}  # fmt: skip


@dataclass(frozen=True)
class ModelSpec:
    """All that is needed to build a network again. The header of its weights and every record of it hold it."""

    name: str
    image_shape: tuple[int, int, int]
    classes: int
    batch_norm: bool
    linear_units: bool = False
    average_pooling: bool = False

    def to_header(self) -> dict[str, Any]:
        """Return a JSON object. It has one field for two switches, as in every record since version 0.1."""
        header = {name: getattr(self, name) for name in ("name", "image_shape", "classes", "batch_norm")}
        return header | {"linear": LINEAR[self.linear_units, self.average_pooling]}

    @classmethod
    def from_header(cls, header: dict[str, Any]) -> "ModelSpec":
        """Return the spec whose `to_header` gave this."""
        linear = {word: switches for switches, word in LINEAR.items()}[header["linear"]]
        return cls(header["name"], tuple(header["image_shape"]), header["classes"], header["batch_norm"], *linear)


def build(spec: ModelSpec) -> nn.Module:
    """Build a network; it draws its initial weights from torch's global generator (see `seeds.seeded`).

    Raises:
        InputError: an unknown name, an import path that leads nowhere, or a setting that the network does not take.
    """
    widened = WIDENED.fullmatch(spec.name)
    name, width = (widened["name"], float(widened["width"])) if widened else (spec.name, 1.0)
    make = MODELS.get(name) or _own(name)
    if not callable(make):
        raise InputError(f"model {spec.name} is a {type(make).__name__}, not a class or function")
    taken = inspect.signature(make).parameters
    wanted = {
        "batch_norm": (spec.batch_norm, True),
        "linear_units": (spec.linear_units, False),
        "average_pooling": (spec.average_pooling, False),
    }
    options: dict[str, Any] = {}
    for option, (value, plain) in wanted.items():
        if option in taken:
            options[option] = value
        elif value != plain:
            hint = "; its linear= is now linear_units= and average_pooling=" if "linear" in taken else ""
            only = str(plain).lower()
            raise InputError(f"model {spec.name} takes no {option}=, so train.{option} must be {only}{hint}")
    if widened and "width" not in taken:
        raise InputError(f"model {name} takes no width=, so there is no {spec.name}; use {name}")
    if widened:
        options["width"] = width
    try:
        return make(image_shape=spec.image_shape, classes=spec.classes, **options)
    except TypeError as error:
        raise InputError(f"model {spec.name} cannot be called with image_shape=, classes=: {error}") from error


def _own(path: str) -> Callable[..., nn.Module]:
    if ":" not in path:
        raise InputError(
            f"unknown model {path!r}; {did_you_mean(path, MODELS)} (or an import path, package.module:Class)"
        )
    return imported(path, "model")  # type: ignore[no-any-return]
