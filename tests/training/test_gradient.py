"""One batch's gradient in parts, against the whole batch at once; augmentation against a slow reference."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_training import random_data, settings
from torch import Tensor, nn

from gapscope import seeds
from gapscope.data.images import PADDING, Augmentation, Images, split_images
from gapscope.errors import InputError
from gapscope.models.lenet5 import LeNet5
from gapscope.tasks.classification import Classification
from gapscope.tasks.task import Batch
from gapscope.training.gradient import backward, needs_recomputation, recompute_units
from gapscope.training.loop import train

BATCH = torch.arange(37)


def network(batch_norm: bool) -> nn.Module:
    with seeds.seeded(0, "test"):
        return LeNet5((1, 28, 28), 10, channels=(3, 4), dense=(7,), batch_norm=batch_norm)


class Float64Images(Images):
    """In float64, so that sums in another order differ by 1e-15 only."""

    def inputs(self, index, dtype=torch.float64, augmentation=None) -> Tensor:
        return super().inputs(index, torch.float64, augmentation)


def images() -> Float64Images:
    plain = split_images(random_data(60), "train", "cpu")
    return Float64Images(plain.images, plain.labels, plain.mean, plain.std)


def gradients(model: nn.Module, **changes) -> dict[str, Tensor]:
    model = copy.deepcopy(model).double().train()
    with recompute_units(model, needs_recomputation(model, settings(**changes))):
        backward(model, images(), BATCH, settings(**changes))
    buffers = {name: buffer.double() for name, buffer in model.named_buffers()}
    return {name: p.grad for name, p in model.named_parameters()} | buffers


def largest_difference(found: dict[str, Tensor], known: dict[str, Tensor]) -> float:
    assert all(known[name].abs().max() > 0 for name in known)
    return max(float((found[name] - known[name]).abs().max() / known[name].abs().max()) for name in known)


@pytest.mark.parametrize("micro_batch", [1, 10, 36, 37])
def test_without_batch_norm_micro_batches_change_nothing(micro_batch: int) -> None:
    model = network(batch_norm=False)
    assert largest_difference(gradients(model, micro_batch=micro_batch), gradients(model)) < 1e-12


def test_with_batch_norm_whole_is_exact_and_ghost_is_not() -> None:
    model = network(batch_norm=True)
    known = gradients(model)
    assert known["conv1.norm.num_batches_tracked"] == 1
    whole = gradients(model, micro_batch=10)
    assert all(torch.equal(whole[name], known[name]) for name in known)  # running statistics too, updated once
    assert largest_difference(gradients(model, micro_batch=10, micro_batch_norm="ghost"), known) > 1e-3


def test_a_mean_of_means_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network(batch_norm=False)
    known = gradients(model)

    def mean_of_means(task: Classification, outputs: Tensor, batch: Batch) -> Tensor:
        return task.mean_loss(outputs, batch) * 37 / 4  # of four parts, the last of which is smaller

    monkeypatch.setattr(Classification, "sum_loss", mean_of_means)
    assert largest_difference(gradients(model, micro_batch=10), known) > 1e-3


def test_recomputing_keeps_less() -> None:
    def kept(wanted: bool) -> int:
        model, total = network(batch_norm=True).double().train(), 0

        def count(tensor: Tensor) -> Tensor:
            nonlocal total
            total += tensor.numel()
            return tensor

        with recompute_units(model, wanted), torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            model(images().inputs(BATCH))
        return total

    assert kept(wanted=True) < kept(wanted=False) / 2


def test_the_model_is_left_as_it_was() -> None:
    model = network(batch_norm=True)
    with recompute_units(model, True):
        assert "forward" in vars(model.conv1)
    assert not any("forward" in vars(module) for module in model.modules())


def test_a_network_without_units_to_compute_twice_raises() -> None:
    bare = nn.Sequential(nn.Flatten(), nn.Linear(784, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 10))
    with pytest.raises(InputError, match="give the network `unit_layers`, or set"):
        train(bare, random_data(), settings(micro_batch=20), batch_size=40, epochs=1, seed=0, device="cpu")


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        ({"micro_batch": 41}, "train.batch.micro_batch must be at most the batch size, 40, got 41"),
        ({"micro_batch": 39, "micro_batch_norm": "ghost"}, "leaves a batch of one"),
        ({"micro_batch": 0}, "train.batch.micro_batch must be at least 1"),
        ({"compute": "float16"}, "train.precision.compute must be one of float32, bfloat16"),
    ],
)
def test_what_cannot_be_split_raises(changes: dict, hint: str) -> None:
    with pytest.raises(InputError, match=hint):
        train(network(True), random_data(), settings(**changes), batch_size=40, epochs=1, seed=0, device="cpu")


# --- augmentation -----------------------------------------------------------------------------------------------------


def slowly_moved(image: np.ndarray, row: int, column: int, mirrored: bool, variant: str = "right") -> np.ndarray:
    """Pad, crop, mirror: a pixel at a time."""
    channels, height, width = image.shape
    moved = np.zeros_like(image)
    for channel in range(channels):
        for y in range(height):
            for x in range(width):
                across = width - 1 - x if mirrored and variant != "not mirrored" else x
                from_y, from_x = y + row - PADDING, across + column - PADDING
                if 0 <= from_y < height and 0 <= from_x < width:
                    moved[channel, y, x] = image[channel, from_y, from_x]
    return moved[::-1] if variant == "channels swapped" else moved


def moved_images(variant: str) -> None:
    data = random_data(12, side=9, channels=3)
    training = split_images(data, "train", "cpu")
    augmentation = Augmentation.none(12, "cpu")
    augmentation.redraw(seeds.generator("test"))
    index = torch.tensor([3, 0, 11, 7, 1, 2, 5, 9])
    assert 0 < int(augmentation.mirrored[index].sum()) < len(index)
    slow = [
        slowly_moved(data.x_train[i], int(row), int(column), bool(mirrored), variant)
        for i in index.tolist()
        for row, column, mirrored in [(augmentation.rows[i], augmentation.columns[i], augmentation.mirrored[i])]
    ]
    known = replace(training, images=torch.from_numpy(np.stack(slow))).inputs(slice(None))
    torch.testing.assert_close(training.inputs(index, augmentation=augmentation), known, rtol=0, atol=0)


def test_moved_images_are_those_of_the_slow_reference() -> None:
    moved_images("right")


@pytest.mark.parametrize("variant", ["not mirrored", "channels swapped"])
def test_moved_images_are_not(variant: str) -> None:
    with pytest.raises(AssertionError):
        moved_images(variant)


def test_augmentation_is_uniform() -> None:
    augmentation = Augmentation.none(90_000, "cpu")
    augmentation.redraw(seeds.generator("test"))
    for part in (augmentation.rows, augmentation.columns):
        counts = np.bincount(part.numpy(), minlength=9)
        assert len(counts) == 9
        assert abs(counts - 10_000).max() < 6 * np.sqrt(10_000)
    assert abs(float(augmentation.mirrored.float().mean()) - 0.5) < 6 * 0.5 / 300


def test_augmentation_changes_training_and_repeats() -> None:
    def weights(**changes) -> Tensor:
        model = network(batch_norm=False)
        train(model, random_data(), settings(**changes), batch_size=40, epochs=2, seed=0, device="cpu")
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    assert torch.equal(weights(augment=True), weights(augment=True))
    assert not torch.equal(weights(augment=True), weights())


@pytest.mark.parametrize("changes", [{"compute": "bfloat16"}, {"channels_last": True}])
def test_precision_and_layout_train_alike(changes: dict) -> None:
    def final(**changes) -> float:
        data = random_data()
        return train(network(True), data, settings(**changes), batch_size=40, epochs=2, seed=0, device="cpu").final[
            "train_cross_entropy"
        ]

    assert final(**changes) == pytest.approx(final(), rel=0.05)
    assert changes.get("channels_last") or final(**changes) != final()
