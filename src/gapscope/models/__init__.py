"""Networks by name: the built-in ones of `MODELS`, and a study's own, which `code.models` maps to import paths.

A name may end in a width factor, if the network takes `width`: `lenet5_w2` is `lenet5` with hidden layers twice as
wide. It is part of the name, since a study of width lists several: `models: [lenet5_w0.5, lenet5, lenet5_w2]`.

A network is a class (or function) called as `Net(image_shape=(channels, height, width), classes=n)`. On a table of
features, `image_shape` is `(features,)`, and for regression `classes` is the number of outputs. On a text,
`image_shape` is `(tokens of a sequence,)`, and `classes` is the number of different tokens. A network may also take
`batch_norm`, `linear_units`, `average_pooling` and `width`. It may have `unit_layers`, a dict from layer name to the
module whose output is that layer's unit activations (after the non-linearity, before pooling), in forward order.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import nn

from gapscope.errors import InputError, did_you_mean
from gapscope.import_paths import imported
from gapscope.models.alexnet import AlexNet
from gapscope.models.gpt import GPT
from gapscope.models.hidden import batch_norms as batch_norms
from gapscope.models.hidden import unit_layers as unit_layers
from gapscope.models.keskar import Deep, Perceptron, Shallow
from gapscope.models.lenet5 import LeNet5
from gapscope.models.resnet import ResNet18, ResNet56
from gapscope.models.vgg import VGG16
from gapscope.names import NAME, plain_name_for
from gapscope.records.cells import WIDENED

MODELS: dict[str, Callable[..., nn.Module]] = {
    "lenet5": LeNet5,
    "lenet5_caffe": partial(LeNet5, channels=(20, 50), dense=(500,), padding=0),
    "vgg16": VGG16,
    "resnet56": ResNet56,
    "resnet18": ResNet18,
    "alexnet": AlexNet,
    "mlp": partial(Perceptron, layers=2, units=64),
    "f1": partial(Perceptron, layers=5),
    "f2": partial(Perceptron, layers=7),
    "c1": Shallow,
    "c2": Deep,
    "c3": Shallow,  # C1 with the classes of CIFAR-100
    "c4": Deep,  # C2 with the same
    "gpt_tiny": partial(GPT, layers=3, units=96, heads=4),
    "gpt_tiny_untied": partial(GPT, layers=3, units=96, heads=4, tied=False),
}
OF_FEATURES = ("mlp", "f1", "f2")  # the built-in networks that take tables too
OF_TOKENS = ("gpt_tiny", "gpt_tiny_untied")  # those that take texts, and nothing else

# (linear_units, average_pooling) -> the field `linear` of a record
LINEAR: dict[tuple[bool, bool], bool | str] = {
    (False, False): False, (True, False): "units", (True, True): True, (False, True): "pooling",
}  # fmt: skip


@dataclass(frozen=True)
class CodeSettings:
    """Params of a user's own code; `conf/config.yaml` explains each."""

    model: str
    models: dict[str, str]

    def __post_init__(self) -> None:
        for name, path in self.models.items():
            if not NAME.fullmatch(name) or WIDENED.fullmatch(name):
                raise InputError(f"code.models: {name!r} must be a plain name without a width")
            if name in MODELS:
                raise InputError(f"code.models: {name} is a built-in network; choose another name for {path}")
            if path.count(":") != 1:
                raise InputError(f"code.models.{name} must be an import path, package.module:Class, got {path!r}")


@dataclass(frozen=True)
class ModelSpec:
    """What is needed to build a network.

    Attributes:
        name: built-in or one of `own`, perhaps with a width.
        image_shape: channels, height, width; of a table (features,); of a text (tokens of a sequence,).
        classes: number of outputs.
        batch_norm, linear_units, average_pooling: as in `train`.
        own: a study's own names and their import paths (`code.models`). They come from params alone: no file's header
            holds them.
        tokens: whether the examples are sequences of tokens: the task says so, no file's header.
    """

    name: str
    image_shape: tuple[int, ...]
    classes: int
    batch_norm: bool
    linear_units: bool = False
    average_pooling: bool = False
    own: Mapping[str, str] = field(default_factory=dict, hash=False)
    tokens: bool = False

    def to_header(self) -> dict[str, Any]:
        """Return a JSON object. It has one field for two switches, as in every record since version 0.1."""
        header = {name: getattr(self, name) for name in ("name", "image_shape", "classes", "batch_norm")}
        return header | {"linear": LINEAR[self.linear_units, self.average_pooling]}

    @property
    def base(self) -> tuple[str, float | None]:
        """The name without its width, and the width; None where the name has none."""
        widened = WIDENED.fullmatch(self.name)
        return (widened["name"], float(widened["width"])) if widened else (self.name, None)

    @property
    def source(self) -> str | None:
        """Import path of the class; None for a built-in network."""
        return self.own.get(self.base[0])


def build(spec: ModelSpec) -> nn.Module:
    """Build a network. It draws its initial weights from torch's global generator (see `seeds.seeded`).

    Raises:
        InputError: an unknown name, an import path that leads nowhere, or a setting that the network does not take.
    """
    if ":" in spec.name:
        raise InputError(plain_name_for(spec.name))
    name, width = spec.base
    if name not in MODELS and spec.source is None:
        known = {*MODELS, *spec.own}
        raise InputError(
            f"unknown model {name!r}; {did_you_mean(name, known)} "
            f'A network of your own goes into code.models (code: {{models: {{{name}: "package.module:Class"}}}})'
        )
    _check_kind(spec, name)
    make = MODELS[name] if spec.source is None else imported(spec.source, f"model {spec.name}")
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
    if width is not None and "width" not in taken:
        raise InputError(f"model {name} takes no width=, so there is no {spec.name}; it is {name} alone")
    if width is not None:
        options["width"] = width
    try:
        return make(image_shape=spec.image_shape, classes=spec.classes, **options)
    except TypeError as error:
        raise InputError(f"model {spec.name} cannot be called with image_shape=, classes=: {error}") from error


def _check_kind(spec: ModelSpec, name: str) -> None:
    """Raise InputError if a built-in network takes other data than these."""
    kind, takers, instead = "images", [*MODELS.keys() - {*OF_TOKENS}], "lenet5"
    if spec.tokens:
        kind, takers, instead = f"sequences of {spec.image_shape[0]} tokens", [*OF_TOKENS], OF_TOKENS[0]
    elif len(spec.image_shape) == 1:
        kind, takers, instead = f"a table of {spec.image_shape[0]} features", [*OF_FEATURES], OF_FEATURES[0]
    if name in MODELS and name not in takers:
        takes = "sequences of tokens" if name in OF_TOKENS else "images"
        raise InputError(
            f"model {name} takes {takes}, and the data are {kind}: set models to {instead}, or to a network of your own"
        )
