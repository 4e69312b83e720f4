"""Checkpoints of a training run: one safetensors file, which is replaced as a whole. That of another run is refused.

They are no outputs of a DVC stage, because DVC removes outputs before a stage runs.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from gapscope.records.tensors import storable, write_tensors


@dataclass(frozen=True)
class Checkpoint:
    """The file that keeps a run's state.

    Attributes:
        path: of the file.
        identity: all that determines the run's bits, as a JSON object; a checkpoint with another identity is refused.
        every: epochs between checkpoints.
    """

    path: Path
    identity: Mapping[str, Any]
    every: int

    def save(self, tensors: Mapping[str, Tensor], progress: Mapping[str, Any]) -> None:
        """Replace the file, atomically and with fsync; `progress` is a JSON object."""
        header = json.dumps({"identity": self.identity, "progress": progress})
        plain = storable(tensors)
        write_tensors(self.path, plain, {"checkpoint": header, "sha256": content_digest(plain, header)})

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Return the saved tensors and progress; None if there are none, or none of this run (it prints why)."""
        if not self.path.exists():
            return None
        try:
            with safe_open(self.path, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            header = json.loads(metadata["checkpoint"])
            if metadata["sha256"] != content_digest(tensors, metadata["checkpoint"]):
                raise SafetensorError("its content has another checksum than when it was written")
        except (SafetensorError, KeyError, json.JSONDecodeError) as error:
            print(f"checkpoint {self.path} is damaged ({error}): training starts afresh", flush=True)
            return None
        if changed := _differences(header["identity"], json.loads(json.dumps(self.identity))):
            print(f"checkpoint {self.path} belongs to another run ({changed}): training starts afresh", flush=True)
            return None
        return tensors, header["progress"]

    @property
    def sweep(self) -> "Checkpoint":
        """The file that keeps the same run's results of choosing a learning rate."""
        return replace(self, path=self.path.with_suffix(f".sweep{self.path.suffix}"))

    def remove(self) -> None:
        """Remove the file, and the sweep's, once the run's outputs are written."""
        self.path.unlink(missing_ok=True)
        self.sweep.path.unlink(missing_ok=True)


def content_digest(tensors: Mapping[str, Tensor], header: str) -> str:
    """Return the SHA-256 of a header and of tensors: their names, types, shapes and bytes.

    Args:
        tensors: any shapes and types, on the CPU and contiguous.
        header: text.
    """
    digest = hashlib.sha256(header.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def code_digest(own: Path) -> str:
    """Return a hash of a user's own models, for a run's identity.

    Args:
        own: file or folder of the models.
    """
    files = sorted(own.rglob("*.py")) if own.is_dir() else [own]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files if file.is_file())).hexdigest()


def _differences(saved: Any, wanted: Any, name: str = "") -> str:
    if isinstance(saved, dict) and isinstance(wanted, dict):
        parts = (
            _differences(saved.get(key), wanted.get(key), f"{name}.{key}" if name else key)
            for key in dict.fromkeys([*saved, *wanted])
        )
        return ", ".join(part for part in parts if part)
    return "" if saved == wanted else f"{name} was {saved}, is now {wanted}"
