"""Where data sets come from. Importing this module downloads nothing.

The first source that has a data set is used:

1. a file or a function named in params (`data.files`);
2. the folder named by the environment variable GAPSCOPE_DATA, with `<dataset>.npz` or torchvision's original files;
3. data that come with a dependency: scikit-learn's digits, also with made-up sets of labels (digits_segments), and its
   tables diabetes, breast_cancer and wine; the made-up table linear_gaussian; the text sympy_source;
4. torchvision's download, MD5-checked.

The variable is no param: it says where the bytes come from, not what they are.

NAME_n5000 is data set NAME with 5,000 of its training images, for machines that cannot train on all of them. Every
result shows that name. All test images are kept.
"""

import hashlib
import http.client
import math
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from gapscope.data import functions, made_up, tabular, text
from gapscope.data.datasets import ARRAYS, CLASSES, checked, load, read_arrays
from gapscope.data.own_files import Stated, standard
from gapscope.errors import InputError, did_you_mean
from gapscope.names import SOURCE
from gapscope.records.files import atomic_path
from gapscope.runtime import NO_ROOM

TORCHVISION = {
    "mnist": "MNIST",
    "fashion_mnist": "FashionMNIST",
    "cifar10": "CIFAR10",
    "cifar100": "CIFAR100",
}
SEGMENTS = ("abcdef", "bc", "abdeg", "abcdg", "bcfg", "acdfg", "acdefg", "abc", "abcdefg", "abcdfg")  # of a display
SUBSET = re.compile(r"(?P<name>.+)_n(?P<images>\d+)", re.ASCII)  # cifar10_n5000
EMPTY: Mapping[str, Any] = MappingProxyType({})
TIMEOUT_S = 30.0  # per connection; torchvision sets none, and would wait for minutes on a dead connection


@dataclass(frozen=True)
class DataSettings:
    """Params of the download stage, by name of a user's own data set; `conf/config.yaml` explains each."""

    files: dict[str, str]
    shapes: dict[str, tuple[int, ...]]
    ranges: dict[str, tuple[float, ...]]
    lengths: dict[str, int]

    def __post_init__(self) -> None:
        for name, path in self.files.items():
            if not path.isprintable():
                raise InputError(f"data.files.{name} must be a path of printable characters, got {path!r}")
        for name, shape in self.shapes.items():
            if len(shape) != 3 or min(shape) < 1 or shape[0] not in (1, 3):
                raise InputError(
                    f"data.shapes.{name} must be [channels, height, width], 1 or 3 channels, got {[*shape]}"
                )
        for name, ends in self.ranges.items():
            if len(ends) != 2 or not ends[0] < ends[1] or not 0 < 255 / (ends[1] - ends[0]) < math.inf:
                raise InputError(f"data.ranges.{name} must be [black, white], and rise, got {[*ends]}")
        for name, length in self.lengths.items():
            if length < 1:
                raise InputError(f"data.lengths.{name} must be at least 1 token, got {length}")
        for group in (self.shapes, self.ranges, self.lengths):
            for name in group:
                if name in CLASSES:
                    raise InputError(
                        f"data.shapes, data.ranges and data.lengths are for data sets of your own, not for {name}"
                    )

    def length(self, name: str) -> int:
        """Return the tokens of a sequence, where a data set is a stream of tokens."""
        return self.lengths.get(name, text.LENGTH)

    def stated(self, name: str) -> Stated:
        """Return what params say of a data set's file."""
        return Stated(self.shapes.get(name), self.ranges.get(name))


def fetch(
    name: str,
    out: Path,
    files: Mapping[str, str] = EMPTY,
    shapes: Mapping[str, tuple[int, ...]] = EMPTY,
    ranges: Mapping[str, tuple[float, ...]] = EMPTY,
    *,
    lengths: Mapping[str, int] = EMPTY,
) -> dict[str, Any]:
    """Find a data set, check it, write it to `out`, and return its source, SHA-256, counts and statistics.

    `files`, `shapes`, `ranges` and `lengths` are those of `DataSettings`. What was changed in a user's file is in
    `read_as`.

    Raises:
        InputError: an unknown name, a damaged file, or no source; the message says how to supply the files.
    """
    settings = DataSettings(dict(files), dict(shapes), dict(ranges), dict(lengths))
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gapscope-")))
        source, found, notes = _find(name, settings, scratch)
        dataset = load(found, name)
        whole = read_arrays(found)
        # always in this order, whatever that of the file: the order is part of the bytes, and so of the file's MD5
        arrays = {"classes": np.array(dataset.classes, np.int64), **{array: whole[array] for array in ARRAYS}}
    if isinstance(dataset, tabular.Table):
        arrays = tabular.arrays_of(dataset)
    digest = hashlib.sha256()
    for array in ARRAYS:
        digest.update(np.ascontiguousarray(arrays[array]).tobytes())
    with atomic_path(out) as temporary, temporary.open("wb") as handle:
        np.savez(handle, **arrays)  # type: ignore[arg-type]
    about = {"dataset": name, "source": source, "sha256": digest.hexdigest()}
    if isinstance(dataset, tabular.Table):
        return about | tabular.record(dataset)
    if isinstance(dataset, text.Text):
        return about | text.record(dataset) | ({"read_as": notes} if notes else {})
    mean, std = dataset.channel_statistics()
    return {
        **about,
        "train_images": len(dataset.y_train),
        "test_images": len(dataset.y_test),
        "image_shape": list(dataset.image_shape),
        "classes": dataset.classes,
        "channel_mean": mean.tolist(),
        "channel_std": std.tolist(),
        **({"targets": dataset.targets} if dataset.targets != "labels" else {}),
        **({"read_as": notes} if notes else {}),
    }


def _find(name: str, settings: DataSettings, scratch: Path) -> tuple[str, Path, list[str]]:
    """Return in words where a data set is from, its file, and what was changed in it."""
    if name in settings.files:
        own = Path(settings.files[name])
        if SOURCE.fullmatch(settings.files[name]) and not own.exists():
            made = functions.written(settings.files[name], name, scratch)
            return f"data.files ({settings.files[name]})", *_standard(made, name, settings, scratch)
        if not own.is_file():
            raise InputError(f"data.files gives {own} for {name}, but {_why_missing(own)}")
        return f"data.files ({own.name})", *_standard(own, name, settings, scratch)
    folder = os.environ.get("GAPSCOPE_DATA") or None
    if folder is not None:
        if not Path(folder).is_dir():
            raise InputError(f"GAPSCOPE_DATA={folder} is not a folder")
        own = Path(folder) / f"{name}.npz"
        if own.exists():
            return f"GAPSCOPE_DATA ({own.name})", *_standard(own, name, settings, scratch)
    subset = SUBSET.fullmatch(name)
    if subset:
        source, whole, notes = _find(subset["name"], settings, scratch)
        unit = "sequences" if subset["name"] == text.CORPUS else "images"
        path = _drawn(whole, subset["name"], int(subset["images"]), scratch / f"{name}.npz")
        return f"{subset['images']} training {unit} of {source}", path, notes
    if name in ("digits", "digits_segments", made_up.NAME, text.CORPUS, *tabular.BUNDLED):
        return *_bundled(name, scratch), []
    if name not in TORCHVISION:
        raise InputError(
            f"unknown dataset {name!r}; {did_you_mean(name, CLASSES)} Name a file of your own in data.files "
            f"(data: {{files: {{{name}: path/to/{name}.npz}}}}) or put it at $GAPSCOPE_DATA/{name}.npz"
        )
    return *_torchvision(name, folder, scratch), []


def _bundled(name: str, scratch: Path) -> tuple[str, Path]:
    """Return in words where a data set is from that comes with a dependency or is made up, and its file."""
    if name == "digits":
        words = "scikit-learn's bundled digits, 28 x 28, training part widened by one-pixel nudges"
        return words, _digits(scratch)
    if name == "digits_segments":
        words = (
            "scikit-learn's bundled digits, 28 x 28, with made-up labels: the lit segments of a seven-segment display"
        )
        return words, _segments(_digits(scratch), scratch)
    if name == made_up.NAME:
        return made_up.written(scratch)
    return text.corpus(scratch) if name == text.CORPUS else tabular.bundled(name, scratch)


def _standard(own: Path, name: str, settings: DataSettings, scratch: Path) -> tuple[Path, list[str]]:
    """Return a user's file, or a copy of it in the form of `datasets`, and what is changed there."""
    if own.exists() and not own.is_file():
        raise InputError(f"{own} is no regular file")
    found = read_arrays(own, "write it anew with numpy.savez")
    if tabular.is_table(found) and name not in settings.shapes:
        tabular.checked(own, name, found)
        return own, []
    if text.is_text(found) and name not in settings.shapes:
        return _sequences(own, name, found, settings.length(name), scratch)
    arrays, notes = standard(own, name, found, settings.stated(name))
    if not notes:
        return own, []
    checked(own, name, arrays)
    path = scratch / f"{name}.own.npz"
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path, notes


def _sequences(
    own: Path, name: str, found: Mapping[str, np.ndarray], length: int, scratch: Path
) -> tuple[Path, list[str]]:
    """Return a user's file of sequences, or a copy of one of streams, cut into sequences."""
    if not text.is_streams(found):
        text.checked(own, name, found)
        return own, []
    arrays = text.sequences(own, found, length)
    text.checked(own, name, arrays)
    path = scratch / f"{name}.own.npz"
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path, [f"streams of tokens, cut into sequences of {length}"]


def _why_missing(own: Path) -> str:
    if own.exists():
        return "that is no regular file"
    if ".dvc/tmp" in Path.cwd().as_posix():  # where DVC runs experiments that are queued, or run with --temp
        return (
            "DVC copies only files that git tracks to where it runs a queued experiment, or one with --temp: "
            f"git add {own}, or put it into a folder and set GAPSCOPE_DATA to that folder's whole path"
        )
    return "there is no such file"


def _drawn(whole: Path, name: str, images: int, path: Path) -> Path:
    found = load(whole, name)
    if not 1 <= images <= len(found.y_train):
        raise InputError(f"{name}_n{images}: {name} has {len(found.y_train)} training images")
    # the same images in every study, in the stored order: a file may be sorted, and its order is not part of the choice
    chosen = np.sort(np.random.default_rng(0).permutation(len(found.y_train))[:images])
    arrays = {array: of for array, of in read_arrays(whole).items() if array in (*ARRAYS, "standardise")}
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


def _segments(digits: Path, scratch: Path) -> Path:
    """Write digits with a set of labels in place of each class; return the file."""
    arrays = read_arrays(digits)
    lit = np.array([[segment in segments for segment in "abcdefg"] for segments in SEGMENTS], np.uint8)
    path = scratch / "digits_segments.npz"
    np.savez(path, **{name: lit[array] if name[0] == "y" else array for name, array in arrays.items()})  # type: ignore[arg-type]
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
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            raise
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
