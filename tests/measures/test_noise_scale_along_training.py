"""The noise scale along a short training."""

import math
from dataclasses import replace

import pytest
import runs
import torch
from torch import nn

from gapscope import seeds
from gapscope.errors import InputError
from gapscope.measures.noise_scale import NoiseScaleSettings, noise_scales
from gapscope.training.loop import train

SETTINGS = NoiseScaleSettings(batch_size=20, epochs=3, images=None, gradient_batch=4, threads=1)
TRAINING = runs.changed(augment=False)


def network() -> nn.Module:
    with seeds.seeded(0, "test"):
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 10))


def test_rows_are_those_of_the_epochs_and_training_is_not_disturbed() -> None:
    plain, watched = network(), network()
    constant = runs.changed(TRAINING, lr_shape="constant")
    train(plain, runs.data(), constant, batch_size=20, epochs=3, seed=1, device="cpu")
    status, rows = noise_scales(watched, runs.data(), TRAINING, SETTINGS, seed=1, device="cpu")
    assert status == "ok"
    assert [row["epoch"] for row in rows] == [0, 1, 2, 3]
    assert all(map(torch.equal, watched.state_dict().values(), plain.state_dict().values()))
    assert rows[0]["loss"] > rows[3]["loss"]
    assert [(row["batches"], row["gradient_batch"]) for row in rows] == [(62 // 4, 4)] * 4
    assert {row["batch_norm"] for row in rows} == {"statistics of batches of 4"}
    finite = [row for row in rows if math.isfinite(row["noise_scale"])]
    assert finite
    for row in finite:
        assert row["low"] <= row["noise_scale"] <= row["high"]


def test_epoch_0_is_the_initial_weights() -> None:
    short = replace(SETTINGS, epochs=1)
    where = {"seed": 1, "device": "cpu"}
    one, three = (noise_scales(network(), runs.data(), TRAINING, s, **where)[1] for s in (short, SETTINGS))
    assert one[0] == three[0]
    assert one[0] != three[1]


def test_too_few_images_raise() -> None:
    few = NoiseScaleSettings(20, 1, 11, 4, 1)
    with pytest.raises(InputError, match=r"noise_scale.images .*12.*62.*11"):
        noise_scales(network(), runs.data(), TRAINING, few, seed=1, device="cpu")


def test_a_training_that_diverges_says_so() -> None:
    wild = runs.changed(TRAINING, lr_start=1e30)
    status, rows = noise_scales(network(), runs.data(), wild, SETTINGS, seed=1, device="cpu")
    assert status == "diverged"
    assert [row["epoch"] for row in rows] == [0]


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"gradient_batch": 1}])
def test_settings_that_cannot_be_raise(wrong: dict) -> None:
    with pytest.raises(InputError, match="noise_scale"):
        NoiseScaleSettings(**{**vars(SETTINGS), **wrong})
