"""Data that a user's own function returns, as tensors, arrays or a Dataset; and what else it may return."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from gapscope.data import datasets, sources, tabular
from gapscope.errors import InputError

DRAW = np.random.default_rng(0)
X, Y = DRAW.normal(size=(9, 2)).astype(np.float32), np.arange(9) % 3
PIXELS = DRAW.integers(0, 256, (9, 4, 5), np.uint8)


def tensors() -> tuple[tuple[torch.Tensor, torch.Tensor], ...]:
    both = torch.from_numpy(X), torch.from_numpy(Y)
    return both, both


def arrays() -> list[tuple[np.ndarray, list[int]]]:
    return [(X, Y.tolist()), (X, Y.tolist())]


def of_torch() -> tuple[TensorDataset, TensorDataset]:
    both = TensorDataset(*(torch.from_numpy(values) for values in (PIXELS, Y)))
    return both, both


def fails() -> None:
    raise KeyError("no disk")


def one_set() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return X, Y, X


def text() -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    return (X, np.array(["a"] * 9)), (X, np.array(["a"] * 9))


SOME = 3


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "made_up_data", sys.modules[__name__])


def fetched(function: str, folder: Path) -> tuple[datasets.Dataset, dict[str, str]]:
    record = sources.fetch("mine", folder / "mine.npz", {"mine": f"made_up_data:{function}"})
    return datasets.load(folder / "mine.npz"), json.loads(json.dumps(record))


@pytest.mark.parametrize("function", ["tensors", "arrays"])
def test_a_table_of_a_function_is_that_of_a_file(function: str, tmp_path: Path) -> None:
    found, record = fetched(function, tmp_path)
    assert isinstance(found, tabular.Table)
    np.testing.assert_array_equal(found.x_train, X)
    assert found.y_test.tolist() == Y.tolist()
    assert record["source"] == f"data.files (made_up_data:{function})"
    np.savez(tmp_path / "file.npz", x_train=X, y_train=Y, x_test=X, y_test=Y)
    of_file = sources.fetch("mine", tmp_path / "again.npz", {"mine": str(tmp_path / "file.npz")})
    assert record["sha256"] == of_file["sha256"]
    assert (tmp_path / "again.npz").read_bytes() == (tmp_path / "mine.npz").read_bytes()


def test_a_dataset_gives_its_examples_in_order(tmp_path: Path) -> None:
    found, _ = fetched("of_torch", tmp_path)
    np.testing.assert_array_equal(found.x_train, PIXELS[:, None])
    assert found.y_train.tolist() == Y.tolist()


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("nothing", "cannot be imported"),
        ("SOME", "is a int, not a function"),
        ("fails", r"must return a training and a test set.*no disk.*test_functions.py, line"),
        ("one_set", "must return a training and a test set"),
        ("text", "not of numbers"),
    ],
)
def test_what_is_no_data_set_is_refused_in_one_line(function: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said) as raised:
        fetched(function, tmp_path)
    assert "\n" not in str(raised.value)
