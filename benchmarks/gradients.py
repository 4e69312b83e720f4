"""What measuring gradients costs: the gradient law against its forward and backward passes, observers against updates.

Run by hand: `python benchmarks/gradients.py` prints a table and writes benchmarks/gradients.md. LeNet-5 without batch
norm, random images, one thread, CPU time. Both sides of a ratio run in one process and take turns, in an order that
turns round at every repeat. The passes are those of the network itself on batches of the same 32 images, with
`loss.backward()`. An update is one of `gapscope.training.gradient.make_update`, with SGD and momentum. What `strides`
reads of an update is timed by itself, after each of 400 updates.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from gapscope import models, runtime, seeds
from gapscope.config import load_params
from gapscope.data.images import Images
from gapscope.numerics.gradient_law import gradient_law
from gapscope.optim.schedules import Schedule
from gapscope.training.gradient import make_update
from gapscope.training.loop import make_optimizer_of
from gapscope.training.objective import Objective
from gapscope.training.observers import make_observers
from gapscope.training.settings import TrainSettings

PAGE = Path(__file__).with_suffix(".md")
BATCH = 32
Step = Callable[[], object]


def network() -> torch.nn.Module:
    """Return LeNet-5 with its initial weights."""
    with seeds.seeded(0, "benchmark"):
        return models.build(models.ModelSpec("lenet5", (1, 28, 28), 10, batch_norm=False))


def random_images(count: int) -> Images:
    """Return images of noise."""
    draw = seeds.generator("benchmark")
    pixels = torch.randint(0, 256, (count, 1, 28, 28), generator=draw, dtype=torch.uint8)
    labels = torch.randint(0, 10, (count,), generator=draw)
    return Images(pixels, labels, torch.full((1,), 0.5).double(), torch.full((1,), 0.3).double())


def law(images: Images) -> tuple[Step, Step]:
    """Return the gradient law, and the passes that it needs."""
    model = network()
    objective = Objective(model, images, micro_batch=BATCH, dtype=torch.float32)
    x, sizes = objective.weights(), [p.numel() for p in model.parameters()]

    def measured() -> None:
        gradient_law(objective.gradients(x, BATCH), BATCH, sizes, batches=len(images) // BATCH)

    def passes() -> None:
        for index in torch.arange(len(images)).split(BATCH):
            model.zero_grad()
            cross_entropy(model(images.inputs(index)), images.labels[index]).backward()

    return measured, passes


def updates(images: Images, size: int, observers: tuple[str, ...]) -> tuple[Step, Step]:
    """Return an epoch of updates that observers read, and one that none reads."""
    settings = load_params().section("train", TrainSettings).changed({"batch_norm": False})
    count = len(images) // size

    def epoch(names: tuple[str, ...]) -> Step:
        model = network()
        optimizer = make_optimizer_of(model, settings)
        plan = Schedule([size], [count], [0.0] * count)
        reading = make_observers(names, dict(model.named_parameters()), optimizer, plan)
        made = {
            numbers: make_update(model, optimizer, images, settings, observers=[reading[n] for n in numbers])
            for numbers in {tuple(n for n, o in enumerate(reading) if o.reads(update)) for update in range(count)}
        }

        def run() -> None:
            for update, index in enumerate(torch.arange(count * size).split(size)):
                made[tuple(n for n, o in enumerate(reading) if o.reads(update))](index, 1e-9)
            for observer in reading:
                list(observer.rows(1))

        return run

    return epoch(observers), epoch(())


def strides(images: Images, size: int) -> tuple[float, float]:
    """Return the milliseconds of what the observer `strides` does at an update, and of the update: medians."""
    settings = load_params().section("train", TrainSettings).changed({"batch_norm": False})
    model = network()
    optimizer = make_optimizer_of(model, settings)
    update = make_update(model, optimizer, images, settings)
    (observer,) = make_observers(["strides"], dict(model.named_parameters()), optimizer, Schedule([size], [1], [0.0]))
    times = np.empty((400, 2))
    for number in range(len(times)):
        index = torch.arange(size) + number * size % (len(images) - size)
        times[number, 1] = seconds(lambda: update(index, 1e-9))  # noqa: B023  # called at once

        def read() -> None:
            observer.before_step(1e-9)
            observer.after_step(1e-9)

        times[number, 0] = seconds(read)
    a, b = 1e3 * np.median(times[50:], axis=0)
    return float(a), float(b)


def seconds(step: Step) -> float:
    """Return the CPU time of a call."""
    start = time.process_time()
    step()
    return time.process_time() - start


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    repeats = parser.parse_args().repeats
    runtime.set_threads(1)
    images = random_images(16_384)
    few = images.subset(torch.arange(4096))
    cases = {
        "gradient law of 16,384 images / its passes": (law(images), "<= 1.3"),
        **{
            f"updates at b = {size} with {' and '.join(names)} / without": (updates(few, size, names), target)
            for names, target in ((("strides", "losses"), ""), (("losses",), ""))
            for size in (32, 128)
        },
    }
    lines = [
        f"torch {torch.__version__}, LeNet-5 without batch norm, one thread, float32. Seconds of CPU time, medians of"
        f" {repeats} paired repeats.",
        "",
        "| case: A / B | A: s | B: s | A / B | smallest to largest | target |",
        "|---|---|---|---|---|---|",
    ]
    for case, (pair, target) in cases.items():
        for step in pair:
            step()
        times = np.empty((repeats, 2))
        for repeat in range(repeats):
            for side in (0, 1) if repeat % 2 == 0 else (1, 0):
                times[repeat, side] = seconds(pair[side])
        (a, b), ratios = np.median(times, axis=0), times[:, 0] / times[:, 1]
        spread = f"{ratios.min():.3f} to {ratios.max():.3f}"
        lines.append(f"| {case} | {a:.2f} | {b:.2f} | {np.median(ratios):.3f} | {spread} | {target} |")
        print(lines[-1], flush=True)
    lines += ["", "| batch size | strides: ms | update: ms | share | target |", "|---|---|---|---|---|"]
    for size in (32, 128, 512):
        own, whole = strides(few, size)
        lines.append(f"| {size} | {own:.3f} | {whole:.2f} | {own / whole:.3f} | <= 0.03 at b = 128 |")
        print(lines[-1], flush=True)
    PAGE.write_text("# Gradients: law and observers\n\n" + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
