"""Dead units and duplicate samples against what was planted."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gapscope.numerics.hosvd.exact_zeros import ExactZeros, exact_zeros


@given(
    shape=st.sampled_from([(12, 5), (12, 5, 3), (12, 5, 2, 2)]),
    dead=st.sets(st.integers(0, 4)),
    copied=st.dictionaries(st.integers(6, 11), st.integers(0, 5)),
    as_tensor=st.booleans(),
)
def test_what_was_planted_is_listed(
    shape: tuple[int, ...], dead: set[int], copied: dict[int, int], as_tensor: bool
) -> None:
    tensor = np.random.default_rng(0).standard_normal(shape)
    tensor[:, sorted(dead)] = 0
    for later, earlier in copied.items():
        tensor[later] = tensor[earlier]
    found = exact_zeros(torch.from_numpy(tensor).requires_grad_() if as_tensor else tensor)
    duplicates = list(range(1, 12)) if len(dead) == 5 else sorted(copied)
    assert found == ExactZeros(12, 5, sorted(dead), duplicates)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    tensor = np.random.default_rng(0).standard_normal((9, 4, 3)).clip(0)
    tensor[:8, 2] = 0  # dead but for the last sample
    tensor[7] = tensor[0]
    whole = exact_zeros(tensor)
    monkeypatch.setattr("gapscope.numerics.hosvd.exact_zeros.BLOCK", 1)
    assert exact_zeros(tensor) == whole == ExactZeros(9, 4, [], [7])


def test_minus_zero_is_zero_and_a_sum_of_zero_is_not() -> None:
    assert exact_zeros(np.array([[0.0, 1.0], [-0.0, 1.0]])) == ExactZeros(2, 2, [0], [1])
    assert exact_zeros(np.array([[1.0, 2.0], [-1.0, 2.0]])).dead_units == []
