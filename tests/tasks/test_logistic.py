"""One logit for two classes, and several labels: against softmax, a dense Hessian, scikit-learn and closed forms."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, hamming_loss, log_loss
from torch import Tensor, nn
from torch.func import functional_call, hessian, jacrev

from gapscope.data import datasets, sources, tabular
from gapscope.data.features import Features, random_features
from gapscope.data.images import split_images
from gapscope.errors import InputError
from gapscope.tasks.classification import CLASSIFICATION
from gapscope.tasks.logistic import BinaryClassification, MultilabelClassification
from gapscope.tasks.task import Batch, Task
from gapscope.training.evaluation import evaluation
from gapscope.training.objective import Objective

DIRECT = 1e-12  # float64: the same sums in another order
DENSE = 1e-10  # float64: products summed over micro-batches against one dense matrix, relative to its largest entry
BINARY, MULTILABEL = BinaryClassification(), MultilabelClassification()
COUNT, LABELS = 23, 3


def drawn(*shape: int) -> Tensor:
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def labels(*shape: int) -> Batch:
    return Batch(None, torch.randint(0, 2, shape, generator=torch.Generator().manual_seed(1)))


def two_logits(logit: Tensor) -> Tensor:
    """The softmax's logits (0, z)."""
    return torch.stack([torch.zeros_like(logit), logit], dim=-1)


# --- one logit ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("column", [False, True], ids=["(b,)", "(b, 1)"])
def test_one_logit_gives_the_numbers_of_two(column: bool) -> None:
    logit, batch, vector = drawn(COUNT), labels(COUNT), drawn(COUNT).flip(0)
    logit[:2] = torch.tensor([0.0, 40.0])  # on the threshold, and where 1 - sigmoid is 0 in float64
    outputs = logit[:, None] if column else logit
    pair = two_logits(logit)
    for name in ("losses", "sum_loss", "mean_loss"):
        found, known = (getattr(task, name)(of, batch) for task, of in ((BINARY, outputs), (CLASSIFICATION, pair)))
        torch.testing.assert_close(found, known, rtol=DIRECT, atol=1e-15)  # the softmax rounds exp(-40) away
    assert torch.equal(BINARY.errors(outputs, batch), CLASSIFICATION.errors(pair, batch))
    assert 0 < int(BINARY.errors(outputs, batch).sum()) < COUNT
    found = BINARY.hessian_product(outputs, batch, vector.reshape(outputs.shape)).reshape(-1)
    known = CLASSIFICATION.hessian_product(pair, batch, two_logits(vector))[:, 1]
    torch.testing.assert_close(found, known, rtol=DIRECT, atol=1e-15)
    assert float(found[1]) == pytest.approx(math.exp(-40) * float(vector[1]), rel=1e-9, abs=0)
    assert not torch.allclose(BINARY.losses(-outputs, batch), BINARY.losses(outputs, batch))


def test_a_network_of_one_logit_has_the_error_loss_and_curvature_of_one_of_two(tmp_path: Path) -> None:
    sources.fetch("breast_cancer", tmp_path / "breast_cancer.npz")
    split = split_images(datasets.load(tmp_path / "breast_cancer.npz"), "train", "cpu")
    torch.manual_seed(0)
    one = nn.Linear(30, 1).double()
    two = nn.Linear(30, 2).double()
    two.weight.data, two.bias.data = (torch.cat([torch.zeros_like(p), p]) for p in (one.weight.data, one.bias.data))
    whole = [
        Objective(model, split, micro_batch=100, task=task) for model, task in ((one, BINARY), (two, CLASSIFICATION))
    ]
    v = torch.randn(31, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    # in the two-logit network only the second row moves
    wide = torch.cat([torch.zeros(30), v[:30], torch.zeros(1), v[30:]]).double()
    assert whole[0].loss_and_error(whole[0].weights()) == pytest.approx(
        whole[1].loss_and_error(whole[1].weights()), rel=DIRECT
    )
    for product in ("hvp", "gnvp"):
        found, known = (getattr(of, product)(of.weights(), along) for of, along in zip(whole, (v, wide), strict=True))
        torch.testing.assert_close(found, torch.cat([known[30:60], known[61:]]), rtol=1e-10, atol=1e-14)


def test_two_classes_are_wanted_and_labels_of_one_logit() -> None:
    assert BINARY.network_outputs(2) == 1
    with pytest.raises(InputError, match="takes two classes, and the data have 3"):
        BINARY.network_outputs(3)
    with pytest.raises(InputError, match="classes="):
        BINARY.losses(drawn(COUNT, 2), labels(COUNT))


# --- several labels -----------------------------------------------------------------------------------------


def test_loss_error_and_exact_match_are_those_of_scikit_learn() -> None:
    outputs, batch = drawn(COUNT, LABELS), labels(COUNT, LABELS)
    predicted, chance = (outputs > 0).int().numpy(), outputs.sigmoid().numpy()
    known = np.mean([log_loss(batch.targets[:, label], chance[:, label]) for label in range(LABELS)])
    assert float(MULTILABEL.mean_loss(outputs, batch)) == pytest.approx(known, rel=DIRECT)
    error = MULTILABEL.error(float(MULTILABEL.errors(outputs, batch).sum()), COUNT)
    assert error == pytest.approx(100 * hamming_loss(batch.targets, predicted), rel=DIRECT)
    exact = MULTILABEL.further_sums(outputs, batch)["exact_match_pct"]
    assert float(exact.mean()) == pytest.approx(100 * accuracy_score(batch.targets, predicted), rel=DIRECT)
    assert 0 < float(exact.mean()) < 100 - error  # a label alone is more often right than all of them


def test_one_label_is_binary_classification_and_chance_costs_log_2_for_any_number() -> None:
    outputs, batch = drawn(COUNT, 1), labels(COUNT, 1)
    one = batch._replace(targets=batch.targets[:, 0])
    torch.testing.assert_close(MULTILABEL.losses(outputs, batch), BINARY.losses(outputs, one), rtol=DIRECT, atol=0)
    for count in (2, 5):
        found = MULTILABEL.losses(torch.zeros(COUNT, count), labels(COUNT, count))
        torch.testing.assert_close(found, torch.full((COUNT,), math.log(2)), rtol=1e-6, atol=0)


@pytest.mark.parametrize("task", [BINARY, MULTILABEL])
def test_an_output_that_is_no_number_is_wrong(task: Task) -> None:
    batch = labels(COUNT) if task is BINARY else labels(COUNT, LABELS)
    assert float(task.errors(torch.full(batch.targets.shape, math.nan), batch).sum()) == COUNT


def test_transposed_outputs_are_refused() -> None:
    with pytest.raises(InputError, match="classes="):
        MULTILABEL.losses(drawn(LABELS, COUNT), labels(COUNT, LABELS))


# --- curvature, and what guessing costs ---------------------------------------------------------------------


class SummedOverLabels(MultilabelClassification):
    """Wrong: the Hessian of a sum over labels."""

    def hessian_product(self, outputs: Tensor, batch: Batch, vector: Tensor) -> Tensor:
        return super().hessian_product(outputs, batch, vector) * batch.targets.shape[1]


class CoupledLabels(MultilabelClassification):
    """Wrong: labels as if they were classes of one softmax."""

    def hessian_product(self, outputs: Tensor, batch: Batch, vector: Tensor) -> Tensor:
        chance = outputs.softmax(1)
        return chance * (vector - (chance * vector).sum(1, keepdim=True)) / batch.targets.shape[1]


class Variance(BinaryClassification):
    """Wrong: p v in place of p (1 - p) v."""

    def hessian_product(self, outputs: Tensor, batch: Batch, vector: Tensor) -> Tensor:
        return outputs.sigmoid() * vector


@pytest.mark.filterwarnings("ignore:.torch.jit.script:FutureWarning")  # of torch.func.hessian itself
@pytest.mark.parametrize(
    ("task", "right"),
    [(BINARY, True), (MULTILABEL, True), (Variance(), False), (SummedOverLabels(), False), (CoupledLabels(), False)],
    ids=lambda value: type(value).__name__,
)
def test_hessian_and_gauss_newton_are_the_dense_ones(task: Task, right: bool) -> None:
    outputs = 1 if task.targets == "labels" else LABELS
    split = random_features(COUNT, 4, outputs, task.targets, torch.Generator().manual_seed(0), "cpu")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, outputs)).double()
    objective = Objective(model, split, micro_batch=10, task=task)  # of 23 examples: the last one has three
    x, names, shapes = objective.weights(), objective.names, objective.shapes
    inputs, targets = split.images.double(), split.labels.double()

    def logits(flat: Tensor) -> Tensor:
        pieces = [p.view(s) for p, s in zip(flat.split([s.numel() for s in shapes]), shapes, strict=True)]
        return functional_call(model, dict(zip(names, pieces, strict=True)), (inputs,)).reshape(targets.shape)

    def loss_of(z: Tensor) -> Tensor:
        return ((1 + z.exp()).log() - targets * z).mean()

    torch.testing.assert_close(objective(x), loss_of(logits(x)), rtol=DIRECT, atol=0)
    z = logits(x)
    jacobian, of_outputs = jacrev(logits)(x).reshape(-1, len(x)), hessian(loss_of)(z).reshape(z.numel(), z.numel())
    dense = {"hvp": hessian(lambda flat: loss_of(logits(flat)))(x), "gnvp": jacobian.T @ of_outputs @ jacobian}
    for product, known in dense.items():
        found = torch.stack([getattr(objective, product)(x, v) for v in torch.eye(len(x), dtype=x.dtype)])
        close = bool((found - known).abs().max() < DENSE * known.abs().max())
        assert close == (right or product == "hvp")
    v = torch.randn(COUNT * outputs, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    batch = task.batch(split, slice(None), dtype=torch.float64)
    z, v = z.reshape(-1, outputs), v.reshape(-1, outputs)
    found, known = task.hessian_product(z, batch, v), Task.hessian_product(task, z, batch, v)
    assert torch.allclose(found, known, rtol=DIRECT, atol=DIRECT) == right


def test_guessing_costs_the_entropy_of_the_shares() -> None:
    split = random_features(1000, 2, LABELS, "label sets", torch.Generator().manual_seed(0), "cpu")
    split.labels[:, 0] = (torch.arange(1000) % 10 == 0).long()  # one in ten
    batch = MULTILABEL.batch(split, slice(None), dtype=torch.float64)
    share = split.labels.double().mean(0)
    guess = (share / (1 - share)).log().expand(1000, -1)  # the best logits that look at no input
    assert MULTILABEL.guessing_loss(split) == pytest.approx(float(MULTILABEL.mean_loss(guess, batch)), rel=DIRECT)
    assert MULTILABEL.guessing_loss(split) < 0.99 * math.log(2)
    one = split.subset(torch.arange(1000))
    one.labels.resize_(1000)
    assert BINARY.guessing_loss(one) <= math.log(2)


def test_evaluation_has_the_exact_match_over_batches_of_unequal_size() -> None:
    split = random_features(COUNT, 4, LABELS, "label sets", torch.Generator().manual_seed(0), "cpu")
    assert isinstance(split, Features)
    torch.manual_seed(0)
    model = nn.Linear(4, LABELS)
    found = evaluation(model, split, 10, MULTILABEL)
    predicted = (model(split.inputs(slice(None))) > 0).int().numpy()
    assert found.further == {"exact_match_pct": pytest.approx(100 * accuracy_score(split.labels, predicted))}
    assert found.error == pytest.approx(100 * hamming_loss(split.labels, predicted))


# --- data ---------------------------------------------------------------------------------------------------

X = np.random.default_rng(0).normal(size=(8, 2)).astype(np.float32)
PIXELS = np.random.default_rng(0).integers(0, 256, (8, 4, 4), np.uint8)
Y = np.array([[0, 1, 0], [1, 1, 0], [0, 0, 0], [1, 0, 1]] * 2)
Change = Callable[[np.ndarray], np.ndarray]


def read(
    path: Path, x: np.ndarray, y: np.ndarray, y_test: np.ndarray | None = None, **more: np.ndarray
) -> datasets.Dataset:
    np.savez(path / "mine.npz", x_train=x, y_train=y, x_test=x, y_test=y if y_test is None else y_test, **more)
    sources.fetch("mine", path / "d.npz", {"mine": str(path / "mine.npz")})
    return datasets.load(path / "d.npz", "mine")


@pytest.mark.parametrize("x", [X, PIXELS], ids=["table", "images"])
@pytest.mark.parametrize("kind", [bool, np.uint8, np.int64])
def test_sets_of_labels_are_read_with_tables_and_with_images(tmp_path: Path, x: np.ndarray, kind: type) -> None:
    found = read(tmp_path, x, Y.astype(kind))
    assert (found.targets, found.classes) == ("label sets", 3)
    np.testing.assert_array_equal(found.y_train, Y)
    assert isinstance(found, tabular.Table) == (x is X)
    batch = MULTILABEL.batch(split_images(found, "train", "cpu"), torch.tensor([3, 1]))
    assert batch.targets.tolist() == [[1, 0, 1], [1, 1, 0]]


@pytest.mark.parametrize("x", [X, PIXELS], ids=["table", "images"])
@pytest.mark.parametrize(
    ("y", "said"),
    [
        (2 * Y, "must hold 0 and 1"),
        (Y - 1, "must hold 0 and 1"),
        (Y[:5], "must hold 8"),
        (Y[:, None], "must hold 8"),
        (Y * [1, 1, 0], "label 2 is 0 in all training examples"),
        (np.eye(3, dtype=int)[[0, 1, 2, 0, 1, 2, 0, 1]], r"argmax\(1\)"),
    ],
    ids=["0 and 2", "-1 and 0", "too few", "three axes", "constant", "one-hot"],
)
def test_what_is_no_set_of_labels_is_refused(tmp_path: Path, x: np.ndarray, y: np.ndarray, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read(tmp_path, x, y)


@pytest.mark.parametrize("x", [X, PIXELS], ids=["table", "images"])
def test_both_splits_have_the_same_labels_and_as_many_as_is_said(tmp_path: Path, x: np.ndarray) -> None:
    for y_test in (Y[:, :2], Y[:, 0]):
        with pytest.raises(InputError, match="y_train and y_test must hold"):
            read(tmp_path, x, Y, y_test)
    with pytest.raises(InputError, match="sets of 3 labels"):
        read(tmp_path, x, Y, classes=np.int64(4))


def test_the_made_up_labels_are_the_segments_of_each_digit(tmp_path: Path) -> None:
    for name in ("digits", "digits_segments"):
        sources.fetch(name, tmp_path / f"{name}.npz")
    digits, segments = (datasets.load(tmp_path / f"{name}.npz") for name in ("digits", "digits_segments"))
    assert np.array_equal(digits.x_train, segments.x_train)
    assert segments.y_train.shape == (2874, 7)
    one, eight = (segments.y_train[digits.y_train == digit] for digit in (1, 8))
    assert (one == [0, 1, 1, 0, 0, 0, 0]).all()
    assert eight.all()
    assert len({tuple(row) for row in segments.y_train}) == 10
