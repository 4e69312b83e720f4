"""Layers with CPU kernels of their own (`gapscope.models.kernels`) against PyTorch's: forward and backward.

Run by hand: `python benchmarks/kernels.py` prints a table and puts it into benchmarks/kernels.md, in the place of an
earlier one of the same processor. One thread, float32 or as autocast to bfloat16 has it, CPU time; the two take turns,
in an order that turns round at every repeat. The last cases are shapes for which gapscope leaves the layer to PyTorch:
they show the weight gradient alone, by gapscope's way where it would not be taken.
"""

import argparse
import platform
import re
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.grad import conv2d_weight

from gapscope import runtime
from gapscope.models import kernels

PAGE, CPUS = Path(__file__).with_suffix(".md"), Path("/proc/cpuinfo")
Step = Callable[[], object]
GREY = {"in_channels": 1, "out_channels": 6, "kernel_size": 5, "padding": 2}
DEEP = {"in_channels": 512, "out_channels": 512, "kernel_size": 3, "padding": 1}
# layer, its settings, shape of the images, whether they need a gradient
LAYERS: dict[str, tuple[type[nn.Module], dict[str, int], tuple[int, ...], bool]] = {
    "2 x 2 pooling, LeNet-5's first": (kernels.MaxPool2d, {"kernel_size": 2}, (128, 6, 28, 28), True),
    "2 x 2 pooling, VGG-16's first": (kernels.MaxPool2d, {"kernel_size": 2}, (128, 64, 32, 32), True),
    "5 x 5 convolution, LeNet-5's first": (kernels.Conv2d, GREY, (128, 1, 28, 28), False),
    "3 x 3 convolution of 4 x 4 images, VGG-16": (kernels.Conv2d, DEEP, (128, 512, 4, 4), True),
    "3 x 3 convolution of 2 x 2 images, VGG-16": (kernels.Conv2d, DEEP, (128, 512, 2, 2), True),
    "3 x 3 convolution of 4 x 4 images, bfloat16": (kernels.Conv2d, DEEP, (128, 512, 4, 4), True),
    "3 x 3 convolution of 2 x 2 images, bfloat16": (kernels.Conv2d, DEEP, (128, 512, 2, 2), True),
}
LEFT = {  # images, out_channels, size, padding
    "weight gradient alone, 5 x 5, three channels": ((128, 3, 28, 28), 6, 5, 2),
    "weight gradient alone, 3 x 3, 8 x 8 images of 256 channels": ((128, 256, 8, 8), 256, 3, 1),
}


def layers(case: str) -> tuple[Step, Step]:
    """Return a forward and backward pass of gapscope's layer, and one of PyTorch's."""
    own, settings, shape, needs_gradient = LAYERS[case]
    halved = case.endswith("bfloat16")
    dtype = torch.bfloat16 if halved else torch.float32
    images = torch.randn(shape, dtype=dtype, requires_grad=needs_gradient)

    def step(kind: type[nn.Module]) -> Step:
        layer = kind(**settings)
        leaves = [*layer.parameters(), *([images] if needs_gradient else [])]

        def output() -> Tensor:
            with torch.autocast("cpu", torch.bfloat16, enabled=halved):
                return layer(images)  # type: ignore[no-any-return]

        upstream = torch.randn_like(output())
        return lambda: torch.autograd.grad(output(), leaves, upstream)

    return step(own), step(own.__base__)  # type: ignore[arg-type]  # PyTorch's own


def weight_gradients(case: str) -> tuple[Step, Step]:
    """Return the weight gradient by gapscope's way, and by PyTorch's."""
    shape, channels, size, padding = LEFT[case]
    images = torch.randn(shape)
    upstream = torch.randn(shape[0], channels, *shape[2:])

    def swapped() -> Tensor:
        return torch.conv2d(images.transpose(0, 1), upstream.transpose(0, 1), padding=padding).transpose(0, 1)

    def products() -> Tensor:
        return kernels._weight_gradient(images, upstream, (padding, padding))

    own = swapped if shape[1] < 4 else products
    weights = (channels, shape[1], size, size)
    return own, lambda: conv2d_weight(images, weights, upstream, padding=padding)


def milliseconds(step: Step, calls: int) -> float:
    """Return the CPU time of a call."""
    start = time.process_time()
    for _ in range(calls):
        step()
    return 1e3 * (time.process_time() - start) / calls


def row(case: str, repeats: int) -> str:
    """Return a line of the table."""
    pair = layers(case) if case in LAYERS else weight_gradients(case)
    calls = max(1, round(200 / max(milliseconds(step, 2) for step in pair)))  # 0.2 s a repeat
    times = np.empty((repeats, 2))
    for repeat in range(repeats):
        for side in (0, 1) if repeat % 2 == 0 else (1, 0):
            times[repeat, side] = milliseconds(pair[side], calls)
    own, other = np.median(times, axis=0)
    return f"| {case} | {own:.2f} | {other:.2f} | {np.median(times[:, 1] / times[:, 0]):.2f} |"


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    runtime.set_threads(1)
    lines = [
        f"torch {torch.__version__}, one thread; ms of CPU time, medians of {args.repeats} paired repeats. Above 1: "
        "gapscope's is faster.",
        "",
        "| case, batch 128 | gapscope's: ms | PyTorch's: ms | PyTorch's / gapscope's |",
        "|---|---|---|---|",
    ]
    for case in (*LAYERS, *LEFT):
        lines.append(row(case, args.repeats))
        print(lines[-1], flush=True)
    title, *sections = PAGE.read_text(encoding="utf-8").split("\n\n## ")
    tables = dict(section.split("\n\n", 1) for section in sections) | {processor(): "\n".join(lines)}
    text = [title, *(f"## {name}\n\n{table.strip()}" for name, table in tables.items())]
    PAGE.write_text("\n\n".join(text) + "\n", encoding="utf-8")


def processor() -> str:
    """Return the processor's name, and whether it has tiles, which make products in bfloat16 fast."""
    info = CPUS.read_text() if CPUS.exists() else ""
    found = re.search(r"model name\s*: (.*)", info)
    return f"{found[1] if found else platform.processor()}{', AMX' if 'amx_bf16' in info else ''}"


if __name__ == "__main__":
    main()
