"""The gradient law of a network: at its initial weights and along a short training, with batch norm and without."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import runs
import torch
from torch import nn

from gapscope import seeds
from gapscope.data.images import split_images
from gapscope.errors import InputError
from gapscope.measures.gradient_law import (
    OWN_BATCHES,
    QUANTITIES,
    GradientLawSettings,
    at_weights,
    conditions,
    gradient_laws,
)
from gapscope.records.long import ordered, select
from gapscope.training.loop import train
from gapscope.training.objective import Objective

SETTINGS = GradientLawSettings(
    batch_size=20, epochs=(0, 2), images=None, gradient_batch=4, probe_images=31, steps=2, discard_batch=40, threads=1
)
TRAINING = runs.changed(augment=False)
SINGLE = 1e-5  # sums and differences of float32


def network(batch_norm: bool = False) -> nn.Module:
    norm = nn.BatchNorm1d(8) if batch_norm else nn.Identity()
    with seeds.seeded(0, "test"):
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), norm, nn.ReLU(), nn.Linear(8, 10))


def measured(model: nn.Module, settings: GradientLawSettings = SETTINGS, seed: int = 1) -> tuple[str, pd.DataFrame]:
    status, rows = gradient_laws(model, runs.data(), TRAINING, settings, seed=seed, device="cpu")
    return status, pd.DataFrame(ordered(rows))


def value(table: pd.DataFrame, quantity: str, **where: object) -> float:
    (found,) = select(table, quantity, where)["value"]
    return float(found)


def images() -> object:
    order = torch.randperm(62, generator=seeds.generator(1, "gradient law", "images"))
    return split_images(runs.data(), "train", "cpu").subset(order)


def test_rows_are_those_of_the_stated_epochs_and_training_is_not_disturbed() -> None:
    plain, watched = network(), network()
    constant = runs.changed(TRAINING, lr_shape="constant")
    train(plain, runs.data(), constant, batch_size=20, epochs=2, seed=1, device="cpu")
    status, table = measured(watched)
    assert status == "ok"
    assert table["epoch"].unique().tolist() == [0, 2]
    assert all(map(torch.equal, watched.state_dict().values(), plain.state_dict().values()))
    assert set(table["quantity"]) == set(QUANTITIES)
    for quantity, of in table.groupby("quantity"):
        assert {axis for axis in of if of[axis].notna().any()} - {"quantity", "value", "low", "high"} == {
            *QUANTITIES[str(quantity)].axes
        }
    assert table["layer"].dropna().unique().tolist() == ["1.weight", "1.bias", "4.weight", "4.bias"]
    assert sorted(table["images"].dropna().unique()) == [
        4,
        8,
        16,
        32,
        48,
        60,
    ]  # 15 batches of 4: of 62 images, 2 are left out


def test_epoch_0_alone_needs_no_training() -> None:
    model = network()
    before = [p.clone() for p in model.parameters()]
    table = measured(model, replace(SETTINGS, epochs=(0,)))[1]
    assert all(map(torch.equal, model.parameters(), before))
    both = measured(network())[1]
    pd.testing.assert_frame_equal(table, both[both["epoch"] == 0])


def test_the_gradient_of_all_images_is_that_of_the_network() -> None:
    model = network()
    table = measured(model, replace(SETTINGS, epochs=(0,)))[1]
    batch = images().subset(torch.arange(60))
    model.zero_grad()
    nn.functional.cross_entropy(model(batch.inputs(slice(None))), batch.labels).backward()
    for name, p in model.named_parameters():
        found = value(table, "mean_abs", layer=name, images=60)
        assert found == pytest.approx(float(p.grad.abs().mean()), rel=SINGLE)


def test_with_batch_norm_each_n_has_batches_of_its_own_and_their_statistics() -> None:
    model = network(batch_norm=True)
    table = measured(model, replace(SETTINGS, epochs=(0,)))[1]
    counts = select(table, "gradient_batches", {"layer": "1.weight"}, along="images").set_index("images")["value"]
    assert counts.to_dict() == {4: OWN_BATCHES, 8: 7, 16: 3, 32: 1, 48: 1, 60: 1}
    whole = images().subset(torch.arange(60))
    objective = Objective(model, whole, micro_batch=60, dtype=torch.float32, batch_norm_statistics="batch")
    _, gradient = objective.value_and_gradient(objective.weights(), with_gradient=True)
    known = float(gradient[: 64 * 8].abs().mean())
    assert value(table, "mean_abs", layer="1.weight", images=60) == pytest.approx(known, rel=SINGLE)
    law = value(table, "mean_abs_law", layer="1.weight", images=60, law="folded_normal")
    assert law != pytest.approx(known, rel=1e-2)  # the mean over batches of 4 is another gradient
    assert not (table["quantity"] == "discarded_mean_abs").any()
    assert "at most 8 batches" in conditions(SETTINGS, model, 62)["batch_norm"]
    assert conditions(SETTINGS, network(), 62) == {"images": 60, "batch_norm": "none", "precision": "float32"}


def check_decrements(lr: float) -> None:
    model = network()
    table = pd.DataFrame(ordered(at_weights(model, images(), images(), SETTINGS, lr=1e-3, seed=0)))
    sums = [
        value(table, "entries", layer=layer) * value(table, "mean_square", layer=layer, images=60)
        for layer in table["layer"].dropna().unique()
    ]
    first = value(table, "first_order_decrement", sample="batch", images=60)
    assert first == pytest.approx(lr * sum(sums), rel=SINGLE)
    # the probe is all images here, but for two: what one step gains there is what it gains on its own batch
    assert value(table, "first_order_decrement", sample="probe", images=60) == pytest.approx(first, rel=0.1)
    # a small step: the loss that is really lost is that of first order, but for curvature and float32's digits
    for sample in ("batch", "probe"):
        real = value(table, "loss_decrement", sample=sample, images=60)
        assert real == pytest.approx(value(table, "first_order_decrement", sample=sample, images=60), rel=0.05)


def test_one_step_loses_what_equation_7_says_of_its_own_batch() -> None:
    check_decrements(1e-3)


def test_one_step_at_another_rate_does_not() -> None:
    with pytest.raises(AssertionError):
        check_decrements(2e-3)


def test_to_first_order_every_n_gains_the_same_on_the_probe_but_not_on_its_batch() -> None:
    table = measured(network(), replace(SETTINGS, epochs=(0,)))[1]
    gained = {
        sample: [value(table, "first_order_decrement", sample=sample, images=n) for n in (4, 60)]
        for sample in ("batch", "probe")
    }
    np.testing.assert_allclose(*gained["probe"], rtol=SINGLE)  # a mean over all images, however they are batched
    assert gained["batch"][0] > 1.5 * gained["batch"][1]


def test_what_is_discarded_leaves_the_gradient_of_the_rest() -> None:
    model = network()
    table = measured(model, replace(SETTINGS, epochs=(0,)))[1]
    batch = images().subset(torch.arange(40))
    losses = nn.functional.cross_entropy(model(batch.inputs(slice(None))), batch.labels, reduction="none")
    for share, kept in ((0.0, losses), (0.3, losses.sort().values[12:]), (0.9, losses.sort().values[36:])):
        (gradient,) = torch.autograd.grad(kept.mean(), model[1].weight, retain_graph=True)
        found = value(table, "discarded_mean_abs", layer="1.weight", choice="small_loss", discarded=share)
        assert found == pytest.approx(float(gradient.abs().mean()), rel=1e-4)  # of differences between parts
    whole = select(table, "discarded_mean_abs", {"layer": "1.weight", "discarded": 0.0}, along="choice")["value"]
    np.testing.assert_allclose(whole, whole.iloc[0], rtol=1e-4)


def test_a_training_that_diverges_says_so() -> None:
    wild = runs.changed(TRAINING, lr_start=1e30)
    status, rows = gradient_laws(network(), runs.data(), wild, SETTINGS, seed=1, device="cpu")
    assert status == "diverged"
    assert {row["epoch"] for row in rows} == {0}


def test_weights_that_are_not_finite_give_one_clear_line() -> None:
    model = network()
    model[1].weight.data[0, 0] = math.nan
    with pytest.raises(InputError, match="gradient law after 0 epochs: a gradient is not finite"):
        measured(model)


def test_a_layer_without_gradient_has_no_noise_scale_but_zeros() -> None:
    model = network()
    for p in (model[1].weight, model[1].bias):
        p.data.fill_(0)
    model[1].bias.data.fill_(-1)  # every unit is dead
    table = measured(model, replace(SETTINGS, epochs=(0,)))[1]
    assert value(table, "live_share", layer="1.weight") == 0
    assert value(table, "mean_abs", layer="1.weight", images=4) == 0
    assert "1.weight" not in set(table.loc[table["quantity"] == "layer_noise_scale", "layer"])
    assert "4.bias" in set(table.loc[table["quantity"] == "layer_noise_scale", "layer"])


@pytest.mark.parametrize("wrong", [{"images": 15}, {"images": 63}])
def test_too_few_or_too_many_images_raise(wrong: dict) -> None:
    with pytest.raises(InputError, match=r"gradient_law.images must be in 16\.\.62"):
        measured(network(), replace(SETTINGS, **wrong))


@pytest.mark.parametrize(
    "wrong", [{"epochs": ()}, {"epochs": (-1,)}, {"gradient_batch": 1}, {"probe_images": 0}, {"steps": -1}]
)
def test_settings_that_cannot_be_raise(wrong: dict) -> None:
    with pytest.raises(InputError, match="gradient_law"):
        replace(SETTINGS, **wrong)
