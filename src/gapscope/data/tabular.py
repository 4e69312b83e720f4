"""Tables: floating-point features and targets, in an `.npz` like that of images; three come with scikit-learn.

An `.npz` is a table where x_train and x_test are floating-point numbers of shape (N, features). Whole numbers in y are
labels of classes (N,), or sets of labels that are 0 or 1 each (N, labels). Floating-point numbers in y, of shape (N,)
or (N, outputs), are targets of a regression.

Each feature is standardised when a batch is taken: minus its mean over the training set, divided by its standard
deviation there. An array `standardise` that is false, in the file, leaves the features as they are. Targets of a
regression are always taken so, so that errors and losses of data sets can be compared. The data set's record has these
means and deviations.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gapscope.data.datasets import ARRAYS, Dataset, checked_label_sets, declared_classes
from gapscope.errors import InputError

BUNDLED = {"diabetes": 110, "breast_cancer": 142, "wine": 45}  # scikit-learn's: test examples, a quarter of each
Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Table(Dataset):
    """Checked arrays: float32 features (N, F); int64 labels (N,) or (N, labels), or float32 targets (N, outputs).

    Attributes:
        standardise: whether features are standardised when a batch is taken.
    """

    standardise: bool = True

    @property
    def image_shape(self) -> tuple[int, ...]:
        """The number of features: the shape of one example, in the place of an image's."""
        return self.x_train.shape[1:]

    @property
    def targets(self) -> str:
        """What y is: "labels", "label sets" or "numbers"."""
        return super().targets if self.y_train.dtype.kind == "i" else "numbers"

    def digest(self) -> str:
        """Return a hash of the arrays, and of whether the features are standardised."""
        return hashlib.blake2b(f"{super().digest()} {self.standardise}".encode(), digest_size=16).hexdigest()

    def channel_statistics(self) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and deviation of each feature over the training set, in float64; 0 and 1 if not standardised.

        A constant feature gets a deviation of 1.
        """
        if not self.standardise:
            return np.zeros(self.image_shape), np.ones(self.image_shape)
        return _statistics(self.x_train)

    def target_statistics(self) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and deviation of each output over the training set, in float64."""
        return _statistics(self.y_train)


def _statistics(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    exact = values.astype(np.float64)
    std = exact.std(axis=0)
    return exact.mean(axis=0), np.where(np.ptp(exact, axis=0) > 0, std, 1.0)


def is_table(arrays: Arrays) -> bool:
    """Return whether arrays are a table and no images: two axes, and floating-point numbers."""
    x = arrays.get("x_train")
    return x is not None and x.ndim == 2 and x.dtype.kind == "f"


def checked(path: Path, name: str, arrays: Arrays) -> Table:
    """Return a table of these arrays.

    Raises:
        InputError: wrong shapes or types, numbers that are not finite, labels out of range; the message names `path`.
    """
    if missing := [name for name in ARRAYS if name not in arrays]:
        raise InputError(f"{path} lacks the arrays {', '.join(missing)}; it has {', '.join(arrays)}")
    found: dict[str, np.ndarray] = {}
    for split in ("train", "test"):
        x, y = arrays[f"x_{split}"], arrays[f"y_{split}"]
        if x.ndim != 2 or x.dtype.kind != "f" or 0 in x.shape or x.shape[1] != arrays["x_train"].shape[1]:
            raise InputError(
                f"{path}: x_{split} must hold floating-point features (N, {arrays['x_train'].shape[1]}), as x_train "
                f"does, got {x.dtype} of shape {x.shape}"
            )
        if y.shape[:1] != x.shape[:1] or y.dtype.kind not in "buif" or y.ndim > 2:
            raise InputError(
                f"{path}: y_{split} must hold {len(x)} whole numbers (labels), sets of labels ({len(x)}, labels), or "
                f"floating-point targets ({len(x)},) or ({len(x)}, outputs), got {y.dtype} of shape {y.shape}"
            )
        found[f"x_{split}"] = _finite(path, f"x_{split}", x)
        found[f"y_{split}"] = _finite(path, f"y_{split}", y.reshape(len(y), -1)) if y.dtype.kind == "f" else y
    kinds = {found[f"y_{split}"].dtype.kind == "f" for split in ("train", "test")}
    if len(kinds) > 1 or found["y_train"].shape[1:] != found["y_test"].shape[1:]:
        raise InputError(f"{path}: y_train and y_test must hold the same: labels, or targets with as many outputs")
    standardise = arrays.get("standardise", np.bool_(True))
    if standardise.size != 1 or standardise.dtype.kind not in "biu" or standardise.item() not in (0, 1):
        raise InputError(f"{path}: standardise must be true or false, got {standardise}")
    outputs = (
        _check_targets(path, found) if kinds == {True} else _check_labels(path, found, declared_classes(path, arrays))
    )
    return Table(name, outputs, **found, standardise=bool(standardise.item()))


def _finite(path: Path, name: str, values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        single = values.astype(np.float32)
    if not np.isfinite(single).all():
        raise InputError(f"{path}: {name} has values that are missing or infinite in float32; fill or leave them out")
    return single


def _check_targets(path: Path, found: dict[str, np.ndarray]) -> int:
    """Return the number of outputs."""
    for output, values in enumerate(found["y_train"].T):
        if np.ptp(values) == 0:
            raise InputError(
                f"{path}: all training targets of output {output} are {values[0]:g}; nothing can be learned"
            )
    return int(found["y_train"].shape[1])


def _check_labels(path: Path, found: dict[str, np.ndarray], declared: int | None) -> int:
    """Return the number of classes, or of labels in a set; labels become int64."""
    if found["y_train"].ndim == 2:
        for split in ("train", "test"):
            found[f"y_{split}"] = found[f"y_{split}"].astype(np.int64)
        return checked_label_sets(path, {split: found[f"y_{split}"] for split in ("train", "test")}, declared)
    present = np.unique(found["y_train"])
    classes = declared if declared is not None else int(present[-1]) + 1
    for split in ("train", "test"):
        y = found[f"y_{split}"] = found[f"y_{split}"].astype(np.int64)
        if y.min() < 0 or y.max() >= classes:
            raise InputError(f"{path}: y_{split} must lie in 0..{classes - 1}, found {y.min()}..{y.max()}")
    if len(present) < 2 or (declared is None and len(present) < classes):
        raise InputError(
            f"{path}: y_train holds {len(present)} different whole numbers up to {present[-1]}. If they are classes, "
            "number them 0, 1, 2, ...; if they are targets of a regression, make them y.astype(numpy.float32)"
        )
    return classes


def arrays_of(table: Table) -> dict[str, Any]:
    """Return the arrays of a table's `.npz`."""
    return {array: getattr(table, array) for array in ARRAYS} | {
        "classes": np.int64(table.classes), "standardise": np.bool_(table.standardise),
    }  # fmt: skip


def record(table: Table) -> dict[str, Any]:
    """Return what the data set's record says of a table, beside its source and hash."""
    features, targets = table.channel_statistics(), table.target_statistics()
    found: dict[str, Any] = {
        "train_images": len(table.y_train),  # examples: the names of all data sets' records
        "test_images": len(table.y_test),
        "image_shape": list(table.image_shape),
        "classes": table.classes,
        "targets": table.targets,
        "standardised": table.standardise,
        "feature_mean": features[0].tolist(),
        "feature_std": features[1].tolist(),
    }
    if table.targets == "numbers":
        found |= {"target_mean": targets[0].tolist(), "target_std": targets[1].tolist()}
    return found


def bundled(name: str, scratch: Path) -> tuple[str, Path]:
    """Write one of scikit-learn's tables, split in two; return its source in words, and its file."""
    from sklearn import datasets
    from sklearn.model_selection import train_test_split

    options = {"scaled": False} if name == "diabetes" else {}
    x, y = getattr(datasets, f"load_{name}")(return_X_y=True, **options)
    stratify = None if name == "diabetes" else y
    x_train, x_test, y_train, y_test = train_test_split(
        x, y, test_size=BUNDLED[name], random_state=0, stratify=stratify
    )
    path = scratch / f"{name}.npz"
    np.savez(path, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    return f"scikit-learn's bundled {name.replace('_', ' ')}, {BUNDLED[name]} test examples drawn once", path
