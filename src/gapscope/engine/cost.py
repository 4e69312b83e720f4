"""What a study's training costs on this machine: a short probe of each network, then arithmetic.

The estimate covers all updates, the evaluations after epochs and at the end, the choice of a learning rate
(`train.tuning.lr_candidates`) and the runs of warm starts. On disk it covers activations and weights.

It does not cover the other stages (activations, spectra, controls, sharpness, curvature, noise scale, landscape) or the
seconds in which each stage's process starts. It assumes one rank (`runtime.launcher`), and that no run ends early
because of `train.schedule.patience`.

The model of an update's time is `update_s + images * image_s`, fitted to one small and one larger batch of random
images. On a CPU it is the time on an idle core: several runs at once, or on a shared machine, take longer.
"""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import product
from operator import attrgetter
from pathlib import Path

import torch

from gapscope import seeds
from gapscope.config import Params
from gapscope.data.features import random_features, random_labels
from gapscope.data.images import Augmentation, Images
from gapscope.data.sources import SUBSET, DataSettings
from gapscope.measures.activations import ActivationSettings, activation_bytes
from gapscope.measures.warm_start import WarmstartSettings
from gapscope.models import ModelSpec, build
from gapscope.models.hidden import on_meta_or_cpu
from gapscope.records.cells import cells
from gapscope.records.tables import read_record
from gapscope.runtime import set_threads
from gapscope.tasks import make_task
from gapscope.tasks.task import Task
from gapscope.training.evaluation import evaluate
from gapscope.training.gradient import make_update, needs_recomputation, recompute_units
from gapscope.training.graphs import as_cuda_graphs, graphs_possible
from gapscope.training.loop import make_optimizer_of
from gapscope.training.networks import study_spec
from gapscope.training.settings import TrainSettings
from gapscope.training.tuning import settings_of_sweep

SMALL, LARGE = 8, 512  # images in the probe's batches; the larger one grows until it takes ENOUGH_S
ENOUGH_S = 0.25
REPEATS = 3
PROBED = (  # the params that an update's time depends on
    "task", "optimizer.name", "optimizer.decay", "optimizer.settings", "augment", "batch.micro_batch",
    "batch.micro_batch_norm", "precision.compute", "precision.channels_last", "precision.cuda_graphs",
    "evaluation.eval_batch", "threads",
)  # fmt: skip


@dataclass(frozen=True)
class Size:
    """The sizes of a data set."""

    train_images: int
    test_images: int
    image_shape: tuple[int, ...]  # of a table: (features,); of a text: (tokens,)
    classes: int


SIZES = {  # of the built-in data sets, so that an estimate needs no download
    "digits": Size(2874, 360, (1, 28, 28), 10),
    "digits_segments": Size(2874, 360, (1, 28, 28), 7),
    "mnist": Size(60_000, 10_000, (1, 28, 28), 10),
    "fashion_mnist": Size(60_000, 10_000, (1, 28, 28), 10),
    "cifar10": Size(50_000, 10_000, (3, 32, 32), 10),
    "cifar100": Size(50_000, 10_000, (3, 32, 32), 100),
    "diabetes": Size(332, 110, (10,), 1),
    "breast_cancer": Size(427, 142, (30,), 2),
    "wine": Size(133, 45, (13,), 3),
    "linear_gaussian": Size(8192, 2048, (16,), 1),
    "sympy_source": Size(40_301, 2_045, (128,), 256),
}


@dataclass(frozen=True)
class Speed:
    """Seconds that one network takes on this machine.

    Attributes:
        update_s: per update, whatever its batch size.
        image_s: per image of an update, in addition.
        evaluation_s: per image of an evaluation.
    """

    update_s: float
    image_s: float
    evaluation_s: float


@dataclass(frozen=True)
class Run:
    """One training run that a study needs."""

    model: str
    dataset: str
    batch_size: int
    epochs: int


@dataclass(frozen=True)
class Cost:
    """The cost of a whole study whose runs follow one another."""

    seconds: float
    disk_bytes: int


def size_of(dataset: str, params: Params) -> Size | None:
    """Return the size of a data set; None for a user's own one that the download stage has not read yet."""
    path = Path("data/datasets") / f"{dataset}.json"
    if path.is_file():
        record = read_record(path)
        shape = tuple(record["image_shape"])
        return Size(record["train_images"], record["test_images"], shape, record["classes"])
    if dataset in params.section("data", DataSettings).files:
        return None
    subset = SUBSET.fullmatch(dataset)
    if subset is None:
        return SIZES.get(dataset)
    whole = size_of(subset["name"], params)
    return None if whole is None else replace(whole, train_images=int(subset["images"]))


def runs(params: Params) -> list[Run]:
    """Return a study's training runs: those of its cells, those of its warm starts, or none."""
    if "evaluation" in params.groups["measures"]:
        return [Run(cell.model, cell.dataset, cell.batch_size, params.epochs) for cell in cells(params)]
    if "warm_start" not in params.groups["measures"]:
        return []
    warm = params.section("warmstart", WarmstartSettings)
    lengths = [(warm.small, warm.small_epochs), *[(warm.large, warm.large_epochs)] * len(warm.starts)]
    networks = product(params.models, params.datasets, params.seeds)
    return [Run(model, dataset, *length) for model, dataset, _ in networks for length in lengths]


def estimate(params: Params, speed: Callable[[ModelSpec, TrainSettings], Speed]) -> Cost | None:
    """Return what a study costs; None if the size of one of its data sets is not known yet.

    Raises:
        InputError: a network that cannot be built, or a batch size that its data set does not allow.
    """
    settings = params.section("train", TrainSettings)
    probe = params.section("activations", ActivationSettings).probe_images
    seconds, disk = 0.0, 0
    for run, count in Counter(runs(params)).items():  # seeds cost the same
        size = size_of(run.dataset, params)
        if size is None:
            return None
        spec = study_spec(params, run.model, size.image_shape, size.classes)
        seconds += count * run_seconds(speed(spec, settings), size, settings, run.batch_size, run.epochs)
        if "evaluation" in params.groups["measures"]:
            per_image, weights = _bytes(spec)
            disk += count * (per_image * (run.batch_size + probe) + weights)
    return Cost(seconds, disk)


@cache
def _bytes(spec: ModelSpec) -> tuple[int, int]:
    """Return the bytes of a network's activations for one image, and of its weights."""
    model = on_meta_or_cpu(partial(build, spec))
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    return activation_bytes(model, spec.image_shape, tokens=spec.tokens), weights


def run_seconds(speed: Speed, size: Size, settings: TrainSettings, batch_size: int, epochs: int) -> float:
    """Return the seconds of one run, by counting the updates and evaluations of `training.loop.train`.

    Example:
        One epoch of 10 updates at 1 s per update takes 10 s if images cost nothing.
    """
    schedule = settings.lay_out(size.train_images, batch_size, epochs)
    per_epoch = list(zip(schedule.updates, schedule.batch_sizes, strict=True))
    trained = sum(min(updates * images, size.train_images) for updates, images in per_epoch)
    length = len(per_epoch)
    rows = -(-length // settings.evaluation.epochs_per_row(length))  # the last epoch always has one
    watched = min(settings.evaluation.history_images or size.train_images, size.train_images)
    whole = size.train_images + size.test_images
    # at the end: both whole sets twice, and the training set once to re-estimate batch norm (also without batch norm)
    evaluated = rows * (watched + size.test_images) + 2 * whole + size.train_images
    seconds = sum(schedule.updates) * speed.update_s + trained * speed.image_s + evaluated * speed.evaluation_s
    if settings.tuning.lr_candidates:
        held_out = settings.tuning.validation_images
        rest = replace(size, train_images=size.train_images - held_out, test_images=held_out)
        plain = settings_of_sweep(settings).changed({"tuning.lr_candidates": ()})
        sweep = run_seconds(speed, rest, plain, min(batch_size, rest.train_images), settings.tuning.lr_sweep_epochs)
        seconds += len(settings.tuning.lr_candidates) * sweep
    return seconds


class Probe:
    """Measures the speed of networks on a device, and remembers it."""

    def __init__(self, device: str) -> None:
        self.device = device
        self._speeds: dict[tuple[object, ...], Speed] = {}

    def __call__(self, spec: ModelSpec, settings: TrainSettings) -> Speed:
        """Return a network's speed with the settings of a study."""
        key = (spec, repr(attrgetter(*PROBED)(settings)))
        if key not in self._speeds:
            self._speeds[key] = measure(spec, settings, self.device)
        return self._speeds[key]


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
    task = make_task(settings.task)
    images = _random_images(spec, task, device)
    augmentation = Augmentation.none(len(images), device) if settings.augment else None
    optimizer = make_optimizer_of(model, settings, images)

    update = make_update(model, optimizer, images, settings, augmentation=augmentation, task=task)
    graphs = graphs_possible(settings, device) and optimizer.in_graphs
    if graphs:
        update = as_cuda_graphs(update, device)
    warmup = 2 if graphs else 1  # calls that are not timed: they load the kernels and record the graph

    def call(batch: torch.Tensor) -> None:
        seeds.reseed("probe", "dropout")
        update(batch, 0.0)

    with recompute_units(model, needs_recomputation(model, settings)), seeds.kept():
        model.train()
        small, large = SMALL, 2 * SMALL
        small_s = _seconds(partial(call, torch.arange(small, device=device)), clock, warmup)
        while True:
            large_s = _seconds(partial(call, torch.arange(large, device=device)), clock, warmup)
            if large_s >= ENOUGH_S or large >= LARGE:
                break
            large *= 2
    part = images.subset(torch.arange(large, device=device))
    evaluation_s = _seconds(partial(evaluate, model, part, settings.evaluation.eval_batch, task), clock) / large
    image_s = max(large_s - small_s, 0.0) / (large - small)
    return Speed(max(large_s - large * image_s, 0.0), image_s, evaluation_s)


def _random_images(spec: ModelSpec, task: Task, device: str) -> Images:
    draw = seeds.generator("probe", "images")
    if len(spec.image_shape) == 1:
        return random_features(LARGE, spec.image_shape[0], spec.classes, task.targets, draw, device)
    pixels = torch.randint(0, 256, (LARGE, *spec.image_shape), generator=draw, dtype=torch.uint8)
    labels = random_labels(LARGE, spec.classes, task.targets, draw)
    channels = spec.image_shape[0]
    mean, std = torch.full((channels,), 0.5, dtype=torch.float64), torch.full((channels,), 0.3, dtype=torch.float64)
    return Images(*(tensor.to(device) for tensor in (pixels, labels, mean, std)))


def _seconds(call: Callable[[], object], clock: Callable[[], float], warmup: int = 1) -> float:
    """Return the shortest of a few times of a call, after warm-up calls: other processes can only add to a time."""

    def timed() -> float:
        start = clock()
        call()
        return clock() - start

    for _ in range(warmup):
        timed()
    least = timed()
    return least if least >= ENOUGH_S else min(least, *(timed() for _ in range(REPEATS - 1)))


def _clock(device: str, threads: int) -> Callable[[], float]:
    if device == "cpu":
        # with one thread, processor time: on a busy machine it is still the time on an idle core
        return time.process_time if threads == 1 else time.perf_counter

    def synchronized() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    return synchronized
