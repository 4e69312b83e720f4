"""Updates as CUDA graphs: the kernels of one update, recorded once a batch size and then started all at once.

At small batches a GPU is done with a kernel before Python has started the next one. A replayed graph runs the same
kernels on the same memory, so its bits are those of the update as it stands. A network that decides anything by its
values, or waits for the device, cannot be recorded.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from gapscope.errors import InputError
from gapscope.training.ranks import ALONE, Ranks
from gapscope.training.settings import TrainSettings

Update = Callable[[Tensor, float | Tensor], None]  # indices of a batch, rate


def recorded(update: Update, settings: TrainSettings, device: str, ranks: Ranks = ALONE) -> Update:
    """Return the update recorded as a graph for each batch size; as it is where a graph is not wanted or cannot be.

    Args:
        update: reads and writes the same tensors at every call, but for its batch; takes the rate as a tensor, too.
        settings: of the training.
        device: to train on.
        ranks: that train together: only one can be recorded, as the others are waited for.

    Raises:
        InputError: when it is called, where it cannot be recorded.
    """
    if not (settings.cuda_graphs and settings.micro_batch is None and ranks.world == 1 and device.startswith("cuda")):
        return update
    graphs: dict[int, tuple[torch.cuda.CUDAGraph, Tensor] | None] = {}
    rate, aside = torch.zeros((), device=device), torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def call(batch: Tensor, lr: float | Tensor) -> None:
        rate.fill_(lr)
        if len(batch) not in graphs:  # the first batch of its size warms the libraries up, beside the main stream
            aside.wait_stream(torch.cuda.current_stream(device))
            with torch.cuda.stream(aside):
                update(batch, rate)
            torch.cuda.current_stream(device).wait_stream(aside)
            graphs[len(batch)] = None
            return
        found = graphs[len(batch)]
        if found is None:
            found = graphs[len(batch)] = _record(update, batch.clone(), rate)
        graph, own = found
        own.copy_(batch)
        graph.replay()

    return call


def _record(update: Update, batch: Tensor, rate: Tensor) -> tuple[torch.cuda.CUDAGraph, Tensor]:
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            update(batch, rate)
    except (RuntimeError, torch.AcceleratorError) as error:
        raise InputError(
            f"an update cannot be recorded as a CUDA graph ({str(error).splitlines()[0]}); set train.cuda_graphs=false"
        ) from error
    return graph, batch
