"""The Hessian's top eigenvalue: hessian_eigenvalues against power iteration as PyHessian does it, in one run.

Run by hand: `python benchmarks/curvature.py [--images 500]` prints a table and writes benchmarks/curvature.md.
LeNet-5 (classic, batch norm, running statistics), float64, one thread, over random images of MNIST's shape (ten
patterns and noise), at its initial weights and after some steps of SGD. Every method has the same Hessian-vector
product. The reference is SciPy's eigsh (ARPACK) to 1e-9. "Power iteration, its own test" stops as PyHessian does (Yao
et al. 2020: relative change under 1e-3, at most 100 products), which says nothing of its error; "to 1e-3" is the same
stopped as soon as its true error is below 1e-3, which only a benchmark can know.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor
from torch.nn.functional import cross_entropy

from gapscope import seeds
from gapscope.data.images import Images
from gapscope.models.lenet5 import LeNet5
from gapscope.numerics.loss_surface.curvature import hessian_eigenvalues
from gapscope.training.objective import Objective

ACCURACY = 1e-3
REPEATS = 3  # starts


def trained(images: Images, steps: int) -> LeNet5:
    """Return LeNet-5 after so many steps of SGD, batch size 64."""
    with seeds.seeded(0, "benchmark"):
        model = LeNet5((1, 28, 28), 10)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for step in range(steps):
        batch = torch.arange(64 * step, 64 * (step + 1)) % len(images)
        optimiser.zero_grad()
        cross_entropy(model(images.inputs(batch)), images.labels[batch]).backward()
        optimiser.step()
    return model


def patterns(count: int) -> Images:
    """Return images of ten classes: a pattern each, and noise."""
    draw = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 10, (count,), generator=draw)
    means = torch.randint(64, 192, (10, 1, 28, 28), generator=draw)
    noise = torch.randint(-64, 64, (count, 1, 28, 28), generator=draw)
    return Images((means[labels] + noise).to(torch.uint8), labels, torch.tensor([0.5]), torch.tensor([0.2]))


def power_iteration(product: Callable[[Tensor], Tensor], n: int, seed: int, known: float | None) -> float:
    """Return PyHessian's top eigenvalue; stopped by its own test, or by the true error where that is known."""
    v = torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    value = None
    for _ in range(100):
        v = v / v.norm()
        image = product(v)
        before, value = value, torch.dot(image, v).item()
        if known is None:
            if before is not None and abs(before - value) / (abs(before) + 1e-6) < ACCURACY:
                break
        elif abs(value - known) <= ACCURACY * known:
            break
        v = image
    assert value is not None
    return value


def rows(name: str, objective: Objective) -> list[str]:
    """Return the table's lines of one model."""
    x, calls = objective.weights(), [0]

    class Counted:
        def hvp(self, x: Tensor, v: Tensor) -> Tensor:
            calls[0] += 1
            return objective.hvp(x, v)

    def lanczos(seed: int, tolerance: float) -> float:
        draw = torch.Generator().manual_seed(seed)
        found = hessian_eigenvalues(Counted(), x, tolerance=tolerance, generator=draw)  # type: ignore[arg-type]
        return float(found.values[0])

    matrix = LinearOperator(
        (len(x), len(x)), matvec=lambda v: objective.hvp(x, torch.from_numpy(v.reshape(-1))).numpy(), dtype=np.float64
    )
    start = np.random.default_rng(99).standard_normal(len(x))
    second, known = (float(value) for value in eigsh(matrix, 2, which="LA", v0=start, tol=1e-9)[0])
    methods: dict[str, Callable[[int], float]] = {
        "hessian_eigenvalues, tolerance 1e-3": lambda seed: lanczos(seed, ACCURACY),
        "hessian_eigenvalues, tolerance 1e-2": lambda seed: lanczos(seed, 1e-2),
        "power iteration, its own test": lambda seed: power_iteration(
            lambda v: Counted().hvp(x, v), len(x), seed, None
        ),
        "power iteration, to 1e-3": lambda seed: power_iteration(lambda v: Counted().hvp(x, v), len(x), seed, known),
    }
    seconds = dict.fromkeys(methods, 0.0)
    products, errors = dict.fromkeys(methods, 0), dict.fromkeys(methods, 0.0)
    for seed in range(REPEATS):
        for method in list(methods)[:: 1 if seed % 2 == 0 else -1]:
            calls[0], start = 0, time.process_time()
            value = methods[method](seed)
            seconds[method] += (time.process_time() - start) / REPEATS
            products[method] += calls[0]
            errors[method] = max(errors[method], abs(value / known - 1))
            print(f"  {name}, {method}: {calls[0]} products", flush=True)
    ours = seconds["hessian_eigenvalues, tolerance 1e-3"]
    return [
        f"| {name} | {known:.4g} | {second / known:.3f} | {method} | {products[method] / REPEATS:.1f} "
        f"| {seconds[method]:.2f} | {seconds[method] / ours:.2f}x | {errors[method]:.1e} |"
        for method in methods
    ]


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--micro-batch", type=int, default=500)
    parser.add_argument("--steps", type=int, nargs="*", default=[0, 30, 300])
    args = parser.parse_args()
    torch.set_num_threads(1)
    images = patterns(args.images)
    lines = [
        f"# The Hessian's top eigenvalue, LeNet-5 over {args.images} random images",
        "",
        f"torch {torch.__version__}, one thread, CPU, float64. Means of {REPEATS} starts, CPU seconds; the error is "
        "the worst of them, relative to SciPy's eigsh to 1e-9. hessian_eigenvalues also returns a residual, which "
        "bounds its error; power iteration has no bound.",
        "",
        "| steps of SGD | eigenvalue | second / first | method | products | s | against the first line | error |",
        "|" + "---|" * 8,
    ]
    for steps in args.steps:
        objective = Objective.of_images(trained(images, steps), images, None, args.micro_batch)
        lines += rows(str(steps), objective)
    print("\n".join(lines))
    Path(__file__).with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
