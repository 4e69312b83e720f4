"""Where data sets come from. Importing this module downloads nothing.

The first source that has a data set is used:

1. a file named in params (`data.files`);
2. the folder named by the environment variable GAPSCOPE_DATA, with `<dataset>.npz` or torchvision's original files;
3. scikit-learn's bundled digits;
4. torchvision's download, MD5-checked.

The variable is no param: it says where the bytes come from, not what they are.

NAME_n5000 is data set NAME with 5,000 of its training images, for machines that cannot train on all of them. Every
result shows that name. All test images are kept.
"""

import hashlib
import http.client
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gapscope.data.datasets import ARRAYS, CLASSES, load
from gapscope.errors import InputError, did_you_mean
from gapscope.records.files import atomic_path

TORCHVISION = {
    "mnist": "MNIST",
    "fashion_mnist": "FashionMNIST",
    "cifar10": "CIFAR10",
    "cifar100": "CIFAR100",
}
SUBSET = re.compile(r"(?P<name>.+)_n(?P<images>\d+)", re.ASCII)  # cifar10_n5000
TIMEOUT_S = 30.0  # per connection; torchvision sets none, and would wait for minutes on a dead connection


@dataclass(frozen=True)
class DataSettings:
    """Params of the download stage. `files`: data set name -> path of a user's own `.npz`."""

    files: dict[str, str]


def fetch(name: str, out: Path, files: Mapping[str, str]) -> dict[str, Any]:
    """Find a data set, check it, write it to `out`, and return its source, SHA-256, counts and statistics.

    Raises:
        InputError: an unknown name, a damaged file, or no source; the message says how to supply the files.
    """
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gapscope-")))
        source, found = _find(name, files, scratch)
        dataset = load(found, name)
        with np.load(found, allow_pickle=False) as file:
            arrays = {array: file[array] for array in ARRAYS}
    digest = hashlib.sha256()
    for array in ARRAYS:
        digest.update(np.ascontiguousarray(arrays[array]).tobytes())
    with atomic_path(out) as temporary, temporary.open("wb") as handle:
        np.savez(handle, classes=np.int64(dataset.classes), **arrays)  # type: ignore[arg-type]
    mean, std = dataset.channel_statistics()
    return {
        "dataset": name,
        "source": source,
        "sha256": digest.hexdigest(),
        "train_images": len(dataset.y_train),
        "test_images": len(dataset.y_test),
        "image_shape": list(dataset.image_shape),
        "classes": dataset.classes,
        "channel_mean": mean.tolist(),
        "channel_std": std.tolist(),
    }


def _find(name: str, files: Mapping[str, str], scratch: Path) -> tuple[str, Path]:
    if name in files:
        if not Path(files[name]).is_file():
            raise InputError(f"data.files gives {files[name]} for {name}, but there is no such file")
        return f"data.files ({Path(files[name]).name})", Path(files[name])
    folder = os.environ.get("GAPSCOPE_DATA") or None
    if folder is not None:
        if not Path(folder).is_dir():
            raise InputError(f"GAPSCOPE_DATA={folder} is not a folder")
        own = Path(folder) / f"{name}.npz"
        if own.exists():
            return f"GAPSCOPE_DATA ({own.name})", own
    subset = SUBSET.fullmatch(name)
    if subset:
        source, whole = _find(subset["name"], files, scratch)
        path = _drawn(whole, subset["name"], int(subset["images"]), scratch / f"{name}.npz")
        return f"{subset['images']} training images of {source}", path
    if name == "digits":
        return (
            "scikit-learn's bundled digits, 28 x 28, training part widened by one-pixel nudges",
            _digits(scratch),
        )
    if name not in TORCHVISION:
        raise InputError(
            f"unknown dataset {name!r}; {did_you_mean(name, CLASSES)} Name a file of your own in data.files "
            f"(data: {{files: {{{name}: path/to/{name}.npz}}}}) or put it at $GAPSCOPE_DATA/{name}.npz"
        )
    return _torchvision(name, folder, scratch)


def _drawn(whole: Path, name: str, images: int, path: Path) -> Path:
    found = load(whole, name)
    if not 1 <= images <= len(found.y_train):
        raise InputError(f"{name}_n{images}: {name} has {len(found.y_train)} training images")
    # the same images in every study, in the stored order: a file may be sorted, and its order is not part of the choice
    chosen = np.sort(np.random.default_rng(0).permutation(len(found.y_train))[:images])
    with np.load(whole, allow_pickle=False) as file:
        arrays = {array: file[array] for array in ARRAYS}
    arrays |= {array: arrays[array][chosen] for array in ("x_train", "y_train")}
    np.savez(path, classes=np.int64(found.classes), **arrays)  # type: ignore[arg-type]
    return path


def _digits(scratch: Path) -> Path:
    from scipy.ndimage import zoom
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    small = images.reshape(-1, 8, 8) * (255 / 16)
    large = zoom(small, (1, 3.5, 3.5), order=1, grid_mode=True, mode="nearest")  # 8 -> 28 pixels, linear
    large = np.rint(np.clip(large, 0, 255)).astype(np.uint8)
    # split first: training must not see a shifted copy of a test image
    x_train, x_test, y_train, y_test = train_test_split(large, labels, test_size=360, random_state=0, stratify=labels)
    nudged = (
        x_train.copy()
    )  # a copy of each image, shifted by one pixel up, down, left or right in turn; the border is background
    for turn, (axis, shift) in enumerate(((1, -1), (1, 1), (2, -1), (2, 1))):
        nudged[turn::4] = np.roll(x_train[turn::4], shift, axis)
    path = scratch / "digits.npz"
    np.savez(
        path,
        x_train=np.concatenate([x_train, nudged]),
        y_train=np.tile(y_train, 2).astype(np.uint8),
        x_test=x_test,
        y_test=y_test.astype(np.uint8),
    )
    return path


def _torchvision(name: str, folder: str | None, scratch: Path) -> tuple[str, Path]:
    import socket

    from torchvision import datasets
    from torchvision.datasets.utils import check_integrity

    cls = getattr(datasets, TORCHVISION[name])
    resources = cls.resources if hasattr(cls, "resources") else [(cls.filename, cls.tgz_md5)]
    raw = scratch / cls.__name__ / "raw" if hasattr(cls, "resources") else scratch
    raw.mkdir(parents=True, exist_ok=True)
    originals = 0
    # torchvision's own layout, or a folder named after the data set: MNIST and Fashion-MNIST have equal file names
    places = [Path(folder) / cls.__name__ / "raw", Path(folder) / name] if folder else []
    if folder and not hasattr(cls, "resources"):  # an archive has a unique name
        places.append(Path(folder))
    for file, md5 in resources:
        for place in places:
            if (place / file).is_file():
                if not check_integrity(str(place / file), md5):
                    raise InputError(f"{place / file} is damaged: its MD5 is not the published {md5}")
                shutil.copy(place / file, raw / file)
                originals += 1
                break
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT_S)
    try:
        train, test = (cls(str(scratch), train=split, download=True) for split in (True, False))
    except (RuntimeError, OSError, EOFError, http.client.HTTPException) as error:
        tried = f"GAPSCOPE_DATA={folder}" if folder else "GAPSCOPE_DATA (not set)"
        raise InputError(
            f"no source for {name}. Tried: {tried}; torchvision's download ({error}). Put {name}.npz "
            f"({', '.join(ARRAYS)}) or the original files ({', '.join(file for file, _ in resources)}) into a folder "
            "and set GAPSCOPE_DATA to it"
        ) from error
    finally:
        socket.setdefaulttimeout(timeout)
    path = scratch / f"{name}.npz"
    np.savez(
        path,
        x_train=np.asarray(train.data),
        y_train=np.asarray(train.targets, dtype=np.uint8),
        x_test=np.asarray(test.data),
        y_test=np.asarray(test.targets, dtype=np.uint8),
    )
    kind = "original files in GAPSCOPE_DATA" if originals == len(resources) else "torchvision's download"
    return f"{kind}, MD5-checked", path
