"""Several processes that train one network: `torchrun` starts them, DistributedDataParallel averages their gradients.

A global batch is split over the ranks, unevenly if necessary. Each rank's loss is the sum over its part, times the
number of ranks, divided by the size of the global batch. The mean over ranks that DistributedDataParallel takes is then
the gradient that a single rank computes from the whole batch. Batch norm takes its statistics over the global batch.
"""

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from gapscope.errors import InputError, StoppedError
from gapscope.models import batch_norms

T = TypeVar("T")
GONE = re.compile("[Cc]onnection (closed by peer|reset by peer|refused)|Broken pipe")  # in gloo's messages
GOES_ON = "goes on from its last checkpoint, with the same bits"


@dataclass(frozen=True)
class Ranks:
    """This process, and how many processes train together."""

    rank: int = 0
    world: int = 1

    @property
    def writes(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def own_part(self, index: Tensor) -> Tensor:
        """Return this rank's part of a global batch."""
        return index if self.world == 1 else index.tensor_split(self.world)[self.rank]

    def wrap(self, model: nn.Module) -> nn.Module:
        """Return the model to call in training; its gradients are means over the ranks."""
        if self.world == 1:
            return model
        device = next(model.parameters()).device
        return DistributedDataParallel(model, device_ids=[device] if device.type == "cuda" else None)

    def unwrapped(self, model: nn.Module) -> nn.Module:
        """Return the model that `wrap` was given."""
        return model.module if isinstance(model, DistributedDataParallel) else model

    def no_sync(self, wrapped: nn.Module) -> AbstractContextManager[None]:
        """Return a context without averaging over ranks, for all micro-batches except the last."""
        return wrapped.no_sync() if isinstance(wrapped, DistributedDataParallel) else nullcontext()  # type: ignore[no-any-return, operator]

    def any(self, flag: bool, device: str) -> bool:
        """Return whether the flag is set on any rank."""
        if self.world == 1:
            return flag
        votes = torch.tensor(int(flag), device=device)
        torch.distributed.all_reduce(votes)
        return bool(votes)

    def total(self, values: Tensor) -> Tensor:
        """Return the sum of a tensor over the ranks; it may be changed."""
        if self.world > 1:
            torch.distributed.all_reduce(values)
        return values

    def of_all(self, own: Tensor, index: Tensor) -> Tensor:
        """Return the values of a whole global batch, in its order, from each rank's values of its own part.

        Args:
            own: this rank's values (n,).
            index: of the global batch (b,).
        """
        if self.world == 1:
            return own
        whole = own.new_zeros(len(index))
        self.own_part(whole).copy_(own)
        return self.total(whole)

    def from_rank_zero(self, value: T) -> T:
        """Return rank 0's value on every rank."""
        if self.world == 1:
            return value
        shared = [value]
        torch.distributed.broadcast_object_list(shared)
        return shared[0]


ALONE = Ranks()


def requested_ranks(launcher: str | None) -> Ranks:
    """Return as many ranks as a launcher's arguments request on this machine; one if they give no number."""
    found = re.search(r"--nproc[-_]per[-_]node[ =](\d+)", launcher or "")
    return Ranks(world=int(found[1])) if found else ALONE


def launch(launcher: str | None) -> bool:
    """Run this script again under the launcher, e.g. `torchrun --standalone --nproc_per_node=2`.

    Returns:
        Whether it did: False without a launcher, or if this process was started by it.

    Raises:
        InputError: the launcher does not exist, or a rank failed (and printed its own message).
        StoppedError: a signal was passed on to the ranks, which say what they have saved.
    """
    if launcher is None or "RANK" in os.environ:
        return False
    command = [*shlex.split(launcher), *sys.argv]
    try:
        process = subprocess.Popen(
            command, env=os.environ | {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
        )
    except FileNotFoundError as error:
        raise InputError(f"runtime.launcher: there is no command {command[0]}; install it, or set null") from error
    passed_on: list[int] = []

    def pass_on(caught: int, _frame: object) -> None:
        passed_on.append(caught)
        process.send_signal(caught)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, pass_on)
    if code := process.wait():
        if passed_on:
            raise StoppedError(f"stopped; {launcher} ended with status {code}")
        raise InputError(
            f"runtime.launcher: {launcher} ended with status {code}: a rank failed, as it says above, or was killed; "
            f"run it again, and it {GOES_ON}"
        )
    return True


@contextmanager
def join_ranks(device: str) -> Iterator[tuple[Ranks, str]]:
    """Join the other ranks if torchrun started this process, and yield this rank and its device.

    Raises:
        InputError: more ranks than GPUs, or another rank ended within the block.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield ALONE, device
        return
    local = int(os.environ["LOCAL_RANK"])
    if device.startswith("cuda"):
        if local >= torch.cuda.device_count():
            raise InputError(
                f"rank {local} of {world} finds {torch.cuda.device_count()} GPUs; start only as many ranks"
            )
        device = f"cuda:{local}"
        torch.cuda.set_device(local)
    torch.distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield Ranks(torch.distributed.get_rank(), world), device
    except RuntimeError as error:  # of gloo, or a DistError of NCCL
        if isinstance(error, torch.distributed.DistError) or GONE.search(str(error)):
            raise InputError(f"another rank has ended; run it again, and it {GOES_ON}") from error
        raise
    finally:
        torch.distributed.destroy_process_group()


@contextmanager
def global_batch_norm(model: nn.Module, ranks: Ranks) -> Iterator[None]:
    """Within the block, the model's batch norm layers take their statistics over the global batch.

    It works on any device, while PyTorch's SyncBatchNorm refuses CPU tensors. Parameters and buffers keep their names.
    """
    norms = batch_norms(model) if ranks.world > 1 else []
    for norm in norms:
        norm.forward = partial(_global_forward, norm)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for norm in norms:
            del norm.forward


class _Total(torch.autograd.Function):
    """Sum over the ranks. Every rank's loss depends on the sum, so its gradient is summed too."""

    @staticmethod
    def forward(_ctx, part: Tensor) -> Tensor:  # type: ignore[no-untyped-def, override]
        total = part.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(_ctx, gradient: Tensor) -> Tensor:  # type: ignore[no-untyped-def, override]
        total = gradient.clone()
        torch.distributed.all_reduce(total)
        return total


def _total(part: Tensor) -> Tensor:
    total: Tensor = _Total.apply(part)  # type: ignore[no-untyped-call]
    return total


def _global_forward(norm: _BatchNorm, x: Tensor) -> Tensor:
    if not norm.training:
        return type(norm).forward(norm, x)
    axes, shape = [0, *range(2, x.ndim)], [1, -1] + [1] * (x.ndim - 2)
    precision, x = x.dtype, x.float() if x.dtype == torch.bfloat16 else x  # statistics in float32, as in PyTorch
    count = _total(x.new_tensor(float(x.numel() // x.shape[1])))
    mean = _total(x.sum(axes)) / count
    centred = x - mean.view(shape)
    variance = _total(centred.square().sum(axes)) / count
    if norm.track_running_stats and norm.running_mean is not None and norm.running_var is not None:
        with torch.no_grad():
            norm.num_batches_tracked.add_(1)  # type: ignore[union-attr]
            weight = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum  # type: ignore[arg-type]
            norm.running_mean.lerp_(mean, weight)
            norm.running_var.lerp_(variance * count / (count - 1), weight)
    scaled = centred * torch.rsqrt(variance + norm.eps).view(shape)
    return (scaled * norm.weight.view(shape) + norm.bias.view(shape) if norm.affine else scaled).to(precision)
