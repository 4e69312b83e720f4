"""Language models: against a dense Hessian, with ignored tokens and tied weights; and what is recorded of them."""

import math
from itertools import pairwise

import numpy as np
import oracles
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, hessian, jacrev

from gapscope import seeds
from gapscope.data.text import IGNORED
from gapscope.data.tokens import Tokens, random_tokens
from gapscope.errors import InputError
from gapscope.models.gpt import GPT
from gapscope.numerics.loss_surface.hessian_products import twice_differentiable
from gapscope.tasks.language_model import LanguageModel
from gapscope.tasks.task import Batch
from gapscope.training.evaluation import decayed_parameters, evaluate
from gapscope.training.objective import Objective

DENSE = 1e-10  # float64: products summed over micro-batches against one dense matrix, relative to its largest entry
VOCABULARY, LENGTH, SEQUENCES = 5, 4, 7
MICRO_BATCH = 3  # of seven sequences: the last micro-batch has one


class CountsIgnored(LanguageModel):
    """Wrong: an ignored target is taken for token 0."""

    def sum_loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return super().sum_loss(outputs, batch._replace(targets=batch.targets.clamp(min=0)))

    def hessian_product(self, outputs: Tensor, batch: Batch, vector: Tensor) -> Tensor:
        return super().hessian_product(outputs, batch._replace(targets=batch.targets.clamp(min=0)), vector)


class MeanOfMeans(LanguageModel):
    """Wrong: every sequence counts alike, one with fewer tokens that count too."""

    def sum_loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return self.losses(outputs, batch).sum() * (20 / SEQUENCES)

    def hessian_product(self, outputs: Tensor, batch: Batch, vector: Tensor) -> Tensor:
        weights = (20 / SEQUENCES) / self.weights(batch).clamp(min=1)
        return super().hessian_product(outputs, batch, vector) * weights[:, None, None]


class NotCentred(LanguageModel):
    """Wrong: diag(p) v alone, in Hessian products of outputs."""

    def hessian_product(self, outputs: Tensor, batch: Batch, vector: Tensor) -> Tensor:
        return outputs.softmax(2) * vector * (batch.targets != IGNORED)[..., None]


@pytest.fixture
def training() -> Tokens:
    found = random_tokens(SEQUENCES, LENGTH, VOCABULARY, torch.Generator().manual_seed(0), "cpu")
    found.labels[0, :2] = found.labels[3, 1:] = found.labels[5, :3] = IGNORED  # 20 of 28 tokens count
    return found


@pytest.fixture(params=[True, False], ids=["tied", "untied"])
def model(request: pytest.FixtureRequest) -> nn.Module:
    with seeds.seeded(0, "test"):
        network = GPT((LENGTH,), VOCABULARY, layers=1, units=4, heads=2, tied=request.param)
    for parameter in network.parameters():  # GPT-2's weights are so small that curvature is nearly that of a constant
        parameter.data *= 10 if parameter.ndim == 2 else 1
    return network


class Dense:
    """The mean over tokens as one expression."""

    def __init__(self, model: nn.Module, training: Tokens) -> None:
        self.model = oracles.with_written_norms(model)
        self.tokens, self.targets = training.images.long(), training.labels.long()
        self.names, self.shapes = zip(*((name, p.shape) for name, p in model.named_parameters()), strict=True)
        self.x = torch.cat([p.detach().double().flatten() for p in model.parameters()])

    def outputs(self, flat: Tensor) -> Tensor:
        parts = flat.split([shape.numel() for shape in self.shapes])
        state = {name: part.view(shape) for name, part, shape in zip(self.names, parts, self.shapes, strict=True)}
        return functional_call(self.model, state, (self.tokens,))

    def loss_of_outputs(self, outputs: Tensor) -> Tensor:
        logp = outputs.log_softmax(-1).flatten(0, -2)
        losses = -logp[torch.arange(len(logp)), self.targets.flatten().clamp(min=0)]
        counted = (self.targets != IGNORED).flatten()
        return torch.where(counted, losses, 0.0).sum() / counted.sum()

    def loss(self, flat: Tensor) -> Tensor:
        return self.loss_of_outputs(self.outputs(flat))

    def gauss_newton(self) -> Tensor:
        outputs = self.outputs(self.x)
        jacobian = jacrev(lambda w: self.outputs(w).flatten())(self.x)
        curved = hessian(lambda z: self.loss_of_outputs(z.view_as(outputs)))(outputs.flatten())
        return jacobian.T @ curved @ jacobian


def products(objective: Objective, of: str, vectors: Tensor) -> Tensor:
    return torch.stack([getattr(objective, of)(objective.weights(), v) for v in vectors])


def close(found: Tensor, known: Tensor) -> bool:
    return bool((found - known).abs().max() <= DENSE * known.abs().max())


@pytest.mark.filterwarnings("ignore:.torch.jit.script:FutureWarning")  # of torch.func.hessian itself
@pytest.mark.parametrize(
    "task", [LanguageModel(), CountsIgnored(), MeanOfMeans(), NotCentred()], ids=lambda task: type(task).__name__
)
def test_loss_hessian_and_gauss_newton_are_those_of_a_dense_hessian(
    model: nn.Module, training: Tokens, task: LanguageModel
) -> None:
    objective, dense = Objective(model, training, micro_batch=MICRO_BATCH, task=task), Dense(model, training)
    vectors = torch.randn(3, len(dense.x), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with twice_differentiable():
        known = {"loss": dense.loss(dense.x), "hvp": vectors @ hessian(dense.loss)(dense.x)}
        known["gnvp"] = vectors @ dense.gauss_newton()
    found = {"loss": objective(dense.x)} | {of: products(objective, of, vectors) for of in ("hvp", "gnvp")}
    right = {name: close(found[name], known[name]) for name in known}
    if type(task) is NotCentred:
        assert right == {"loss": True, "hvp": True, "gnvp": False}
    else:
        assert set(right.values()) == {type(task) is LanguageModel}


def test_gradients_of_batches_are_means_over_their_tokens(model: nn.Module, training: Tokens) -> None:
    objective = Objective(model, training, micro_batch=2, task=LanguageModel())
    found = list(objective.gradients(objective.weights(), 3))
    for start, gradient in zip((0, 3), found, strict=True):
        part = training.subset(torch.arange(start, start + 3))
        dense = Dense(model, part)
        (known,) = torch.autograd.grad(dense.loss(flat := dense.x.clone().requires_grad_()), flat)
        assert close(gradient, known)


def test_tied_weights_are_decayed_once(model: nn.Module) -> None:
    decayed, _ = decayed_parameters(model, "weights")
    total = sum(float(p.detach().double().square().sum()) for p in decayed.values())
    matrices = {p.data_ptr(): float(p.detach().double().square().sum()) for p in model.parameters() if p.ndim == 2}
    assert total == pytest.approx(sum(matrices.values()), rel=1e-12)
    twice = total + float(model.tokens.weight.detach().double().square().sum())  # type: ignore[union-attr, operator]
    assert twice > 1.01 * total
    assert ("head.weight" in decayed) == (model.head is not None)


def test_error_loss_and_perplexity_are_those_of_single_tokens(model: nn.Module, training: Tokens) -> None:
    error, loss = evaluate(model, training, 3, LanguageModel())
    logits = model(training.images.long()).detach().double()
    wrong, losses = [], []
    for row in range(SEQUENCES):
        for place in range(LENGTH):
            target = int(training.labels[row, place])
            if target == IGNORED:
                continue
            wrong.append(int(logits[row, place].argmax()) != target)
            losses.append(-float(logits[row, place].log_softmax(0)[target]))
    assert len(losses) == 20
    assert error == pytest.approx(100 * np.mean(wrong), rel=1e-12)
    assert loss == pytest.approx(np.mean(losses), rel=1e-6)  # a float32 forward pass in other batches
    assert LanguageModel().further(error, loss, training) == {"perplexity": pytest.approx(math.exp(loss))}
    assert LanguageModel().further(error, 1e4, training) == {"perplexity": math.inf}


def test_logits_that_are_not_numbers_are_errors(training: Tokens) -> None:
    task, batch = LanguageModel(), LanguageModel().batch(training, slice(0, 2))
    right = nn.functional.one_hot(batch.targets.clamp(min=0), VOCABULARY).float()
    assert task.errors(right, batch).tolist() == [0, 0]
    right[0, 3, 1] = math.nan
    assert task.errors(right, batch).tolist() == [1, 0]


def test_guessing_costs_the_entropy_of_the_training_tokens(training: Tokens) -> None:
    labels = [int(label) for label in training.labels.flatten() if label != IGNORED]
    shares = [labels.count(token) / len(labels) for token in set(labels)]
    assert LanguageModel().guessing_loss(training) == pytest.approx(-sum(p * math.log(p) for p in shares), rel=1e-12)
    assert LanguageModel().baselines(training, training)["bigram"] > 0


def test_outputs_of_another_shape_are_refused(training: Tokens) -> None:
    batch = LanguageModel().batch(training, slice(0, 2))
    with pytest.raises(InputError, match="logits"):
        LanguageModel().losses(torch.zeros(2, VOCABULARY), batch)


def test_a_token_sees_none_that_follows(model: nn.Module, training: Tokens) -> None:
    tokens = training.images[:2].long()
    changed = tokens.clone()
    changed[:, 2] = (changed[:, 2] + 1) % VOCABULARY
    before, after = model(tokens), model(changed)
    torch.testing.assert_close(before[:, :2], after[:, :2], rtol=0, atol=0)
    assert not torch.allclose(before[:, 2:], after[:, 2:])


def test_unit_layers_are_the_hidden_units_and_the_stream_of_each_block() -> None:
    network = GPT((LENGTH,), VOCABULARY, layers=2, units=6, heads=2)
    sizes: dict[str, int] = {}
    for name, module in network.unit_layers.items():
        module.register_forward_hook(lambda _m, _i, output, name=name: sizes.update({name: output.shape[2]}))
    network(torch.zeros(1, LENGTH, dtype=torch.long))
    assert sizes == {"embedding": 6, "mlp1": 24, "stream1": 6, "mlp2": 24, "stream2": 6}
    assert [*sizes] == [*network.unit_layers]
    depths = [float(network.get_parameter(f"blocks.{n}.back.weight").detach().std()) for n in (0, 1)]
    assert all(first == pytest.approx(0.02 / 2, rel=0.3) for first, _ in pairwise(depths))
