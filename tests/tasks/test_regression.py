"""Regression on scikit-learn's diabetes: every second-order measure against a dense Hessian, and known noise scales."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score
from torch import Tensor, nn
from torch.func import functional_call, hessian, jacrev, vmap

from gapscope import seeds
from gapscope.data import tabular
from gapscope.data.datasets import load
from gapscope.data.features import Features
from gapscope.data.images import split_images
from gapscope.errors import InputError
from gapscope.numerics.loss_surface.curvature import hessian_eigenvalues, hessian_trace
from gapscope.numerics.loss_surface.hessian_products import gauss_newton
from gapscope.numerics.loss_surface.noise_scale import noise_scale
from gapscope.numerics.loss_surface.sharpness import keskar_sharpness
from gapscope.tasks.regression import DELTA, HuberRegression, Regression
from gapscope.tasks.task import Batch, Task
from gapscope.training.evaluation import evaluate
from gapscope.training.objective import Objective

DENSE = 1e-10  # float64: products summed over micro-batches against one dense matrix, relative to its largest entry
SINGLE = 1e-6  # of a float32 forward pass
MICRO_BATCH = 100  # 332 examples: the last of four micro-batches has 32


class MeanOfMeans(Regression):
    """Wrong: every micro-batch counts alike, the last and smaller one too."""

    def sum_loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return self.losses(outputs, batch).mean() * (332 / 4)


class NoFactor(Regression):
    """Wrong: the Hessian of half the squared error."""

    def hessian_product(self, outputs: Tensor, batch: Batch, vector: Tensor) -> Tensor:
        return super().hessian_product(outputs, batch, vector) / 2


class Broadcast(Regression):
    """Wrong: targets (b,) beside outputs (b, 1), which broadcast to (b, b)."""

    def losses(self, outputs: Tensor, batch: Batch) -> Tensor:
        return (outputs - batch.targets[:, 0]).square().mean(1)


@pytest.fixture(scope="session")
def diabetes(tmp_path_factory: pytest.TempPathFactory) -> tabular.Table:
    found = load(tabular.bundled("diabetes", tmp_path_factory.mktemp("data"))[1])
    assert isinstance(found, tabular.Table)
    return found


@pytest.fixture
def training(diabetes: tabular.Table) -> Features:
    found = split_images(diabetes, "train", "cpu")
    assert isinstance(found, Features)
    return found


@pytest.fixture
def model() -> nn.Module:
    with seeds.seeded(0, "test"):
        return nn.Sequential(nn.Linear(10, 3), nn.Tanh(), nn.Linear(3, 1))


class Dense:
    """The mean loss as one expression, and what follows from its dense Hessian."""

    def __init__(self, model: nn.Module, training: Features, huber: bool) -> None:
        self.model, self.huber = model, huber
        x, y = (values.double() for values in (training.images, training.labels))
        self.inputs = (x - x.mean(0)) / x.std(0, correction=0)
        self.targets = (y - y.mean(0)) / y.std(0, correction=0)
        self.names, self.shapes = zip(*((name, p.shape) for name, p in model.named_parameters()), strict=True)

    def outputs(self, flat: Tensor, inputs: Tensor) -> Tensor:
        parts = flat.split([shape.numel() for shape in self.shapes])
        state = {name: part.view(shape) for name, part, shape in zip(self.names, parts, self.shapes, strict=True)}
        return functional_call(self.model, state, (inputs,))

    def loss_of_outputs(self, outputs: Tensor, targets: Tensor) -> Tensor:
        residuals = (outputs - targets).abs()
        square = residuals.square()
        far = 2 * DELTA * residuals - DELTA**2
        return (torch.where(residuals <= DELTA, square, far) if self.huber else square).mean()

    def loss(self, flat: Tensor) -> Tensor:
        return self.loss_of_outputs(self.outputs(flat, self.inputs), self.targets)

    def gauss_newton(self, flat: Tensor) -> Tensor:
        outputs = self.outputs(flat, self.inputs)[:, 0]
        jacobian = jacrev(lambda w: self.outputs(w, self.inputs)[:, 0])(flat)
        curved = hessian(lambda z: self.loss_of_outputs(z, self.targets[:, 0]))(outputs)
        return jacobian.T @ curved @ jacobian


def matrix(objective: Objective, x: Tensor, of: str) -> Tensor:
    return torch.stack([getattr(objective, of)(x, v) for v in torch.eye(len(x), dtype=x.dtype)])


def close(found: Tensor, known: Tensor) -> bool:
    return bool((found - known).abs().max() <= DENSE * known.abs().max())


@pytest.mark.filterwarnings("ignore:.torch.jit.script:FutureWarning")  # of torch.func.hessian itself
@pytest.mark.parametrize(
    "task",
    [Regression(), HuberRegression(), MeanOfMeans(), NoFactor(), Broadcast()],
    ids=lambda task: type(task).__name__,
)
def test_hessian_gauss_newton_and_trace_are_those_of_a_dense_hessian(
    model: nn.Module, training: Features, task: Task
) -> None:
    objective = Objective(model, training, micro_batch=MICRO_BATCH, task=task)
    dense, x = Dense(model, training, isinstance(task, HuberRegression)), objective.weights()
    known = {"hvp": hessian(dense.loss)(x), "gnvp": dense.gauss_newton(x)}
    right = type(task) in (Regression, HuberRegression)
    assert all(close(matrix(objective, x, of), dense_) for of, dense_ in known.items()) == right
    if not right:
        return
    assert close(objective(x), dense.loss(x))
    top = hessian_eigenvalues(objective, x, 1, generator=torch.Generator().manual_seed(0)).values[0]
    assert top == pytest.approx(float(torch.linalg.eigvalsh(known["hvp"])[-1]), rel=1e-6)
    for operator, of in ((None, "hvp"), (gauss_newton, "gnvp")):
        draws = {"probes": 8, "generator": torch.Generator().manual_seed(3)}
        options = {} if operator is None else {"operator": operator}
        found = hessian_trace(objective, x, **options, **draws)
        draw = torch.Generator().manual_seed(3)
        expected = hessian_trace(
            objective, x, operator=lambda *_, m=known[of]: lambda v: m @ v, probes=8, generator=draw
        )
        assert found.value == pytest.approx(expected.value, rel=DENSE)
        assert abs(found.value - float(known[of].trace())) < 4 * found.standard_error


def test_the_sharpness_of_a_linear_regression_is_the_loss_at_the_best_corner(training: Features) -> None:
    few = Features(training.images[:, :6], training.labels, training.mean[:6], training.std[:6],
                   training.target_mean, training.target_std)  # fmt: skip
    with seeds.seeded(0, "test"):
        line = nn.Linear(6, 1)
    objective, epsilon = Objective(line, few, micro_batch=MICRO_BATCH, task=Regression()), 1e-2
    x = objective.weights()
    box = epsilon * (x.abs() + 1)
    inputs, targets = few.inputs(slice(None), torch.float64), few.targets(slice(None), torch.float64)
    corners = torch.tensor(list(product((-1.0, 1.0), repeat=len(x))), dtype=torch.float64) * box + x
    outputs = inputs @ corners[:, :6].T + corners[:, 6]
    largest = float((outputs - targets).square().mean(0).max())  # a convex function has its maximum at a corner
    base = float(objective(x))
    found = keskar_sharpness(objective, x, epsilon=epsilon, restarts=5, generator=torch.Generator().manual_seed(0))
    assert found.sharpness == pytest.approx(100 * (largest - base) / (1 + base), rel=DENSE)


@pytest.mark.parametrize("variant", ["right", "of a sum"])
def test_the_noise_scale_is_that_of_the_gradients_of_single_examples(
    model: nn.Module, training: Features, variant: str
) -> None:
    objective = Objective(model, training, micro_batch=5, task=Regression())
    dense, x, size = Dense(model, training, huber=False), objective.weights(), 8
    one = jacrev(lambda w, a, b: dense.loss_of_outputs(dense.outputs(w, a[None]), b[None]))
    each = vmap(one, in_dims=(None, 0, 0))(x, dense.inputs, dense.targets)
    count = len(each) // size
    means = each[: count * size].unflatten(0, (count, size))
    means = means.mean(1) if variant == "right" else means.sum(1)
    known = noise_scale(lambda: list(means), size)
    found = noise_scale(lambda: objective.gradients(x, size), size)
    for name in ("noise_scale", "low", "high", "trace", "squared_gradient"):
        if name in ("trace", "squared_gradient"):  # the scale itself is a ratio: a factor cancels
            assert (getattr(found, name) == pytest.approx(getattr(known, name), rel=DENSE)) == (variant == "right")
        else:
            assert getattr(found, name) == pytest.approx(getattr(known, name), rel=DENSE)


@pytest.mark.parametrize("seed", range(4))
def test_the_noise_scale_of_a_linear_regression_is_within_its_interval(seed: int) -> None:
    # x ~ N(0, 1) of F features, y = w* x + s e: an example's gradient is 2 (x d - s e) x with d = w - w*, so
    # |G|^2 = 4 |d|^2 and tr(Sigma) = 4 (|d|^2 (F + 1) + s^2 F), as E (x d)^2 |x|^2 = |d|^2 (F + 2)
    features, count, s, draw = 6, 20_000, 2.0, torch.Generator().manual_seed(seed)
    x = torch.randn(count, features, generator=draw)
    w, truth = torch.randn(2, features, generator=draw)
    y = (x @ truth + s * torch.randn(count, generator=draw))[:, None]
    zero, one = torch.zeros(1), torch.ones(1)
    line = nn.Linear(features, 1, bias=False)
    line.weight.data = w[None].clone()
    objective = Objective(line, Features(x, y, zero, one, zero, one), micro_batch=64, task=Regression())
    found = noise_scale(lambda: objective.gradients(objective.weights(), 64), 64)
    distance = float((w - truth).square().sum())
    known = features + 1 + s**2 * features / distance
    assert found.low < known < found.high
    assert found.high < 1.5 * found.low  # it says something: a factor of two is excluded
    assert not found.low < 2 * known < found.high


def test_error_and_r2_are_those_of_scikit_learn(diabetes: tabular.Table, training: Features) -> None:
    test = split_images(diabetes, "test", "cpu")
    assert isinstance(test, Features)
    fitted = LinearRegression().fit(training.inputs(slice(None)).double(), training.targets(slice(None)).double())
    line = nn.Linear(10, 1)
    line.weight.data, line.bias.data = (
        torch.from_numpy(fitted.coef_).float(),
        torch.from_numpy(fitted.intercept_).float(),
    )
    predicted = fitted.predict(test.inputs(slice(None)).double())
    targets = test.targets(slice(None)).double().numpy()
    error, loss = evaluate(line, test, 40, Regression())
    assert loss == pytest.approx(np.mean((predicted - targets) ** 2), rel=SINGLE)
    assert error == pytest.approx(100 * np.sqrt(np.mean((predicted - targets) ** 2)), rel=SINGLE)
    assert Regression().further(error, loss, test) == {"r2": pytest.approx(r2_score(targets, predicted), rel=1e-5)}


def test_guessing_costs_the_variance_of_the_training_targets(training: Features) -> None:
    assert Regression().guessing_loss(training) == pytest.approx(1, rel=SINGLE)
    residuals = training.targets(slice(None), torch.float64)
    known = nn.functional.huber_loss(residuals, torch.zeros_like(residuals), delta=DELTA)
    assert HuberRegression().guessing_loss(training) == pytest.approx(2 * float(known), rel=SINGLE)


def test_outputs_without_an_axis_are_taken_and_too_many_are_refused(training: Features) -> None:
    task, index = Regression(), torch.arange(5)
    batch = task.batch(training, index)
    torch.testing.assert_close(task.losses(torch.zeros(5), batch), batch.targets[:, 0] ** 2)
    with pytest.raises(InputError, match="classes="):
        task.losses(torch.zeros(5, 2), batch)


def test_several_outputs_count_alike() -> None:
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(40, 3, generator=draw), torch.randn(40, 2, generator=draw) * torch.tensor([1.0, 100.0]) + 7
    table = tabular.checked(
        Path("t.npz"), "t", {"x_train": x.numpy(), "y_train": y.numpy(), "x_test": x.numpy(), "y_test": y.numpy()}
    )
    split = split_images(table, "train", "cpu")
    task = Regression()
    batch = task.batch(split, slice(None))
    losses = task.losses(torch.zeros(40, 2), batch)
    assert float(losses.mean()) == pytest.approx(1, rel=SINGLE)
    half = task.losses(torch.stack([batch.targets[:, 0], torch.zeros(40)], 1), batch)
    assert float(half.mean()) == pytest.approx(0.5, rel=SINGLE)
    vector = torch.randn(40, 2, generator=draw, dtype=torch.float64)
    targets = batch.targets.double()
    known = hessian(lambda outputs: task.losses(outputs, batch._replace(targets=targets)).sum())(
        torch.zeros_like(targets)
    )
    product = (known.reshape(80, 80) @ vector.flatten()).view(40, 2)
    torch.testing.assert_close(task.hessian_product(torch.zeros(40, 2), batch, vector), product, rtol=DENSE, atol=0)
