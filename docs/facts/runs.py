"""Which studies have been run, and how fast training is."""

import re

from .records import METRICS, ROOT, read
from .words import table


def committed() -> str:
    """Return the studies whose results are in git, with their seeds."""
    found = {path.parent.name: read(path)["seed"].nunique() for path in METRICS.glob("*/cells.csv")}
    by_seeds = {
        n: sorted(study for study, seeds in found.items() if seeds == n) for n in sorted(set(found.values()))[::-1]
    }
    rows = [(f"{n}", ", ".join(f"`{study}`" for study in studies)) for n, studies in by_seeds.items()]
    return table(["seeds", "studies"], [*rows, ("no training", "`random_matrices`")])


def speed() -> str:
    """Return what the benchmarks say of training."""
    text = (ROOT / "benchmarks/training.md").read_text(encoding="utf-8").splitlines()
    cells = [line.strip("| ").split(" | ") for line in text if "gapscope |" in line]
    ratios = {row[0]: float(row[-2].split()[0]) for row in cells}
    graphs = (ROOT / "benchmarks/graphs.md").read_text(encoding="utf-8")
    ((graph, plain),) = re.findall(r"\| lenet5 \| 128 \| (\S+) \| (\S+) \|", graphs)
    usual, peak = "LeNet-5, batch {}: usual / gapscope", "{}, channels_last: peak / gapscope"
    rows = [
        (
            f"LeNet-5 on one core, b = {size}, against the usual DataLoader loop",
            f"{ratios[usual.format(size)]:.1f} times",
        )
        for size in (128, 4096)
    ]
    rows += [
        (f"{name} on one core, share of the peak", f"{ratios[peak.format(name)]}") for name in ("ResNet-56", "VGG-16")
    ]
    rows += [("LeNet-5 on a GPU, b = 128, one update as a CUDA graph", f"{graph} ms")]
    rows += [("the same without CUDA graphs", f"{plain} ms")]
    return table(["what", "measured"], rows)
