"""Benchmark: the Hessian's diagonal against per-sample gradients, by torch.func's vmap, of the same images.

    uv run python benchmarks/hessian_diagonal.py

prints the table and writes hessian_diagonal.md beside it.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.func import functional_call, grad, jacrev, vmap
from torch.nn.functional import cross_entropy

from gapscope import seeds
from gapscope.models import ModelSpec, build
from gapscope.numerics.loss_surface.hessian_diagonal import label_columns, sampled_columns, softmax_columns
from gapscope.numerics.loss_surface.squared_jacobian import SquaredJacobian

REPEATS = 7
NETWORKS = (
    ("lenet5", False, 64),
    ("lenet5", True, 64),
    ("alexnet", False, 8),
    ("resnet56", True, 8),
    ("vgg16", True, 2),
)


def methods(name: str, batch_norm: bool, count: int) -> dict[str, Callable[[], object]]:
    """Return what is timed, by name; the first is what the others are compared with."""
    shape = (1, 28, 28) if name == "lenet5" else (3, 32, 32)
    with seeds.seeded(0, "initialisation"):
        model = build(ModelSpec(name, shape, 10, batch_norm=batch_norm)).double().eval()
    draws = torch.Generator().manual_seed(0)
    inputs = torch.randn(count, *shape, generator=draws, dtype=torch.float64)
    labels = torch.randint(10, (count,), generator=draws)
    weights = {name: p.detach() for name, p in model.named_parameters()}
    squares = SquaredJacobian(model, inputs)

    def logits(of: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(model, of, (x[None],))[0]  # type: ignore[no-any-return]

    def loss(of: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(logits(of, x), y)

    def by_jacobian(of: dict[str, Tensor], x: Tensor) -> dict[str, Tensor]:
        p = logits(of, x).softmax(0)
        return {
            name: torch.tensordot(p, j.square(), 1) - torch.tensordot(p, j, 1).square()
            for name, j in jacrev(logits)(of, x).items()
        }

    found: dict[str, Callable[[], object]] = {
        "per-sample gradients (vmap)": lambda: vmap(grad(loss), (None, 0, 0))(weights, inputs, labels),
        "exact diagonal": lambda: squares(inputs, softmax_columns),
        "diagonal by one sampled label": lambda: squares(inputs, partial(sampled_columns, draws=1, generator=draws)),
        "empirical Fisher": lambda: squares(inputs, partial(label_columns, labels=labels)),
    }
    if name == "lenet5":  # 80 MB per image for the larger ones
        found["exact diagonal (vmap, jacrev)"] = lambda: vmap(by_jacobian, (None, 0))(weights, inputs)
    return found


def rows(name: str, batch_norm: bool, count: int) -> list[str]:
    """Return the table's lines of one network: the least of several turns, taken by each method in turn."""
    timed, least = methods(name, batch_norm, count), dict[str, float]()
    for _ in range(REPEATS):
        for method, run in timed.items():
            start = time.process_time()
            run()
            spent = 1e3 * (time.process_time() - start) / count
            least[method] = min(spent, least.get(method, spent))
    first = next(iter(least.values()))
    label = name if batch_norm else f"{name}, no batch norm"
    return [f"| {label} | {count} | {method} | {ms:.2f} | {ms / first:.2f} |" for method, ms in least.items()]


def main() -> None:
    """Run the benchmark."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    torch.set_num_threads(1)
    lines = [
        "# The Hessian's diagonal against per-sample gradients",
        "",
        f"torch {torch.__version__}, one thread, CPU, float64. Least of {REPEATS} turns, CPU milliseconds per image. "
        "The ratio is to per-sample gradients in the same run.",
        "",
        "| network | images at once | method | ms | ratio |",
        "|---|---|---|---|---|",
    ]
    for network in NETWORKS:
        lines += rows(*network)
    print("\n".join(lines))
    Path(__file__).with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
