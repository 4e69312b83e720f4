"""Updates as CUDA graphs: the kernels of one update, recorded once a batch size and then started all at once.

At small batches a GPU is done with a kernel before Python has started the next one. A replayed graph runs the same
kernels on the same memory, so SGD's bits are those of the update as it stands; Adam's differ by the rounding of the
rate, which is a float32 tensor here. What Python does in an update is done once, when it is recorded: a network that
waits for the device, or draws random numbers on the CPU, is refused; one that counts its own steps must be trained
without graphs.

Gradients lie in a graph's own memory, where the next graph puts its own: nothing may read them after an update.
"""

import random
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from gapscope.errors import InputError
from gapscope.training.distributed import ALONE, Ranks
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
        with torch.cuda.device(device):  # graphs are recorded on the current device, whatever the tensors' own is
            run(batch, lr)

    def run(batch: Tensor, lr: float | Tensor) -> None:
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
        raise _refusal("it draws random numbers on the CPU, which would stay the same")
    return graph, batch


def _refusal(why: str) -> InputError:
    return InputError(f"an update cannot be recorded as a CUDA graph: {why}; set train.cuda_graphs=false")
