"""Networks by name: a dict, or an import path `package.module:Class` of one's own.

Either may end in a width factor, if the network takes `width`: `lenet5_w2` is `lenet5` with hidden layers twice as
wide. It is part of the name, since a study of width lists several: `models: [lenet5_w0.5, lenet5, lenet5_w2]`.

A network is a class (or function) called as `Net(image_shape=(channels, height, width), classes=n)`. It may also take
`batch_norm`, `linear` and `width`, and it may have `unit_layers`, a dict from layer name to the module whose output is
that layer's unit activations (after the non-linearity, before pooling), in forward order.
"""

import importlib
import inspect
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from gapscope.errors import InputError, did_you_mean
from gapscope.models.alexnet import AlexNet
from gapscope.models.hidden import unit_layers as unit_layers
from gapscope.models.keskar import Deep, Perceptron, Shallow
from gapscope.models.lenet5 import LeNet5
from gapscope.models.resnet import ResNet18, ResNet56
from gapscope.models.units import Linear
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


@dataclass(frozen=True)
class ModelSpec:
    """What is needed to build a network again: it travels in the header of its weights."""

    name: str
    image_shape: tuple[int, int, int]
    classes: int
    batch_norm: bool
    linear: Linear

    def to_header(self) -> dict[str, Any]:
        """Return a JSON object."""
        return asdict(self)

    @classmethod
    def from_header(cls, header: dict[str, Any]) -> "ModelSpec":
        """Return the spec that `to_header` gave."""
        return cls(**{**header, "image_shape": tuple(header["image_shape"])})


def build(spec: ModelSpec) -> nn.Module:
    """Build a network; it draws its initial weights from torch's global generator (see `seeds.seeded`).

    Raises:
        InputError: unknown name, an import path that leads nowhere, or a setting that the network does not take.
    """
    widened = WIDENED.fullmatch(spec.name)
    name, width = (widened["name"], float(widened["width"])) if widened else (spec.name, 1.0)
    make = MODELS.get(name) or _imported(name)
    if not callable(make):
        raise InputError(f"model {spec.name} is a {type(make).__name__}, not a class or function")
    taken = inspect.signature(make).parameters
    wanted = {"batch_norm": (spec.batch_norm, True), "linear": (spec.linear, False)}
    options: dict[str, Any] = {}
    for option, (value, plain) in wanted.items():
        if option in taken:
            options[option] = value
        elif value != plain:
            raise InputError(f"model {spec.name} takes no {option}=, so train.{option} must be {str(plain).lower()}")
    if widened and "width" not in taken:
        raise InputError(f"model {name} takes no width=, so there is no {spec.name}; it is {name} alone")
    if widened:
        options["width"] = width
    try:
        return make(image_shape=spec.image_shape, classes=spec.classes, **options)
    except TypeError as error:
        raise InputError(f"model {spec.name} cannot be called with image_shape=, classes=: {error}") from error


def _imported(path: str) -> Callable[..., nn.Module]:
    if ":" not in path:
        raise InputError(
            f"unknown model {path!r}; {did_you_mean(path, MODELS)} (or an import path, package.module:Class)"
        )
    module, _, attribute = path.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # a script's own folder is on the path, the study's folder is not
    try:
        return getattr(importlib.import_module(module), attribute)  # type: ignore[no-any-return]
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise InputError(f"model {path!r} cannot be imported from {Path.cwd().name}/: {error}") from error
