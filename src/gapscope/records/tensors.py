"""Tensors of other programs: .npy (memory-mapped), .npz and .safetensors."""

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from torch import Tensor

from gapscope.errors import InputError


def read_tensors(path: Path) -> Iterator[tuple[str, Tensor | np.ndarray]]:
    """Yield (name, tensor) for each tensor of a file, with one of them in memory at a time.

    Raises:
        InputError: the file is missing, damaged, of another kind, or holds Python objects.
    """
    if path.suffix not in (".npy", ".npz", ".safetensors"):
        raise InputError(f"{path} must end in .npy, .npz or .safetensors")
    try:
        if path.suffix == ".npy":
            yield path.stem, np.load(path, mmap_mode="r", allow_pickle=False)
        elif path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                for name in file.files:
                    yield name, file[name]
        else:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118
                    yield name, file.get_tensor(name)
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing") from error
    except (ValueError, EOFError, OSError, zipfile.BadZipFile, SafetensorError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
