"""Dead units and duplicate samples: two sources of exact zeros among singular values, besides the shape.

A unit that is zero for every sample is a row of zeros in its mode's unfolding. Two samples with the same outputs, bit
for bit, are two equal rows in the samples' mode. Each lowers the rank by one.
"""

import hashlib
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

BLOCK = 2**22  # values read at a time


@dataclass(frozen=True)
class ExactZeros:
    """Dead units and duplicate samples of one layer over one batch.

    Attributes:
        samples, units: sizes of the first two axes.
        dead_units: indices along axis 1 (channels, or units of a dense layer) that are zero for every sample.
        duplicate_samples: indices along axis 0 whose outputs equal those of an earlier sample.
    """

    samples: int
    units: int
    dead_units: list[int]
    duplicate_samples: list[int]


def exact_zeros(tensor: Tensor | np.ndarray) -> ExactZeros:
    """Return the dead units and duplicate samples of activations (b, units, ...), read in blocks of samples.

    Example:
        >>> exact_zeros(np.array([[1.0, 0.0], [2.0, 0.0], [1.0, 0.0]]))
        ExactZeros(samples=3, units=2, dead_units=[1], duplicate_samples=[2])
    """
    samples, units, *rest = map(int, tensor.shape)
    alive = np.zeros(units, dtype=bool)
    seen: set[bytes] = set()
    duplicates = []
    step = max(1, BLOCK // (units * math.prod(rest)))
    for start in range(0, samples, step):
        piece = tensor[start : start + step]
        # -0.0 + 0.0 is 0.0: equal values, equal bytes
        block = (piece.detach().cpu().numpy() if isinstance(piece, torch.Tensor) else np.asarray(piece)) + 0
        alive |= block.reshape(len(block), units, -1).any(axis=(0, 2))
        for index, sample in enumerate(np.ascontiguousarray(block), start):
            digest = hashlib.blake2b(sample.tobytes(), digest_size=16).digest()
            if digest in seen:
                duplicates.append(index)
            seen.add(digest)
    return ExactZeros(samples, units, np.flatnonzero(~alive).tolist(), duplicates)
