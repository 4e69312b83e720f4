"""Training and sharpness of images before tasks existed and now: a paired comparison of two revisions of gapscope.

Run by hand: `python benchmarks/task_seam.py` prints its table and writes benchmarks/task_seam.md. Before is commit
54c90e6, whose code has images and the cross-entropy built in; its files are taken from git. Each side is a fresh
process of one thread, and the sides take turns, in an order that turns round at every repeat. CPU seconds of the second
epoch of LeNet-5 with batch norm over random images, evaluations of ten images included, and of one maximisation of
sharpness in full space from five starts, over 500 images, float64. Both sides must give the same training loss and the
same sharpness. The present code evaluates the loss once more, to refuse a random loss.
"""

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

BEFORE = "54c90e6"
ROOT = Path(__file__).parents[1]
TARGET = 0.98  # of the speed before
EPSILON, STARTS = 1e-3, 5  # of the box; random starts
SAME = 1e-6  # relative, of what both sides must give
Measured = dict[str, tuple[float, float]]  # what -> CPU seconds, and the result


def train_now(root: Path, data: dict[str, Any], epochs: int) -> tuple[list[float], float]:
    """Return the CPU seconds at the end of each epoch, and the last training loss."""
    from gapscope import config, models, seeds
    from gapscope.data.datasets import Dataset
    from gapscope.training.loop import Training
    from gapscope.training.settings import TrainSettings

    values = yaml.safe_load((root / "conf/config.yaml").read_text(encoding="utf-8"))["train"]
    settings = config.build(TrainSettings, values, "train").changed({"evaluation.history_images": 10})
    with seeds.seeded(0, "benchmark"):
        model = models.build(models.ModelSpec("lenet5", (1, 28, 28), 10, batch_norm=True))
    run = Training(model, Dataset(**data), settings, batch_size=128, epochs=epochs, seed=0, device="cpu")
    ends = [time.process_time() for _ in run]
    return ends, run.result().history[-1]["train_loss_running"]


def train_before(root: Path, data: dict[str, Any], epochs: int) -> tuple[list[float], float]:
    """Return the same of the code before; an epoch begins where the one before it ends."""
    from gapscope import config, models, seeds
    from gapscope.data import Dataset
    from gapscope.training.loop import train
    from gapscope.training.settings import TrainSettings

    values = yaml.safe_load((root / "conf/config.yaml").read_text(encoding="utf-8"))["train"]
    settings = config.build(TrainSettings, values | {"history_images": 10}, "train")
    with seeds.seeded(0, "benchmark"):
        model = models.build(models.ModelSpec("lenet5", (1, 28, 28), 10, True, False))
    ends: list[float] = []

    def timed(numbers: Any) -> Any:
        for number in numbers:
            yield number
            ends.append(time.process_time())

    options = {"batch_size": 128, "epochs": epochs, "seed": 0, "device": "cpu", "on_epoch": timed}
    return ends, train(model, Dataset(**data), settings, **options).history[-1]["train_loss_running"]


def side(root: Path, images: int) -> Measured:
    """Return what one side takes and gives; gapscope is the one that PYTHONPATH leads to."""
    before = not (root / "src/gapscope/tasks").exists()
    if before:
        from gapscope.images import Images
        from gapscope.measure.sharpness import keskar_sharpness
        from gapscope.objective import Objective
    else:
        from gapscope.data.images import Images
        from gapscope.numerics.loss_surface.sharpness import keskar_sharpness
        from gapscope.training.objective import Objective
    from gapscope import models, runtime, seeds

    runtime.set_threads(1)
    draw = np.random.default_rng(0)
    x, y = draw.integers(0, 256, (images, 1, 28, 28), np.uint8), draw.integers(0, 10, images)
    data = {"name": "random", "classes": 10, "x_train": x, "y_train": y, "x_test": x[:10], "y_test": y[:10]}
    ends, loss = (train_before if before else train_now)(root, data, 2)
    with seeds.seeded(0, "benchmark"):
        model = models.build(models.ModelSpec("lenet5", (1, 28, 28), 10, True, False))
    pixels = Images(torch.from_numpy(x), torch.from_numpy(y), torch.tensor([0.5]), torch.tensor([0.29]))
    objective = Objective.of_images(model, pixels, 500, 250)
    start = time.process_time()
    draws = torch.Generator().manual_seed(0)
    found = keskar_sharpness(objective, objective.weights(), epsilon=EPSILON, restarts=STARTS, generator=draws)
    spent = time.process_time() - start
    return {"training": (ends[1] - ends[0], loss), "sharpness": (spent, found.sharpness)}


def fresh(root: Path, images: int) -> Measured:
    """Return `side` of the gapscope in a folder, of a process of its own."""
    command = [sys.executable, __file__, "--side", str(root), "--images", str(images)]
    environment = {**os.environ, "PYTHONPATH": str(root / "src"), "OMP_NUM_THREADS": "1"}
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    return dict(json.loads(found.splitlines()[-1]))


def table(before: list[Measured], now: list[Measured], images: int) -> list[str]:
    """Return the lines of the table.

    Raises:
        ValueError: the sides have not done the same.
    """
    lines = ["| what | n | s before | s now | speed now / before | target |", "|" + "---|" * 6]
    for what, name in (("training", f"training, an epoch of {images:,}"), ("sharpness", "sharpness, one maximisation")):
        pairs = [(of[what], now[place][what]) for place, of in enumerate(before)]
        for (_, old), (_, new) in pairs:
            if abs(old - new) > SAME * abs(old):
                raise ValueError(f"{what}: {old} before and {new} now")
        seconds = [statistics.median(times) for times in zip(*((a[0], b[0]) for a, b in pairs), strict=True)]
        ratio = statistics.median(a[0] / b[0] for a, b in pairs)
        lines.append(f"| {name} | {len(pairs)} | {seconds[0]:.2f} | {seconds[1]:.2f} | {ratio:.2f} | >= {TARGET} |")
    return lines


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=8192)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--side", type=Path, help="measure the gapscope in this folder alone")
    args = parser.parse_args()
    if args.side:
        print(json.dumps(side(args.side, args.images)))
        return
    git = ["git", "-C", str(ROOT)]
    files = subprocess.run([*git, "archive", BEFORE, "src", "conf"], capture_output=True, check=True).stdout
    commit = subprocess.run(
        [*git, "describe", "--always", "--dirty"], capture_output=True, text=True, check=True
    ).stdout
    measured: dict[Path, list[Measured]] = {}
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(files)) as archive:
            archive.extractall(folder, filter="data")
        for repeat in range(args.repeats):
            for root in (Path(folder), ROOT)[:: 1 if repeat % 2 == 0 else -1]:
                measured.setdefault(root, []).append(fresh(root, args.images))
                print(root.name, measured[root][-1], flush=True)
        lines = table(measured[Path(folder)], measured[ROOT], args.images)
    about = f"Commits {BEFORE} and {commit.strip()}, torch {torch.__version__}, one thread."
    about += " CPU seconds; medians of paired runs. The present sharpness takes one more pass, to refuse a random loss."
    text = "\n".join(["# Images before tasks and now", "", about, "", *lines])
    print(text)
    Path(__file__).with_suffix(".md").write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
