"""Means of a stream of vectors over 1, 2, 4, ... consecutive ones, in one pass and few vectors of memory."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Node:
    """The mean (P,) of `count` consecutive vectors of a stream, from number `start` on."""

    start: int
    count: int
    mean: Tensor


class BinaryCounter:
    """Means of 1, 2, 4, ... consecutive vectors of a stream; it holds one vector for each binary digit of their number.

    Example:
        >>> counter = BinaryCounter()
        >>> [[float(node.mean) for node in counter.add(torch.tensor(x))] for x in (1.0, 3.0, 8.0)]
        [[1.0], [3.0, 2.0], [8.0]]
        >>> float(counter.joined().mean), float(counter.scatter())  # of all: (1 + 3 + 8) / 3 and 9 + 1 + 16
        (4.0, 26.0)
    """

    def __init__(self) -> None:
        self.count = 0
        self._pending: list[Node] = []  # of falling counts, powers of two
        self._scatter: Tensor | None = None

    def add(self, vector: Tensor) -> list[Node]:
        """Add a vector; return the nodes that it completes, of 1, 2, 4, ... vectors."""
        if self._scatter is None:
            self._scatter = torch.zeros_like(vector)
        made = [Node(self.count, 1, vector)]
        self.count += 1
        while self._pending and self._pending[-1].count == made[-1].count:
            made.append(_join(self._pending.pop(), made[-1], self._scatter))
        self._pending.append(made[-1])
        return made

    def joined(self) -> Node:
        """Return the mean of all vectors so far."""
        return self._join_all(None)

    def scatter(self) -> Tensor:
        """Return the sum of (vector - mean)^2 over all vectors so far (P,), from differences of means alone.

        It is exactly 0 where all vectors are equal, and loses no digits where they are nearly so (Chan et al. 1979).
        """
        assert self._scatter is not None, "no vector was added"
        scatter = self._scatter.clone()
        self._join_all(scatter)
        return scatter

    def _join_all(self, scatter: Tensor | None) -> Node:
        *earlier, node = self._pending
        for before in reversed(earlier):
            node = _join(before, node, scatter)
        return node


def _join(one: Node, other: Node, scatter: Tensor | None) -> Node:
    count = one.count + other.count
    step = other.mean - one.mean
    if scatter is not None:
        scatter.addcmul_(step, step, value=one.count * other.count / count)
    return Node(one.start, count, one.mean + step * (other.count / count))
