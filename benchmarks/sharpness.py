"""Keskar's sharpness: time beside the loss-and-gradient evaluations that it makes, and memory in vectors of n.

Run by hand: `python benchmarks/sharpness.py [--images 60000]` prints its tables and writes benchmarks/sharpness.md.
Time: LeNet-5 (classic, batch norm) over random images of MNIST's shape, float64, one thread; CPU seconds of the whole
against those spent within the evaluations, in one run. The fewer the images, the larger the share of the rest. Memory:
the rise of a fresh process's high-water mark over what it held before (Linux), for a loss of n weights that needs
hardly any itself, so that what is seen is the method's own: a network and its data come on top.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from gapscope import seeds
from gapscope.data.images import Images
from gapscope.models.lenet5 import LeNet5
from gapscope.numerics.loss_surface.manifold import RegeneratedBasis, random_basis
from gapscope.numerics.loss_surface.sharpness import Sharpness, keskar_sharpness
from gapscope.training.objective import Objective

EPSILON, DIMENSIONS = 1e-3, 100
SPACES = ("full", "random100", "random100, regenerated")


def problem(images: int, micro_batch: int) -> Objective:
    """Return LeNet-5's loss over that many random images."""
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (images, 1, 28, 28), generator=draw, dtype=torch.uint8)
    labels = torch.randint(0, 10, (images,), generator=draw)
    with seeds.seeded(0, "benchmark"):
        model = LeNet5((1, 28, 28), 10)
    return Objective.of_images(
        model, Images(pixels, labels, torch.tensor([0.5]), torch.tensor([0.29])), None, micro_batch
    )


def basis_of(space: str, n: int) -> Tensor | RegeneratedBasis | None:
    """Return A."""
    draw = torch.Generator().manual_seed(1)
    if space == "full":
        return None
    if space == "random100":
        return random_basis(n, DIMENSIONS, generator=draw)
    return RegeneratedBasis(n, DIMENSIONS, generator=draw)


def time_row(objective: Objective, space: str) -> str:
    """Return a line of the table of times."""
    inside, plain = [], objective.value_and_gradient

    def timed(x: Tensor, with_gradient: bool) -> tuple[Tensor, Tensor | None]:
        start = time.process_time()
        found = plain(x, with_gradient)
        inside.append(time.process_time() - start)
        return found

    x = objective.weights()
    basis = basis_of(space, len(x))
    objective.value_and_gradient = timed  # type: ignore[method-assign]
    start = time.process_time()
    found = sharpness(objective, x, basis)
    whole = time.process_time() - start
    objective.value_and_gradient = plain  # type: ignore[method-assign]
    evaluations = sum(inside)
    cells = [space, found.evaluations, f"{evaluations / found.evaluations:.3f}", f"{whole - evaluations:.3f}"]
    return f"| {' | '.join(map(str, [*cells, f'{whole / evaluations:.3f}x', f'{found.sharpness:.4g}']))} |"


def sharpness(loss: Callable[[Tensor], Tensor], x: Tensor, basis: Tensor | RegeneratedBasis | None) -> Sharpness:
    """Return the measure with its defaults."""
    return keskar_sharpness(loss, x, epsilon=EPSILON, basis=basis, generator=torch.Generator().manual_seed(2))


def cheap(w: Tensor) -> Tensor:
    """Return a loss that holds no vector but its gradient; bent, so that L-BFGS-B uses its whole memory."""
    return Bent.apply(w)  # type: ignore[no-any-return, no-untyped-call]


class Bent(torch.autograd.Function):
    """2 + mean of sin(50 w), in pieces."""

    @staticmethod
    def forward(ctx, w: Tensor) -> Tensor:  # type: ignore[no-untyped-def, override]
        """Return the value."""
        ctx.save_for_backward(w)
        return 2 + sum((50 * piece).sin().sum() for piece in w.split(2**14)) / len(w)

    @staticmethod
    def backward(ctx, upstream: Tensor) -> Tensor:  # type: ignore[no-untyped-def, override]
        """Return the gradient."""
        (w,) = ctx.saved_tensors
        gradient = torch.empty_like(w)
        for source, target in zip(w.split(2**14), gradient.split(2**14)):
            torch.mul((50 * source).cos(), 50 * upstream / len(w), out=target)
        return gradient


def high_water() -> float:
    """Return the most memory that this process has held, bytes; getrusage would count its parent's."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def print_memory(space: str, weights: int) -> None:
    """Print the rise of this process's high-water mark in float64 vectors of n, on top of x (and of a dense A)."""
    for n in (1000, weights):  # libraries come first
        x = torch.randn(n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        basis = basis_of(space, n)
        before = high_water()
        found = sharpness(cheap, x, basis)
    print((high_water() - before) / 8 / weights, found.iterations)


def main() -> None:
    """Run the benchmark, or one measurement of memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=60_000)
    parser.add_argument("--micro-batch", type=int, default=500)
    parser.add_argument("--weights", type=int, default=1_000_000, help="of the loss whose memory is seen")
    parser.add_argument("--memory", help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.memory:
        print_memory(args.memory, args.weights)
        return
    objective = problem(args.images, args.micro_batch)
    objective(objective.weights())
    lines = [
        f"# Sharpness of LeNet-5 over {args.images} random images",
        "",
        f"torch {torch.__version__}, one thread, CPU, float64, n = {len(objective.weights())}, micro-batches of "
        f"{args.micro_batch}, one start. CPU seconds. Target: 1.2x.",
        "",
        "| space | evaluations | s an evaluation | s beside them | whole / evaluations | sharpness |",
        "|" + "---|" * 6,
    ]
    lines += [time_row(objective, space) for space in SPACES]
    lines += [
        "",
        f"# Memory of a loss of n = {args.weights:,} weights",
        "",
        "Float64 vectors of n beyond the weights and, for random100, a dense A (100 vectors, which least squares "
        "copies). The median of three runs, and their range. Target: 30.",
        "",
        "| space | vectors | iterations |",
        "|---|---|---|",
    ]
    for space in SPACES:
        command = [sys.executable, __file__, "--memory", space, "--weights", str(args.weights)]
        found = [subprocess.run(command, check=True, capture_output=True, text=True).stdout.split() for _ in range(3)]
        vectors = sorted(float(each[0]) for each in found)
        lines.append(f"| {space} | {vectors[1]:.1f} ({vectors[0]:.1f} to {vectors[2]:.1f}) | {found[0][1]} |")
    print("\n".join(lines))
    Path(__file__).with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
