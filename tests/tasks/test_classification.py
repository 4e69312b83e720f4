"""The task seam: fused sums against per-example values, the closed-form output Hessian against autograd."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gapscope.data.datasets import Dataset
from gapscope.data.images import Augmentation, split_images
from gapscope.errors import InputError
from gapscope.measures import evaluation
from gapscope.tasks import TASKS, make_task
from gapscope.tasks.classification import CLASSIFICATION, Classification
from gapscope.tasks.task import Batch, Task
from gapscope.training.evaluation import evaluate
from gapscope.training.gradient import backward
from gapscope.training.objective import Objective

DIRECT = 1e-12  # float64 sums in another order
COUNT, CLASSES = 23, 4


@pytest.fixture
def outputs() -> Tensor:
    return 3 * torch.randn(COUNT, CLASSES, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture
def batch() -> Batch:
    return Batch(None, torch.randint(0, CLASSES, (COUNT,), generator=torch.Generator().manual_seed(1)))


def test_fused_sums_are_those_of_the_examples(outputs: Tensor, batch: Batch) -> None:
    losses, weights = CLASSIFICATION.losses(outputs, batch), CLASSIFICATION.weights(batch)
    assert losses.shape == weights.shape == CLASSIFICATION.errors(outputs, batch).shape == (COUNT,)
    probabilities = outputs.softmax(1)[torch.arange(COUNT), batch.targets]
    torch.testing.assert_close(losses, -probabilities.log(), rtol=DIRECT, atol=DIRECT)
    for name in ("sum_loss", "mean_loss"):
        found = getattr(CLASSIFICATION, name)(outputs, batch)
        torch.testing.assert_close(found, getattr(Task, name)(CLASSIFICATION, outputs, batch), rtol=DIRECT, atol=0)
    assert not torch.isclose(CLASSIFICATION.sum_loss(outputs, batch), CLASSIFICATION.mean_loss(outputs, batch))


def test_the_error_is_the_percentage_of_wrong_labels(outputs: Tensor, batch: Batch) -> None:
    outputs[3] = torch.nan
    wrong = int((outputs.argmax(1) != batch.targets).sum())
    wrong += int(outputs[3].argmax() == batch.targets[3])  # NaN is wrong, whatever its argmax
    errors = CLASSIFICATION.errors(outputs, batch)
    assert int(errors.sum()) == wrong
    assert CLASSIFICATION.error(float(errors.sum()), COUNT) == 100 * wrong / COUNT


@pytest.mark.parametrize("variant", ["right", "no rank-one part", "probabilities of other examples"])
def test_the_output_hessian_is_that_of_autograd(outputs: Tensor, batch: Batch, variant: str) -> None:
    vector = torch.randn(COUNT, CLASSES, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    known = Task.hessian_product(CLASSIFICATION, outputs, batch, vector)
    dense = torch.autograd.functional.hessian(lambda z: CLASSIFICATION.sum_loss(z, batch), outputs)
    torch.testing.assert_close(known, torch.einsum("aibj,bj->ai", dense, vector), rtol=0, atol=DIRECT)
    if variant == "right":
        found = CLASSIFICATION.hessian_product(outputs, batch, vector)
        torch.testing.assert_close(found, known, rtol=0, atol=DIRECT)
        return
    found = {
        "no rank-one part": outputs.softmax(1) * vector,
        "probabilities of other examples": CLASSIFICATION.hessian_product(outputs.flip(0), batch, vector),
    }[variant]
    with pytest.raises(AssertionError):
        torch.testing.assert_close(found, known, rtol=0, atol=1e-3)


def test_a_batch_has_images_and_labels() -> None:
    images = split_images(data(), "train", "cpu")
    index = torch.tensor([5, 0, 2])
    plain = CLASSIFICATION.batch(images, index, dtype=torch.float64)
    assert torch.equal(plain.inputs, images.inputs(index, torch.float64))
    assert torch.equal(plain.targets, images.labels[index])
    augmentation = Augmentation.drawn(len(images), "cpu", torch.Generator().manual_seed(0))
    moved = CLASSIFICATION.batch(images, index, augmentation=augmentation, channels_last=True)
    assert torch.equal(moved.inputs, images.inputs(index, augmentation=augmentation))
    assert moved.inputs.is_contiguous(memory_format=torch.channels_last)
    assert CLASSIFICATION.total_weight(images) == 12
    assert CLASSIFICATION.total_weight(images, index) == 3


def test_a_task_is_made_by_its_name_or_by_its_import_path() -> None:
    assert all(isinstance(make_task(name), Task) for name in TASKS)
    for name in ("classification", "gapscope.tasks.classification:Classification"):
        assert type(make_task(name)) is Classification


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("clasification", "did you mean 'classification'"),
        ("no such.module:Class", "unknown task"),
        ("gapscope.tasks.nowhere:Class", "cannot be imported"),
        ("gapscope.tasks.classification:Nothing", "cannot be imported"),
        ("gapscope.training.observers:Strides", "not a subclass"),
        ("gapscope.tasks.task:Task", "cannot be made without arguments"),
    ],
)
def test_what_is_no_task_is_refused(name: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        make_task(name)


# --- a task of one's own goes through training, evaluation and the objective ------------------------------------------


def data() -> Dataset:
    draw = np.random.default_rng(0)
    x, y = draw.integers(0, 256, (18, 1, 3, 2), np.uint8), draw.integers(0, 3, 18)
    return Dataset("some", 3, x[:12], y[:12], x[12:], y[12:])


class Regression(Task):
    """The label is a number to predict; images of class 0 do not count, those of class 2 count twice."""

    unit, loss_name, error_name = "image", "half_square", "root_mean_square"

    def batch(self, examples: Any, index: Any, **how: Any) -> Batch:
        return CLASSIFICATION.batch(examples, index, dtype=torch.float64)

    def losses(self, outputs: Tensor, batch: Batch) -> Tensor:
        return (outputs[:, 0] - batch.targets).square() / 2

    def weights(self, batch: Batch) -> Tensor:
        return batch.targets.double()

    def total_weight(self, examples: Any, index: Tensor | None = None) -> float:
        return float(examples.labels.sum() if index is None else examples.labels[index].sum())

    def errors(self, outputs: Tensor, batch: Batch) -> Tensor:
        return 2 * self.losses(outputs, batch) * self.weights(batch)

    def error(self, total: float, weight: float) -> float:
        return (total / weight) ** 0.5


class Means(Regression):
    def sum_loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return Task.sum_loss(self, outputs, batch) / self.weights(batch).sum() * 11 / 3


@pytest.fixture
def line() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(6, 1)).double()


def test_gauss_newton_of_a_weighted_linear_regression_is_its_hessian_in_closed_form(line: nn.Module) -> None:
    images = split_images(data(), "train", "cpu")
    objective = Objective(line, images, micro_batch=5, task=Regression())
    x = objective.weights()
    inputs = torch.cat([images.inputs(slice(None), torch.float64).flatten(1), torch.ones(12, 1).double()], dim=1)
    weights = images.labels.double()
    known = inputs.T @ (weights[:, None] * inputs) / weights.sum()
    for product in (objective.hvp, objective.gnvp):
        found = torch.stack([product(x, v) for v in torch.eye(len(x), dtype=x.dtype)])
        torch.testing.assert_close(found, known, rtol=0, atol=DIRECT)
    unweighted = inputs.T @ inputs / 12
    assert not torch.allclose(known, unweighted, rtol=0.01)
    residuals = inputs @ x - images.labels
    torch.testing.assert_close(objective(x), (weights * residuals**2).sum() / weights.sum() / 2, rtol=DIRECT, atol=0)


@pytest.mark.parametrize("variant", ["right", "mean of batch means"])
def test_micro_batches_and_evaluation_are_those_of_the_whole_batch(line: nn.Module, variant: str) -> None:
    import runs

    images, task, index = split_images(data(), "train", "cpu"), Regression(), torch.arange(11)
    line.train()
    found = []
    for micro_batch in (None, 4):
        line.zero_grad()
        own = Regression() if variant == "right" or not micro_batch else Means()
        backward(line, images, index, runs.changed(micro_batch=micro_batch, augment=False), task=own)
        found.append(torch.cat([p.grad.flatten() for p in line.parameters()]))
    assert torch.allclose(*found, rtol=0, atol=DIRECT * float(found[0].abs().max())) == (variant == "right")
    error, loss = evaluate(line, images, 5, task)
    residuals = line(images.inputs(slice(None), torch.float64))[:, 0].detach() - images.labels
    weights = images.labels.double()
    known = float((weights * residuals**2).sum() / weights.sum())
    assert error == pytest.approx(known**0.5, rel=DIRECT)
    assert loss == pytest.approx(known / 2, rel=DIRECT)


def test_a_run_of_another_task_has_its_loss_and_error_by_their_names() -> None:
    import runs

    whole = runs.run(model := runs.network(0.0), task=f"{__name__}:Regression", lr_start=1e-4)
    metrics = {f"{split}_{name}" for split in ("train", "test") for name in ("root_mean_square", "half_square", "loss")}
    assert metrics <= set(whole.final)
    assert not any("cross_entropy" in name or "error_pct" in name for name in [*whole.final, *whole.history[0]])
    images = split_images(runs.data(), "test", "cpu")
    residuals = model.eval()(images.inputs(slice(None), torch.float64))[:, 0].detach() - images.labels
    known = float((images.labels * residuals**2).sum() / images.labels.sum() / 2)
    assert whole.final["test_half_square"] == pytest.approx(known, rel=DIRECT)
    assert whole.final["test_loss"] == pytest.approx(known + whole.final["penalty"], rel=DIRECT)
    quantities = {
        row["quantity"]
        for row in evaluation.rows(whole.history, whole.final, ("half_square", "root_mean_square", "loss"))
    }
    assert {"half_square", "root_mean_square", "loss", "updates"} <= quantities
