"""Training: time of an epoch against the usual PyTorch loop, between batch sizes, and at the convolution peak.

Run by hand: `python benchmarks/training.py [case ...]` prints a table and, of all cases, writes benchmarks/training.md.
Each case is a ratio A / B. Every A and B is a fresh process of one thread, since gapscope's tuning of the C allocator
holds for a whole process; they take turns, in an order that turns round at every repeat. The second epoch counts, when
memory and kernels are warm.

gapscope: an epoch within `train`. Its figures are over one training and one test image here, and the final figures come
after the clock has stopped. usual: torchvision's MNIST or CIFAR10 in memory, a PIL image and ToTensor at each access,
DataLoader, torch.optim.SGD, loss.item() at each step; it neither normalises nor evaluates. airbench-style, of the kind
that holds the records for CIFAR-10: images normalised once and kept on the device, network and images in float16 and
channels_last, compiled, fused Nesterov SGD; it evaluates nothing. peak: the time that the
epoch's operations would take at the best rate of several 3 x 3 convolutions of 64 images, forward and backward,
float32. Operations are those of convolutions and dense layers: two a multiply-add, forward and for both gradients, but
for the gradient of the images, which nobody computes. The zeros that pad an image count, though gapscope leaves out
those of 2 x 2 images (5 % of VGG-16's operations).
"""

import argparse
import platform
import re
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from torchvision import datasets
from torchvision.transforms import ToTensor

from gapscope import config, models, runtime, seeds
from gapscope.data import datasets as data
from gapscope.data import sources
from gapscope.data.images import split_images
from gapscope.training.loop import Training
from gapscope.training.settings import TrainSettings

CPUS = Path("/proc/cpuinfo")
DEFAULTS = Path(__file__).parents[1] / "conf" / "config.yaml"
CONVOLUTIONS = ((64, 32), (128, 16), (256, 8), (512, 4))  # channels in and out, side
Clock = np.ndarray  # CPU seconds and wall seconds


@dataclass(frozen=True)
class Run:
    """Training of a network with batch norm: LeNet-5 on MNIST, the others on random images of CIFAR's shape."""

    model: str
    batch: int
    images: int
    device: str = "cpu"
    settings: dict[str, Any] = field(default_factory=dict)  # where not the defaults
    loop: str = "gapscope"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        return (1, 28, 28) if self.model == "lenet5" else (3, 32, 32)

    def network(self) -> nn.Module:
        """Return the network with its initial weights."""
        with seeds.seeded(0, "benchmark"):
            return models.build(models.ModelSpec(self.model, self.shape, 10, batch_norm=True))

    def dataset(self, mnist: Path) -> data.Dataset:
        """Return the training images, and one of them as test image."""
        if self.model == "lenet5":
            whole = data.load(mnist)
            x, y = whole.x_train[: self.images], whole.y_train[: self.images]
        else:
            draw = np.random.default_rng(0)
            x, y = draw.integers(0, 256, (self.images, *self.shape), np.uint8), draw.integers(0, 10, self.images)
        return data.Dataset(self.model, 10, x, y, x[:1], y[:1])

    def operations(self) -> int:
        """Return the floating-point operations that an image takes."""
        model, counts = self.network().eval(), list[int]()

        def count(layer: nn.Module, _inputs: tuple[Tensor], output: Tensor) -> None:
            counts.append(2 * output.numel() * layer.weight[0].numel())  # type: ignore[index]

        for layer in model.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                layer.register_forward_hook(count)
        model(torch.zeros(1, *self.shape))
        return 3 * sum(counts) - counts[0]


USUAL, PEAK = {"loop": "usual"}, {"loop": "peak"}
LAST, BF16 = {"precision.channels_last": True}, {"precision.compute": "bfloat16"}
PLAIN = {"precision.cuda_graphs": False}
CASES: dict[str, tuple[Run, dict[str, Any], str]] = {  # B; what A differs in; target of A / B
    "LeNet-5, batch 128: usual / gapscope": (Run("lenet5", 128, 60_000), USUAL, ">= 2"),
    "LeNet-5, batch 4096: usual / gapscope": (Run("lenet5", 4096, 60_000), USUAL, ">= 2"),
    "LeNet-5, gapscope: batch 8192 / 128": (Run("lenet5", 128, 60_000), {"batch": 8192}, "<= 1.0"),
    "ResNet-56, batch 128: peak / gapscope": (Run("resnet56", 128, 512), PEAK, ">= 0.60"),
    "ResNet-56, channels_last: peak / gapscope": (Run("resnet56", 128, 512, settings=LAST), PEAK, ">= 0.60"),
    "VGG-16, batch 128: peak / gapscope": (Run("vgg16", 128, 256), PEAK, ">= 0.80"),
    "VGG-16, channels_last: peak / gapscope": (Run("vgg16", 128, 256, settings=LAST), PEAK, ">= 0.80"),
    # few images: a CPU without instructions for bfloat16 takes long
    "ResNet-56, bfloat16, batch 32: peak / gapscope": (Run("resnet56", 32, 32, settings=BF16), PEAK, ""),
    "VGG-16, bfloat16, batch 32: peak / gapscope": (Run("vgg16", 32, 32, settings=BF16), PEAK, ""),
    "GPU, LeNet-5, batch 128: usual / gapscope": (Run("lenet5", 128, 60_000, "cuda"), USUAL, ">= 10"),
    "GPU, LeNet-5, batch 128: without graphs / gapscope": (Run("lenet5", 128, 60_000, "cuda"), {"settings": PLAIN}, ""),
    "GPU, ResNet-56: 4 workers / gapscope": (Run("resnet56", 128, 50_000, "cuda"), {"loop": "usual, 4 workers"}, ""),
    "GPU, ResNet-56, bfloat16: airbench-style / gapscope": (
        Run("resnet56", 128, 50_000, "cuda", settings=LAST | BF16), {"loop": "airbench-style"}, "",
    ),
}  # fmt: skip


def clock() -> Clock:
    """Return the seconds of this process."""
    return np.array([time.process_time(), time.perf_counter()])


def pictures(found: data.Dataset) -> datasets.VisionDataset:
    """Return torchvision's data set of the training images, without its constructor, which reads files."""
    cls = datasets.MNIST if found.image_shape[0] == 1 else datasets.CIFAR10
    made = cls.__new__(cls)
    made.transform, made.target_transform = ToTensor(), None
    if cls is datasets.MNIST:
        made.data, made.targets = torch.from_numpy(found.x_train[:, 0]), torch.from_numpy(found.y_train)
    else:
        made.data, made.targets = np.ascontiguousarray(found.x_train.transpose(0, 2, 3, 1)), found.y_train.tolist()
    return made


def usual(run: Run, settings: TrainSettings, mnist: Path, workers: int = 0) -> Clock:
    """Return the seconds of the usual loop."""
    torch.set_num_threads(settings.threads)
    # a spawned process would spawn the workers too, which takes seconds an epoch; Linux's own way is to fork
    how = {"num_workers": workers, "multiprocessing_context": "fork" if workers else None}
    loader = DataLoader(pictures(run.dataset(mnist)), run.batch, shuffle=True, **how)
    model = run.network().to(run.device)
    rates = {"lr": settings.schedule.lr_start, "momentum": settings.optimizer.momentum}
    rates |= {"weight_decay": settings.optimizer.weight_decay}
    optimizer = torch.optim.SGD(model.parameters(), **rates)
    for _ in range(2):
        start, total = clock(), 0.0
        for images, labels in loader:
            optimizer.zero_grad()
            loss = cross_entropy(model(images.to(run.device)), labels.to(run.device))
            loss.backward()
            optimizer.step()
            total += loss.item()
    return clock() - start


def airbench_style(run: Run, settings: TrainSettings, mnist: Path) -> Clock:
    """Return the seconds of a loop that is made for speed alone."""
    torch.set_num_threads(settings.threads)
    training = split_images(run.dataset(mnist), "train", run.device)
    layout = {"memory_format": torch.channels_last}
    everything = torch.arange(len(training), device=run.device)
    images, labels = training.inputs(everything).half().to(**layout), training.labels
    model = run.network().to(run.device).half().to(**layout)
    call = torch.compile(model, dynamic=False)
    rates = {"lr": settings.schedule.lr_start, "momentum": settings.optimizer.momentum}
    rates |= {"weight_decay": settings.optimizer.weight_decay}
    optimizer = torch.optim.SGD(model.parameters(), **rates, nesterov=True, fused=True)
    for _ in range(2):
        start = clock()
        for batch in torch.randperm(len(images), device=run.device).split(run.batch):
            optimizer.zero_grad()
            loss = cross_entropy(call(images[batch]), labels[batch])
            loss.backward()
            optimizer.step()
        loss.item()  # waits for the device
    return clock() - start


def gapscope(run: Run, settings: TrainSettings, mnist: Path) -> Clock:
    """Return the seconds of gapscope's loop; on a GPU the evaluation after the epoch waits for it."""
    runtime.set_threads(settings.threads)
    model, found = run.network(), run.dataset(mnist)
    training = Training(model, found, settings, batch_size=run.batch, epochs=2, seed=0, device=run.device)
    ends = [clock() for _ in training]
    return ends[1] - ends[0]


def peak(run: Run, settings: TrainSettings, _mnist: Path) -> Clock:
    """Return the seconds of the epoch's operations at the peak."""
    runtime.set_threads(settings.threads)
    best, name = np.zeros(2), ""
    for channels, side in CONVOLUTIONS:
        for layout in (torch.contiguous_format, torch.channels_last):
            layer = nn.Conv2d(channels, channels, 3, padding=1, bias=False).to(memory_format=layout)
            images = torch.randn(64, channels, side, side).to(memory_format=layout).requires_grad_()
            upstream = torch.randn_like(images)
            for _ in range(4):
                start = clock()
                torch.autograd.grad(layer(images), (images, layer.weight), upstream)
                rate = 6 * images.numel() * layer.weight[0].numel() / (clock() - start)
                name = f"{channels} x {side} x {side}, {layout}" if rate[0] > best[0] else name
                best = np.maximum(best, rate)
    print(f"  peak {best[0] / 1e9:.1f} GFLOP/s, {name}", flush=True)
    return run.operations() * run.images / best


LOOPS: dict[str, Callable[[Run, TrainSettings, Path], Clock]] = {
    "usual": usual, "usual, 4 workers": partial(usual, workers=4), "airbench-style": airbench_style,
    "gapscope": gapscope, "peak": peak,
}  # fmt: skip


def seconds(run: Run, mnist: Path) -> Clock:
    """Return the seconds of an epoch."""
    values = yaml.safe_load(DEFAULTS.read_text(encoding="utf-8"))["train"]
    changes = {"evaluation.history_images": 1, "threads": 1, **run.settings}
    settings = config.build(TrainSettings, values, "train").changed(changes)
    return LOOPS[run.loop](run, settings, mnist)


def row(case: str, most_images: int, repeats: int, mnist: Path) -> str:
    """Return a line of the table."""
    run, other, target = CASES[case]
    run = replace(run, images=min(run.images, most_images))
    times: dict[str, list[Clock]] = {"A": [], "B": []}
    print(case, flush=True)
    for repeat in range(repeats):
        for side in "AB" if repeat % 2 == 0 else "BA":
            # not a Pool: DataLoader's workers cannot be children of its processes
            with ProcessPoolExecutor(1, get_context("spawn")) as fresh:
                found = fresh.submit(seconds, replace(run, **other) if side == "A" else run, mnist).result()
            times[side].append(found)
            print(f"  {side}: CPU {found[0]:.2f} s, wall {found[1]:.2f} s", flush=True)
    ratio = np.median(np.divide(times["A"], times["B"]), axis=0)
    medians = [np.median(side, axis=0) for side in times.values()]
    rates = [run.images / median[1] for median in medians]
    order = slice(None) if run.device == "cpu" else slice(None, None, -1)  # a GPU works while the CPU waits or sleeps
    pairs = ["{:.2f} ({:.2f})".format(*pair[order]) for pair in (*medians, ratio)]
    cells = [case, f"{run.images:,}", str(repeats), *pairs[:2]]
    cells += [f"{rate:,.0f}" for rate in rates] + [f"{rate * run.operations() / 1e9:.1f}" for rate in rates]
    return f"| {' | '.join([*cells, pairs[2], target])} |"


def conditions() -> str:
    """Return the commit and the CPU's model, as far as they are known."""
    git = ["git", "-C", str(Path(__file__).parent)]
    commit = subprocess.run(
        [*git, "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    ).stdout
    models_of_cpus = re.findall(r"model name\s*: (.*)", CPUS.read_text()) if CPUS.exists() else []
    return f"commit {commit.strip() or 'unknown'}, {(models_of_cpus or [platform.processor()])[0]}"


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", help="beginnings of cases' names; all by default")
    parser.add_argument("--images", type=int, default=60_000, help="at most so many, for a trial")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    cases = [case for case in CASES if not args.cases or case.startswith(tuple(args.cases))]
    gpu = torch.cuda.is_available()
    lines = [
        "# Training: an epoch",
        "",
        f"torch {torch.__version__}, one thread, {conditions()}. Seconds and ratios are of CPU time, in brackets of "
        "wall time (on a GPU of wall time, in brackets of CPU time); medians, the ratios' of paired runs. Rates are of "
        "wall time.",
        "",
        "| case: A / B | images | n | s: A | B | images/s: A | B | GFLOP/s: A | B | A / B | target |",
        "|" + "---|" * 11,
    ]
    with tempfile.TemporaryDirectory() as folder:
        mnist = Path(folder) / "mnist.npz"
        if any(CASES[case][0].model == "lenet5" for case in cases):
            sources.fetch("mnist", mnist, {})
        for case in cases:
            if gpu or CASES[case][0].device == "cpu":
                lines.append(row(case, args.images, args.repeats, mnist))
                print(lines[-1], flush=True)
    lines += ["", f"GPU: {torch.cuda.get_device_name() if gpu else 'none here, so its cases were left out'}."]
    print("\n".join(lines))
    if not args.cases:
        Path(__file__).with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
