"""Weights: a safetensors file, whose header says which network it holds."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from gapscope.errors import InputError
from gapscope.records.files import atomic_path

AS_TRAINED = "as_trained."  # prefix of batch norm's running statistics as training left them


def write_weights(
    path: Path,
    state: Mapping[str, Tensor],
    as_trained: Mapping[str, Tensor],
    header: Mapping[str, Any],
) -> None:
    """Write a network's state, the statistics of batch norm as training left them, and a header."""
    tensors = {
        **state,
        **{AS_TRAINED + name: tensor for name, tensor in as_trained.items()},
    }
    with atomic_path(path) as temporary:
        try:
            save_file(
                {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
                temporary,
                metadata={"gapscope": json.dumps(header)},
            )
        except SafetensorError as error:
            raise OSError(f"{path}: {error}") from error


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the state, with the re-estimated statistics of batch norm, and the header.

    Raises:
        InputError: the file is missing, damaged, or was not written by gapscope.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["gapscope"])
            state = {
                name: file.get_tensor(name)
                for name in file.keys()  # noqa: SIM118
                if not name.startswith(AS_TRAINED)
            }
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing: run the train stage, or `dvc pull` where there is a remote") from error
    except (SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise InputError(f"{path} is not a complete weights file ({error}); remove it and train again") from error
    return state, header
