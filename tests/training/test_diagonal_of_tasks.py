"""The diagonal of the Hessian of any task's loss, against a dense Hessian; and the mean gradient beside it."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, hessian, vmap

from gapscope import seeds
from gapscope.data.features import Features
from gapscope.data.tokens import random_tokens
from gapscope.measures.curvature_radius import CurvatureRadiusSettings, measure
from gapscope.models.gpt import GPT
from gapscope.tasks.classification import Classification
from gapscope.tasks.language_model import LanguageModel
from gapscope.tasks.logistic import BinaryClassification, MultilabelClassification
from gapscope.tasks.regression import HuberRegression, Regression
from gapscope.tasks.task import Batch, Task
from gapscope.training.hessian_diagonal import Diagonal, hessian_diagonals
from gapscope.training.objective import Objective

DENSE = 1e-10  # float64: sums over micro-batches against one dense expression, relative to the largest entry
STANDARD_ERRORS = 4  # of an estimate at a fixed seed
COUNT, MICRO_BATCH = 19, 7

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script:FutureWarning")  # of torch.func.hessian itself


class Redescending(Regression):
    """A loss that is not convex in the outputs: log(1 + r^2), a sum over outputs that are mixed with each other."""

    def losses(self, outputs: Tensor, batch: Batch) -> Tensor:
        residuals = outputs - batch.targets
        return (residuals.square().sum(1) + residuals.prod(1) ** 2).log1p()


class Weighted(HuberRegression):
    """Every third example counts four times."""

    def weights(self, batch: Batch) -> Tensor:
        return 1 + 3.0 * (batch.targets[:, 0] > 0)

    def total_weight(self, examples: Features, index: Tensor | None = None) -> float:
        batch = self.batch(examples, slice(None) if index is None else index)
        return float(self.weights(batch).sum())


class WithoutWeights(Weighted):
    """Wrong: the sum of the weighted diagonals is divided by the number of examples."""

    def total_weight(self, examples: Features, index: Tensor | None = None) -> float:
        return float(len(examples) if index is None else len(index))


class WithoutSigns(Redescending):
    """Wrong: what falls counts as rising."""

    def hessian_columns(self, *arguments: Any) -> tuple[Tensor, Tensor]:
        vectors, signs = super().hessian_columns(*arguments)
        return vectors, signs.abs()


class OfSoftmax(Redescending):
    """Wrong: the closed form of another loss."""

    hessian_product = Classification.hessian_product


def targets(task: Task) -> Tensor:
    draw = torch.Generator().manual_seed(1)
    if isinstance(task, Regression):
        return 2 * torch.randn(COUNT, 2, generator=draw, dtype=torch.float64)
    if isinstance(task, MultilabelClassification):
        return torch.randint(2, (COUNT, 2), generator=draw)
    return torch.randint(2, (COUNT,), generator=draw)


@dataclass(frozen=True)
class Case:
    """A network of ReLU, its examples, and the dense reference."""

    task: Task
    model: nn.Module
    examples: Features

    def batch(self, places: slice | Tensor = slice(None)) -> Batch:
        return self.task.batch(self.examples, places, dtype=torch.float64)

    def losses(self, weights: dict[str, Tensor], batch: Batch) -> Tensor:
        return self.task.losses(functional_call(self.model, weights, (batch.inputs,)), batch)

    def known(self, count: int) -> dict[str, Tensor]:
        """Return the diagonal of the dense Hessian of the weighted mean loss of the first examples."""
        batch = self.batch(slice(0, count))
        weights = self.task.weights(batch).double()
        own = {name: p.detach() for name, p in self.model.named_parameters()}

        def loss(of: dict[str, Tensor]) -> Tensor:
            return (self.losses(of, batch) * weights).sum() / weights.sum()

        dense = hessian(loss)(own)
        return {name: dense[name][name].reshape(p.numel(), -1).diagonal() for name, p in own.items()}

    def fisher(self) -> dict[str, Tensor]:
        """Return the weighted mean of the squared gradients of single examples."""
        batch = self.batch()
        weights = self.task.weights(batch).double()
        own = {name: p.detach() for name, p in self.model.named_parameters()}

        def loss(of: dict[str, Tensor], inputs: Tensor, target: Tensor) -> Tensor:
            return self.losses(of, Batch(inputs[None], target[None]))[0]

        each = vmap(grad(loss), (None, 0, 0))(own, *batch)
        return {name: (weights @ of.flatten(1).square() / weights.sum()).reshape(-1) for name, of in each.items()}

    def found(self, **options: Any) -> list[Diagonal]:
        loss = Objective(self.model, self.examples, micro_batch=MICRO_BATCH, task=self.task)
        return list(hessian_diagonals(loss, generator=torch.Generator().manual_seed(0), **options))


def case(task: Task, outputs: int = 2, *end: nn.Module) -> Case:
    inputs = torch.randn(COUNT, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    one, none = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    with seeds.seeded(0, "test"):
        model = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, outputs), *end).double()
    return Case(task, model, Features(inputs, targets(task), none, one, none, one))


def close(found: dict[str, Tensor], known: dict[str, Tensor]) -> bool:
    assert list(found) == list(known)
    return all((found[n] - known[n]).abs().max() <= DENSE * known[n].abs().max() for n in known)


RIGHT = {
    "classification": lambda: case(Classification(), 3),
    "one logit": lambda: case(BinaryClassification(), 1),
    "one logit without an axis": lambda: case(BinaryClassification(), 1, nn.Flatten(0)),
    "label sets": lambda: case(MultilabelClassification()),
    "squared error": lambda: case(Regression()),
    "Huber": lambda: case(HuberRegression()),
    "not convex": lambda: case(Redescending()),
    "weighted": lambda: case(Weighted()),
}
WRONG = {
    "without weights": lambda: case(WithoutWeights()),
    "without signs": lambda: case(WithoutSigns()),
    "closed form of another loss": lambda: case(OfSoftmax()),
}


@pytest.mark.parametrize("name", [*RIGHT, *WRONG])
def test_a_network_of_relu_has_the_diagonal_of_its_dense_hessian(name: str) -> None:
    of = {**RIGHT, **WRONG}[name]()
    part, whole = of.found(at=[8])
    assert whole.standard_errors == {}
    assert close(part.values, of.known(8)) == close(whole.values, of.known(COUNT)) == (name in RIGHT)
    if name in RIGHT:
        assert close(whole.fisher, of.fisher())


@pytest.mark.parametrize("name", ["not convex", "weighted"])
def test_drawn_vectors_have_the_same_mean(name: str) -> None:
    of, draws = RIGHT[name](), torch.Generator().manual_seed(0)
    loss = Objective(of.model, of.examples, micro_batch=MICRO_BATCH, task=of.task)
    many = [next(iter(hessian_diagonals(loss, method="sampled", generator=draws))).values for _ in range(100)]
    for parameter, known in of.known(COUNT).items():
        values = torch.stack([values[parameter].sum() for values in many])
        error = STANDARD_ERRORS * values.std() / len(many) ** 0.5 + DENSE  # no spread where no two outputs meet
        assert abs(values.mean() - known.sum()) <= error


def test_a_loss_of_one_s_own_inherits_no_closed_form() -> None:
    class Halved(Classification):
        def losses(self, outputs: Tensor, batch: Batch) -> Tensor:
            return super().losses(outputs, batch) / 2

    class Renamed(Halved):
        loss_name = "half"

    for task in (Halved(), Renamed()):
        of = case(task, 3)
        assert close(of.found()[-1].values, of.known(COUNT))
        batch = of.batch()
        outputs = of.model(batch.inputs)
        torch.testing.assert_close(2 * task.mean_loss(outputs, batch), Classification().mean_loss(outputs, batch))


# --- a text, whose sequences have too many outputs for a pass each ----------------------------------------------------


def text() -> tuple[nn.Module, Any]:
    with seeds.seeded(0, "test"):
        model = GPT((8,), 150, layers=1, units=4, heads=2).double()
    for parameter in model.parameters():  # GPT-2's weights are so small that curvature is nearly that of a constant
        parameter.data *= 10 if parameter.ndim == 2 else 1
    tokens = random_tokens(9, 8, 150, torch.Generator().manual_seed(0), "cpu")
    tokens.labels[0, 2:] = tokens.labels[5, :6] = -100
    return model, tokens


def test_a_language_model_goes_by_probes() -> None:
    model, tokens = text()
    loss = Objective(model, tokens, micro_batch=4, task=LanguageModel())
    (found,) = hessian_diagonals(loss, probes=200, generator=torch.Generator().manual_seed(0), at=[4])
    assert set(found.standard_errors) == set(loss.names)
    assert found.fisher == {}
    x, name = loss.weights(), loss.names[-1]
    first = len(x) - found.values[name].numel()
    units = torch.eye(len(x), dtype=x.dtype)[first:]
    known = [loss.hvp(x, unit)[place] for place, unit in enumerate(units, first)]
    errors = found.standard_errors[name]
    assert bool(((found.values[name] - torch.stack(known)).abs() <= STANDARD_ERRORS * errors).all())


@pytest.mark.parametrize("weighted", [True, False])
def test_the_mean_gradient_weighs_tokens_and_not_batches(weighted: bool) -> None:
    model, tokens = text()
    settings = CurvatureRadiusSettings(("trained",), None, None, 2, "exact", 2, 0.1, "running", 8, 4, "float64", 1)
    conditions, rows = measure(model, tokens, settings, seed=0, task=LanguageModel())
    assert conditions["gradient"]["sequences"] == len(tokens)
    order = torch.randperm(len(tokens), generator=seeds.generator("objective", "subset"))[:8]  # four batches of two
    whole = Objective(model, tokens.subset(order), micro_batch=8, task=LanguageModel())
    x = whole.weights()
    if weighted:
        _, gradient = whole.value_and_gradient(x, with_gradient=True)
        assert gradient is not None
    else:  # wrong
        gradient = torch.stack([*whole.gradients(x, 2)]).mean(0)
    name, place = whole.names[0], whole.shapes[0].numel()
    ratio = float(x[:place].norm() / gradient[:place].norm())
    lars = [r["value"] for r in rows if r["quantity"] == "radius" and (r["layer"], r["estimate"]) == (name, "lars")]
    assert (lars == [pytest.approx(ratio, rel=1e-9)]) == weighted
