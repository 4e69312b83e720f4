"""Data sets as checked arrays: uint8 images and integer labels, in one `.npz` each. No file is ever unpickled.

Tables of features are in `tabular`, tokens in `text`; whoever loads a data set gets what its file holds.

An `.npz` holds the images x_train and x_test, (N, H, W) or (N, H, W, 3), and the labels y_train and y_test: one for
each image, (N,), or a set of labels that are 0 or 1 each, (N, labels). `sources` finds data sets and writes these
files.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gapscope.errors import InputError, reading
from gapscope.records.integrity import check_written
from gapscope.runtime import memory

ARRAYS = ("x_train", "y_train", "x_test", "y_test")
MOST_CLASSES = 1_000_000  # or different tokens: the weights of a network's last layer grow with them
CLASSES = {  # or labels of a set, outputs, or different tokens
    "digits": 10,
    "digits_segments": 7,
    "mnist": 10,
    "fashion_mnist": 10,
    "cifar10": 10,
    "cifar100": 100,
    "diabetes": 1,
    "breast_cancer": 2,
    "wine": 3,
    "linear_gaussian": 1,
    "sympy_source": 256,
}


@dataclass(frozen=True)
class Dataset:
    """Checked arrays: uint8 images (N, C, H, W) and int64 labels (N,), 0..classes-1, or label sets (N, classes)."""

    name: str
    classes: int
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Channels, height, width."""
        channels, height, width = self.x_train.shape[1:]
        return channels, height, width

    @property
    def targets(self) -> str:
        """What y is: "labels", or "label sets"."""
        return "labels" if self.y_train.ndim == 1 else "label sets"

    def digest(self) -> str:
        """Return a hash of the arrays, which tells what data a run was trained on."""
        found = hashlib.blake2b(digest_size=16)
        for name in ARRAYS:
            found.update(np.ascontiguousarray(getattr(self, name)).tobytes())
        return found.hexdigest()

    def channel_statistics(self) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and standard deviation of each channel over the training images, scaled to 0..1, in float64.

        A constant channel gets a deviation of 1.
        """
        # from histograms: exact, and 256 numbers for each channel instead of a float64 copy of the images
        counts = np.stack([np.bincount(self.x_train[:, c].ravel(), minlength=256) for c in range(self.image_shape[0])])
        levels, weight = (
            np.arange(256) / 255.0,
            counts / counts.sum(axis=1, keepdims=True),
        )
        mean = weight @ levels
        variance = (weight * (levels - mean[:, None]) ** 2).sum(axis=1)
        return mean, np.sqrt(np.where(variance > 0, variance, 1.0))


def load(path: Path, name: str | None = None) -> Dataset:
    """Read and check one `.npz`; the file's name is the data set's unless another one is given.

    Raises:
        InputError: missing or truncated file, missing arrays, wrong shapes or types, labels out of range, pickles.
    """
    from gapscope.data import tabular, text  # tables and texts are data sets too

    arrays = read_arrays(path)
    make = tabular.checked if tabular.is_table(arrays) else text.checked if text.is_text(arrays) else checked
    return make(path, name or path.stem, arrays)


def read_arrays(path: Path, remedy: str = "run the download stage again") -> dict[str, np.ndarray]:
    """Return all arrays of an `.npz`; no file is ever unpickled.

    Args:
        path: of the file.
        remedy: for messages.

    Raises:
        InputError: a file that is missing, truncated or of another kind, Python objects, more than memory holds, or not
            what the download stage wrote.
    """
    check_written(path)
    # opened here: np.load does not close a file that it opened itself if the zip is damaged
    with (
        reading(path, "a readable .npz of plain arrays", remedy),
        path.open("rb") as handle,
        np.load(handle, allow_pickle=False) as file,
    ):
        size = sum(member.file_size for member in file.zip.infolist())
        if size > memory():
            raise InputError(f"{path} says that it holds {size / 1e9:.0f} GB, more than this machine has; {remedy}")
        found = {name: file[name] for name in file.files}
        if others := [name for name, array in found.items() if not isinstance(array, np.ndarray)]:
            raise InputError(f"{path}: {', '.join(others)} is no array, {remedy}")
        return found


def checked(path: Path, name: str, arrays: dict[str, np.ndarray]) -> Dataset:
    """Return a data set of these arrays, with channels first.

    Raises:
        InputError: missing arrays, wrong shapes or types, labels out of range; the message names `path`.
    """
    if missing := [name for name in ARRAYS if name not in arrays]:
        raise InputError(f"{path} lacks the arrays {', '.join(missing)}; it has {', '.join(arrays)}")
    images: dict[str, np.ndarray] = {}
    for split in ("train", "test"):
        x, y = arrays[f"x_{split}"], arrays[f"y_{split}"]
        if x.dtype != np.uint8:
            raise InputError(f"{path}: x_{split} must be uint8 images (0..255), got {x.dtype}")
        if not (x.ndim == 3 or (x.ndim == 4 and x.shape[3] == 3)) or 0 in x.shape:
            raise InputError(f"{path}: x_{split} must have shape (N, H, W) or (N, H, W, 3), got {x.shape}")
        if not np.issubdtype(y.dtype, np.integer) or y.shape[:1] != x.shape[:1] or y.ndim > 2:
            raise InputError(
                f"{path}: y_{split} must hold {len(x)} integer labels, one per image, or sets of labels ({len(x)}, "
                f"labels), got {y.dtype} of shape {y.shape}"
            )
        images[split] = x[:, None] if x.ndim == 3 else np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    if images["train"].shape[1:] != images["test"].shape[1:]:
        raise InputError(f"{path}: training and test images must have the same shape")
    declared = declared_classes(path, arrays)
    labels = {split: arrays[f"y_{split}"].astype(np.int64) for split in ("train", "test")}
    if any(y.ndim == 2 for y in labels.values()):
        classes = checked_label_sets(path, labels, declared)
        return Dataset(name, classes, images["train"], labels["train"], images["test"], labels["test"])
    classes = declared if declared is not None else CLASSES.get(name, int(arrays["y_train"].max()) + 1)
    for split, y in labels.items():
        if y.min() < 0 or y.max() >= classes:
            raise InputError(f"{path}: y_{split} must lie in 0..{classes - 1}, found {y.min()}..{y.max()}")
    return Dataset(name, classes, images["train"], labels["train"], images["test"], labels["test"])


def declared_classes(path: Path, arrays: Mapping[str, np.ndarray]) -> int | None:
    """Return the number of classes, or of different tokens, that a file gives; None where it gives none.

    Raises:
        InputError: no whole number, or one that no network has as its outputs.
    """
    declared = arrays.get("classes")
    if declared is None:
        return None
    if declared.size != 1 or declared.dtype.kind not in "iu" or not 1 <= declared.item() <= MOST_CLASSES:
        raise InputError(f"{path}: classes must be one whole number in 1..{MOST_CLASSES}, got {declared}")
    return int(declared.item())


def checked_label_sets(path: Path, labels: Mapping[str, np.ndarray], declared: int | None) -> int:
    """Return the number of labels in a set.

    Args:
        path: of the file, for messages.
        labels: split -> whole numbers, which should be 0 and 1, (N, labels).
        declared: the number that the file gives; None where it gives none.

    Raises:
        InputError: other numbers, splits that differ, classes in one-hot form, or a label that is always the same.
    """
    train, test = labels["train"], labels["test"]
    if train.shape[1:] != test.shape[1:]:
        raise InputError(
            f"{path}: y_train and y_test must hold sets of the same labels, got shapes {train.shape} and {test.shape}"
        )
    for split, y in labels.items():
        if y.min() < 0 or y.max() > 1:
            raise InputError(
                f"{path}: y_{split} of shape {y.shape} must hold 0 and 1, a column for each label, found "
                f"{y.min()}..{y.max()}; a single column of classes has the shape ({len(y)},)"
            )
    if all((y.sum(1) == 1).all() for y in labels.values()):
        raise InputError(f"{path}: every example has exactly one label, so these are classes: store y.argmax(1)")
    for label, values in enumerate(train.T):
        if values.min() == values.max():
            raise InputError(
                f"{path}: label {label} is {values[0]} in all training examples, and nothing can be learned: leave its "
                "column out"
            )
    count = int(train.shape[1])
    if declared is not None and declared != count:
        raise InputError(f"{path}: classes is {declared}, and y_train holds sets of {count} labels")
    return count
