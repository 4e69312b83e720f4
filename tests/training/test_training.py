"""The training loop against hand-written SGD, batch norm and evaluation; and what makes a run repeatable."""

import copy
from collections.abc import Callable, Iterator

import numpy as np
import oracles
import pytest
import runs
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gapscope import seeds
from gapscope.data.datasets import Dataset
from gapscope.data.images import Augmentation, Images, split_images
from gapscope.errors import InputError
from gapscope.models import ModelSpec, build
from gapscope.optim.schedules import curve
from gapscope.training import batches as epochs_batches
from gapscope.training import loop
from gapscope.training.evaluation import decayed_parameters, distance, evaluate, penalty, reestimate_batch_norm
from gapscope.training.loop import TrainResult, train
from gapscope.training.settings import TrainSettings

DIRECT = 1e-12  # a few float64 products and sums a step
SINGLE = 1e-6  # a few float32 operations

VALUES = runs.changed(augment=False, lr_end=1e-4, weight_decay=5e-4, eval_batch=64)


def settings(**changes) -> TrainSettings:
    return runs.changed(VALUES, **changes)


def cosine(start: float, end: float, updates: int) -> list[float]:
    return [curve("cosine", start, end, step, updates - 1) for step in range(updates)]


def updates_per_epoch(images: int, size: int, drop_last: bool) -> int:
    (updates,) = settings(drop_last=drop_last).lay_out(images, size, 1).updates
    return updates


def batches(images: int, size: int, seed: int, epoch: int, drop_last: bool) -> tuple[Tensor, ...]:
    return epochs_batches.batches(images, size, updates_per_epoch(images, size, drop_last), seed, epoch)


def random_data(images: int = 150, side: int = 28, channels: int = 1) -> Dataset:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (images + 33, channels, side, side), dtype=np.uint8)
    y = rng.integers(0, 10, images + 33)
    return Dataset("noise", 10, x[:images], y[:images], x[images:], y[images:])


class SoftmaxRegression(nn.Module):
    """Logits in float64, whatever the images are: figures can then be compared at float64's precision."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(10, inputs, generator=draw, dtype=torch.float64) / inputs**0.5)
        self.bias = nn.Parameter(torch.randn(10, generator=draw, dtype=torch.float64))

    def forward(self, images: Tensor) -> Tensor:
        return images.double().flatten(1) @ self.weight.T + self.bias


def arrays(model: nn.Module) -> dict[str, np.ndarray]:
    return {name: p.detach().numpy().copy() for name, p in model.named_parameters()}


def lenet5(seed: int = 0, *, batch_norm: bool = True) -> nn.Module:
    with seeds.seeded(seed, "initialisation"):
        return build(ModelSpec("lenet5", (1, 28, 28), 10, batch_norm))


def run(model: nn.Module, data: Dataset, **changes) -> TrainResult:
    """Train for a moment: two epochs at a batch size of 50."""
    arguments = {"batch_size": 50, "epochs": 2, "seed": 0} | {
        key: changes.pop(key) for key in ("batch_size", "epochs", "seed") if key in changes
    }
    return train(model, data, settings(**changes), **arguments, device="cpu")


# --- images, schedule, streams ----------------------------------------------------------------------------------------


def check_inputs(dtype: torch.dtype, tolerance: float, variant: str) -> None:
    data = random_data(20, side=5, channels=3)
    data.x_train[:, 1] //= 2
    found = split_images(data, "test", "cpu").inputs(slice(3, 9), dtype)
    known = torch.from_numpy(oracles.normalised(data.x_test[3:9], data.x_train, variant))
    torch.testing.assert_close(found, known.to(dtype), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, DIRECT), (torch.float32, SINGLE)])
def test_inputs_are_normalised_by_the_training_set(dtype: torch.dtype, tolerance: float) -> None:
    check_inputs(dtype, tolerance, "right")
    with pytest.raises(AssertionError):
        check_inputs(dtype, tolerance, "statistics an image")


def test_the_schedule_ends_exactly() -> None:
    rates = cosine(0.1, 1e-4, 480)
    assert (len(rates), rates[0], rates[-1]) == (480, 0.1, 1e-4)
    angles = np.arange(480) * np.pi / 479
    known = 1e-4 + (0.1 - 1e-4) * (1 + np.cos(angles)) / 2
    torch.testing.assert_close(rates, known.tolist(), rtol=DIRECT, atol=0)


@given(start=st.floats(1e-3, 1), end=st.floats(1e-6, 1e-3), updates=st.integers(0, 50))
@example(start=0.01, end=0.001, updates=1)  # 0.001 + (0.01 - 0.001) is not 0.01
def test_any_schedule_falls_from_its_start_to_its_end(start: float, end: float, updates: int) -> None:
    rates = cosine(start, end, updates)
    assert len(rates) == updates
    assert rates[:1] == [start][:updates]  # of one update too
    assert updates < 2 or rates[-1] == end
    assert rates == sorted(rates, reverse=True)


def test_streams_differ_by_name_and_repeat() -> None:
    names = [(0,), (1,), (0, "order"), (0, "order", 1), (0, "order", 2), (1, "order", 1), ("order", 0, 1)]
    draws = [torch.rand(3, generator=seeds.generator(*name)).tolist() for name in names]
    assert len({tuple(draw) for draw in draws}) == len(names)
    assert draws == [torch.rand(3, generator=seeds.generator(*name)).tolist() for name in names]
    assert seeds.stream_seed(0, "initialisation") == 0x3634B8ACC8F54BCF >> 1  # sha256sum of 0/initialisation


def test_a_seeded_block_leaves_the_global_stream_alone() -> None:
    torch.manual_seed(5)
    known = torch.rand(4).tolist()
    torch.manual_seed(5)
    first = torch.rand(2).tolist()
    with seeds.seeded(0, "block"):
        inside = torch.rand(2).tolist()
    assert first + torch.rand(2).tolist() == known
    torch.manual_seed(6)
    with seeds.seeded(0, "block"):
        assert torch.rand(2).tolist() == inside


# --- order of the data ------------------------------------------------------------------------------------------------


@given(images=st.integers(1, 200), size=st.integers(1, 200), drop_last=st.booleans(), seed=st.integers(0, 9))
def test_every_image_comes_once_an_epoch(images: int, size: int, drop_last: bool, seed: int) -> None:
    size = min(size, images)
    found = [batch.tolist() for batch in batches(images, size, seed, 1, drop_last)]
    seen = [index for batch in found for index in batch]
    assert len(seen) == len(set(seen)) == (images // size * size if drop_last else images)
    assert set(seen) <= set(range(images))
    assert len(found) == updates_per_epoch(images, size, drop_last)
    assert all(len(batch) == size for batch in found[:-1])


def test_the_order_depends_on_seed_and_epoch_and_not_on_the_batch_size() -> None:
    def order(size: int, seed: int, epoch: int) -> list[int]:
        return torch.cat(list(batches(100, size, seed, epoch, drop_last=False))).tolist()

    assert order(10, 0, 1) == order(33, 0, 1) == order(100, 0, 1)
    assert len({tuple(order(10, seed, epoch)) for seed in (0, 1) for epoch in (1, 2)}) == 4
    assert order(10, 0, 1) != list(range(100))


@pytest.mark.parametrize(("drop_last", "updates"), [(False, 4), (True, 3)])
def test_updates_are_counted(drop_last: bool, updates: int) -> None:
    assert updates_per_epoch(150, 40, drop_last) == updates
    result = run(SoftmaxRegression(16), random_data(side=4), batch_size=40, drop_last=drop_last)
    assert [row["updates"] for row in result.history] == [updates, 2 * updates]
    assert (result.final["updates"], result.final["epochs_run"]) == (2 * updates, 2)
    assert result.history[-1]["lr"] == 1e-4


# --- repeatability ----------------------------------------------------------------------------------------------------


class WithDropout(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Dropout(0.5), nn.Linear(784, 10))


def trained(make: Callable[[], nn.Module], seed: int) -> dict[str, Tensor]:
    with seeds.seeded(seed, "initialisation"):
        model = make()
    torch.rand(1)  # whatever else draws from the global stream
    run(model, random_data(), seed=seed)
    return model.state_dict()


def classic() -> nn.Module:
    return build(ModelSpec("lenet5", (1, 28, 28), 10, batch_norm=True))


@pytest.mark.parametrize("make", [classic, WithDropout])
def test_a_seed_gives_its_bits_and_another_seed_others(make: Callable[[], nn.Module]) -> None:
    first, again, other = (trained(make, seed) for seed in (0, 0, 1))
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    for name, weights in first.items():
        if weights.is_floating_point():
            assert not weights.equal(other[name])


def test_the_order_of_the_data_matters() -> None:
    same_start = [lenet5(), lenet5()]
    for seed, model in enumerate(same_start):
        run(model, random_data(), seed=seed)
    assert not same_start[0].head.weight.equal(same_start[1].head.weight)


def test_batch_sizes_of_one_seed_share_their_initial_weights() -> None:
    starts = []
    for size in (50, 75):
        torch.rand(size)  # whatever else has drawn from the global stream
        model = lenet5(3)
        starts.append({name: value.clone() for name, value in model.state_dict().items()})
        result = run(model, random_data(), seed=3, batch_size=size, lr_start=0.0, lr_end=0.0)
        assert result.final["distance_from_initial"] == 0  # so training starts from what was built
    torch.testing.assert_close(*starts, rtol=0, atol=0)
    assert not lenet5(4).head.weight.equal(lenet5(3).head.weight)


# --- updates against numpy --------------------------------------------------------------------------------------------


def check_sgd(decay: str, variant: str, epochs: int = 2) -> None:
    data = random_data(30, side=4)
    model = SoftmaxRegression(16)
    start, images = arrays(model), split_images(data, "train", "cpu")
    changes = {"momentum": 0.9, "weight_decay": 0.3, "decay": decay, "lr_start": 0.2, "lr_end": 0.05}
    run(model, data, batch_size=20, epochs=epochs, **changes)

    def gradients() -> Iterator:
        for epoch in range(1, epochs + 1):
            for index in batches(30, 20, 0, epoch, drop_last=False):
                x, y = images.inputs(index).double().flatten(1).numpy(), images.labels[index].numpy()
                yield lambda weights, x=x, y=y: oracles.softmax_regression_gradient(weights, x, y)

    known = oracles.sgd(
        start,
        gradients(),
        cosine(0.2, 0.05, 2 * epochs),
        momentum=0.9,
        weight_decay=0.3,
        decayed=["weight"] if decay == "weights" else ["weight", "bias"],
        variant=variant,
    )
    for name, found in arrays(model).items():
        torch.testing.assert_close(found, known[name], rtol=DIRECT, atol=DIRECT)


@pytest.mark.parametrize("decay", ["weights", "all"])
def test_updates_are_those_of_sgd_by_hand(decay: str) -> None:
    check_sgd(decay, "right")


@pytest.mark.parametrize(
    "variant", ["decay of every parameter", "decay of lambda w^2", "no momentum", "dampened", "Nesterov"]
)
def test_updates_are_not_those_of(variant: str) -> None:
    with pytest.raises(AssertionError):
        check_sgd("weights", variant)


def test_decay_covers_exactly_the_kernels_or_everything() -> None:
    model = lenet5()
    kernels = {
        "conv1.layer.weight",
        "conv2.layer.weight",
        "dense.0.layer.weight",
        "dense.1.layer.weight",
        "head.weight",
    }
    everything = {name for name, _ in model.named_parameters()}
    assert [set(part) for part in decayed_parameters(model, "weights")] == [kernels, everything - kernels]
    assert [set(part) for part in decayed_parameters(model, "all")] == [everything, set()]
    result = run(model, random_data(60), batch_size=30, epochs=1)
    assert set(result.final["decayed_parameters"]) == kernels


@pytest.mark.parametrize("decay", ["weights", "all"])
def test_penalty_is_half_lambda_times_the_decayed_squares(decay: str) -> None:
    model = SoftmaxRegression(16)
    weights = arrays(model)
    covered = [weights["weight"]] if decay == "weights" else list(weights.values())
    found = penalty(model, settings(decay=decay, weight_decay=0.03))
    torch.testing.assert_close(found, oracles.half_squares(covered, 0.03), rtol=DIRECT, atol=0)
    for wrong in (oracles.half_squares(covered, 0.03, "Keras"), oracles.half_squares([weights["bias"]], 0.03)):
        with pytest.raises(AssertionError):
            torch.testing.assert_close(found, wrong, rtol=1e-3, atol=0)


def test_distance_is_the_norm_over_all_parameters() -> None:
    model = SoftmaxRegression(16)
    flat = np.concatenate([a.ravel() for a in arrays(model).values()])
    torch.testing.assert_close(distance(model), float(np.linalg.norm(flat)), rtol=DIRECT, atol=0)
    origin = [torch.full_like(p, 0.5) for p in model.parameters()]
    torch.testing.assert_close(distance(model, origin), float(np.linalg.norm(flat - 0.5)), rtol=DIRECT, atol=0)


# --- evaluation -------------------------------------------------------------------------------------------------------


def logits_by_hand(model: SoftmaxRegression, images: Images) -> np.ndarray:
    weights = arrays(model)
    return images.inputs(slice(None)).double().flatten(1).numpy() @ weights["weight"].T + weights["bias"]


@pytest.mark.parametrize("batch", [1, 20, 103, 1000])
def test_evaluation_equals_the_whole_set_at_once(batch: int) -> None:
    images, model = split_images(random_data(103, side=4), "train", "cpu"), SoftmaxRegression(16)
    found = evaluate(model, images, batch)
    logits, labels = logits_by_hand(model, images), images.labels.numpy()
    known = oracles.error_and_cross_entropy(logits, labels, batch)
    torch.testing.assert_close(found, known, rtol=DIRECT, atol=0)
    if batch == 20:  # a last batch of three
        wrong = oracles.error_and_cross_entropy(logits, labels, batch, "mean of batch means")
        for measured, shortcut in zip(found, wrong, strict=True):
            assert abs(measured - shortcut) > 1e-3 * measured


def test_a_row_of_nan_is_an_error() -> None:
    images, model = split_images(random_data(40, side=4), "train", "cpu"), SoftmaxRegression(16)
    with torch.no_grad():
        model.bias[0] = torch.nan
    error, entropy = evaluate(model, images, 16)
    assert error == 100
    assert np.isnan(entropy)


def test_final_figures_are_those_of_the_model_that_is_left() -> None:
    data, model = random_data(103, side=4), SoftmaxRegression(16)
    start = arrays(model)
    result = run(model, data, weight_decay=0.01, eval_batch=25)
    final, left = result.final, arrays(model)
    half = oracles.half_squares([left["weight"]], 0.01)
    for split in ("train", "test"):
        images = split_images(data, split, "cpu")
        error, entropy = oracles.error_and_cross_entropy(logits_by_hand(model, images), images.labels.numpy(), 25)
        for suffix in ("", "_running"):  # no batch norm: both are the same
            found = [final[f"{split}_{figure}{suffix}"] for figure in ("error_pct", "cross_entropy", "loss")]
            torch.testing.assert_close(found, [error, entropy, entropy + half], rtol=DIRECT, atol=0)
    flat, first = (np.concatenate([a.ravel() for a in weights.values()]) for weights in (left, start))
    torch.testing.assert_close(
        [final["penalty"], final["weight_norm"], final["distance_from_initial"]],
        [half, float(np.linalg.norm(flat)), float(np.linalg.norm(flat - first))],
        rtol=DIRECT,
        atol=0,
    )


def test_history_watches_the_same_images_in_every_run() -> None:
    data, model = random_data(103, side=4), SoftmaxRegression(16)
    watched = torch.randperm(103, generator=seeds.generator("history"))[:40]
    images = split_images(data, "train", "cpu").subset(watched)
    for seed in (0, 1):
        result = run(model, data, seed=seed, history_images=40, epochs=1)
        error, entropy = oracles.error_and_cross_entropy(logits_by_hand(model, images), images.labels.numpy(), 40)
        (row,) = result.history
        found = [row["train_error_pct_running"], row["train_cross_entropy_running"]]
        torch.testing.assert_close(found, [error, entropy], rtol=DIRECT, atol=0)


# --- batch norm -------------------------------------------------------------------------------------------------------


class Normed(nn.Module):
    """Two dense layers with batch norm, in float64."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(16, 6, bias=False), nn.Linear(6, 10, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm1d(6), nn.BatchNorm1d(10)])
        self.double()

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.norms[0](self.first(images.double().flatten(1))).relu()
        return self.norms[1](self.second(hidden))


def check_updates_with_batch_norm(variant: str) -> None:
    """Two epochs, with an evaluation after each that must leave no trace in what follows."""
    with seeds.seeded(0, "test"):
        model = Normed()
    data, plain = random_data(60, side=4), copy.deepcopy(model)
    result = run(model, data, batch_size=20, momentum=0.9, weight_decay=0.0, lr_start=0.1, lr_end=0.01)
    images, rates = split_images(data, "train", "cpu"), iter(cosine(0.1, 0.01, 6))
    optimizer = torch.optim.SGD(plain.parameters(), momentum=0.9)
    for epoch in (1, 2):
        plain.train(variant == "right" or epoch == 1)
        for index in batches(60, 20, 0, epoch, drop_last=False):
            optimizer.param_groups[0]["lr"] = next(rates)
            optimizer.zero_grad()
            cross_entropy(plain(images.inputs(index)), images.labels[index]).backward()
            optimizer.step()
    torch.testing.assert_close(
        dict(model.named_parameters()), dict(plain.named_parameters()), rtol=1e-9, atol=DIRECT
    )  # batch norm divides by small deviations
    known = {name: value for name, value in plain.named_buffers() if name in result.as_trained}
    torch.testing.assert_close(result.as_trained, known, rtol=1e-9, atol=DIRECT)


def test_every_update_uses_the_statistics_of_its_batch() -> None:
    check_updates_with_batch_norm("right")
    with pytest.raises(AssertionError):
        check_updates_with_batch_norm("eval mode after the first epoch")


def check_statistics(variant: str) -> None:
    with seeds.seeded(0, "test"):
        model = Normed()
    images = split_images(random_data(103, side=4), "train", "cpu")
    reestimate_batch_norm(model, images, 25)
    assert not model.training
    inputs = images.inputs(slice(None)).double().flatten(1).numpy()
    weights = [layer.weight.detach().numpy() for layer in (model.first, model.second)]
    known = oracles.batch_norm_statistics(inputs, weights, 25, variant)
    for norm, (mean, variance) in zip(model.norms, known, strict=True):
        torch.testing.assert_close(norm.running_mean.numpy(), mean, rtol=1e-9, atol=DIRECT)
        torch.testing.assert_close(norm.running_var.numpy(), variance, rtol=1e-9, atol=0)
        assert norm.momentum == 0.1


def test_reestimated_statistics_are_means_over_equal_batches() -> None:
    check_statistics("right")


@pytest.mark.parametrize("variant", ["biased variance", "unequal batches", "momentum 0.1"])
def test_reestimated_statistics_are_not(variant: str) -> None:
    with pytest.raises(AssertionError):
        check_statistics(variant)


def test_statistics_are_reestimated_on_images_moved_as_in_training() -> None:
    data = random_data(60, side=4)
    with seeds.seeded(0, "test"):
        model = Normed()
    run(model, data, seed=3, augment=True, eval_batch=30)
    images = split_images(data, "train", "cpu")
    augmentation = Augmentation.drawn(60, "cpu", seeds.generator(3, "batch norm"))
    seen = [images.inputs(slice(None), augmentation=drawn).double().flatten(1) for drawn in (augmentation, None)]
    moved, still = (model.first(inputs).mean(0).detach() for inputs in seen)
    torch.testing.assert_close(model.norms[0].running_mean, moved, rtol=1e-9, atol=DIRECT)
    assert not torch.allclose(still, moved, rtol=1e-3)


def test_figures_are_given_for_both_statistics_and_the_model_keeps_the_reestimated() -> None:
    data = random_data(103, side=4)
    with seeds.seeded(0, "test"):
        model = Normed()
    result = run(model, data, eval_batch=25)
    images = split_images(data, "train", "cpu")
    torch.testing.assert_close(evaluate(model, images, 25)[1], result.final["train_cross_entropy"], rtol=0, atol=0)
    assert set(result.as_trained) == {f"norms.{i}.running_{kind}" for i in (0, 1) for kind in ("mean", "var")}
    for name, kept in model.named_buffers():
        assert name not in result.as_trained or not kept.equal(result.as_trained[name])
    model.load_state_dict(result.as_trained, strict=False)
    running = evaluate(model, images, 25)[1]
    torch.testing.assert_close(running, result.final["train_cross_entropy_running"], rtol=0, atol=0)
    assert running != result.final["train_cross_entropy"]


# --- what cannot be trained -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, -1, 151])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_a_batch_size_outside_the_training_set_raises(size: int, batch_norm: bool) -> None:
    with pytest.raises(InputError, match=rf"batch_size .*150.*{size}"):
        run(lenet5(batch_norm=batch_norm), random_data(), batch_size=size)


@pytest.mark.parametrize("size", [1, 149, 2])
def test_a_batch_of_one_image_raises_where_there_is_batch_norm(size: int) -> None:
    images = 151 if size == 2 else 150
    with pytest.raises(InputError, match=f"batch_size {size} .*{images}"):
        run(Normed(), random_data(images, side=4), batch_size=size)


@pytest.mark.parametrize(("size", "drop_last"), [(149, True), (148, False), (150, False)])
def test_the_remedies_for_a_batch_of_one_image_work(size: int, drop_last: bool) -> None:
    assert run(Normed(), random_data(side=4), batch_size=size, drop_last=drop_last, epochs=1).status == "ok"


@pytest.mark.parametrize("size", [1, 149])
def test_without_batch_norm_a_batch_of_one_image_is_fine(size: int) -> None:
    assert run(SoftmaxRegression(16), random_data(side=4), batch_size=size, epochs=1).status == "ok"


@pytest.mark.parametrize(
    "make", [lenet5, lambda: lenet5(batch_norm=False), lambda: SoftmaxRegression(784)], ids=["norm", "plain", "convex"]
)
def test_a_loss_that_is_not_finite_ends_the_run(make: Callable[[], nn.Module]) -> None:
    result = run(make(), random_data(), lr_start=1e30, epochs=5)
    assert result.status == "diverged"
    assert result.final["epochs_run"] == len(result.history) < 5
    assert result.final["updates"] == 3 * len(result.history)
    assert not np.isfinite(result.final["train_loss_running"])


@pytest.mark.parametrize(("patience", "epochs"), [(None, 9), (1, 3), (3, 5)])
def test_training_ends_once_its_loss_ceases_to_fall(
    patience: int | None, epochs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = iter([3.0, 1.0, 1.0, 2.0, 1.5, 1.2, 1.1, 0.5, 0.4])  # the least so far is epoch 2's, until epoch 8
    metrics = loop.evaluation_metrics
    told = lambda *args, **how: metrics(*args, **how) | {"train_cross_entropy_running": next(losses, 9.0)}  # noqa: E731
    monkeypatch.setattr(loop, "evaluation_metrics", told)
    assert run(lenet5(), random_data(), patience=patience, epochs=9).final["epochs_run"] == epochs


def test_an_unknown_decay_raises() -> None:
    with pytest.raises(InputError, match=r"weights, all.*'biases'"):
        settings(decay="biases")


def test_no_epoch_raises() -> None:
    with pytest.raises(InputError, match="epochs"):
        train(lenet5(), random_data(), settings(), batch_size=50, epochs=0, seed=0, device="cpu")


@pytest.mark.parametrize("wrong", [{"eval_batch": 1}, {"history_images": 0}, {"history_rows": 0}])
def test_sizes_that_cannot_be_raise(wrong: dict) -> None:
    with pytest.raises(InputError, match=f"train.evaluation.{next(iter(wrong))} must be"):
        settings(**wrong)


def test_dropout_is_off_while_statistics_are_reestimated() -> None:
    images = split_images(random_data(60, side=4), "train", "cpu")
    norms = []
    for probability in (0.0, 0.5):
        with seeds.seeded(0, "test"):
            parts = [nn.Flatten(), nn.Linear(16, 6), nn.Dropout(probability), nn.BatchNorm1d(6)]
        model = nn.Sequential(*parts)
        before = torch.get_rng_state()
        reestimate_batch_norm(model, images, 25)
        assert torch.equal(torch.get_rng_state(), before)
        norms.append(model[3])
    assert torch.equal(norms[0].running_var, norms[1].running_var)
    assert norms[1].momentum == 0.1
    assert not norms[1].training
