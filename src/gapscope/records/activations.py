"""Activations: a folder with one .npy file per layer, memory-mapped, so that a layer may be larger than memory."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from gapscope.errors import InputError, reading
from gapscope.records.files import atomic_path, reserve
from gapscope.records.tables import read_record, write_record

INDEX = "index.json"
OpenLayer = Callable[[str, str, tuple[int, ...]], np.ndarray]


@contextmanager
def write_activations(folder: Path, header: dict[str, Any]) -> Iterator[OpenLayer]:
    """Yield a function (sample, layer, shape) -> float64 array on disk to fill; the folder appears when the block ends.

    Args:
        folder: to write.
        header: the run's status and conditions, for the folder's index.

    Raises:
        InputError: the folder holds something else.
        OSError: there is no room for an array; nothing is left behind.
    """
    layers: list[dict[str, Any]] = []
    if folder.is_dir() and any(folder.iterdir()) and not (folder / INDEX).exists():
        raise InputError(f"{folder} holds files that are no activations; choose another folder")
    with atomic_path(folder, folder=True) as temporary:
        temporary.mkdir()

        def open_layer(sample: str, layer: str, shape: tuple[int, ...]) -> np.ndarray:
            file = f"{sample}.{len(layers):03d}.{layer}.npy"
            layers.append({"sample": sample, "layer": layer, "file": file})
            array = np.lib.format.open_memmap(temporary / file, mode="w+", dtype=np.float64, shape=shape)
            with (temporary / file).open("r+b") as handle:
                reserve(handle.fileno(), os.fstat(handle.fileno()).st_size)
            return array

        yield open_layer
        write_record(temporary / INDEX, {**header, "layers": layers})


def read_activations(folder: Path) -> tuple[dict[str, Any], list[tuple[str, str, np.ndarray]]]:
    """Return the header and (sample, layer, read-only memory-mapped array with the batch axis first) for each layer.

    Raises:
        InputError: the folder or a file in it is missing or truncated, or the folder is not what its stage wrote.
    """
    header = read_record(folder / INDEX)  # it checks the whole folder, which is one output
    entries = header.pop("layers", None)
    if not isinstance(entries, list) or not all(map(_is_layer, entries)):
        raise InputError(f"{folder / INDEX} is not an index of layers; run the activations stage again")
    layers = []
    for entry in entries:
        path = folder / entry["file"]
        with reading(path, "a complete array", "run the activations stage again"):
            array = np.load(path, mmap_mode="r", allow_pickle=False)
            if array.dtype != np.float64 or array.ndim < 2 or not array.size:
                raise ValueError(f"it holds {array.dtype} of shape {array.shape}")
            layers.append((entry["sample"], entry["layer"], array))
    return header, layers


def _is_layer(entry: Any) -> bool:
    """Whether an entry of an index describes a layer, whose file is in the index's own folder."""
    texts = isinstance(entry, dict) and all(isinstance(entry.get(name), str) for name in ("sample", "layer", "file"))
    return texts and Path(entry["file"]).name == entry["file"]
