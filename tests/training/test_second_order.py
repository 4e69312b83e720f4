"""Second-order measures of six kinds of data, against dense Hessians and against two other libraries.

The data: images with labels, a table with numbers, one with two classes and one logit, one with sets of labels, batches
that are dicts, and sequences of which some tokens do not count, for a network with tied weights. Every objective goes
through its examples in micro-batches, of which the last is smaller.

curvlinops (Dangel et al. 2025) and hessian-eigenthings (Golmant et al. 2018, version 1) have products with both
matrices. hessian-eigenthings gives each batch the same weight, so that it gets the examples as one batch.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import oracles
import pytest
import torch
from hessian_eigenthings import GGNOperator, HessianOperator
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from torch import Tensor, nn
from torch.func import functional_call, hessian, jacrev

import gapscope
from gapscope import seeds
from gapscope.data.features import Features
from gapscope.data.images import Images
from gapscope.data.tokens import Tokens, random_tokens
from gapscope.library.examples import Examples
from gapscope.models.gpt import GPT
from gapscope.numerics.loss_surface.curvature import hessian_eigenvalues, hessian_trace
from gapscope.numerics.loss_surface.hessian_products import gauss_newton, twice_differentiable
from gapscope.numerics.loss_surface.noise_scale import noise_scale
from gapscope.numerics.loss_surface.sharpness import Sharpness, keskar_sharpness
from gapscope.tasks.classification import Classification
from gapscope.tasks.language_model import LanguageModel
from gapscope.tasks.logistic import BinaryClassification, MultilabelClassification
from gapscope.tasks.regression import Regression
from gapscope.tasks.task import Batch, Task
from gapscope.training.objective import Objective

DENSE = 1e-10  # float64: sums over micro-batches against one dense expression, relative to the largest entry
OTHERS = 1e-8  # the same against sums in another library's order
EIGENVALUE = 1e-8  # relative, of residuals of 1e-6: an error is about residual^2 / gap
CLIMBS = 1e-3  # two climbs by functions that differ in their last digits: on some processors they part early
BATCH = 2  # examples of a gradient, of the noise scale
IGNORED = -100

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script:FutureWarning")  # of torch.func.hessian itself


@dataclass(frozen=True)
class Case:
    """A model and a loss in two forms.

    Attributes:
        objective: the package's.
        model: in float64.
        inputs: of all examples.
        targets: of all examples.
        sum_loss: a module as of torch.nn, with reduction "sum": outputs, targets -> sum of losses.
        counted: examples -> how many losses they have.
    """

    objective: Objective
    model: nn.Module
    inputs: Any
    targets: Tensor
    sum_loss: nn.Module
    counted: Callable[[Tensor], int] = len

    def __len__(self) -> int:
        return len(self.targets)

    def part(self, places: slice | list[int]) -> tuple[Any, Tensor]:
        """Return inputs and targets of some examples."""
        if isinstance(self.inputs, dict):
            return {name: tensor[places] for name, tensor in self.inputs.items()}, self.targets[places]
        return self.inputs[places], self.targets[places]

    def outputs(self, x: Tensor, inputs: Any) -> Tensor:
        """Return the model's outputs at flat weights (n,)."""
        model = oracles.with_written_norms(self.model)
        shapes = [p.shape for p in model.parameters()]
        parts = x.split([shape.numel() for shape in shapes])
        names = [name for name, _ in model.named_parameters()]
        state = {name: part.view(shape) for name, part, shape in zip(names, parts, shapes, strict=True)}
        return functional_call(model, state, (inputs,))

    def loss(self, x: Tensor, places: slice | list[int] = slice(None)) -> Tensor:
        """Return the mean loss of some examples at flat weights (n,)."""
        inputs, targets = self.part(places)
        return self.sum_loss(self.outputs(x, inputs), targets) / self.counted(targets)

    def hessian(self, x: Tensor, places: slice | list[int] = slice(None)) -> Tensor:
        """Return the dense Hessian of the mean loss of some examples."""
        return hessian(self.loss)(x, places)

    def gauss_newton(self, x: Tensor, places: slice | list[int] = slice(None)) -> Tensor:
        """Return the dense J^T H J, with H the Hessian of the loss in the outputs."""
        inputs, targets = self.part(places)
        shape, outputs = (found := self.outputs(x, inputs)).shape, found.flatten()
        jacobian = jacrev(lambda w: self.outputs(w, inputs).flatten())(x)
        curved = hessian(lambda z: self.sum_loss(z.view(shape), targets) / self.counted(targets))(outputs)
        return jacobian.T @ curved @ jacobian


# --- the six cases ----------------------------------------------------------------------------------------------------


def digits() -> Case:
    pixels, labels = (torch.from_numpy(array[:25]) for array in load_digits(return_X_y=True))
    mean, deviation = (torch.tensor([value], dtype=torch.float64) for value in (0.02, 0.03))
    images = Images(pixels.view(-1, 1, 8, 8).to(torch.uint8), labels, mean, deviation)
    model = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 10)).double()
    objective = Objective(model, images, micro_batch=10, task=Classification())
    inputs = ((pixels / 255 - mean) / deviation).view(-1, 1, 8, 8)
    return Case(objective, model, inputs, labels, nn.CrossEntropyLoss(reduction="sum"))


def diabetes() -> Case:
    inputs, targets = (torch.from_numpy(array[:25]) for array in load_diabetes(return_X_y=True))
    means = [values.mean(0) for values in (inputs, targets[:, None])]
    deviations = [values.std(0) for values in (inputs, targets[:, None])]
    examples = Features(inputs, targets[:, None], means[0], deviations[0], means[1], deviations[1])
    model = nn.Sequential(nn.Linear(10, 3), nn.Tanh(), nn.Linear(3, 1)).double()
    objective = Objective(model, examples, micro_batch=10, task=Regression())
    standard = [
        (values - mean) / deviation
        for values, mean, deviation in zip((inputs, targets[:, None]), means, deviations, strict=True)
    ]
    return Case(objective, model, *standard, nn.MSELoss(reduction="sum"))


def logistic(labels: Tensor, outputs: int, task: Task, counted: Callable[[Tensor], int]) -> Case:
    """Return a perceptron of the first features of breast cancer, with these labels."""
    inputs = torch.from_numpy(load_breast_cancer().data[:25, :6])
    mean, deviation, zero = inputs.mean(0), inputs.std(0), torch.zeros(1)
    examples = Features(inputs, labels, mean, deviation, zero, zero + 1)
    model = nn.Sequential(nn.Linear(6, 3), nn.Tanh(), nn.Linear(3, outputs)).double()
    objective = Objective(model, examples, micro_batch=10, task=task)
    targets = labels.view(25, outputs).double()
    return Case(objective, model, (inputs - mean) / deviation, targets, nn.BCEWithLogitsLoss(reduction="sum"), counted)


def one_logit() -> Case:
    return logistic(torch.from_numpy(load_breast_cancer().target[:25]), 1, BinaryClassification(), len)


def label_sets() -> Case:
    labels = torch.randint(0, 2, (25, 4), generator=torch.Generator().manual_seed(2))
    return logistic(labels, 4, MultilabelClassification(), Tensor.numel)


class TwoInputs(nn.Module):
    """A bilinear form of two parts of a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.scale = nn.Linear(3, 2), nn.Linear(2, 2), nn.Parameter(torch.tensor(1.5))

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        mixed = self.left(batch["left"]).tanh() * self.right(batch["right"])
        return self.scale * mixed.sum(1, keepdim=True).sin()


class OfDicts(Task):
    """Squared error of a model whose input is a dict."""

    unit, loss_name, error_name = "example", "square", "root_mean_square"

    def batch(self, examples: Examples, index: Any, *, dtype: torch.dtype = torch.float32, **_: Any) -> Batch:
        inputs = examples.at(index, dtype)
        return Batch(inputs, inputs["target"])

    def losses(self, outputs: Tensor, batch: Batch) -> Tensor:
        return (outputs - batch.targets).square().sum(1)

    def errors(self, outputs: Tensor, batch: Batch) -> Tensor:
        return self.losses(outputs, batch)

    def error(self, total: float, weight: float) -> float:
        return (total / weight) ** 0.5


def dicts() -> Case:
    draw = {"generator": torch.Generator().manual_seed(1), "dtype": torch.float64}
    batch = {
        "left": torch.randn(13, 3, **draw),
        "right": torch.randn(13, 2, **draw),
        "target": torch.randn(13, 1, **draw),
    }
    model = TwoInputs().double()
    objective = Objective(model, Examples(batch, torch.device("cpu")), micro_batch=5, task=OfDicts())
    return Case(objective, model, batch, batch["target"], nn.MSELoss(reduction="sum"))


class OfTokens(nn.Module):
    """Sum of cross-entropies of logits (b, L, vocabulary); curvlinops wants a module with a `reduction`."""

    reduction = "sum"

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(
            outputs.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum"
        )


def of_tokens(targets: Tensor) -> int:
    return int((targets != IGNORED).sum())


def sequences() -> Case:
    training: Tokens = random_tokens(7, 4, 5, torch.Generator().manual_seed(0), "cpu")
    training.labels[0, :2] = training.labels[3, 1:] = training.labels[5, :3] = IGNORED  # 20 of 28 tokens count
    model = GPT((4,), 5, layers=1, units=4, heads=2, tied=False)
    for parameter in model.parameters():  # GPT-2's weights are so small that curvature is nearly that of a constant
        parameter.data *= 10 if parameter.ndim == 2 else 1
    model.head.weight = model.tokens.weight  # type: ignore[union-attr]
    model.double()
    objective = Objective(model, training, micro_batch=3, task=LanguageModel())
    inputs, targets = training.images.long(), training.labels.long()
    return Case(objective, model, inputs, targets, OfTokens(), of_tokens)


CASES = (digits, diabetes, one_logit, label_sets, dicts, sequences)


@pytest.fixture(params=CASES, ids=lambda make: make.__name__)
def case(request: pytest.FixtureRequest) -> Iterator[Case]:
    with seeds.seeded(0, "test"):
        made = request.param()
    with twice_differentiable():
        yield made


# --- wrong variants of a dense matrix ---------------------------------------------------------------------------------


def mean_of_means(case: Case, matrix: Callable[..., Tensor], x: Tensor) -> Tensor:
    """Wrong: every micro-batch has the same weight, the last and smaller one too."""
    size = case.objective.micro_batch
    parts = [slice(start, start + size) for start in range(0, len(case), size)]
    assert len(case) % size
    return torch.stack([matrix(x, part) for part in parts]).mean(0)


def ignored_counted(case: Case, matrix: Callable[..., Tensor], x: Tensor) -> Tensor:
    """Wrong: the sum is divided by the number of all tokens."""
    return matrix(x) * case.counted(case.targets) / case.targets.numel()


def tied_twice(case: Case, matrix: Callable[..., Tensor], x: Tensor) -> Tensor:
    """Wrong: tied weights are in the vector twice. A matrix of the same spectrum has them times the root of 2."""
    scales = torch.ones_like(x)
    scales[: case.model.tokens.weight.numel()] = 2**0.5  # type: ignore[union-attr, operator]
    return scales[:, None] * matrix(x) * scales


def variants(case: Case) -> list[Callable[..., Tensor]]:
    of_text = [ignored_counted, tied_twice] if isinstance(case.sum_loss, OfTokens) else []
    return [mean_of_means, *of_text]


def close(found: Tensor, known: Tensor, tolerance: float = DENSE) -> bool:
    return bool((found - known).abs().max() <= tolerance * known.abs().max())


def directions(x: Tensor) -> Tensor:
    """Return five random vectors (5, n)."""
    return torch.randn(5, len(x), generator=torch.Generator().manual_seed(1), dtype=x.dtype)


# --- against dense matrices -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["hessian", "gauss_newton"])
def test_products_traces_and_eigenvalues_are_those_of_the_dense_matrix(case: Case, kind: str) -> None:
    loss, x = case.objective, case.objective.weights()
    assert len(x) == sum(p.numel() for p in case.model.parameters())  # tied ones once
    dense: Callable[..., Tensor] = getattr(case, kind)
    known, vectors = dense(x), directions(x)
    product = {"hessian": loss.hvp, "gauss_newton": loss.gnvp}[kind]
    options = {} if kind == "hessian" else {"operator": gauss_newton}
    found = torch.stack([product(x, v) for v in vectors])
    trace = hessian_trace(loss, x, probes=3, generator=torch.Generator().manual_seed(3), **options).value
    top = hessian_eigenvalues(loss, x, tolerance=1e-6, generator=torch.Generator().manual_seed(0), **options).values[0]

    def agrees(matrix: Tensor) -> tuple[bool, bool, bool]:
        draw = torch.Generator().manual_seed(3)
        same = hessian_trace(loss, x, operator=lambda *_: lambda v: matrix @ v, probes=3, generator=draw).value
        largest = float(torch.linalg.eigvalsh((matrix + matrix.T) / 2)[-1])
        return (
            close(found, vectors @ matrix),
            trace == pytest.approx(same, rel=DENSE),
            top == pytest.approx(largest, rel=EIGENVALUE),
        )

    assert agrees(known) == (True, True, True)
    for wrong in variants(case):
        assert agrees(wrong(case, dense, x)) == (False, False, False), wrong.__name__


def test_the_caller_s_objective_has_the_same_products(case: Case) -> None:
    def loss(model: nn.Module, batch: Any) -> tuple[Tensor, int]:
        return case.sum_loss(model(batch["inputs"]), batch["targets"]), case.counted(batch["targets"])

    x, vectors = case.objective.weights(), directions(case.objective.weights())
    own = gapscope.Objective(case.model, {"inputs": case.inputs, "targets": case.targets}, loss, micro_batch=3)
    assert close(torch.stack([own.hvp(x, v) for v in vectors]), vectors @ case.hessian(x))


def test_sharpness_is_that_of_the_dense_loss(case: Case) -> None:
    x = case.objective.weights()

    def climbed(loss: Callable[[Tensor], Tensor]) -> Sharpness:
        return keskar_sharpness(loss, x, epsilon=1e-2, restarts=2, generator=torch.Generator().manual_seed(0))

    found = climbed(case.objective)

    def there(loss: Callable[[Tensor], Tensor]) -> float:
        base = float(loss(x))
        return 100 * (float(loss(x + found.point)) - base) / (1 + base)

    assert found.sharpness == pytest.approx(there(case.loss), rel=DENSE)
    assert found.sharpness == pytest.approx(climbed(case.loss).sharpness, rel=CLIMBS)
    size = case.objective.micro_batch
    parts = [slice(start, start + size) for start in range(0, len(case), size)]
    assert found.sharpness != pytest.approx(
        there(lambda w: torch.stack([case.loss(w, part) for part in parts]).mean()), rel=1e-4
    )
    if case.counted is of_tokens:
        counted = case.counted(case.targets) / case.targets.numel()
        assert found.sharpness != pytest.approx(there(lambda w: case.loss(w) * counted), rel=1e-4)


def test_the_noise_scale_is_that_of_the_gradients_of_single_examples(case: Case) -> None:
    x = case.objective.weights()
    each = torch.stack([jacrev(case.loss)(x, [place]) for place in range(len(case))])
    counts = torch.tensor([case.counted(case.targets[[place]]) for place in range(len(case))])
    batches = torch.arange(len(case) - len(case) % BATCH).split(BATCH)

    def means(weights: Tensor) -> list[Tensor]:
        return [(weights[b][:, None] * each[b]).sum(0) / weights[b].sum() for b in batches]

    found = noise_scale(lambda: case.objective.gradients(x, BATCH), BATCH)
    known = noise_scale(lambda: means(counts), BATCH)
    assert found.noise_scale == pytest.approx(known.noise_scale, rel=DENSE)
    assert found.trace == pytest.approx(known.trace, rel=DENSE)
    if case.counted is of_tokens:  # wrong: sequences weigh alike, whatever the number of their tokens
        assert found.trace != pytest.approx(noise_scale(lambda: means(torch.ones_like(counts)), BATCH).trace, rel=1e-4)


# --- against other libraries ------------------------------------------------------------------------------------------


def products(case: Case) -> dict[str, Tensor]:
    """Return the objective's products with `directions`."""
    x, loss = case.objective.weights(), case.objective
    of = {"hessian": loss.hvp, "gauss_newton": loss.gnvp}
    return {kind: torch.stack([product(x, v) for v in directions(x)]) for kind, product in of.items()}


@pytest.mark.parametrize("kind", ["hessian", "gauss_newton"])
def test_products_are_those_of_curvlinops(case: Case, kind: str) -> None:
    from curvlinops import GGNLinearOperator, HessianLinearOperator  # warns of torch.jit.script when it is imported

    model = oracles.with_written_norms(case.model)  # curvlinops differentiates as torch.func does
    operator = {"hessian": HessianLinearOperator, "gauss_newton": GGNLinearOperator}[kind](
        model,
        case.sum_loss,
        list(model.parameters()),
        [case.part(places) for places in (slice(0, 4), slice(4, 5), slice(5, None))],
        check_deterministic=False,
        batch_size_fn=lambda inputs: len(inputs["left"] if isinstance(inputs, dict) else inputs),
    )
    known = (operator @ directions(case.objective.weights()).T).T.detach() / case.counted(case.targets)
    found = products(case)
    assert close(found.pop(kind), known, OTHERS)
    assert not close(found.popitem()[1], known, OTHERS)  # the other matrix


@pytest.mark.parametrize("kind", ["hessian", "gauss_newton"])
def test_products_are_those_of_hessian_eigenthings(case: Case, kind: str) -> None:
    def mean(outputs: Tensor, batch: tuple[Any, Tensor]) -> Tensor:
        return case.sum_loss(outputs, batch[1]) / case.counted(batch[1])

    def known(*places: slice) -> Tensor:
        model, batches = oracles.with_written_norms(case.model), [case.part(place) for place in places]
        operator = {
            "hessian": lambda: HessianOperator(model, batches, lambda net, batch: mean(net(batch[0]), batch)),
            "gauss_newton": lambda: GGNOperator(model, batches, lambda net, batch: net(batch[0]), mean),
        }[kind]()
        return torch.stack([operator.matvec(v) for v in directions(case.objective.weights())]).detach()

    found = products(case)[kind]
    assert close(found, known(slice(None)), OTHERS)
    assert not close(found, known(slice(0, 5), slice(5, None)), OTHERS)  # batches of unequal size with one weight
