"""Time of an update with the layer-wise optimisers against SGD: LeNet-5 at batch 128, one thread of a CPU.

Run by hand: `python benchmarks/layerwise.py` prints the table and writes layerwise.md beside it. The optimisers take
turns, in an order that turns round at every repeat, each with a network of its own on the same random images. A ratio
is to SGD's update of the same repeat.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from gapscope import config, runtime, seeds
from gapscope.data.images import Images
from gapscope.models import ModelSpec, build
from gapscope.training.gradient import make_update
from gapscope.training.loop import make_optimizer_of
from gapscope.training.settings import TrainSettings

DEFAULTS = Path(__file__).parents[1] / "conf" / "config.yaml"
BATCH, WARM = 128, 3  # images; updates that are not timed
TARGET = 1.15
CASES: dict[str, tuple[str, dict[str, Any], bool]] = {  # name, settings, whether the target holds for it
    "sgd": ("sgd", {}, False),
    "lars": ("lars", {}, True),
    "lamb": ("lamb", {}, True),
    "percent_delta": ("percent_delta", {}, True),
    "mclr, robust": ("mclr", {}, True),
    "mclr, signed": ("mclr", {"reading": "signed"}, True),
    "mclr, ratio": ("mclr", {"reading": "ratio"}, True),
    "cblr, equation 17": ("cblr", {"radius": "eq17"}, False),
    "cblr, one sampled label, 32 images": ("cblr", {}, False),
    "cblr, exact diagonal, 32 images": ("cblr", {"diagonal": "exact"}, False),
}


def random_images(count: int) -> Images:
    """Return images of Fashion-MNIST's shape."""
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (count, 1, 28, 28), generator=draw, dtype=torch.uint8)
    return Images(pixels, torch.randint(10, (count,), generator=draw), torch.tensor([0.5]), torch.tensor([0.3]))


def update_of(name: str, settings: dict[str, Any], images: Images) -> Callable[[torch.Tensor, float], None]:
    """Return an update of a new LeNet-5."""
    values = yaml.safe_load(DEFAULTS.read_text(encoding="utf-8"))["train"]
    changes = {"batch_norm": False, "optimizer.name": name, "optimizer.settings": settings}
    chosen = config.build(TrainSettings, values, "train").changed(changes)
    with seeds.seeded(0, "initialisation"):
        model = build(ModelSpec("lenet5", (1, 28, 28), 10, batch_norm=False)).train()
    return make_update(model, make_optimizer_of(model, chosen, images), images, chosen)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=60)
    repeats = parser.parse_args().repeats
    runtime.set_threads(1)
    images = random_images(8 * BATCH)
    updates = {case: update_of(name, settings, images) for case, (name, settings, _) in CASES.items()}
    times = np.zeros((WARM + repeats, len(CASES)))
    for repeat in range(len(times)):
        index = torch.arange(BATCH) + repeat % 8 * BATCH
        for place in range(len(CASES))[:: 1 if repeat % 2 else -1]:
            start = time.process_time()
            list(updates.values())[place](index, 1e-6)
            times[repeat, place] = 1e3 * (time.process_time() - start)
    times = times[WARM:]
    lines = [
        "# Layer-wise optimisers against SGD",
        "",
        f"torch {torch.__version__}, one thread, CPU. LeNet-5 without batch norm, batch {BATCH}: CPU milliseconds per "
        f"update, and the ratio to SGD, medians of {repeats} repeats. The target is a ratio of at most {TARGET}.",
        "",
        "| optimiser | ms | ratio | target |",
        "|---|---|---|---|",
    ]
    for (case, (_, _, judged)), ms, ratios in zip(CASES.items(), times.T, (times / times[:, :1]).T, strict=True):
        ratio = np.median(ratios)
        verdict = ("met" if ratio <= TARGET else "missed") if judged else ""
        lines.append(f"| {case} | {np.median(ms):.1f} | {ratio:.2f} | {verdict} |")
    print("\n".join(lines))
    Path(__file__).with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
