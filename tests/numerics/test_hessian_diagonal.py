"""The Hessian's diagonal against autograd's own second derivatives, for layers of every kind."""

import math

import oracles
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear

from gapscope import seeds
from gapscope.models.lenet5 import LeNet5
from gapscope.numerics.loss_surface.hessian_diagonal import (
    hutchinson_diagonal,
    label_columns,
    sampled_columns,
    softmax_columns,
)
from gapscope.numerics.loss_surface.piecewise_linear import are_independent, curved_parameters
from gapscope.numerics.loss_surface.squared_jacobian import SquaredJacobian

DIRECT = 1e-12  # float64 sums in another order, relative to the largest entry of a tensor
STANDARD_ERRORS = 4  # of an estimate at a fixed seed
CHECKED = 6  # entries of each tensor that are differentiated twice, one by one
SHAPE, CLASSES, COUNT = (1, 28, 28), 10, 12


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def labels(count: int, classes: int) -> Tensor:
    return torch.randint(classes, (count,), generator=torch.Generator().manual_seed(1))


def made(model: nn.Module) -> nn.Module:
    """Return it in float64 and eval mode, with running statistics that are not the initial ones."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    return model.double().eval()


def lenet5(**settings: bool) -> nn.Module:
    with seeds.seeded(0, "test"):
        return made(LeNet5(SHAPE, CLASSES, **settings))


def gauss_newton(model: nn.Module, inputs: Tensor) -> dict[str, Tensor]:
    sums = SquaredJacobian(model, inputs)(inputs, softmax_columns)
    return {name: total / len(inputs) for name, total in sums.items()}


def close(found: Tensor, known: Tensor, scale: Tensor | None = None) -> None:
    limit = DIRECT * (known if scale is None else scale).abs().max().item()
    torch.testing.assert_close(found, known, rtol=0, atol=limit)


def check_against_double_backward(model: nn.Module, inputs: Tensor, targets: Tensor, variant: str) -> None:
    found = gauss_newton(model, inputs)
    for name, p in model.named_parameters():
        places = torch.randperm(p.numel(), generator=torch.Generator().manual_seed(2))[:CHECKED]
        known = oracles.diagonal_entries(model, (inputs, targets), p, places, variant)
        close(found[name].reshape(-1)[places], known, found[name])


@pytest.mark.parametrize("batch_norm", [False, True])
def test_lenet5_s_gauss_newton_diagonal_is_its_hessian_s(batch_norm: bool) -> None:
    model, inputs = lenet5(batch_norm=batch_norm), drawn(COUNT, *SHAPE)
    assert curved_parameters(model, inputs) == set()
    check_against_double_backward(model, inputs, labels(COUNT, CLASSES), "right")


@pytest.mark.parametrize("variant", ["sum of losses", "square of the gradient"])
def test_it_is_not(variant: str) -> None:
    with pytest.raises(AssertionError):
        check_against_double_backward(lenet5(), drawn(COUNT, *SHAPE), labels(COUNT, CLASSES), variant)


def test_the_columns_are_a_square_root_of_the_softmax_s_hessian() -> None:
    logits = torch.cat([drawn(5, 7), 300 * drawn(5, 7), torch.tensor([[800.0] + [0.0] * 6]).double()])
    columns, p = softmax_columns(logits), logits.softmax(1)
    assert columns.shape == (11, 6, 7)
    close(columns.mT @ columns, p.diag_embed() - p[:, :, None] * p[:, None], torch.ones(1))
    with pytest.raises(AssertionError):  # without its second term
        close(columns.mT @ columns, p.diag_embed(), torch.ones(1))


# --- layers of every kind against the dense Gauss-Newton matrix ---


class Twice(nn.Module):
    """A layer that is used twice side by side, and one that is used by its weights alone."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 3)
        self.scale = nn.Parameter(torch.ones(6))

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x).relu() + self.first(-x).relu()
        return linear(hidden * self.scale, self.second.weight, self.second.bias)


class Positions(nn.Module):
    """A dense layer along an axis of positions."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x.unflatten(1, (2, 3))).relu()).sum(1)


def images(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Unflatten(1, (2, 6, 6)), *layers, nn.Flatten(), nn.LazyLinear(3))


NETWORKS = {  # network, inputs, parameters that take no shortcut
    "dense": (lambda: nn.Sequential(nn.Linear(6, 5), nn.ReLU(inplace=True), nn.Linear(5, 3)), 6, 0),
    "batch norm": (lambda: nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3)), 6, 0),
    "tanh": (lambda: nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)), 6, 0),
    "layer norm": (lambda: nn.Sequential(nn.Linear(6, 5), nn.LayerNorm(5), nn.ReLU(), nn.Linear(5, 3)), 6, 2),
    "twice": (Twice, 6, 5),
    "positions": (Positions, 6, 0),
    "strides": (lambda: images(nn.Conv2d(2, 3, 3, 2, 1, dilation=2), nn.ReLU(True), nn.AvgPool2d(2, 1)), 72, 0),
    "groups": (lambda: images(nn.Conv2d(2, 4, 3, groups=2), nn.BatchNorm2d(4), nn.ReLU(True)), 72, 0),
    "same": (lambda: images(nn.Conv2d(2, 3, 3, padding="same"), nn.MaxPool2d(2)), 72, 2),
    "circular": (lambda: images(nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular"), nn.MaxPool2d(3)), 72, 2),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_each_layer_s_squares_are_those_of_the_dense_matrix(name: str) -> None:
    make, width, others = NETWORKS[name]
    inputs = drawn(7, width)
    with seeds.seeded(0, "test"):
        model = make()
        model(inputs.float())  # lazy layers
        made(model)
    squares = SquaredJacobian(model, inputs)
    assert len(squares.parameters) - len(squares.by_layer) == others
    found = torch.cat([of.reshape(-1) for of in squares(inputs, softmax_columns).values()]) / len(inputs)
    close(found, oracles.dense_gauss_newton(model, inputs).diagonal())
    targets = labels(7, 3)
    gradients = oracles.example_gradients(model, inputs, targets)
    fisher = squares(inputs, lambda logits: label_columns(logits, targets))
    close(torch.cat([of.reshape(-1) for of in fisher.values()]), gradients.square().sum(0))


def test_examples_are_summed_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = drawn(7, 6)
    with seeds.seeded(0, "test"):
        model = made(Twice())
    whole = SquaredJacobian(model, inputs)(inputs, softmax_columns)
    monkeypatch.setattr("gapscope.numerics.loss_surface.squared_jacobian.HELD", 1)
    for name, of in SquaredJacobian(model, inputs)(inputs, softmax_columns).items():
        close(of, whole[name])


def test_the_network_is_left_as_it_was() -> None:
    model, inputs = lenet5(), drawn(3, *SHAPE)
    model.conv1.requires_grad_(False)
    before = {name: (p.clone(), p.requires_grad) for name, p in model.named_parameters()}
    gauss_newton(model, inputs)
    for name, p in model.named_parameters():
        assert torch.equal(p, before[name][0])
        assert (p.requires_grad, p.grad) == (before[name][1], None)


# --- estimates ---


@pytest.mark.parametrize("variant", ["right", "not divided by the draws", "the label's own"])
def test_sampled_labels_are_unbiased(variant: str) -> None:
    model, inputs, draws = lenet5(), drawn(2, *SHAPE), torch.Generator().manual_seed(0)
    squares, known = SquaredJacobian(model, inputs), gauss_newton(model, inputs)
    count, factor = 400, 4 if variant == "not divided by the draws" else 1
    columns = (
        (lambda logits: label_columns(logits, labels(2, CLASSES)))
        if variant == "the label's own"
        else lambda logits: sampled_columns(logits, 4, draws)
    )
    for name in ("conv2.layer.weight", "head.weight"):
        found = torch.stack([factor * squares(inputs, columns)[name].sum() / 2 for _ in range(count)])
        error = STANDARD_ERRORS * found.std().item() / math.sqrt(count)
        assert (abs(found.mean() - known[name].sum()) <= error) == (variant == "right")


def test_hutchinson_s_estimate_is_within_its_standard_errors_of_the_dense_diagonal() -> None:
    inputs, targets = drawn(9, 6), labels(9, 3)
    with seeds.seeded(0, "test"):
        model = made(nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)))
    matrix = oracles.dense_hessian(model, inputs, targets)
    found = hutchinson_diagonal(
        lambda v: matrix @ v, matrix[0], probes=1000, generator=torch.Generator().manual_seed(0)
    )
    known, errors = matrix.diagonal(), found.standard_errors
    assert bool(((found.values - known).abs() <= STANDARD_ERRORS * errors + DIRECT).all())
    assert not bool(((found.values - matrix.sum(0)).abs() <= STANDARD_ERRORS * errors).all())  # v not squared out
    of_rows = ((matrix - known.diag()).square().sum(0) / 1000).sqrt()  # the off-diagonal entries of each row
    torch.testing.assert_close(errors, of_rows, rtol=0.2, atol=0)  # 1000 probes: 2 % and the fourth moments


def test_a_diagonal_matrix_needs_no_second_probe() -> None:
    values = drawn(20)
    found = hutchinson_diagonal(lambda v: values * v, values, probes=2, generator=torch.Generator())
    assert torch.equal(found.values, values)
    assert not found.standard_errors.any()


@pytest.mark.parametrize(("probes", "value", "said"), [(1, 1.0, "probes must be >= 2"), (3, math.nan, "not finite")])
def test_what_has_no_estimate_is_refused(probes: int, value: float, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        hutchinson_diagonal(lambda v: value * v, torch.ones(2), probes=probes, generator=torch.Generator())


# --- which tensors the outputs are piecewise linear in ---


class Square(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * x


class Scaled(nn.Module):
    """Divided by a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((5,), 2.0))

    def forward(self, x: Tensor) -> Tensor:
        return x / 3 / self.scale


def batch_statistics() -> nn.Module:
    model = made(nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3)))
    model[1].track_running_stats, model[1].running_mean, model[1].running_var = False, None, None
    return model


@pytest.mark.parametrize(
    ("make", "curved"),
    [
        (lambda: nn.Sequential(nn.Linear(6, 5), nn.LeakyReLU(), nn.Linear(5, 3)), set()),
        (lambda: nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)), {"0.weight", "0.bias"}),
        (lambda: nn.Sequential(nn.Linear(6, 5), Square(), nn.Linear(5, 3)), {"0.weight", "0.bias"}),
        (lambda: nn.Sequential(nn.Linear(6, 5), Scaled(), nn.Linear(5, 3)), {"1.scale"}),
        (lambda: nn.Sequential(nn.Linear(6, 5), nn.LayerNorm(5), nn.Linear(5, 3)), {"0.weight", "0.bias"}),
        (batch_statistics, {"0.weight", "0.bias", "1.weight", "1.bias"}),
        (Twice, set()),
    ],
)
def test_curved_tensors_are_found(make: type[nn.Module], curved: set[str]) -> None:
    found = curved_parameters(make().double(), drawn(4, 6))
    assert found >= curved
    assert found - curved <= {"1.weight", "1.bias"}  # LayerNorm's own, which are not curved, but its node is not known


def test_examples_that_share_statistics_are_not_independent() -> None:
    assert are_independent(lenet5(batch_norm=True), drawn(4, *SHAPE))
    assert not are_independent(batch_statistics(), drawn(4, 6))


def test_a_network_deeper_than_python_s_stack_is_read() -> None:
    layers = [layer for _ in range(600) for layer in (nn.Linear(2, 2), nn.ReLU())]
    assert curved_parameters(nn.Sequential(*layers), torch.ones(2, 2)) == set()


def test_cross_entropy_is_what_all_of_this_is_of() -> None:
    logits, targets = drawn(3, 4).requires_grad_(), labels(3, 4)
    (known,) = torch.autograd.grad(cross_entropy(logits, targets, reduction="sum"), logits)
    close(label_columns(logits.detach(), targets)[:, 0], known)
