"""Files of tensors: safetensors files of our own, and .npy (memory-mapped), .npz and .safetensors of other programs."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from gapscope.errors import InputError, reading
from gapscope.records.files import atomic_path
from gapscope.records.integrity import check_written

OS_ERROR = re.compile(r"os error (\d+)")  # its number, in safetensors' message
BUFFER = 2**22  # bytes, more than safetensors' own buffer; where it gets none, it aborts the process


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


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file atomically; the tensors as `storable` returns them.

    Raises:
        OSError: it cannot be written, as on a full disk.
        MemoryError: there is no room for a buffer.
    """
    with atomic_path(path) as temporary:
        bytearray(BUFFER)
        try:
            save_file(dict(tensors), temporary, metadata=metadata)
        except SafetensorError as error:
            number = OS_ERROR.search(str(error))
            raise OSError(int(number[1]) if number else 0, str(error), str(path)) from error


def copy_tensors(saved: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """Copy saved tensors into a run's own ones of the same names, in place.

    Raises:
        ValueError: other names, or another shape or type, which `copy_` might broadcast or cast.
    """
    if other := difference(saved, own):
        raise ValueError(other)
    for name, tensor in own.items():
        tensor.copy_(saved[name])


def difference(saved: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> str:
    """Return in words the first difference in names, shapes or types of tensors; empty if there is none."""
    if other := sorted(saved.keys() ^ own.keys()):
        return f"{'no' if other[0] in own else 'an unknown'} tensor {other[0]}"
    for name, tensor in own.items():
        held, wanted = (f"{tuple(of.shape)} of {of.dtype}" for of in (saved[name], tensor))
        if held != wanted:
            return f"{name} is {held}, not {wanted}"
    return ""


def read_tensors(path: Path) -> Iterator[tuple[str, Tensor | np.ndarray]]:
    """Yield (name, tensor) for each tensor of a file, with one of them in memory at a time.

    Raises:
        InputError: the file is missing, damaged, of another kind, not what its stage wrote, or holds Python objects.
    """
    if path.suffix not in (".npy", ".npz", ".safetensors"):
        raise InputError(f"{path} must end in .npy, .npz or .safetensors")
    check_written(path)
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
