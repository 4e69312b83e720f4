"""The noise scale along a short training."""

import math
from dataclasses import replace

import pytest
import runs
import torch
from torch import nn

from gapscope import seeds
from gapscope.critical_batch import NoiseScaleSettings, noise_scales
from gapscope.errors import InputError
from gapscope.training.loop import train
from gapscope.training.settings import TrainSettings

SETTINGS = NoiseScaleSettings(batch_size=20, epochs=3, images=None, gradient_batch=4, threads=1)
TRAINING = TrainSettings(**{**runs.SETTINGS, "augment": False})


def network() -> nn.Module:
    with seeds.seeded(0, "test"):
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 10))


def test_rows_are_those_of_the_epochs_and_training_is_not_disturbed() -> None:
    plain, watched = network(), network()
    train(plain, runs.data(), TRAINING, batch_size=20, epochs=3, seed=1, device="cpu")
    sizes = (8, 32)
    rows = noise_scales(watched, runs.data(), TRAINING, SETTINGS, batch_sizes=sizes, seed=1, device="cpu")
    assert [row["epoch"] for row in rows] == [0, 1, 2, 3]
    assert all(map(torch.equal, watched.state_dict().values(), plain.state_dict().values()))
    assert rows[0]["loss"] > rows[3]["loss"]
    assert [row["batches"] for row in rows] == [62 // 4] * 4
    finite = [row for row in rows if math.isfinite(row["noise_scale"])]
    assert finite
    for row in finite:
        assert row["low"] <= row["noise_scale"] <= row["high"]
        assert row["steps_ratio_b8"] == pytest.approx(1 + row["noise_scale"] / 8)
        assert row["examples_ratio_b32"] == pytest.approx(1 + 32 / row["noise_scale"])


def test_epoch_0_is_the_initial_weights() -> None:
    short = replace(SETTINGS, epochs=1)
    sizes = {"batch_sizes": (8,), "seed": 1, "device": "cpu"}
    one, three = (noise_scales(network(), runs.data(), TRAINING, s, **sizes) for s in (short, SETTINGS))
    assert one[0] == three[0]
    assert one[0] != three[1]


def test_too_few_images_raise() -> None:
    few = NoiseScaleSettings(20, 1, 11, 4, 1)
    with pytest.raises(InputError, match="three batches of 4; there are 11"):
        noise_scales(network(), runs.data(), TRAINING, few, batch_sizes=(8,), seed=1, device="cpu")


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"gradient_batch": 1}])
def test_settings_that_cannot_be_raise(wrong: dict) -> None:
    with pytest.raises(InputError, match="noise_scale"):
        NoiseScaleSettings(**{**vars(SETTINGS), **wrong})
