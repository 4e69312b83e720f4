"""A user's own `.npz`, as people have them -> the arrays of `datasets`: uint8 images and integer labels.

Read are: other names of the arrays (MedMNIST's), labels (N, 1), sets of labels (N, labels), channels last or first, one
channel with an axis of its own, whole numbers 0..255 of any type. Flat images need `data.shapes`, and images in other
numbers `data.ranges`. All that was changed is in the data set's record. What could mean two things is refused, with the
line to type.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from gapscope.data.datasets import ARRAYS, CLASSES
from gapscope.errors import InputError

Arrays = dict[str, np.ndarray]
OTHER_NAMES = {"x": "{}_images", "y": "{}_labels"}  # MedMNIST's
NUMBERED = "_, y = numpy.unique(numpy.concatenate([y_train, y_test]), return_inverse=True)"
SEVERAL = (1, 3)  # channels that an image may have


@dataclass(frozen=True)
class Stated:
    """What params say of a file that does not say it itself.

    Attributes:
        shape: channels, height, width of an image; None: as the file has it.
        range: the values of black and of white; None: 0 and 255.
    """

    shape: Sequence[int] | None = None
    range: Sequence[float] | None = None


@dataclass(frozen=True)
class _File:
    path: Path
    name: str
    stated: Stated
    notes: list[str] = field(default_factory=list)

    def refuse(self, what: str, remedy: str) -> InputError:
        return InputError(f"{self.path}: {what}; {remedy}")


def standard(path: Path, name: str, arrays: Mapping[str, np.ndarray], stated: Stated) -> tuple[Arrays, list[str]]:
    """Return the arrays of `datasets`, with `classes` where it is known, and what was changed, in words.

    Args:
        path: of the file, for messages.
        name: of the data set.
        arrays: of the file.
        stated: what params say of it.

    Raises:
        InputError: something that could mean two things, or nothing; with the remedy.
    """
    file = _File(path, name, stated)
    found = _named(file, arrays)
    for split in ("train", "test"):
        found[f"x_{split}"] = _images(file, f"x_{split}", found[f"x_{split}"])
        found[f"y_{split}"] = _labels(file, f"y_{split}", found[f"y_{split}"], len(found[f"x_{split}"]))
    _check_classes(file, found)
    return found, list(dict.fromkeys(file.notes))


def _named(file: _File, arrays: Mapping[str, np.ndarray]) -> Arrays:
    """Return the arrays under their usual names."""
    own = {name: OTHER_NAMES[name[0]].format(name[2:]) for name in ARRAYS}
    if set(ARRAYS) <= set(arrays):
        found = {name: arrays[name] for name in ARRAYS}
    elif set(own.values()) <= set(arrays):
        file.notes.append(f"arrays {', '.join(own.values())}")
        found = {name: arrays[other] for name, other in own.items()}
    else:
        missing = [name for name in ARRAYS if name not in arrays]
        raise file.refuse(
            f"it lacks the arrays {', '.join(missing)}; it has {', '.join(arrays) or 'none'}",
            "write them with numpy.savez(path, x_train=..., y_train=..., x_test=..., y_test=...)",
        )
    if left := [name for name in arrays if name.startswith(("val_", "x_val", "y_val"))]:
        file.notes.append(f"left out: {', '.join(left)}")
    return found | ({"classes": arrays["classes"]} if "classes" in arrays else {})


def _images(file: _File, name: str, x: np.ndarray) -> np.ndarray:
    """Return uint8 images (N, H, W) or (N, H, W, 3)."""
    if 0 in x.shape:
        raise file.refuse(f"{name} is empty, of shape {x.shape}", "leave no split without images")
    if x.dtype.kind not in "buif":
        raise file.refuse(
            f"{name} holds {'Python objects' if x.dtype.kind == 'O' else x.dtype}, not numbers",
            f"make it one array of numbers, such as numpy.stack({name}).astype(numpy.uint8)",
        )
    return _bytes(file, name, _axes(file, name, x))


def _axes(file: _File, name: str, x: np.ndarray) -> np.ndarray:
    shape = x.shape
    stated = f"data: {{shapes: {{{file.name}: [channels, height, width]}}}}"
    ask = f"say what it is: {stated} in the study, or --shape of gapscope new"
    if file.stated.shape is not None:
        return _as_stated(file, name, x)
    if x.ndim == 3:
        return x
    if x.ndim == 2:
        raise file.refuse(f"{name} has flat images, shape {shape}", ask)
    if x.ndim != 4:
        raise file.refuse(f"{name} has shape {shape}", f"give images (N, H, W) or (N, H, W, 3), or {ask}")
    last, first = shape[3] in SEVERAL, shape[1] in SEVERAL
    if last and first:
        raise file.refuse(f"{name} of shape {shape} may have its channels first or last", ask)
    if not (last or first):
        remedy = f"keep three of them, such as {name}[..., :3]" if 4 in (shape[1], shape[3]) else ask
        raise file.refuse(f"{name} of shape {shape} has neither 1 nor 3 channels", remedy)
    return _channels_last(file, x) if last else _channels_first(file, x)


def _as_stated(file: _File, name: str, x: np.ndarray) -> np.ndarray:
    channels, height, width = file.stated.shape or ()
    if x.ndim == 2 and x.shape[1] == channels * height * width and channels == 1:
        file.notes.append(f"flat images of {height} x {width}")
        return x.reshape(-1, height, width)
    if x.ndim == 2 and x.shape[1] == channels * height * width:
        raise file.refuse(
            f"{name} has flat images of {channels} channels, whose order is not known",
            f"reshape it yourself: {name}.reshape(-1, {height}, {width}, {channels}) if channels come last, or "
            f"{name}.reshape(-1, {channels}, {height}, {width})",
        )
    if x.ndim == 3 and channels == 1 and x.shape[1:] == (height, width):
        return x
    last, first = x.shape[1:] == (height, width, channels), x.shape[1:] == (channels, height, width)
    if last and first:
        raise file.refuse(f"{name} of shape {x.shape} may have its channels first or last", "transpose or pad it")
    if not (last or first):
        shape = f"[{channels}, {height}, {width}]"
        raise file.refuse(f"{name} of shape {x.shape} has no images of data.shapes.{file.name} = {shape}", "change it")
    return _channels_last(file, x) if last else _channels_first(file, x)


def _channels_last(file: _File, x: np.ndarray) -> np.ndarray:
    if x.shape[3] == 1:
        file.notes.append("images (N, H, W, 1)")
        return x[..., 0]
    return x


def _channels_first(file: _File, x: np.ndarray) -> np.ndarray:
    file.notes.append(f"images (N, {x.shape[1]}, H, W)")
    return x[:, 0] if x.shape[1] == 1 else np.ascontiguousarray(x.transpose(0, 2, 3, 1))


def _bytes(file: _File, name: str, x: np.ndarray) -> np.ndarray:
    low, high = (float(end) for end in (x.min(), x.max()))
    stated = file.stated.range
    if x.dtype == np.uint8 and stated is None:
        return x
    if stated is None and x.dtype.kind == "b":
        file.notes.append("images of bool: 0 and 255")
        return x.astype(np.uint8) * np.uint8(255)
    if stated is None and x.dtype.kind in "iu" and 0 <= low <= high <= 255:
        file.notes.append(f"images of {x.dtype} in 0..255")
        return x.astype(np.uint8)
    if stated is None:
        black, white = _usual_range(x, low, high)
        raise file.refuse(
            f"{name} must be uint8 images (0..255), got {x.dtype} in {low:g}..{high:g}",
            f"say which values are black and white: data: {{ranges: {{{file.name}: [{black}, {white}]}}}} in the "
            f"study, or --range {black:g} {white:g} of gapscope new",
        )
    black, white = stated
    if not (np.isfinite([low, high]).all() and black <= low and high <= white):
        raise file.refuse(
            f"{name} has values in {low:g}..{high:g}, outside data.ranges.{file.name} = [{black:g}, {white:g}]",
            "change the range",
        )
    file.notes.append(f"images of {x.dtype}, {black:g}..{white:g} as 0..255, rounded")
    scaled = np.empty(x.shape, np.uint8)
    for one, row in zip(scaled, x, strict=True):  # by image: a float64 copy may not fit into memory
        one[...] = np.rint((row.astype(np.float64) - black) * (255 / (white - black)))
    return scaled


def _usual_range(x: np.ndarray, low: float, high: float) -> list[float]:
    """Return the range that images like these mostly have."""
    if x.dtype.kind in "iu" and low >= 0 and high < 2**16:
        return [0.0, 2.0**16 - 1]
    return next(([black, 1.0] for black in (0.0, -1.0) if black <= low <= high <= 1), [low, high])


def _labels(file: _File, name: str, y: np.ndarray, images: int) -> np.ndarray:
    """Return integer labels (N,), or sets of labels (N, labels), which `datasets` checks."""
    if y.shape == (images, 1):
        file.notes.append("labels (N, 1)")
        y = y[:, 0]
    told = f"{name} must hold {images} integer labels, one per image, got {y.dtype} of shape {y.shape}"
    pairs = y.ndim == 2 and len(y) == images
    one_hot = pairs and bool((y.astype(bool).sum(1) == 1).all())
    if one_hot or not (pairs or y.shape == (images,)):
        raise file.refuse(told, f"take {name}.argmax(1)" if one_hot else "give one label per image, or a set of labels")
    if y.dtype.kind == "b":
        file.notes.append("labels of bool: 0 and 1")
        return y.astype(np.int64)
    if y.dtype.kind not in "iu":
        number = y.dtype.kind == "f"
        raise file.refuse(told, f"take {name}.astype(int)" if number else f"number the classes: {NUMBERED}")
    return y


def _check_classes(file: _File, found: Arrays) -> None:
    """Refuse labels below 0, classes without a training image unless the number of classes is known, a single class.

    Sets of labels are checked in `datasets`.
    """
    if found["y_train"].ndim == 2:
        return
    present, seen = (np.unique(found[f"y_{split}"]) for split in ("train", "test"))
    for split, labels in (("train", present), ("test", seen)):
        if labels[0] < 0:
            raise file.refuse(
                f"y_{split} must lie in 0..{present[-1]}, found {labels[0]}..{labels[-1]}",
                "leave out images without a label",
            )
    if len(present) < 2:
        raise file.refuse(f"all training images have the label {present[0]}", "classification needs two classes")
    known = "classes" in found or file.name in CLASSES
    top = int(present[-1])
    if not known and len(present) < top + 1:
        shown = ", ".join(map(str, present[:5])) + (f", ..., {top}" if len(present) > 5 else "")
        raise file.refuse(
            f"its training labels are {shown}: {top + 1 - len(present)} of {top + 1} classes have no training image",
            f"number them 0, 1, 2, ... ({NUMBERED}), leave out what is no class, or store the number of classes too: "
            "classes=...",
        )
    if "classes" in found and found["classes"].size == 1 and found["classes"].dtype.kind in "iu":
        empty = int(found["classes"].item()) - len(present)
        if empty > 0:
            file.notes.append(f"{empty} of its classes have no training image")
