"""The loss as a function of the weights, against plain autograd on the whole batch."""

import oracles
import pytest
import torch
from torch import Tensor, nn

from gapscope import seeds
from gapscope.errors import InputError
from gapscope.images import Images
from gapscope.models.lenet5 import LeNet5
from gapscope.objective import Objective

DIRECT = 1e-12  # float64 sums in another order, relative to the largest entry
COUNT = 23


@pytest.fixture
def lenet5() -> LeNet5:
    """A small float32 LeNet-5, with running statistics that are neither initial nor those of the images."""
    with seeds.seeded(0, "test"):
        model = LeNet5((1, 28, 28), 10, channels=(3, 4), dense=(7, 5))
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 2)
    return model


@pytest.fixture
def images() -> Images:
    draw = torch.Generator().manual_seed(0)
    return Images(
        torch.randint(0, 256, (COUNT, 1, 28, 28), generator=draw, dtype=torch.uint8),
        torch.randint(0, 10, (COUNT,), generator=draw),
        torch.tensor([0.4]),
        torch.tensor([0.3]),
    )


def value_and_gradient(objective: Objective, x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.clone().requires_grad_()
    value = objective(x)
    (gradient,) = torch.autograd.grad(value, x)
    return value.detach(), gradient


def check(model: nn.Module, images: Images, micro_batch: int, variant: str = "right") -> None:
    objective = Objective.of_images(model, images, None, micro_batch)
    found = value_and_gradient(objective, objective.weights())
    inputs = images.inputs(slice(None), torch.float64)
    known = oracles.plain_loss_and_gradient(model, inputs, images.labels, variant)
    for measured, expected in zip(found, known, strict=True):
        assert measured.dtype == torch.float64
        torch.testing.assert_close(measured, expected, rtol=DIRECT, atol=DIRECT * expected.abs().max().item())


@pytest.mark.parametrize("micro_batch", [1, 5, COUNT, 1000])
def test_value_and_gradient_equal_plain_autograd(lenet5: LeNet5, images: Images, micro_batch: int) -> None:
    check(lenet5, images, micro_batch)


@pytest.mark.parametrize("variant", ["mean of batch means", "train mode", "weight penalty"])
def test_value_and_gradient_are_not(lenet5: LeNet5, images: Images, variant: str) -> None:
    with pytest.raises(AssertionError):
        check(lenet5, images, 5, variant)


def test_dropout_is_off(images: Images) -> None:
    with seeds.seeded(0, "test"):
        model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(784, 10))
    check(model.train(), images, 5)


def test_other_weights_give_the_loss_of_a_model_with_them(lenet5: LeNet5, images: Images) -> None:
    objective = Objective.of_images(lenet5, images, None, 10)
    moved = objective.weights() + 0.1 * torch.randn(
        len(objective.weights()), generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    found = value_and_gradient(objective, moved)
    lenet5 = lenet5.double()
    torch.nn.utils.vector_to_parameters(moved, lenet5.parameters())
    known = oracles.plain_loss_and_gradient(lenet5, images.inputs(slice(None), torch.float64), images.labels)
    for measured, expected in zip(found, known, strict=True):
        torch.testing.assert_close(measured, expected, rtol=DIRECT, atol=DIRECT * expected.abs().max().item())


def test_the_model_is_not_changed(lenet5: LeNet5, images: Images) -> None:
    before = {name: value.clone() for name, value in lenet5.state_dict().items()}
    objective = Objective.of_images(lenet5, images, None, 10)
    value_and_gradient(objective, objective.weights() + 0.1)
    torch.testing.assert_close(dict(lenet5.state_dict()), before, rtol=0, atol=0)  # also checks that it stays float32
    assert all(p.grad is None for p in lenet5.parameters())


def test_weights_are_the_parameters_in_order_and_exact(lenet5: LeNet5, images: Images) -> None:
    weights = Objective.of_images(lenet5, images, None, 10).weights()
    assert weights.dtype == torch.float64
    assert weights.tolist() == [value for p in lenet5.parameters() for value in p.flatten().tolist()]


def test_a_value_needs_no_gradient(lenet5: LeNet5, images: Images) -> None:
    objective = Objective.of_images(lenet5, images, None, 10)
    plain = objective(objective.weights())
    assert not plain.requires_grad
    value, _ = value_and_gradient(objective, objective.weights())
    assert plain.item() == value.item()
    assert objective.evaluations == 2


def test_the_gradient_is_scaled_by_what_follows(lenet5: LeNet5, images: Images) -> None:
    objective = Objective.of_images(lenet5, images, None, 10)
    x = objective.weights().requires_grad_()
    _, gradient = value_and_gradient(objective, objective.weights())
    (tripled,) = torch.autograd.grad(3 * objective(x), x)
    torch.testing.assert_close(tripled, 3 * gradient, rtol=DIRECT, atol=0)


def test_a_second_derivative_raises_and_is_not_zero(lenet5: LeNet5, images: Images) -> None:
    objective = Objective.of_images(lenet5, images, None, 10)
    x = objective.weights()
    with pytest.raises(RuntimeError, match="once"):
        torch.autograd.functional.hvp(objective, x, torch.ones_like(x))


def test_a_subset_is_the_same_for_every_model(lenet5: LeNet5, images: Images) -> None:
    subset = torch.randperm(COUNT, generator=seeds.generator("objective", "subset"))[:9]
    other = LeNet5((1, 28, 28), 10, channels=(2, 3), dense=(4,))
    for model in (lenet5, other):
        objective = Objective.of_images(model, images, 9, 4)
        known, _ = oracles.plain_loss_and_gradient(model, images.inputs(subset, torch.float64), images.labels[subset])
        torch.testing.assert_close(objective(objective.weights()), known, rtol=DIRECT, atol=0)


@pytest.mark.parametrize("count", [0, COUNT + 1])
def test_a_count_that_there_is_not_raises(lenet5: LeNet5, images: Images, count: int) -> None:
    with pytest.raises(InputError, match=f"{count} images was asked for; there are {COUNT}"):
        Objective.of_images(lenet5, images, count, 5)
