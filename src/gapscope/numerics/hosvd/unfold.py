"""Unfoldings of a tensor as float64 blocks, so that neither the float64 tensor nor an unfolding is whole in memory."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from torch import Tensor

BLOCK = 2**20  # values read at a time: 8 MB in float64, which mostly stay in the cache while the modes use them
COLUMNS = 512  # least columns of a block: with fewer, updating a large Gram matrix waits for memory


@dataclass(frozen=True)
class Unfolding:
    """Mode-n unfolding of a tensor, or its transpose: the one with fewer rows. Both have the same singular values.

    Attributes:
        tensor: a torch tensor, a numpy array or a memory map.
        mode: n, from 0.
        device: of the blocks.
    """

    tensor: Tensor | np.ndarray
    mode: int
    device: torch.device

    @property
    def wide(self) -> bool:
        """Whether the unfolding has at most as many rows as columns, and so is not transposed."""
        return self.tensor.shape[self.mode] ** 2 <= math.prod(self.tensor.shape)

    @property
    def rows(self) -> int:
        """Length of the shorter side: the number of singular values."""
        side = int(self.tensor.shape[self.mode])
        return side if self.wide else math.prod(self.tensor.shape) // side

    @property
    def free(self) -> tuple[int, ...]:
        """Axes along which the tensor can be cut so that each block has complete columns."""
        others = tuple(axis for axis in range(len(self.tensor.shape)) if axis != self.mode)
        return others if self.wide else (self.mode,)

    def matrix(self, box: Tensor) -> Tensor:
        """Return the columns (rows, k) in a box of the tensor."""
        unfolded = box.movedim(self.mode, 0).reshape(box.shape[self.mode], -1)
        return unfolded if self.wide else unfolded.T

    def blocks(self, columns: int = COLUMNS) -> Iterator[Tensor]:
        """Yield the columns in blocks (rows, k), the same ones at every call; k is about `columns` or more."""
        values = max(BLOCK, columns * self.rows)
        for box in _boxes(self.tensor, self.free, values, self.device):
            yield self.matrix(box)


def shared_blocks(unfoldings: Sequence[Unfolding]) -> Iterator[tuple[int, Tensor]]:
    """Yield (index, block) of all unfoldings of a tensor. Those cut along the first axis share one pass over it."""
    shape = unfoldings[0].tensor.shape
    each = math.prod(shape[1:])
    together = [index for index, unfolding in enumerate(unfoldings) if 0 in unfolding.free and each <= BLOCK]
    if together:
        values = max(BLOCK, *(COLUMNS * unfoldings[index].rows for index in together))
        for box in _boxes(unfoldings[0].tensor, (0,), values, unfoldings[0].device):
            yield from ((index, unfoldings[index].matrix(box)) for index in together)
    for index in set(range(len(unfoldings))) - set(together):
        yield from ((index, block) for block in unfoldings[index].blocks())


def _boxes(tensor: Tensor | np.ndarray, free: Sequence[int], values: int, device: torch.device) -> Iterator[Tensor]:
    shape = [int(side) for side in tensor.shape]
    steps = list(shape)
    for axis in free:  # the first free axis is cut first, because its slabs are contiguous
        steps[axis] = max(1, min(shape[axis], values * steps[axis] // math.prod(steps)))
    cuts = ([slice(start, start + step) for start in range(0, side, step)] for side, step in zip(shape, steps))
    for index in product(*cuts):
        piece = tensor[index]
        if isinstance(piece, Tensor):
            yield piece.detach().to(device, torch.float64).contiguous()
        else:
            yield torch.from_numpy(np.array(piece, dtype=np.float64, order="C")).to(device)
