"""Data that a user's own function returns: `data.files.NAME: "package.module:function"`.

The function takes no argument and returns the training set and the test set. Each is a pair of inputs and targets, or a
Dataset of such pairs: torch's, or anything with `len` and an index. They are written to an `.npz` and then read as a
user's own file is, so the same forms are taken, and the data set's hash is that of its content.
"""

from pathlib import Path
from typing import Any

import numpy as np

from gapscope.errors import InputError, reason, where_raised
from gapscope.import_paths import imported


def written(path: str, name: str, scratch: Path) -> Path:
    """Call a function, write what it returns to an `.npz`, and return that file.

    Args:
        path: import path of the function.
        name: of the data set.
        scratch: folder of the file.

    Raises:
        InputError: no such function, one that fails, or one that returns something else.
    """
    what = f"data.files.{name}"
    function = imported(path, what)
    if not callable(function):
        raise InputError(f"{what}: {path} is a {type(function).__name__}, not a function")
    arrays: dict[str, np.ndarray] = {}
    try:
        for split, of in zip(("train", "test"), function(), strict=True):
            arrays[f"x_{split}"], arrays[f"y_{split}"] = _arrays(of)
    except (Exception, SystemExit) as error:  # anything: it is the user's code
        place = where_raised(error)
        raise InputError(
            f"{what}: {path}() must return a training and a test set, each a pair (inputs, targets) or a Dataset of "
            f"such pairs; {type(error).__name__}: {reason(error)}{f' ({place})' if place else ''}"
        ) from error
    file = scratch / f"{name}.made.npz"
    np.savez(file, **arrays)  # type: ignore[arg-type]
    return file


def _arrays(split: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return inputs and targets of one split."""
    if isinstance(split, tuple | list) and len(split) == 2:
        inputs, targets = split
        return _array(inputs), _array(targets)
    pairs = [split[place] for place in range(len(split))]
    inputs, targets = zip(*pairs, strict=True)
    return np.stack([_array(one) for one in inputs]), np.stack([_array(one) for one in targets])


def _array(values: Any) -> np.ndarray:
    """Return a tensor, or anything that numpy takes, as an array of numbers."""
    found = np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)
    if found.dtype.kind not in "buif":
        raise TypeError(f"{type(values).__name__} of {found.dtype}, not of numbers")
    return found
