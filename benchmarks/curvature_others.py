"""Products with the Hessian and the Gauss-Newton matrix against curvlinops and hessian-eigenthings, in one run.

Run by hand: `python benchmarks/curvature_others.py` prints a table and writes benchmarks/curvature_others.md.
LeNet-5 (classic, batch norm with running statistics) over random images of MNIST's shape, and gpt_tiny over random
bytes, at their initial weights, one thread. All examples are one batch. The libraries take turns, in another order
each time, and a ratio is of two products of one turn. Seconds are the processor's, so that load does not count.

hessian-eigenthings goes backward twice, as gapscope does, and makes the same matrix products: a tie is expected.
curvlinops goes forward over backward, and for Gauss-Newton forward and then backward.

The table also says how far a product is from gapscope's, relative to its norm. Rounding leaves 1e-15 in float64.
"""

import argparse
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gapscope import seeds
from gapscope.data.images import Images
from gapscope.data.tokens import random_tokens
from gapscope.models.gpt import GPT
from gapscope.models.lenet5 import LeNet5
from gapscope.numerics.loss_surface.hessian_products import twice_differentiable
from gapscope.tasks.classification import CLASSIFICATION
from gapscope.tasks.language_model import LanguageModel
from gapscope.training.objective import Objective

with warnings.catch_warnings():  # of torch.jit.script
    warnings.simplefilter("ignore")
    from curvlinops import GGNLinearOperator, HessianLinearOperator
from hessian_eigenthings import GGNOperator, HessianOperator

OURS, KINDS = "gapscope", ("Hessian", "Gauss-Newton")
Product = Callable[[Tensor], Tensor]


class CrossEntropy(nn.Module):
    """Mean cross-entropy; curvlinops wants a module with a `reduction`."""

    reduction = "mean"

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return that of logits (b, classes) or (b, L, classes)."""
        return cross_entropy(outputs.flatten(0, -2), targets.flatten())


def lenet5(dtype: torch.dtype, images: int) -> tuple[Objective, nn.Module]:
    """Return LeNet-5's loss."""
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (images, 1, 28, 28), generator=draw, dtype=torch.uint8)
    labels = torch.randint(0, 10, (images,), generator=draw)
    examples = Images(pixels, labels, torch.tensor([0.5]), torch.tensor([0.2]))
    with seeds.seeded(0, "benchmark"):
        model = LeNet5((1, 28, 28), 10)
    return Objective(model, examples, micro_batch=images, dtype=dtype, task=CLASSIFICATION), model


def gpt_tiny(dtype: torch.dtype, sequences: int) -> tuple[Objective, nn.Module]:
    """Return gpt_tiny's loss."""
    examples = random_tokens(sequences, 128, 256, seeds.generator("benchmark", "tokens"), "cpu")
    with seeds.seeded(0, "benchmark"):
        model = GPT((128,), 256, layers=3, units=96, heads=4)
    return Objective(model, examples, micro_batch=sequences, dtype=dtype, task=LanguageModel()), model


def products(objective: Objective, model: nn.Module, kind: str) -> dict[str, Product]:
    """Return each library's product."""
    x, loss = objective.weights(), CrossEntropy()
    batch = tuple(objective.task.batch(objective.examples, slice(None), dtype=objective.dtype))
    model = model.to(objective.dtype).eval()
    parameters = list(model.parameters())

    def of_outputs(outputs: Tensor, batch: tuple[Tensor, Tensor]) -> Tensor:
        return loss(outputs, batch[1])

    if kind == "Hessian":
        theirs = HessianLinearOperator(model, loss, parameters, [batch], check_deterministic=False)
        other = HessianOperator(model, [batch], lambda model, batch: loss(model(batch[0]), batch[1]))
        return {
            OURS: lambda v: objective.hvp(x, v),
            "curvlinops": theirs.__matmul__,
            "hessian-eigenthings": other.matvec,
        }
    theirs = GGNLinearOperator(model, loss, parameters, [batch], check_deterministic=False)
    other = GGNOperator(model, [batch], lambda model, batch: model(batch[0]), of_outputs)
    return {OURS: lambda v: objective.gnvp(x, v), "curvlinops": theirs.__matmul__, "hessian-eigenthings": other.matvec}


def rows(name: str, objective: Objective, model: nn.Module, repeats: int) -> list[str]:
    """Return the table's lines of one model and precision."""
    lines = []
    for kind in KINDS:
        of = products(objective, model, kind)
        v = torch.randn(len(objective.weights()), generator=seeds.generator("benchmark"), dtype=objective.dtype)
        with twice_differentiable():  # attention's fast form has no second derivative
            found = {library: product(v).detach() for library, product in of.items()}  # a warm-up too
            seconds: dict[str, list[float]] = {library: [] for library in of}
            for repeat in range(repeats):
                for library in [*of, *of][repeat % len(of) :][: len(of)]:
                    start = time.process_time()
                    of[library](v)
                    seconds[library].append(time.process_time() - start)
        for library in of:
            ratios = sorted(mine / own for mine, own in zip(seconds[OURS], seconds[library], strict=True))
            off = float((found[library] - found[OURS]).norm() / found[OURS].norm())
            against = f"{median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}) | {off:.0e}"
            line = f"| {name} | {kind} | {library} | {1000 * median(seconds[library]):.0f} |"
            line += f" {against} |" if library != OURS else " | |"
            print(line, flush=True)
            lines.append(line)
    return lines


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--sequences", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    lines = [
        "# Products with the Hessian and the Gauss-Newton matrix, against other libraries",
        "",
        f"torch {torch.__version__}, one thread, CPU. LeNet-5 over {args.images} images, gpt_tiny over "
        f"{args.sequences} sequences of 128 bytes. Processor time, medians of {args.repeats} turns; below 1, gapscope "
        "is faster.",
        "",
        "| network | product | library | ms | gapscope against it (range) | difference from gapscope's |",
        "|" + "---|" * 6,
    ]
    for make, count in ((lenet5, args.images), (gpt_tiny, args.sequences)):
        for dtype in (torch.float32, torch.float64):
            precision = str(dtype).removeprefix("torch.")
            lines += rows(f"{make.__name__}, {precision}", *make(dtype, count), args.repeats)
    lines += [
        "",
        "The Hessian of curvlinops differs for gpt_tiny, because torch.func differentiates PyTorch's layer norm "
        "wrongly. With the norm in plain operations they agree to 1e-8 (tests/training/test_second_order.py).",
    ]
    Path(__file__).with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
