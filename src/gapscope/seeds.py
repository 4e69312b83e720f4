"""One root seed, many named streams: the only module that seeds a generator.

A stream is named by words and whole numbers, e.g. `(seed, "order", epoch)`. Streams do not depend on the batch size,
so two batch sizes with one seed share their initial weights and their order of the data.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def stream_seed(*names: str | int) -> int:
    """Return a 63-bit seed for the stream of that name; equal names give equal seeds on every machine."""
    digest = hashlib.sha256("/".join(map(str, names)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(*names: str | int) -> torch.Generator:
    """Return a CPU generator at the start of the named stream."""
    return torch.Generator().manual_seed(stream_seed(*names))


@contextmanager
def kept() -> Iterator[None]:
    """Restore torch's global generators, of the CPU and of GPUs in use, after the block."""
    with torch.random.fork_rng(range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()):
        yield


def reseed(*names: str | int) -> None:
    """Put torch's global generators at the start of the named stream."""
    torch.default_generator.manual_seed(stream_seed(*names))
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(stream_seed(*names))


@contextmanager
def seeded(*names: str | int) -> Iterator[None]:
    """Seed torch's global generators within the block, and restore them after.

    For what takes no generator: modules that draw on creation, dropout.
    """
    with kept():
        reseed(*names)
        yield
