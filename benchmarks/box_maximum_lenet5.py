"""Searches for the largest loss in Keskar's box around trained LeNet-5: what each finds, and in how many evaluations.

Run by hand: `python benchmarks/box_maximum_lenet5.py [--images 250]` trains LeNet-5 on 10,000 images of Fashion-MNIST
at b = 128 and at b = 2048 (minutes on one core), prints its tables and writes benchmarks/box_maximum_lenet5.md. The
data come from where a study's data come from; the settings of training are those of the study table05, but for 10
epochs. The loss is over the first training images, in float32.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from gapscope import models, seeds
from gapscope.cli.compose import composed
from gapscope.data import datasets
from gapscope.data.datasets import Dataset
from gapscope.data.images import split_images
from gapscope.numerics.loss_surface import box_maximum
from gapscope.numerics.loss_surface.box_maximum import UNTIL_CONVERGED, Array, Climb, Function, climb, polished
from gapscope.numerics.loss_surface.manifold import random_basis
from gapscope.numerics.loss_surface.sharpness import TEN_ITERATIONS, in_the_box
from gapscope.training.loop import Training
from gapscope.training.objective import Objective
from gapscope.training.settings import TrainSettings

DATA, EPOCHS, BATCH_SIZES, EPSILON, DIMENSION, STARTS = "fashion_mnist_n10000", 10, (128, 2048), 1e-3, 100, 2


def trained(data: Dataset, batch_size: int) -> nn.Module:
    """Return LeNet-5, trained."""
    settings = composed(["study=table05"])[0].section("train", TrainSettings)
    with seeds.seeded(0, "initialisation"):
        model = models.build(models.ModelSpec("lenet5", data.image_shape, data.classes, batch_norm=True))
    training = Training(model, data, settings, batch_size=batch_size, epochs=EPOCHS, seed=0, device="cpu")
    for _ in training:
        pass
    training.result()  # re-estimates batch norm's statistics
    return model


def ten_iterations(function: Function, begin: Array, _: float) -> Climb:
    """Climb from an interior start, as the paper does."""
    return climb(function, begin, TEN_ITERATIONS)


def long_climb(function: Function, begin: Array, _: float) -> Climb:
    """Climb from an interior start until L-BFGS-B converges."""
    return climb(function, begin, UNTIL_CONVERGED)


def projected(function: Function, begin: Array, base: float) -> Climb:
    """Ascend from an interior start by projected gradient alone."""
    return polished(function, Climb(-np.inf, begin, 0, 0, converged=False), base)


def interior(function: Function, begin: Array, base: float) -> Climb:
    """Climb from an interior start by L-BFGS-B and then projected gradient, as the search that sharpness uses."""
    return polished(function, long_climb(function, begin, base), base)


def corner(function: Function, begin: Array, base: float) -> Climb:
    """Climb from a corner by both."""
    return interior(function, np.where(begin < 0, -1.0, 1.0), base)


def annealed(function: Function, begin: Array, base: float) -> Climb:
    """Climb from an annealed start by both."""
    return interior(function, box_maximum.annealed(function, box_maximum.NEAR * begin)[0], base)


SEARCHES: dict[str, Callable[[Function, Array, float], Climb]] = {
    "interior start, 10 iterations (the paper's number)": ten_iterations,
    "interior start, L-BFGS-B until it converges": long_climb,
    "interior start, projected gradient alone": projected,
    "**interior start, both**": interior,
    "**corner, both**": corner,
    "**annealed start, both**": annealed,
}


def table(loss: Objective, basis: Tensor | None, title: str) -> list[str]:
    """Return the lines of a table, one row per search: phi of each start, and the mean number of evaluations."""
    x = loss.weights()
    box = EPSILON * ((x if basis is None else torch.linalg.lstsq(basis, x[:, None]).solution[:, 0]).abs() + 1)
    function, base = in_the_box(loss, x, box, basis, EPSILON), loss(x).item()
    lines = [f"## {title}", "", f"| search | φ (%) of {STARTS} starts | evaluations, mean |", "|---|---|---|"]
    for name, search in SEARCHES.items():
        draw, before = torch.Generator().manual_seed(0), loss.evaluations
        found = [search(function, box_maximum.uniform(len(box), draw), base).value for _ in range(STARTS)]
        phis = ", ".join(f"{100 * (value - base) / (1 + base):.3f}" for value in sorted(found))
        lines.append(f"| {name} | {phis} | {(loss.evaluations - before) / STARTS:.0f} |")
        print(lines[-1], flush=True)
    return [*lines, ""]


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=250, help="training images in the loss")
    images = parser.parse_args().images
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        datasets.fetch(DATA, path := Path(folder) / f"{DATA}.npz", {})
        data = datasets.load(path)
    lines = ["# The largest loss in Keskar's box around trained LeNet-5", ""]
    lines += [f"Trained on {DATA} for {EPOCHS} epochs. Loss over {images:,} training images, ε = {EPSILON:g}.", ""]
    for size in BATCH_SIZES:
        train = split_images(data, "train", "cpu")
        loss = Objective.of_images(trained(data, size), train, images, images, torch.float32)
        basis = random_basis(len(loss.weights()), DIMENSION, generator=torch.Generator().manual_seed(5)).float()
        for space, columns in (("full space", None), (f"random manifold, p = {DIMENSION}", basis)):
            lines += table(loss, columns, f"b = {size}, {space}")
            Path(__file__).with_suffix(".md").write_text("\n".join(lines).rstrip("\n") + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
