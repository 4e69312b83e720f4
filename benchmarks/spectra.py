"""Time and memory of mode_singular_values against tensorly's HOSVD in float32 and torch.linalg.svdvals in float64.

Run by hand: `python benchmarks/spectra.py [case ...]` prints a table and writes benchmarks/spectra.md. Each case builds
one float32 tensor; the three solvers run on it in one process, on one thread, in an order that turns round at every
repeat; CPU seconds are compared (the machine may be busy), medians of the repeats' ratios. Memory is the rise of a
fresh process's high-water mark over what it held with the tensor loaded (Linux).
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gapscope.numerics.hosvd.singular_values import mode_singular_values

THRESHOLDS = (1e-4, 1e-5)
Values = list[np.ndarray]


def activations(samples: int, *shape: int) -> Tensor:
    """Return ReLU of a mixture of 40 features, their noise and a bias: one value is large, none is tiny."""
    rng, units = torch.Generator().manual_seed(0), int(np.prod(shape))
    mixture = torch.randn(samples, 40, generator=rng) @ torch.randn(40, units, generator=rng)
    mixture += torch.randn(samples, units, generator=rng)
    return mixture.add_(torch.randn(units, generator=rng)).relu_().reshape(samples, *shape)


def decaying(decades: tuple[float, ...], *shape: int) -> Tensor:
    """Return a dense tensor whose modes decay by so many decades from sigma_max of about 1e3; 0: left as it is."""
    rng = torch.Generator().manual_seed(0)
    tensor = torch.randn(*shape, generator=rng, dtype=torch.float64)
    for axis, (size, fall) in enumerate(zip(shape, decades, strict=True)):
        if fall:
            basis = torch.linalg.qr(torch.randn(size, size, generator=rng, dtype=torch.float64)).Q
            scaled = basis * torch.logspace(0, -fall, size, dtype=torch.float64)
            tensor = torch.tensordot(scaled, tensor, dims=([1], [axis])).movedim(0, axis)
    return (tensor * (1e3 / tensor.norm())).float().contiguous()


CASES: dict[str, tuple[Callable[[], Tensor], int]] = {  # tensor, repeats
    "VGG-16, 64x32x32, b = 512": (lambda: activations(512, 64, 32, 32), 3),
    "VGG-16, 256x8x8, b = 512": (lambda: activations(512, 256, 8, 8), 3),
    "VGG-16, 512x2x2, b = 512": (lambda: activations(512, 512, 2, 2), 5),
    "LeNet-5 conv1, 6x28x28, b = 8192": (lambda: activations(8192, 6, 28, 28), 1),
    "LeNet-5 conv2, 16x10x10, b = 8192": (lambda: activations(8192, 16, 10, 10), 3),
    "hard, 64x32x32, b = 512": (lambda: decaying((9, 8, 8, 8), 512, 64, 32, 32), 3),
    "hard, 16x10x10, b = 8192": (lambda: decaying((0, 4, 4, 4), 8192, 16, 10, 10), 3),
}


def certified(tensor: Tensor) -> Values:
    """Return the values of every mode."""
    return [spectrum.values for spectrum in mode_singular_values(tensor)]


def tensorly(tensor: Tensor) -> Values:
    """Return the same from float32."""
    return [spectrum.values for spectrum in mode_singular_values(tensor, method="tensorly")]


def svdvals(tensor: Tensor) -> Values:
    """Return the same from each unfolding in float64."""
    modes = (tensor.movedim(mode, 0).reshape(tensor.shape[mode], -1) for mode in range(tensor.ndim))
    return [torch.linalg.svdvals(unfolding.double()).numpy() for unfolding in modes]


SOLVERS: dict[str, Callable[[Tensor], Values]] = {"certified": certified, "tensorly": tensorly, "svdvals": svdvals}


def times(tensor: Tensor, repeats: int) -> tuple[dict[str, list[tuple[float, float]]], dict[str, Values]]:
    """Return (CPU, wall) seconds of each solver and repeat, and what each found."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in SOLVERS}
    found = {}
    for repeat in range(repeats):
        for name in list(SOLVERS)[:: 1 if repeat % 2 == 0 else -1]:
            cpu, wall = time.process_time(), time.perf_counter()
            found[name] = SOLVERS[name](tensor)
            seconds[name].append((time.process_time() - cpu, time.perf_counter() - wall))
            print(f"  {name}: CPU {seconds[name][-1][0]:.2f} s", flush=True)
    return seconds, found


def extra_memory(file: Path, solver: str) -> float:
    """Return the rise of the high-water mark of a process that holds the tensor, MB."""
    command = [sys.executable, __file__, "--memory", solver, str(file)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def print_memory(solver: str, file: Path) -> None:
    """Print the rise of this process's high-water mark, MB."""
    SOLVERS[solver](torch.rand(40, 3, 5, 5))  # libraries and thread pools come first
    tensor = torch.from_numpy(np.load(file))
    before = high_water()
    SOLVERS[solver](tensor)
    print(high_water() - before)


def high_water() -> float:
    """Return the most memory that this process has held, MB; getrusage would count its parent's."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


def target_memory(tensor: Tensor) -> float:
    """Return three Gram matrices of the largest mode and 64 MB, in MB."""
    shape = tensor.shape
    return 24 * max(min(side, tensor.numel() // side) for side in shape) ** 2 / 2**20 + 64


def counts(values: Values) -> str:
    """Return how many values of all modes are at most each threshold."""
    return " / ".join(str(sum(int((mode <= threshold).sum()) for mode in values)) for threshold in THRESHOLDS)


def row(case: str) -> str:
    """Return a line of the table."""
    make, repeats = CASES[case]
    tensor = make()
    print(case, flush=True)
    seconds, found = times(tensor, repeats)
    cpu = {name: statistics.median(first for first, _ in runs) for name, runs in seconds.items()}
    ratio = {
        name: [
            statistics.median(other[of] / ours[of] for other, ours in zip(seconds[name], seconds["certified"]))
            for of in (0, 1)
        ]
        for name in ("tensorly", "svdvals")
    }
    with tempfile.TemporaryDirectory() as folder:
        np.save(file := Path(folder) / "tensor.npy", tensor.numpy())
        memory = {name: extra_memory(file, name) for name in SOLVERS}
    methods = [spectrum.method for spectrum in mode_singular_values(tensor)]
    cells = [case, str(repeats), *(f"{cpu[name]:.2f}" for name in ("tensorly", "svdvals", "certified"))]
    cells += [f"{ratio[name][0]:.1f}x ({ratio[name][1]:.1f}x)" for name in ("tensorly", "svdvals")]
    cells += [f"{memory[name]:.0f}" for name in ("tensorly", "svdvals", "certified")] + [f"{target_memory(tensor):.0f}"]
    cells += [counts(found[name]) for name in ("tensorly", "svdvals", "certified")] + [", ".join(methods)]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Run the benchmark, or one measurement of memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--memory", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("cases", nargs="*", help="beginnings of cases' names; all by default")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.memory:
        print_memory(args.memory[0], Path(args.memory[1]))
        return
    three = "tensorly f32 | svdvals f64 | certified"
    lines = [
        "# Singular values of all modes of one float32 tensor",
        "",
        f"torch {torch.__version__}, one thread, CPU. Seconds are CPU seconds; ratios are medians of paired runs, in "
        "brackets of wall time. Memory is what comes on top of the tensor; its target is three Gram matrices + 64 MB. "
        "Counts are of values at most 1e-4 / 1e-5, all modes together.",
        "",
        f"| tensor | n | s: {three} | certified against tensorly | against svdvals | MB: {three} | target "
        f"| counts: {three} | methods |",
        "|" + "---|" * 15,
    ]
    for case in CASES:
        if not args.cases or case.startswith(tuple(args.cases)):
            lines.append(row(case))
            print(lines[-1], flush=True)
    if not args.cases:
        Path(__file__).with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
