"""Tensors of other programs: .npy (memory-mapped), .npz and .safetensors."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from safetensors import safe_open
from torch import Tensor

from gapscope.errors import InputError, reading


def storable(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors as safetensors takes them: on the CPU, contiguous, each with memory of its own.

    Weights that a network shares, under two names, are written under both, and loaded into one tensor again.
    """
    found: dict[str, Tensor] = {}
    held: set[int] = set()
    for name, tensor in tensors.items():
        plain = tensor.detach().cpu().contiguous()
        place = plain.untyped_storage().data_ptr()
        found[name] = plain.clone() if place in held else plain
        held.add(place)
    return found


def read_tensors(path: Path) -> Iterator[tuple[str, Tensor | np.ndarray]]:
    """Yield (name, tensor) for each tensor of a file, with one of them in memory at a time.

    Raises:
        InputError: the file is missing, damaged, of another kind, or holds Python objects.
    """
    if path.suffix not in (".npy", ".npz", ".safetensors"):
        raise InputError(f"{path} must end in .npy, .npz or .safetensors")
    with reading(path, "a readable file of tensors", "write it anew, with plain arrays"):
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
