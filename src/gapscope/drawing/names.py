"""Names of networks and data sets as their papers write them; a name of one's own stays as it is."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

NETWORKS = {
    "lenet5": "LeNet-5",
    "lenet5_caffe": "LeNet-5 (Caffe)",
    "vgg16": "VGG-16",
    "resnet18": "ResNet-18",
    "resnet56": "ResNet-56",
    "alexnet": "AlexNet",
    "mlp": "a perceptron",
    "gpt_tiny": "a small transformer",
    "gpt_tiny_untied": "a small transformer with untied embeddings",
    **{name: name.upper() for name in ("f1", "f2", "c1", "c2", "c3", "c4")},
}
DATA = {
    "digits": "scikit-learn's digits",
    "digits_segments": "scikit-learn's digits with made-up labels",
    "mnist": "MNIST",
    "fashion_mnist": "Fashion-MNIST",
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "timit": "TIMIT",
    "diabetes": "scikit-learn's diabetes",
    "breast_cancer": "scikit-learn's breast cancer",
    "wine": "scikit-learn's wine",
    "linear_gaussian": "a made-up linear regression",
    "sympy_source": "source text of SymPy",
}
TABLES = ("diabetes", "breast_cancer", "wine", "linear_gaussian")
UNITS = {"sympy_source": "sequences", **dict.fromkeys(TABLES, "examples")}  # else images
_VARIED = re.compile(r"(?P<name>.+)_(?P<kind>[wn])(?P<number>[\d.]+)")  # lenet5_w2, mnist_n5000


def network(name: str) -> str:
    """Return a network's name.

    Example:
        >>> network("lenet5"), network("lenet5_w0.5"), network("net")
        ('LeNet-5', 'LeNet-5 of 0.5 times the width', 'net')
    """
    found = _VARIED.fullmatch(name)
    if found and found["kind"] == "w":
        return f"{network(found['name'])} of {found['number']} times the width"
    return NETWORKS.get(name, name)


def dataset(name: str) -> str:
    """Return a data set's name.

    Example:
        >>> dataset("mnist_n5000")
        '5,000 images of MNIST'
    """
    found = _VARIED.fullmatch(name)
    if found and found["kind"] == "n":
        return f"{int(found['number']):,} {UNITS.get(found['name'], 'images')} of {dataset(found['name'])}"
    return DATA.get(name, name)


def varied(network: str, train: Mapping[str, Any]) -> str:
    """Return the name of a network, or of several, with what a study's params `train` change of it.

    Example:
        >>> varied("LeNet-5", {"batch_norm": False}), varied("LeNet-5", {"linear_units": True, "average_pooling": True})
        ('LeNet-5 without batch norm', 'a fully linear LeNet-5')
    """
    linear, whole = train.get("linear_units"), train.get("average_pooling")
    variants = [
        "with linear units" if linear and not whole else "",
        "without batch norm" if train.get("batch_norm") is False else "",
    ]
    first = "a fully linear " if linear and whole else ""
    return first + " ".join([network, *filter(None, variants)])


def pair(model: object, data: object) -> str:
    """Return a network on its data set."""
    return f"{network(str(model))} on {dataset(str(data))}"


def listed(names: Iterable[str]) -> str:
    """Return names in a row: `one, two and three`."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def counted(count: int, noun: str) -> str:
    """Return a number of things.

    Example:
        >>> counted(1, "seed"), counted(2880, "update")
        ('1 seed', '2,880 updates')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
