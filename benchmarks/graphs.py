"""Updates on a GPU with and without CUDA graphs: milliseconds an update, one process and several at once.

Run by hand where there is a GPU: `python benchmarks/graphs.py` prints the table of benchmarks/graphs.md. An update is
that of `gapscope.training.loop`: batch from uint8 images, forward, backward, SGD, on random images. Several at once: as
many processes, each LeNet-5 at batch 128, for instance under NVIDIA's multi-process service.
"""

import argparse
import time
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from gapscope import config, models, runtime, seeds
from gapscope.data import datasets
from gapscope.data.images import Augmentation, split_images
from gapscope.training.gradient import make_update
from gapscope.training.graphs import as_cuda_graphs
from gapscope.training.loop import make_optimizer_of
from gapscope.training.settings import TrainSettings

DEFAULTS = Path(__file__).parents[1] / "conf" / "config.yaml"
CIFAR = {
    "precision.channels_last": True,
    "precision.compute": "bfloat16",
    "augment": True,
}  # as Tables 1 to 4 are trained
CASES: list[tuple[str, int, dict[str, Any]]] = [
    ("lenet5", 128, {}), ("lenet5", 8192, {}),
    *((model, batch, CIFAR) for model in ("vgg16", "resnet56") for batch in (64, 128, 2048)),
]  # fmt: skip


def milliseconds(model: str, batch: int, settings: dict[str, Any], *, graphs: bool, seconds: float = 1.0) -> float:
    """Return the time of an update, over about so many seconds."""
    runtime.set_threads(1)
    values = yaml.safe_load(DEFAULTS.read_text(encoding="utf-8"))["train"]
    chosen = config.build(TrainSettings, values, "train").changed(settings)
    shape = (1, 28, 28) if model == "lenet5" else (3, 32, 32)
    draw, count = np.random.default_rng(0), 4 * max(batch, 2048)
    x, y = draw.integers(0, 256, (count, *shape), np.uint8), draw.integers(0, 10, count)
    images = split_images(datasets.Dataset("random", 10, x, y, x[:1], y[:1]), "train", "cuda")
    net = models.build(models.ModelSpec(model, shape, 10, batch_norm=True)).to("cuda").train()
    if chosen.precision.channels_last:
        net = net.to(memory_format=torch.channels_last)
    augmentation = Augmentation.none(count, "cuda") if chosen.augment else None

    fast = make_update(net, make_optimizer_of(net, chosen), images, chosen, augmentation=augmentation)
    if graphs:
        fast = as_cuda_graphs(fast, "cuda")
    parts = torch.randperm(count).to("cuda").split(batch)
    for part in parts[:4]:
        fast(part, 0.01)
    torch.cuda.synchronize()
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        for part in parts:
            seeds.reseed("dropout", done)
            fast(part, 0.01)
            done += 1
        torch.cuda.synchronize()
    return 1000 * (time.perf_counter() - start) / done


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=10, help="of LeNet-5 at batch 128, at once")
    args = parser.parse_args()
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}\n")
    print("| network | batch | ms with graphs | ms without | without / with |\n|---|---|---|---|---|")
    for model, batch, settings in CASES:
        found = [milliseconds(model, batch, settings, graphs=graphs) for graphs in (True, False)]
        print(f"| {model} | {batch} | {found[0]:.2f} | {found[1]:.2f} | {found[1] / found[0]:.1f} |", flush=True)
    with get_context("spawn").Pool(args.processes) as pool:
        once = [
            pool.apply_async(milliseconds, CASES[0], {"graphs": True, "seconds": 5.0}) for _ in range(args.processes)
        ]
        rate = sum(1000 / result.get() for result in once)
    print(f"\n{args.processes} processes of LeNet-5 at batch 128: {rate:,.0f} updates a second in all")


if __name__ == "__main__":
    main()
