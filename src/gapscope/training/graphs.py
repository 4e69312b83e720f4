"""Updates as CUDA graphs: the kernels of an update, recorded once for each batch size and then launched together.

At small batches a GPU finishes a kernel before Python has started the next one. A replayed graph runs the same kernels
on the same memory, so SGD gives the same bits as without graphs. Adam differs by the rounding of the learning rate,
which is a float32 tensor here.

The Python code of an update runs only while it is recorded. So a network is refused if it waits for the device or draws
random numbers on the CPU. One that counts its own steps must be trained without graphs.

Gradients lie in the graph's own memory, which the next graph reuses: nothing may read them after an update. An observer
therefore reads them within the update, where its kernels are recorded too.
"""

import random
import warnings
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from gapscope.errors import InputError
from gapscope.optim.optimizer import Optimizer
from gapscope.training.distributed import ALONE, Ranks
from gapscope.training.observers import Observer
from gapscope.training.settings import TrainSettings

Update = Callable[[Tensor, float | Tensor], None]  # indices of a batch, learning rate


def graphs_possible(settings: TrainSettings, device: str, ranks: Ranks = ALONE) -> bool:
    """Return whether updates with these settings can be recorded: wanted, on one GPU, in one rank, whole batches."""
    wanted = settings.precision.cuda_graphs and settings.batch.micro_batch is None
    return wanted and ranks.world == 1 and device.startswith("cuda")  # other ranks have to be waited for


def why_not_graphs(optimizer: Optimizer, observers: Iterable[Observer]) -> str | None:
    """Return why an optimiser or observer cannot be part of a graph; None if all of them can."""
    if not optimizer.in_graphs:
        return f"the optimiser {optimizer.name} is not capturable"
    outside = [observer.name for observer in observers if not observer.in_graphs]
    return f"the observer {outside[0]} needs Python at each update" if outside else None


def as_cuda_graphs(update: Update, device: str) -> Update:
    """Return the update, recorded as a graph for each batch size.

    Args:
        update: reads and writes the same tensors at every call, except its batch; accepts the rate as a tensor.
        device: the GPU.

    Raises:
        InputError: when it is called, if it cannot be recorded.
    """
    graphs: dict[int, tuple[torch.cuda.CUDAGraph, Tensor] | None] = {}
    rate, aside = torch.zeros((), device=device), torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def call(batch: Tensor, lr: float | Tensor) -> None:
        with torch.cuda.device(device):  # graphs are recorded on the current device, not on that of the tensors
            run(batch, lr)

    def run(batch: Tensor, lr: float | Tensor) -> None:
        rate.fill_(lr)
        if len(batch) not in graphs:  # the first batch of each size warms up the libraries, beside the main stream
            aside.wait_stream(torch.cuda.current_stream(device))
            with torch.cuda.stream(aside):
                update(batch, rate)
            torch.cuda.current_stream(device).wait_stream(aside)
            graphs[len(batch)] = None
            return
        found = graphs[len(batch)]
        if found is None:
            found = graphs[len(batch)] = _record(update, batch.clone(), rate, aside)
        graph, own = found
        own.copy_(batch)
        graph.replay()

    return call


def _record(
    update: Update, batch: Tensor, rate: Tensor, stream: torch.cuda.Stream
) -> tuple[torch.cuda.CUDAGraph, Tensor]:
    graph, drawn = torch.cuda.CUDAGraph(), (random.getstate(), torch.get_rng_state())
    try:
        with warnings.catch_warnings(), torch.cuda.graph(graph, stream=stream):
            warnings.filterwarnings("error", "The CUDA Graph is empty")
            update(batch, rate)
    except (RuntimeError, UserWarning) as error:
        raise _refusal(str(error).splitlines()[0]) from error
    if random.getstate() != drawn[0] or not torch.equal(torch.get_rng_state(), drawn[1]):
        raise _refusal("it draws random numbers on the CPU, and a replay would repeat them")
    return graph, batch


def _refusal(why: str) -> InputError:
    return InputError(f"an update cannot be recorded as a CUDA graph: {why}; set train.precision.cuda_graphs=false")
