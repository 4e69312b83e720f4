"""A caller's objective: any batch, losses or sums, and some of the parameters; against dense Hessians."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, hessian
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

import gapscope
from gapscope import seeds
from gapscope.errors import InputError

DENSE = 1e-10  # float64: products against a dense matrix, relative to its largest entry
COUNT, LENGTH, TOKENS = 7, 3, 4
IGNORED = -100


class Reader(nn.Module):
    """Reads sequences; the embedding gives the logits too."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(TOKENS, 3)
        self.layers = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Dropout(0.5), nn.Linear(3, 3))
        self.head = nn.Linear(3, TOKENS, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.layers(self.embed(ids)).cumsum(1))


@pytest.fixture
def model() -> Reader:
    with seeds.seeded(0, "test"):
        return Reader()


@pytest.fixture
def data() -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(0, TOKENS, (COUNT, LENGTH), generator=draw)
    labels = torch.randint(0, TOKENS, (COUNT, LENGTH), generator=draw)
    labels[0, :2] = labels[5, 1:] = IGNORED  # 17 of 21 count
    return {"ids": ids, "labels": labels}


def token_sum(model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
    logits = model(batch["ids"]).flatten(0, 1)
    labels = batch["labels"].flatten()
    return cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum"), (labels != IGNORED).sum()


def counting_ignored(model: nn.Module, batch: Any) -> tuple[Tensor, int]:
    """Wrong: ignored tokens are counted."""
    return token_sum(model, batch)[0], batch["labels"].numel()


def of_sequences(model: nn.Module, batch: Any) -> Tensor:
    logits = model(batch["ids"])
    losses = cross_entropy(logits.transpose(1, 2), batch["labels"], ignore_index=IGNORED, reduction="none")
    return losses.sum(1)


def dense(model: Reader, data: dict[str, Tensor], number: float) -> tuple[Tensor, Tensor, dict[str, slice]]:
    """Return loss and Hessian of the sum of losses over `number`, and where each parameter lies."""
    model = model.eval()
    names, shapes = zip(*((name, p.shape) for name, p in model.named_parameters()), strict=True)
    sizes = [shape.numel() for shape in shapes]
    ends = torch.tensor(sizes).cumsum(0).tolist()
    places = {name: slice(end - size, end) for name, end, size in zip(names, ends, sizes, strict=True)}

    def loss(flat: Tensor) -> Tensor:
        parts = [part.view(shape) for part, shape in zip(flat.split(sizes), shapes, strict=True)]
        state = dict(zip(names, parts, strict=True))
        logits = functional_call(model, state, (data["ids"],)).log_softmax(2)
        picked = -logits.gather(2, data["labels"].clamp(min=0)[..., None])[..., 0]
        return torch.where(data["labels"] != IGNORED, picked, 0.0).sum() / number

    x = torch.cat([p.detach().double().flatten() for p in model.parameters()])
    found = loss(x), hessian(loss)(x), places
    model.train()
    return found


def matrix(objective: gapscope.Objective) -> Tensor:
    x = objective.weights()
    return torch.stack([objective.hvp(x, v) for v in torch.eye(len(x), dtype=x.dtype)])


def close(found: Tensor, known: Tensor) -> bool:
    return bool((found - known).abs().max() <= DENSE * known.abs().max())


@pytest.mark.filterwarnings("ignore:.torch.jit.script:FutureWarning")  # of torch.func.hessian itself
@pytest.mark.parametrize(
    ("loss", "number", "right"),
    [(token_sum, 17, True), (counting_ignored, 17, False), (of_sequences, COUNT, True), (of_sequences, 17, False)],
)
def test_loss_and_hessian_are_those_of_a_dense_one(
    model: Reader, data: dict[str, Tensor], loss: Any, number: float, right: bool
) -> None:
    value, known, _ = dense(model, data, number)
    objective = gapscope.Objective(model, data, loss, micro_batch=3)
    assert (close(objective(objective.weights()), value), close(matrix(objective), known)) == (right, right)
    assert model.training
    assert model.layers[2].training


@pytest.mark.filterwarnings("ignore:.torch.jit.script:FutureWarning")
@pytest.mark.parametrize(
    ("parameters", "names"),
    [
        ("layers.0", ["layers.0.weight", "layers.0.bias"]),
        (["embed.weight", "layers.3.bias"], ["embed.weight", "layers.3.bias"]),
        (lambda _name, parameter: parameter.ndim == 1, ["layers.0.bias", "layers.3.bias"]),
    ],
)
def test_the_hessian_of_some_parameters_is_their_block_of_the_dense_one(
    model: Reader, data: dict[str, Tensor], parameters: Any, names: list[str]
) -> None:
    _, known, places = dense(model, data, 17)
    index = torch.cat([torch.arange(len(known))[places[name]] for name in names])
    objective = gapscope.Objective(model, data, token_sum, parameters=parameters)
    assert objective.parameters == tuple(names)
    assert close(matrix(objective), known[index][:, index])
    others = torch.cat([torch.arange(len(known))[place] for name, place in places.items() if name not in names])
    assert not close(matrix(objective), known[others[: len(index)]][:, others[: len(index)]])
    found = gapscope.hessian(model, data, loss=token_sum, parameters=parameters, k=1, which="LA", tolerance=1e-8)
    assert found.eigenvalues[0] == pytest.approx(float(torch.linalg.eigvalsh(known[index][:, index])[-1]), rel=1e-6)
    assert set(found.frozen) == set(places) - set(names)


def test_gradients_of_batches_are_over_their_own_number_of_tokens(model: Reader, data: dict[str, Tensor]) -> None:
    objective = gapscope.Objective(model, data, token_sum, micro_batch=2)
    x = objective.weights()
    for start, gradient in zip((0, 3), objective.gradients(x, 3), strict=True):
        part = {name: tensor[start : start + 3] for name, tensor in data.items()}
        alone = gapscope.Objective(model, part, token_sum)
        assert close(gradient, alone.value_and_gradient(x, with_gradient=True)[1])


def test_sharpness_in_one_layer_is_at_most_that_in_all(model: Reader, data: dict[str, Tensor]) -> None:
    options = {"loss": token_sum, "epsilon": 1e-2, "starts": 3}
    whole, layer = (gapscope.sharpness(model, data, parameters=of, **options) for of in (None, "layers.3"))
    assert 0 < layer.sharpness_pct < whole.sharpness_pct


def test_batches_in_a_list_count_as_one_set_of_examples(model: Reader, data: dict[str, Tensor]) -> None:
    whole = gapscope.Objective(model, data, token_sum)
    parts = [{name: tensor[a:b] for name, tensor in data.items()} for a, b in ((0, 4), (4, 5), (5, 7))]
    x = whole.weights()
    torch.testing.assert_close(gapscope.Objective(model, parts, token_sum)(x), whole(x), rtol=1e-12, atol=0)


def refusals() -> list[tuple[str, Any, str]]:
    pair = torch.randn(6, 3), torch.zeros(6, dtype=torch.long)
    line = nn.Linear(3, 2)
    loader = DataLoader(TensorDataset(*pair), batch_size=2, shuffle=True)
    mean = {"loss": lambda model, batch: cross_entropy(model(batch[0]), batch[1])}
    return [
        ("mean", lambda: gapscope.Objective(line, pair, **mean), r"shape \(6,\), got .*\(sum, number\)"),
        ("shuffled", lambda: gapscope.Objective(line, loader), "RandomSampler.*shuffle=False"),
        ("no labels", lambda: gapscope.Objective(line, pair[0]), r"needs pairs \(inputs, labels\)"),
        ("one logit", lambda: gapscope.hessian(nn.Linear(3, 1), pair), r"two classes or more.*\(6, 1\); give loss="),
        ("sets of labels", lambda: gapscope.hessian(line, (pair[0], pair[1][:, None])), "give loss= for another task"),
        ("no parameters", lambda: gapscope.Objective(nn.Tanh(), pair), "Tanh has no parameters"),
        ("unknown", lambda: gapscope.Objective(line, pair, parameters="wieght"), "'wieght'.*weight"),
        ("none", lambda: gapscope.Objective(line, pair, parameters=lambda *_: False), "chooses none of the 2"),
        ("ragged", lambda: gapscope.Objective(line, [pair, (torch.ones(1, 4), pair[1][:1])]), "pad them to one length"),
        ("gnvp", lambda: gapscope.Objective(line, pair).gnvp(torch.ones(8), torch.ones(8)), "no Gauss-Newton matrix"),
    ]


@pytest.mark.parametrize(("call", "said"), [pytest.param(call, said, id=name) for name, call, said in refusals()])
def test_wrong_use_is_refused_in_one_line(call: Any, said: str) -> None:
    with pytest.raises(InputError, match=said) as error:
        call()
    assert "\n" not in str(error.value)
