"""The estimate counts what a run does, and its probe measures what it says."""

import json
import time
from collections.abc import Callable
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import runs
import torch
from dvc.utils.hydra import compose_and_dump
from torch import Tensor, nn

from gapscope.config import Params, load_params
from gapscope.data import datasets, sources
from gapscope.engine import cost, plan
from gapscope.models import MODELS, ModelSpec, build
from gapscope.optim.schedules import Switch
from gapscope.training.loop import train
from gapscope.training.settings import TrainSettings
from gapscope.training.tuning import tune_rate

ROOT = Path(__file__).parents[2]
UPDATES, TRAINED, EVALUATED = cost.Speed(1, 0, 0), cost.Speed(0, 1, 0), cost.Speed(0, 0, 1)


@cache
def composed(*overrides: str) -> Params:
    with TemporaryDirectory() as folder:
        out = Path(folder) / "params.yaml"
        compose_and_dump(str(out), str(ROOT / "conf"), None, "config", str(ROOT), list(overrides))
        return load_params(out, ROOT / "conf/config.yaml")


def settings(**changes: Any) -> TrainSettings:
    return runs.changed(composed().section("train", TrainSettings), **{"batch_norm": False, **changes})


def test_every_param_of_training_is_one_that_an_updates_time_depends_on_or_is_not() -> None:
    of_the_network, of_the_run = {"batch_norm", "linear_units", "average_pooling"}, {
        "momentum", "lr_start", "lr_end", "lr_shape", "lr_scaling", "lr_reference_batch", "lr_candidates",
        "lr_sweep_epochs", "validation_images", "warmup_epochs", "weight_decay", "drop_last", "updates",
        "batch_schedule", "patience", "history_images", "history_rows", "observers", "settings",
        "discard",
    }  # fmt: skip
    groups = {field.name for field in fields(TrainSettings)} - {name.partition(".")[0] for name in runs.GROUPS.values()}
    every = {*runs.GROUPS.values(), *groups}
    assert {*cost.PROBED} | of_the_network | {runs.GROUPS.get(name, name) for name in of_the_run} == every


class Counting(nn.Module):
    """Counts its calls and images, in training and in evaluation."""

    def __init__(self, batch_norm: bool) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4) if batch_norm else nn.Identity(), nn.Linear(4, 2))
        self.updates = self.trained = self.evaluated = 0

    def forward(self, images: Tensor) -> Tensor:
        if self.training:
            self.updates, self.trained = self.updates + 1, self.trained + len(images)
        else:
            self.evaluated += len(images)
        return self.body(images)  # type: ignore[no-any-return]


def counted(own: TrainSettings, batch_size: int, epochs: int, images: int = 21, test: int = 5) -> list[float]:
    rng = np.random.default_rng(0)
    arrays = [a for n in (images, test) for a in (rng.integers(0, 256, (n, 1, 2, 2), np.uint8), np.arange(n) % 2)]
    sets = datasets.Dataset("some", 2, *arrays)
    models = []

    def make() -> nn.Module:
        models.append(Counting(own.batch_norm))
        return models[-1]

    if own.tuning.lr_candidates:
        tune_rate(make, sets, own, batch_size=batch_size, seed=0, device="cpu")
    train(make(), sets, own, batch_size=batch_size, epochs=epochs, seed=0, device="cpu")
    return [sum(getattr(model, name) for model in models) for name in ("updates", "trained", "evaluated")]


@pytest.mark.parametrize(
    ("changes", "batch_size", "epochs"),
    [
        ({}, 4, 3),
        ({"batch_norm": True}, 6, 2),
        ({"drop_last": True, "history_images": 7}, 4, 3),
        ({"updates": 17}, 6, 1),
        ({"batch_schedule": (Switch(3, 7, None),)}, 21, 4),
        ({"history_rows": 3}, 21, 8),
        ({}, 21, 401),  # more epochs than a history has rows: every third is evaluated, and the last
        ({"lr_candidates": (0.1, 0.01), "lr_sweep_epochs": 2, "validation_images": 6}, 20, 3),
    ],
)
def test_the_estimate_counts_what_training_does(changes: dict[str, Any], batch_size: int, epochs: int) -> None:
    own, size = settings(**{"history_images": None, **changes}), cost.Size(21, 5, (1, 2, 2), 2)
    found = [cost.run_seconds(speed, size, own, batch_size, epochs) for speed in (UPDATES, TRAINED, EVALUATED)]
    assert found == counted(own, batch_size, epochs)


def test_the_sizes_are_those_of_the_data() -> None:
    assert {name: size.classes for name, size in cost.SIZES.items()} == datasets.CLASSES
    with TemporaryDirectory() as folder:
        found = sources.fetch("digits", Path(folder) / "digits.npz", {})
    digits = cost.SIZES["digits"]
    assert (digits.train_images, digits.test_images) == (found["train_images"], found["test_images"])
    assert list(digits.image_shape) == found["image_shape"]


def test_a_data_set_of_ones_own_is_known_once_it_is_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    mine = composed("datasets=[mine]", "+data.files.mine=mine.npz")
    assert cost.size_of("mine", mine) is None
    assert cost.estimate(mine, lambda _spec, _settings: UPDATES) is None
    assert cost.size_of("mnist", composed("+data.files.mnist=mine.npz")) is None  # not what is known by that name
    assert cost.size_of("mine_n50", mine) is None
    assert cost.size_of("cifar10_n5000", mine) == replace(cost.SIZES["cifar10"], train_images=5000)
    record = {"schema": 1, "train_images": 1200, "test_images": 9, "image_shape": [1, 24, 24], "classes": 7}
    Path("data/datasets").mkdir(parents=True)
    Path("data/datasets/mine.json").write_text(json.dumps(record))
    assert cost.size_of("mine", mine) == cost.Size(1200, 9, (1, 24, 24), 7)
    found = cost.estimate(mine, lambda _spec, _settings: UPDATES)
    assert found is not None
    # 1200 images, 3 epochs, 3 seeds, at 32, 128, 256, 1024
    assert found.seconds == 3 * 3 * (38 + 10 + 5 + 2)


def test_the_disk_is_what_the_plan_asks_for_and_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plan, "check_disk", lambda _folder, needed: str(needed))
    asked = plan.check(composed("study=quick"), "digits", (1, 28, 28), 10, 2874)
    found = cost.estimate(composed("study=quick"), lambda _spec, _settings: UPDATES)
    assert found is not None
    assert found.disk_bytes == int(asked.split("; ")[1]) + 12 * 4 * 61_932  # runs, bytes, parameters (README)


def test_a_warm_start_is_a_small_run_and_a_large_one_from_each_start() -> None:
    found = cost.runs(composed("study=keskar_warmstart", "warmstart.starts=[0,3]", "warmstart.small_epochs=7"))
    small, large = cost.Run("f1", "mnist", 256, 7), cost.Run("f1", "mnist", 6000, 100)
    assert found == 3 * [small, large, large]
    assert cost.runs(composed("study=random_matrices")) == []


class Busy(nn.Module):
    """Takes 8 ms a call and 1 ms an image."""

    def __init__(self, image_shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(int(np.prod(image_shape)), classes)

    def forward(self, images: Tensor) -> Tensor:
        end = time.process_time() + 0.008 + 0.001 * len(images)
        while time.process_time() < end:
            pass
        return self.head(images.flatten(1))  # type: ignore[no-any-return]


def probed(name: str, own: TrainSettings) -> cost.Speed:
    return cost.measure(ModelSpec(name, (1, 28, 28), 10, batch_norm=True), own, "cpu")


def test_the_probe_tells_updates_from_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS, "busy", Busy)
    speed = probed("busy", settings())
    assert 0.9e-3 < speed.image_s < 2e-3
    assert 3e-3 < speed.update_s < 30e-3
    assert 1e-3 < speed.evaluation_s < 3e-3


def test_the_probe_moves_no_global_generator_and_measures_each_network_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def measure(spec: ModelSpec, *_: Any, real: Callable[..., cost.Speed] = cost.measure) -> cost.Speed:
        calls.append(spec.name)
        return real(spec, *_)

    monkeypatch.setattr(cost, "measure", measure)
    monkeypatch.setattr(cost, "ENOUGH_S", 0.0)
    spec = ModelSpec("lenet5", (1, 28, 28), 10, batch_norm=True)
    torch.manual_seed(3)
    before, probe = torch.get_rng_state(), cost.Probe("cpu")
    for own in (settings(), settings(lr_start=1.0), settings(micro_batch=4, micro_batch_norm="whole", augment=True)):
        assert probe(spec, own).image_s >= 0
    assert calls == ["lenet5", "lenet5"]  # the rate takes no time
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.slow
def test_the_estimate_is_within_a_factor_of_two_of_a_run() -> None:
    own, size = settings(batch_norm=True), cost.SIZES["digits"]
    spec = ModelSpec("lenet5", size.image_shape, size.classes, *own.switches)
    rng = np.random.default_rng(0)
    arrays = [
        array
        for images in (size.train_images, size.test_images)
        for array in (rng.integers(0, 256, (images, *size.image_shape), np.uint8), rng.integers(0, 10, images))
    ]
    sets = datasets.Dataset("digits", 10, *arrays)
    for batch_size in (32, 1024):
        expected = cost.run_seconds(cost.measure(spec, own, "cpu"), size, own, batch_size, 3)
        start = time.process_time()  # other processes are no part of it
        train(build(spec), sets, own, batch_size=batch_size, epochs=3, seed=0, device="cpu")
        assert 0.5 < expected / (time.process_time() - start) < 2
