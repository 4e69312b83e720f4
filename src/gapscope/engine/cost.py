"""What a study's training costs on this machine: a short probe of each network, then arithmetic.

In the estimate: every update of every run, the evaluation of each epoch and of the end, the choice of a rate where
`train.tuning.lr_candidates` ask for one, and the runs of a warm start; on disk, activations and weights. Not in it: the
other stages (activations, spectra, controls, sharpness, curvature, noise scale, landscape), the start of each stage's
process (seconds), several ranks (`runtime.launcher`), and that a run with `train.schedule.patience` may end early.

An update is taken to last `update_s + images * image_s`, from one small and one larger batch of random images.
On a CPU it is the time of an idle core: runs beside others, or on a shared machine, last longer.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from operator import attrgetter
from pathlib import Path

import torch

from gapscope import seeds
from gapscope.config import Params
from gapscope.data.images import Augmentation, Images
from gapscope.data.sources import SUBSET, DataSettings
from gapscope.measures.activations import ActivationSettings, activation_bytes
from gapscope.measures.warm_start import WarmstartSettings
from gapscope.models import ModelSpec, build
from gapscope.records.cells import cells
from gapscope.records.tables import read_record
from gapscope.runtime import set_threads
from gapscope.tasks import make_task
from gapscope.training.evaluation import evaluate
from gapscope.training.gradient import make_update, needs_recomputation, recompute_units
from gapscope.training.graphs import as_cuda_graphs, graphs_possible
from gapscope.training.loop import make_optimizer_of
from gapscope.training.networks import study_spec
from gapscope.training.settings import TrainSettings
from gapscope.training.tuning import settings_of_sweep

SMALL, LARGE = 8, 512  # images in the probe's batches; the larger one grows no further once it lasts ENOUGH_S
ENOUGH_S = 0.25
REPEATS = 3
PROBED = (  # the params that an update's time depends on
    "task", "optimizer.name", "optimizer.decay", "augment", "batch.micro_batch", "batch.micro_batch_norm",
    "precision.compute", "precision.channels_last", "precision.cuda_graphs", "evaluation.eval_batch", "threads",
)  # fmt: skip


@dataclass(frozen=True)
class Size:
    """What a data set is to a network."""

    train_images: int
    test_images: int
    image_shape: tuple[int, int, int]
    classes: int


SIZES = {  # of the known data sets, so that they need not be here
    "digits": Size(2874, 360, (1, 28, 28), 10),
    "mnist": Size(60_000, 10_000, (1, 28, 28), 10),
    "fashion_mnist": Size(60_000, 10_000, (1, 28, 28), 10),
    "cifar10": Size(50_000, 10_000, (3, 32, 32), 10),
    "cifar100": Size(50_000, 10_000, (3, 32, 32), 100),
}


@dataclass(frozen=True)
class Speed:
    """Seconds of one network on this machine: of an update, of each image in it, of an image in evaluation."""

    update_s: float
    image_s: float
    evaluation_s: float


@dataclass(frozen=True)
class Run:
    """One training run to come."""

    model: str
    dataset: str
    batch_size: int
    epochs: int


@dataclass(frozen=True)
class Cost:
    """Of a whole study, its runs one after the other."""

    seconds: float
    disk_bytes: int


def size_of(dataset: str, params: Params) -> Size | None:
    """Return the size of a data set that is here or known; None: a user's own, not yet seen by the download stage."""
    found = Path("data/datasets") / f"{dataset}.json"
    if found.is_file():
        record = read_record(found)
        channels, height, width = record["image_shape"]
        return Size(record["train_images"], record["test_images"], (channels, height, width), record["classes"])
    if dataset in params.section("data", DataSettings).files:
        return None
    subset = SUBSET.fullmatch(dataset)
    if subset is None:
        return SIZES.get(dataset)
    whole = size_of(subset["name"], params)
    return None if whole is None else replace(whole, train_images=int(subset["images"]))


def runs(params: Params) -> list[Run]:
    """Return a study's training runs: its cells, or those of its warm starts, or none."""
    if "evaluation" in params.groups["measures"]:
        return [Run(cell.model, cell.dataset, cell.batch_size, params.epochs) for cell in cells(params)]
    if "warm_start" not in params.groups["measures"]:
        return []
    warm = params.section("warmstart", WarmstartSettings)
    lengths = [(warm.small, warm.small_epochs), *[(warm.large, warm.large_epochs)] * len(warm.starts)]
    networks = product(params.models, params.datasets, params.seeds)
    return [Run(model, dataset, *length) for model, dataset, _ in networks for length in lengths]


def estimate(params: Params, speed: Callable[[ModelSpec, TrainSettings], Speed]) -> Cost | None:
    """Return what a study costs; None: it has a data set whose size is not known yet.

    Raises:
        InputError: a network that cannot be built, or a batch size that its data set does not allow.
    """
    settings = params.section("train", TrainSettings)
    probe = params.section("activations", ActivationSettings).probe_images
    seconds, disk = 0.0, 0
    for run in runs(params):
        size = size_of(run.dataset, params)
        if size is None:
            return None
        spec = study_spec(params, run.model, size.image_shape, size.classes)
        seconds += run_seconds(speed(spec, settings), size, settings, run.batch_size, run.epochs)
        if "evaluation" in params.groups["measures"]:
            with torch.device("meta"):
                model = build(spec)
            disk += activation_bytes(model, size.image_shape) * (run.batch_size + probe)
            disk += sum(p.numel() * p.element_size() for p in model.parameters())
    return Cost(seconds, disk)


def run_seconds(speed: Speed, size: Size, settings: TrainSettings, batch_size: int, epochs: int) -> float:
    """Return the seconds of one run: what `training.loop.train` does, counted.

    Example:
        One epoch of 10 updates on 1,000 images, at 1 s an update: 10 s, if images cost nothing.
    """
    schedule = settings.lay_out(size.train_images, batch_size, epochs)
    per_epoch = list(zip(schedule.updates, schedule.batch_sizes, strict=True))
    trained = sum(min(updates * images, size.train_images) for updates, images in per_epoch)
    length = len(per_epoch)
    rows = -(-length // settings.evaluation.epochs_per_row(length))  # the last epoch's too
    watched = min(settings.evaluation.history_images or size.train_images, size.train_images)
    whole = size.train_images + size.test_images
    # the end: both whole sets twice, and the training set once for batch norm's statistics, also where there is none
    evaluated = rows * (watched + size.test_images) + 2 * whole + size.train_images
    seconds = sum(schedule.updates) * speed.update_s + trained * speed.image_s + evaluated * speed.evaluation_s
    if settings.tuning.lr_candidates:
        held = settings.tuning.validation_images
        rest = replace(size, train_images=size.train_images - held, test_images=held)
        plain = settings_of_sweep(settings).changed({"tuning.lr_candidates": ()})
        sweep = run_seconds(speed, rest, plain, min(batch_size, rest.train_images), settings.tuning.lr_sweep_epochs)
        seconds += len(settings.tuning.lr_candidates) * sweep
    return seconds


class Probe:
    """Measures the speed of networks on a device, each one once."""

    def __init__(self, device: str) -> None:
        self.device = device
        self._found: dict[tuple[object, ...], Speed] = {}

    def __call__(self, spec: ModelSpec, settings: TrainSettings) -> Speed:
        """Return a network's speed with the settings of a study."""
        key = (spec, *attrgetter(*PROBED)(settings))
        if key not in self._found:
            self._found[key] = measure(spec, settings, self.device)
        return self._found[key]


def measure(spec: ModelSpec, settings: TrainSettings, device: str) -> Speed:
    """Train a network on random images for about a second, through the steps of `training.loop.train`.

    Raises:
        InputError: it cannot be built.
    """
    set_threads(settings.threads)
    clock = _clock(device, settings.threads)
    with seeds.seeded("probe"):
        model = build(spec).to(device)
    if settings.precision.channels_last:
        model = model.to(memory_format=torch.channels_last)
    images = _random_images(spec, device)
    augmentation = Augmentation.none(len(images), device) if settings.augment else None
    optimizer = make_optimizer_of(model, settings)

    task = make_task(settings.task)
    update = make_update(model, optimizer, images, settings, augmentation=augmentation, task=task)
    graphs = graphs_possible(settings, device) and optimizer.in_graphs
    if graphs:
        update = as_cuda_graphs(update, device)
    first = 2 if graphs else 1  # calls that do not count: kernels are loaded, then recorded

    def call(batch: torch.Tensor) -> None:
        seeds.reseed("probe", "dropout")
        update(batch, 0.0)

    with recompute_units(model, needs_recomputation(model, settings)), seeds.kept():
        model.train()
        small, large = SMALL, 2 * SMALL
        small_s = _seconds(partial(call, torch.arange(small, device=device)), clock, first)
        while True:
            large_s = _seconds(partial(call, torch.arange(large, device=device)), clock, first)
            if large_s >= ENOUGH_S or large >= LARGE:
                break
            large *= 2
    part = images.subset(torch.arange(large, device=device))
    evaluation_s = _seconds(partial(evaluate, model, part, settings.evaluation.eval_batch, task), clock) / large
    image_s = max(large_s - small_s, 0.0) / (large - small)
    return Speed(max(large_s - large * image_s, 0.0), image_s, evaluation_s)


def _random_images(spec: ModelSpec, device: str) -> Images:
    draw = seeds.generator("probe", "images")
    pixels = torch.randint(0, 256, (LARGE, *spec.image_shape), generator=draw, dtype=torch.uint8)
    labels = torch.randint(0, spec.classes, (LARGE,), generator=draw)
    channels = spec.image_shape[0]
    mean, std = torch.full((channels,), 0.5, dtype=torch.float64), torch.full((channels,), 0.3, dtype=torch.float64)
    return Images(*(tensor.to(device) for tensor in (pixels, labels, mean, std)))


def _seconds(call: Callable[[], object], clock: Callable[[], float], first: int = 1) -> float:
    """Return the least of a few times of a call, after `first` that do not count: other processes only add to it."""

    def timed() -> float:
        start = clock()
        call()
        return clock() - start

    for _ in range(first):
        timed()
    least = timed()
    return least if least >= ENOUGH_S else min(least, *(timed() for _ in range(REPEATS - 1)))


def _clock(device: str, threads: int) -> Callable[[], float]:
    if device == "cpu":
        # of one thread the processor's own time: on a busy machine the estimate is still that of an idle core
        return time.process_time if threads == 1 else time.perf_counter

    def waited() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    return waited
