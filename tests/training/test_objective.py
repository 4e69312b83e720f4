"""The loss as a function of the weights, against plain autograd on the whole batch."""

import oracles
import pytest
import torch
from torch import Tensor, nn

from gapscope import seeds
from gapscope.data.images import Images
from gapscope.errors import InputError
from gapscope.models.lenet5 import LeNet5
from gapscope.numerics.loss_surface.curvature import hessian_eigenvalues, hessian_trace
from gapscope.numerics.loss_surface.hessian_products import gauss_newton, hessian
from gapscope.numerics.loss_surface.noise_scale import noise_scale
from gapscope.training.objective import Objective

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
    with pytest.raises(InputError, match=f"{count} images was requested; there are {COUNT}"):
        Objective.of_images(lenet5, images, count, 5)


@pytest.fixture
def small(images: Images) -> nn.Module:
    """A network of 56 weights with batch norm and dropout, whose Hessian can be written out."""
    with seeds.seeded(0, "test"):
        model = nn.Sequential(
            nn.AvgPool2d(7),
            nn.Conv2d(1, 2, 3),
            nn.BatchNorm2d(2),
            nn.Tanh(),
            nn.Dropout(0.5),
            nn.Flatten(),
            nn.Linear(8, 3),
        )
        model[2].running_mean.normal_(0, 0.1)
        model[2].running_var.uniform_(0.5, 2)
    images.labels.remainder_(3)
    return model


def batch_statistics(model: nn.Module) -> nn.Module:
    """The same in float64, batch norm in training mode, dropout off."""
    model = model.double().eval()
    model[2].train()
    return model


@pytest.mark.parametrize("kind", ["hessian", "gauss-newton"])
@pytest.mark.parametrize(("batch_norm", "micro_batch"), [("running", 6), ("running", 50), ("batch", COUNT)])
def test_products_equal_the_dense_matrix(
    small: nn.Module, images: Images, kind: str, batch_norm: str, micro_batch: int
) -> None:
    objective = Objective.of_images(small, images, None, micro_batch, batch_norm_statistics=batch_norm)
    x = objective.weights()
    product = {"hessian": objective.hvp, "gauss-newton": objective.gnvp}
    found = {
        name: torch.stack([times(x, v) for v in torch.eye(len(x), dtype=x.dtype)]) for name, times in product.items()
    }
    reference = small.double().eval() if batch_norm == "running" else batch_statistics(small)
    known = oracles.dense_hessian(reference, images.inputs(slice(None), torch.float64), images.labels, kind)
    scale = DIRECT * known.abs().max().item()
    torch.testing.assert_close(found.pop(kind), known, rtol=0, atol=scale)
    with pytest.raises(AssertionError):  # the other matrix
        torch.testing.assert_close(found.popitem()[1], known, rtol=0, atol=scale)


def test_batch_norm_with_the_batch_s_own_statistics(small: nn.Module, images: Images) -> None:
    parts = Objective.of_images(small, images, None, 11, batch_norm_statistics="batch")  # 8 + 8 + 7
    whole = Objective.of_images(small, images, None, COUNT, batch_norm_statistics="batch")
    running = Objective.of_images(small, images, None, COUNT)
    before = {name: value.clone() for name, value in small.state_dict().items()}
    found = [value_and_gradient(objective, objective.weights()) for objective in (parts, whole, running)]
    torch.testing.assert_close(dict(small.state_dict()), before, rtol=0, atol=0)  # statistics are not updated

    reference, inputs = batch_statistics(small), images.inputs(slice(None), torch.float64)
    weights = torch.tensor([8, 8, 7], dtype=torch.float64) / COUNT
    losses = [
        nn.functional.cross_entropy(reference(x), y)
        for x, y in zip(inputs.split(8), images.labels.split(8), strict=True)
    ]
    known = weights @ torch.stack(losses)
    gradient = torch.cat([g.flatten() for g in torch.autograd.grad(known, list(reference.parameters()))])
    torch.testing.assert_close(found[0][0], known.detach(), rtol=DIRECT, atol=0)
    torch.testing.assert_close(found[0][1], gradient, rtol=DIRECT, atol=DIRECT)
    values = [value.item() for value, _ in found]
    assert min(abs(values[0] - values[1]), abs(values[1] - values[2]), abs(values[0] - values[2])) > 1e-3


def test_conditions_are_for_the_record(small: nn.Module, images: Images) -> None:
    objective = Objective.of_images(small, images, 9, 8, torch.float32)
    assert objective.conditions() == {"images": 9, "batch_norm": "running", "precision": "float32"}
    objective = Objective.of_images(small, images, 9, 8, batch_norm_statistics="batch")  # 5 + 4, not 8 + 1
    assert objective.conditions()["batch_norm"] == "statistics of batches of 5"
    with pytest.raises(InputError, match="batch_norm_statistics must be one of"):
        Objective.of_images(small, images, 9, 8, batch_norm_statistics="train")


@pytest.mark.parametrize("micro_batch", [2, 7, 50])
def test_gradients_of_disjoint_batches(small: nn.Module, images: Images, micro_batch: int) -> None:
    objective = Objective.of_images(small, images, None, micro_batch)
    order = torch.randperm(COUNT, generator=torch.Generator().manual_seed(1))
    inputs = images.inputs(slice(None), torch.float64)
    for places in (None, order):
        found = list(objective.gradients(objective.weights(), 7, places))
        assert len(found) == COUNT // 7
        for gradient, batch in zip(found, (torch.arange(COUNT) if places is None else places).split(7)):
            _, known = oracles.plain_loss_and_gradient(small, inputs[batch], images.labels[batch])
            torch.testing.assert_close(gradient, known, rtol=DIRECT, atol=DIRECT)
    with pytest.raises(InputError, match=r"\b24\b"):
        next(objective.gradients(objective.weights(), 24))


def test_measures_take_an_objective(small: nn.Module, images: Images) -> None:
    objective = Objective.of_images(small, images, None, 6)
    x, inputs = objective.weights(), images.inputs(slice(None), torch.float64)
    model, draw = small.double().eval(), torch.Generator().manual_seed(0)
    for kind, operator in (("hessian", hessian), ("gauss-newton", gauss_newton)):
        known = torch.linalg.eigvalsh(oracles.dense_hessian(model, inputs, images.labels, kind))
        for which, ends in (("LA", [-1, -2]), ("SA", [1, 0]))[: 2 if kind == "hessian" else 1]:  # zero ends: see there
            found = hessian_eigenvalues(
                objective, x, 2, which=which, operator=operator, tolerance=1e-10, generator=draw
            )
            assert found.values == pytest.approx(known[ends].tolist(), rel=1e-9, abs=1e-9)
        trace = hessian_trace(objective, x, operator=operator, probes=100, generator=draw)
        assert abs(trace.value - known.sum().item()) <= 4 * trace.standard_error
    scale = noise_scale(lambda: objective.gradients(x, 4), 4)
    assert (scale.batches, scale.batch_size) == (5, 4)


@pytest.mark.parametrize("micro_batch", [5, 50])
def test_loss_and_error(small: nn.Module, images: Images, micro_batch: int) -> None:
    objective = Objective.of_images(small, images, None, micro_batch)
    loss, error = objective.loss_and_error(objective.weights())
    logits = small.double().eval()(images.inputs(slice(None), torch.float64)).detach().numpy()
    known = oracles.error_and_cross_entropy(logits, images.labels.numpy(), 5)
    torch.testing.assert_close((error, loss), known, rtol=DIRECT, atol=0)
    wrong = oracles.error_and_cross_entropy(logits, images.labels.numpy(), 5, "mean of batch means")
    with pytest.raises(AssertionError):
        torch.testing.assert_close((error, loss), wrong, rtol=DIRECT, atol=0)


def test_outputs_that_are_nan_are_errors(lenet5: LeNet5, images: Images) -> None:
    objective = Objective.of_images(lenet5, images, None, 10)
    _, error = objective.loss_and_error(objective.weights() * torch.nan)
    assert error == 100
