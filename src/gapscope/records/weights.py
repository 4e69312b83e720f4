"""Weights: a safetensors file, whose header says which network it holds."""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

from gapscope.config import LARGEST
from gapscope.errors import InputError, reading
from gapscope.records.integrity import check_written
from gapscope.records.tables import Record
from gapscope.records.tensors import storable, write_tensors

STATUSES = ("ok", "diverged")
WHOLE_NUMBERS = {"batch_size", "epochs", "seed"}
AS_TRAINED = "as_trained."  # prefix of batch norm's running statistics as training left them


def write_weights(
    path: Path,
    state: Mapping[str, Tensor],
    as_trained: Mapping[str, Tensor],
    header: Mapping[str, Any],
) -> None:
    """Write a network's state, the statistics of batch norm as training left them, and a header."""
    tensors = {**state, **{AS_TRAINED + name: tensor for name, tensor in as_trained.items()}}
    write_tensors(path, storable(tensors), {"gapscope": json.dumps(header)})


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the state, with the re-estimated statistics of batch norm, and the header.

    Raises:
        InputError: the file is missing, damaged, not what its stage wrote, or not written by gapscope.
    """
    check_written(path)
    missing = "run the train stage, or `dvc pull` where there is a remote"
    with (
        reading(path, "a complete weights file", "remove it and train again", missing),
        safe_open(path, framework="pt") as file,
    ):
        header = json.loads((file.metadata() or {})["gapscope"], object_hook=partial(Record, path))
        if not isinstance(header, dict):
            raise InputError(f"{path} has no header of a network; remove it and train again")
        for name in WHOLE_NUMBERS & header.keys():
            if type(header[name]) is not int or abs(header[name]) > LARGEST:
                raise InputError(f"{path} names {header[name]!r} as its {name}; remove it and train again")
        if header.get("status", "ok") not in STATUSES:
            raise InputError(f"{path} names {header['status']!r} as its status; remove it and train again")
        names = [name for name in file.keys() if not name.startswith(AS_TRAINED)]  # noqa: SIM118
        return {name: file.get_tensor(name) for name in names}, header
