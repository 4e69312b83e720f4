"""Text: sequences of tokens and, of each, the tokens that follow. One corpus comes with a dependency.

The corpus `sympy_source` is source text of SymPy, a dependency of PyTorch: all files of four of its packages but their
tests, as bytes. The wheel is the same on every machine, and a SHA-256 is checked. Every 24th file is the test set.

A user's `.npz` holds two streams of tokens, `train` and `test`, as uint8 or uint16. They are cut into sequences of
`data.lengths` tokens, without overlap; what is left at the end is dropped. Or it holds sequences (N, L) as x_train and
x_test, and in y_train and y_test what follows each token; `IGNORED` there counts in no loss and in no error.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from gapscope.data.datasets import ARRAYS, MOST_CLASSES, Dataset, declared_classes
from gapscope.errors import InputError

LENGTH = 128  # tokens of a sequence, unless `data.lengths` says otherwise
IGNORED = -100  # as a target: counts nowhere; PyTorch's ignore_index
BYTES = 256
CORPUS, DISTRIBUTION, VERSION = "sympy_source", "sympy", "1.14.0"
PACKAGES = ("core", "functions", "polys", "solvers")
LEFT_OUT = ("/tests/", "/benchmarks/")
TEST_EVERY = 24  # files
SHA256 = "715be9af2312a51d2f6ad160ab9ad76702f4e24bd070f0baa9b075b3ae29d6f4"  # of the files, one after the other
Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Text(Dataset):
    """Checked arrays: tokens (N, L) in uint8 or int32, and the tokens that follow (N, L) in int32, or `IGNORED`."""

    @property
    def targets(self) -> str:
        """What y is: "tokens"."""
        return "tokens"

    @property
    def image_shape(self) -> tuple[int, ...]:
        """The length of a sequence: the shape of one example, in the place of an image's."""
        return self.x_train.shape[1:]

    def channel_statistics(self) -> tuple[np.ndarray, np.ndarray]:
        """Return 0 and 1: tokens are not normalised."""
        return np.zeros(1), np.ones(1)


def is_text(arrays: Arrays) -> bool:
    """Return whether arrays are streams of tokens, or sequences with the tokens that follow."""
    if is_streams(arrays) or not {"x_train", "y_train"} <= set(arrays):
        return is_streams(arrays)
    x, y = arrays["x_train"], arrays["y_train"]
    return x.ndim == 2 and x.shape == y.shape and x.shape[1] > 1 and {x.dtype.kind, y.dtype.kind} <= {*"ui"}


def is_streams(arrays: Arrays) -> bool:
    """Return whether arrays are streams of tokens, one for each split."""
    return {"train", "test"} <= set(arrays) and not {*ARRAYS} & set(arrays)


def sequences(path: Path, arrays: Arrays, length: int) -> dict[str, np.ndarray]:
    """Cut streams of tokens into sequences without overlap, each with the tokens that follow.

    Args:
        path: of the file, for messages.
        arrays: `train` and `test`, and perhaps `classes`, the number of different tokens.
        length: tokens of a sequence.

    Raises:
        InputError: streams of another type or shape, or one that is too short.

    Example:
        >>> sequences(Path("t.npz"), {"train": np.arange(6, dtype=np.uint8), "test": ...}, 2)["y_train"].tolist()
        [[1, 2], [3, 4]]
    """
    found = {name: arrays[name] for name in ("classes",) if name in arrays}
    for split in ("train", "test"):
        stream = arrays[split]
        if stream.ndim != 1 or stream.dtype not in (np.uint8, np.uint16):
            raise InputError(
                f"{path}: {split} must be one stream of tokens, uint8 or uint16, got {stream.dtype} of shape "
                f"{stream.shape}; write it with numpy.savez(path, train=..., test=...)"
            )
        count = (len(stream) - 1) // length
        if count < 1:
            raise InputError(
                f"{path}: {split} has {len(stream)} tokens, too few for one sequence of {length} and the token after "
                "it; set data.lengths"
            )
        found[f"x_{split}"] = stream[: count * length].reshape(count, length)
        found[f"y_{split}"] = stream[1 : count * length + 1].reshape(count, length).astype(np.int32)
    return found


def checked(path: Path, name: str, arrays: Arrays) -> Text:
    """Return a text of these arrays.

    Raises:
        InputError: wrong shapes or types, tokens out of range, no target that counts; the message names `path`.
    """
    if missing := [array for array in ARRAYS if array not in arrays]:
        raise InputError(f"{path} lacks the arrays {', '.join(missing)}; it has {', '.join(arrays)}")
    length = arrays["x_train"].shape[1]
    for split in ("train", "test"):
        x, y = arrays[f"x_{split}"], arrays[f"y_{split}"]
        if x.shape != (len(x), length) or x.shape != y.shape or not x.size or {x.dtype.kind, y.dtype.kind} - {*"ui"}:
            raise InputError(
                f"{path}: x_{split} and y_{split} must hold whole numbers of one shape (N, {length}), as x_train does, "
                f"got {x.dtype} of shape {x.shape} and {y.dtype} of shape {y.shape}"
            )
        if not (y != IGNORED).any():
            raise InputError(f"{path}: all of y_{split} is {IGNORED}, which counts nowhere: nothing can be learned")
    counted = [arrays[name] if name[0] == "x" else arrays[name][arrays[name] != IGNORED] for name in ARRAYS]
    least, largest = min(int(of.min()) for of in counted), max(int(of.max()) for of in counted)
    in_bytes = BYTES if arrays["x_train"].dtype == np.uint8 else largest + 1
    declared = declared_classes(path, arrays)
    classes = declared if declared is not None else min(in_bytes, MOST_CLASSES)
    if least < 0 or largest >= classes:
        raise InputError(
            f"{path}: tokens must lie in 0..{classes - 1} ({IGNORED} in y counts nowhere), found {least}..{largest}"
        )
    kind = np.uint8 if classes <= BYTES else np.int32
    inputs, targets = (
        {name: arrays[name].astype(of) for name in ARRAYS if name[0] == axis}
        for axis, of in (("x", kind), ("y", np.int32))
    )
    return Text(name, classes, **inputs, **targets)


def record(text: Text) -> dict[str, Any]:
    """Return what the data set's record says of a text, beside its source and hash."""
    return {
        "train_images": len(text.y_train),  # sequences: the names of all data sets' records
        "test_images": len(text.y_test),
        "image_shape": list(text.image_shape),
        "classes": text.classes,
        "targets": text.targets,
        "train_tokens": int((text.y_train != IGNORED).sum()),
        "test_tokens": int((text.y_test != IGNORED).sum()),
        "bigram_cross_entropy": bigram_baseline((text.x_train, text.y_train), (text.x_test, text.y_test)),
    }


def unigram(targets: np.ndarray, classes: int) -> np.ndarray:
    """Return the share of each token among the targets that count, each counted once more than it occurs (Laplace)."""
    counts = np.bincount(targets[targets != IGNORED], minlength=classes) + 1.0
    return np.asarray(counts / counts.sum())


def bigram_baseline(training: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray]) -> float:
    """Return `bigram_cross_entropy` over the tokens up to the largest one that occurs."""
    return bigram_cross_entropy(training, test, 1 + max(int(array.max()) for array in (*training, *test)))


def bigram_cross_entropy(
    training: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray], classes: int
) -> float:
    """Return the mean cross-entropy, in nats per token, of a model that looks at the token before alone.

    Its probabilities are counts in the training set, smoothed as by Witten & Bell 1991 (method C): a token a that n
    tokens and T different ones follow gives b the probability (c(a, b) + T unigram(b)) / (n + T).

    Args:
        training: tokens and the tokens that follow, both of one shape.
        test: the same, whose cross-entropy it is.
        classes: number of different tokens.
    """
    before, after = (of.reshape(-1).astype(np.int64) for of in training)
    counted = after != IGNORED
    pairs, counts = np.unique(before[counted] * classes + after[counted], return_counts=True)
    total = np.bincount(pairs // classes, weights=counts, minlength=classes)
    different = np.bincount(pairs // classes, minlength=classes)
    before, after = (of.reshape(-1).astype(np.int64) for of in test)
    before, after = before[after != IGNORED], after[after != IGNORED]
    wanted = before * classes + after
    place = np.minimum(np.searchsorted(pairs, wanted), len(pairs) - 1)
    seen = np.where(pairs[place] == wanted, counts[place], 0)
    first = unigram(training[1], classes)[after]
    known = np.maximum(total[before] + different[before], 1)
    chance = np.where(total[before] > 0, (seen + different[before] * first) / known, first)
    return float(-np.log(chance).mean())


def corpus(scratch: Path) -> tuple[str, Path]:
    """Write the corpus as sequences of `LENGTH` bytes; return its source in words, and its file.

    Raises:
        InputError: SymPy is not there, or its text is another one.
    """
    remedy = (
        f"install {DISTRIBUTION}=={VERSION}, or bring tokens of your own: data: {{files: {{NAME: path/to/NAME.npz}}}}"
    )
    try:
        installed = metadata.distribution(DISTRIBUTION)
    except metadata.PackageNotFoundError as error:
        raise InputError(f"{CORPUS} is source text of {DISTRIBUTION}, which is not installed: {remedy}") from error
    folders = tuple(f"{DISTRIBUTION}/{package}/" for package in PACKAGES)
    names = sorted(
        name for name in map(str, installed.files or ())
        if name.startswith(folders) and name.endswith(".py") and not any(part in name for part in LEFT_OUT)
    )  # fmt: skip
    texts = [Path(str(installed.locate_file(name))).read_bytes() for name in names]
    digest = hashlib.sha256(b"".join(texts)).hexdigest()
    if digest != SHA256:
        raise InputError(
            f"{CORPUS}: the text of {DISTRIBUTION} {installed.version} has SHA-256 {digest[:12]}..., and {VERSION} has "
            f"{SHA256[:12]}...: {remedy}"
        )
    streams = {
        split: np.frombuffer(b"".join(of), np.uint8)
        for split, of in (
            ("train", [text for place, text in enumerate(texts, 1) if place % TEST_EVERY]),
            ("test", texts[TEST_EVERY - 1 :: TEST_EVERY]),
        )
    }
    path = scratch / f"{CORPUS}.npz"
    np.savez(path, **sequences(path, streams, LENGTH))  # type: ignore[arg-type]
    return f"source text of {DISTRIBUTION} {VERSION}, {len(names)} files, SHA-256 checked", path
