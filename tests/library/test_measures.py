"""The library's functions on a caller's model, against closed forms; and what they leave as it was."""

import copy
import warnings
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from typing import Any

import numpy as np
import oracles
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import gapscope
from gapscope import seeds
from gapscope.data.images import Images
from gapscope.errors import InputError
from gapscope.library import sharpness as sharpness_module
from gapscope.numerics.loss_surface.sharpness import keskar_sharpness
from gapscope.training.objective import Objective

DIRECT = 1e-12  # float64 sums in another order, relative
CLIMBED = 1e-6  # of a maximum in a corner: L-BFGS-B reaches the corner itself, up to its test of convergence
LANCZOS = 1e-5  # 10 x residual^2 / gap at the default tolerance of 1e-3, for eigenvalues that stand apart
COUNT, MICRO_BATCH = 23, 5  # the last batch is smaller


class Point(nn.Module):
    """A model that is its weights."""

    def __init__(self, weights: np.ndarray) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.from_numpy(weights))


def bowl(model: nn.Module, batch: Any) -> Tensor:
    """Each example's sum of curvature (w - minimum)^2 / 2."""
    curvature, minimum = batch
    return (curvature * (model.weights - minimum) ** 2).sum(1) / 2


def bowls() -> tuple[Point, tuple[Tensor, Tensor]]:
    """A point and examples whose curvature grows, so that no two batches have the same mean."""
    draw = np.random.default_rng(0)
    curvature = draw.uniform(0.5, 1.5, (COUNT, 4)) * np.linspace(1, 6, COUNT)[:, None] * np.array([8, 4, 2, 1])
    minimum = draw.normal(size=(COUNT, 4)) + np.linspace(0, 2, COUNT)[:, None]
    return Point(draw.normal(size=4)), (torch.from_numpy(curvature), torch.from_numpy(minimum))


def weights_of_examples(variant: str) -> np.ndarray:
    """Return the weight of each example in the loss."""
    if variant == "mean of batch means":
        sizes = [len(part) for part in torch.arange(COUNT).split(MICRO_BATCH)]
        return np.concatenate([np.full(size, 1 / size / len(sizes)) for size in sizes])
    return np.full(COUNT, 1.0 if variant == "sum" else 1 / COUNT)


def whole_bowl(variant: str) -> tuple[np.ndarray, np.ndarray, float]:
    """Return curvature, minimum and floor of the weighted sum of bowls, which is a bowl."""
    _, (curvature, minimum) = bowls()
    share = weights_of_examples(variant)[:, None] * curvature.numpy()
    total = share.sum(0)
    lowest = (share * minimum.numpy()).sum(0) / total
    return total, lowest, float((share * (lowest - minimum.numpy()) ** 2).sum() / 2)


def check_sharpness(variant: str = "right") -> None:
    model, data = bowls()
    found = gapscope.sharpness(model, data, loss=bowl, epsilon=0.1, micro_batch=MICRO_BATCH)
    curvature, lowest, floor = whole_bowl(variant)
    x = model.weights.detach().numpy()
    known = oracles.quadratic_sharpness(floor, curvature, lowest, x, epsilon=0.1)
    np.testing.assert_allclose(found.sharpness_pct, known, rtol=CLIMBED)


def check_hessian(variant: str = "right") -> None:
    model, data = bowls()
    found = gapscope.hessian(model, data, loss=bowl, k=4, micro_batch=MICRO_BATCH)
    curvature, lowest, floor = whole_bowl(variant)
    np.testing.assert_allclose(found.eigenvalues, sorted(curvature, reverse=True), rtol=DIRECT)
    np.testing.assert_allclose(found.trace, curvature.sum(), rtol=DIRECT)  # exact for a diagonal Hessian
    x = model.weights.detach().numpy()
    np.testing.assert_allclose(found.loss, floor + (curvature * (x - lowest) ** 2).sum() / 2, rtol=DIRECT)


@pytest.mark.parametrize("check", [check_sharpness, check_hessian])
def test_a_quadratic_has_its_closed_form(check: Callable[..., None]) -> None:
    check()


@pytest.mark.parametrize("variant", ["sum", "mean of batch means"])
@pytest.mark.parametrize("check", [check_sharpness, check_hessian])
def test_another_weight_of_examples_is_told_apart(check: Callable[..., None], variant: str) -> None:
    with pytest.raises(AssertionError):
        check(variant)


def check_noise_scale(variant: str = "right") -> None:
    """Batches of one example: whatever their order, their gradients are those of the examples."""
    model, (curvature, minimum) = bowls()
    found = gapscope.noise_scale(model, (curvature, minimum), loss=bowl, batch_size=1)
    gradients = (curvature * (model.weights - minimum)).detach().numpy()
    trace = float(gradients.var(0, ddof=0 if variant == "biased variance" else 1).sum())
    squared = float((gradients.mean(0) ** 2).sum()) - (0 if variant == "biased norm" else trace / COUNT)
    np.testing.assert_allclose([found.trace, found.squared_gradient], [trace, squared], rtol=DIRECT)
    np.testing.assert_allclose(found.noise_scale, trace / squared, rtol=DIRECT)
    assert found.batches == COUNT
    assert found.low < found.noise_scale < found.high


def test_the_noise_scale_of_single_examples_is_that_of_their_gradients() -> None:
    check_noise_scale()


@pytest.mark.parametrize("variant", ["biased variance", "biased norm"])
def test_a_biased_noise_scale_is_told_apart(variant: str) -> None:
    with pytest.raises(AssertionError):
        check_noise_scale(variant)


def test_larger_batches_estimate_the_same_noise_scale() -> None:
    """Within its own 95 % interval, at a fixed seed."""
    draw = torch.Generator().manual_seed(1)
    data = (torch.ones(4096, 4, dtype=torch.float64), torch.randn(4096, 4, generator=draw, dtype=torch.float64))
    model = Point(np.full(4, 0.5))
    exact = gapscope.noise_scale(model, data, loss=bowl, batch_size=1).noise_scale
    found = gapscope.noise_scale(model, data, loss=bowl, seed=2)
    assert (found.batches, found.batch_size) == (32, 128)
    assert found.low < exact < found.high
    assert found.low < 4 / 1 < found.high  # tr(Sigma) / |G|^2 = 4 x 1 / (4 x 0.5^2)


def network() -> nn.Sequential:
    """A float32 network with batch norm and dropout, in train mode but for one module."""
    with seeds.seeded(0, "test"):
        model = nn.Sequential(
            nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(48, 4)
        )
        model[1].running_mean.normal_(0, 0.1)
        model[1].running_var.uniform_(0.5, 2)
    model.train()
    model[4].eval()
    model[5].weight.requires_grad_(False)
    model[0].weight.grad = torch.ones_like(model[0].weight)
    return model


def pictures() -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    return torch.randn(COUNT, 1, 6, 6, generator=draw), torch.randint(4, (COUNT,), generator=draw)


def test_the_default_is_the_cross_entropy() -> None:
    inputs = pictures()[0].flatten(1)[:, :6].double().numpy()
    model = nn.Linear(6, 4, bias=False)
    nn.init.zeros_(model.weight)
    known = oracles.softmax_regression_hessian(inputs, 4)
    found = gapscope.hessian(model, (inputs, pictures()[1]), trace_probes=1000)
    np.testing.assert_allclose(found.eigenvalues[0], np.linalg.eigvalsh(known)[-1], rtol=LANCZOS)
    assert abs(found.trace - np.trace(known)) < 4 * found.trace_standard_error
    np.testing.assert_allclose(found.loss, np.log(4), rtol=DIRECT)


def test_ten_iterations_are_those_of_the_pipeline() -> None:
    """The same number as the stage's, from its own data and its own stream of the seed."""
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (COUNT, 1, 6, 6), dtype=torch.uint8, generator=draw)
    images = Images(pixels, pictures()[1], torch.tensor([0.4]), torch.tensor([0.3]))
    loss = Objective(network(), images, micro_batch=100)
    known = keskar_sharpness(
        loss, loss.weights(), epsilon=1e-3, generator=seeds.generator(5, "sharpness", "full")
    ).sharpness
    inputs = images.inputs(slice(None), torch.float64)
    found = gapscope.sharpness(network(), (inputs, images.labels), seed=5)
    np.testing.assert_allclose(found.ten_iterations_pct, known, rtol=CLIMBED)
    assert found.sharpness_pct >= found.ten_iterations_pct


def as_pairs(inputs: Tensor, labels: Tensor) -> dict[str, Any]:
    whole = TensorDataset(inputs, labels)
    return {
        "list": [inputs, labels],
        "arrays": (inputs.numpy(), labels.numpy()),
        "dataset": whole,
        "loader": DataLoader(whole, batch_size=7),
        "shuffled": DataLoader(whole, batch_size=7, shuffle=True),
    }


MEASURES: dict[str, Callable[[nn.Module, Any], float]] = {
    "sharpness": lambda model, data: gapscope.sharpness(model, data).sharpness_pct,
    "hessian": lambda model, data: gapscope.hessian(model, data).eigenvalues[0],
    "noise_scale": lambda model, data: gapscope.noise_scale(model, data, batch_size=1, **RUNNING).noise_scale,
}
RUNNING: dict[str, Any] = {"batch_norm_statistics": "running"}


@pytest.mark.parametrize("form", ["list", "arrays", "dataset", "loader", "shuffled"])
@pytest.mark.parametrize("measure", MEASURES)
def test_every_form_of_data_gives_the_same_value(measure: str, form: str) -> None:
    inputs, labels = pictures()
    known = MEASURES[measure](network(), (inputs, labels))
    found = MEASURES[measure](network(), as_pairs(inputs, labels)[form])
    np.testing.assert_allclose(found, known, rtol=CLIMBED if form == "shuffled" else DIRECT)


def test_a_loader_that_draws_gives_the_same_examples_at_one_seed() -> None:
    inputs, labels = pictures()
    loader = DataLoader(TensorDataset(inputs, labels), batch_size=7, shuffle=True, drop_last=True)
    found = [gapscope.hessian(network(), loader, seed=seed) for seed in (0, 0, 1)]
    assert found[0] == found[1]
    assert found[0].loss != found[2].loss  # other examples were left out
    assert found[0].examples == COUNT - COUNT % 7


def test_a_loss_of_ones_own_takes_any_structure_and_may_name_the_model_itself() -> None:
    inputs, labels = pictures()
    model = network()

    def squares(net: nn.Module, batch: Any) -> Tensor:
        return ((net(batch["x"]) - batch["more"]["y"]) ** 2).sum(1)

    wanted = nn.functional.one_hot(labels, 4).double()
    data = {"x": inputs, "more": {"y": wanted}}
    found = gapscope.hessian(model, data, loss=squares)
    closed = gapscope.hessian(
        model, (inputs, wanted), loss=lambda _, b: squares(model, {"x": b[0], "more": {"y": b[1]}})
    )
    assert found == closed
    plain = copy.deepcopy(model).double().eval()
    known = squares(plain, {"x": inputs.double(), "more": {"y": wanted}}).mean().item()
    np.testing.assert_allclose(found.loss, known, rtol=DIRECT)


def test_float32_is_used_where_it_is_asked_for() -> None:
    exact, rounded = (gapscope.hessian(network(), pictures(), precision=name) for name in ("float64", "float32"))
    assert (exact.precision, rounded.precision) == ("float64", "float32")
    assert 0 < abs(exact.loss - rounded.loss) < 1e-5  # a few eps of float32


def test_near_rank_counts_dead_units_and_zeros_by_shape() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 5), nn.Tanh())
    with torch.no_grad():
        model[0].weight[:3], model[0].bias[:3] = 0, -1  # three dead units
        model[2].weight.mul_(1e-7)  # outputs that hardly depend on the inputs: the rest of the rank is tiny
    inputs = torch.randn(20, 6, generator=torch.Generator().manual_seed(0))
    found = gapscope.near_rank(model, inputs)
    plain = copy.deepcopy(model).double()
    hidden = [plain[:end](inputs.double()).detach().numpy() for end in (2, 4)]
    known = [int((np.linalg.svd(layer, compute_uv=False) <= 1e-4).sum()) for layer in hidden]
    assert known == [3, 4]
    assert [row["excess"] for row in found.layers] == known
    assert [row["structural"] for row in found.layers] == [12, 15]
    assert (found.excess, found.structural, found.full, found.singular_values) == (7, 27, 34, 13)
    assert found.low <= found.excess <= found.high
    assert len(found.to_frame()) == 2
    assert gapscope.near_rank(model, inputs, threshold=1e-9).excess == 3
    assert gapscope.near_rank(model, inputs, threshold=0.999999, relative=True).excess == 4 + 7


def test_spectra_are_those_of_each_unfolding() -> None:
    tensor = torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(0))
    found = gapscope.spectra(tensor)
    for mode, spectrum in enumerate(found.modes):
        np.testing.assert_allclose(spectrum.values, oracles.dense_spectrum(tensor.numpy(), mode), rtol=1e-9)
    assert found.to_frame().groupby("mode").size().tolist() == [4, 3, 5]


CALLS: dict[str, Callable[[nn.Module], Any]] = {
    "sharpness": lambda model: gapscope.sharpness(model, pictures()),
    "hessian": lambda model: gapscope.hessian(model, pictures()),
    "noise_scale": lambda model: gapscope.noise_scale(model, pictures(), batch_size=4),
    "near_rank": lambda model: gapscope.near_rank(model, pictures()[0]),
}


def state_of(model: nn.Module) -> dict[str, Any]:
    """Everything of a model that a measure might change, and the global generator."""
    return {
        "weights": {name: value.clone() for name, value in model.state_dict().items()},
        "same tensors": [p.data_ptr() for p in model.parameters()],
        "gradients": [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        "requires_grad": [p.requires_grad for p in model.parameters()],
        "modes": [module.training for module in model.modules()],
        "generator": torch.get_rng_state(),
    }


def assert_same(before: Any, after: Any) -> None:
    torch.testing.assert_close(after, before, rtol=0, atol=0)


@pytest.mark.parametrize("measure", CALLS)
def test_a_model_is_as_it_was(measure: str) -> None:
    model = network()
    before = state_of(model)
    CALLS[measure](model)
    for name, value in state_of(model).items():
        assert_same(before[name], value) if name != "gradients" else [
            assert_same(old, new) for old, new in zip(before[name], value, strict=True) if old is not None
        ]
    assert [g is None for g in state_of(model)["gradients"]] == [g is None for g in before["gradients"]]


def test_a_model_is_as_it_was_after_an_error() -> None:
    model = network()
    modes = [module.training for module in model.modules()]
    with pytest.raises(InputError):
        gapscope.sharpness(model, pictures(), loss=lambda net, batch: net(batch[0]).mean())
    assert [module.training for module in model.modules()] == modes


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("measure", CALLS)
def test_a_measure_needs_no_gradient_mode(measure: str, mode: Callable[[], Any]) -> None:
    """Without gradients sharpness would be 0."""
    with mode():
        found = CALLS[measure](network())
    assert found == CALLS[measure](network())


@pytest.mark.parametrize("measure", CALLS)
def test_results_are_frozen_short_and_a_table(measure: str) -> None:
    found = CALLS[measure](network())
    assert len(repr(found)) < 160
    assert len(found.to_frame()) >= 1
    with pytest.raises(FrozenInstanceError):
        found.seed = 1


def test_a_maximisation_that_has_not_converged_warns(monkeypatch: pytest.MonkeyPatch) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert gapscope.sharpness(network(), pictures()).converged

    def cut_short(*arguments: Any, **named: Any) -> Any:
        found = keskar_sharpness(*arguments, **named)
        return replace(found, search=replace(found.search, converged=False))

    monkeypatch.setattr(sharpness_module, "keskar_sharpness", cut_short)
    with pytest.warns(RuntimeWarning, match="not converged"):
        found = gapscope.sharpness(network(), pictures())
    assert "NOT converged" in str(found)


X, Y = pictures()
WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "no model": (lambda: gapscope.sharpness(lambda x: x, (X, Y)), r"model must be a torch\.nn\.Module"),
    "no weights": (lambda: gapscope.hessian(nn.ReLU(), (X, Y)), "model must have weights"),
    "no data": (lambda: gapscope.sharpness(network(), "mnist"), "data must be .*DataLoader; got a str"),
    "inputs alone": (lambda: gapscope.sharpness(network(), X), r"pairs \(inputs, labels\)"),
    "several lengths": (lambda: gapscope.sharpness(network(), (X, Y[1:])), "data must be"),
    "no examples": (lambda: gapscope.sharpness(network(), (X[:0], Y[:0])), "data must be"),
    "labels that are numbers": (lambda: gapscope.sharpness(network(), (X, Y.float())), "whole numbers"),
    "a label too many": (lambda: gapscope.sharpness(network(), (X, Y + 1)), r"labels must be in 0\.\.3"),
    "pixels": (lambda: gapscope.sharpness(network(), (X.byte(), Y)), "uint8"),
    "outputs of no classifier": (lambda: gapscope.sharpness(network()[:3], (X, Y)), "logits"),
    "no pictures that can be stacked": (
        lambda: gapscope.sharpness(network(), DataLoader([object()])),
        "must give tensors",
    ),
    "a mean loss": (
        lambda: gapscope.hessian(network(), (X, Y), loss=lambda net, b: net(b[0]).mean()),
        r"shape \(23,\), got float64 of shape \(\)",
    ),
    "a loss without gradient": (
        lambda: gapscope.sharpness(network(), (X, Y), loss=lambda net, b: net(b[0]).detach().sum(1)),
        "does not depend on the weights",
    ),
    "a name for a loss": (lambda: gapscope.sharpness(network(), (X, Y), loss="mse"), r"loss\(model, batch\)"),
    "a class for a loss": (lambda: gapscope.sharpness(network(), (X, Y), loss=nn.MSELoss), r"loss\(model, batch\)"),
    "epsilon": (lambda: gapscope.sharpness(network(), (X, Y), epsilon=0), "epsilon must be > 0"),
    "starts": (lambda: gapscope.sharpness(network(), (X, Y), starts=0), "starts must be"),
    "precision": (lambda: gapscope.sharpness(network(), (X, Y), precision="half"), "float64, float32"),
    "micro_batch": (lambda: gapscope.hessian(network(), (X, Y), micro_batch=0), "micro_batch"),
    "statistics": (lambda: gapscope.hessian(network(), (X, Y), batch_norm_statistics="train"), "running, batch"),
    "k": (lambda: gapscope.hessian(network(), (X, Y), k=1000), r"k must be in 1\.\.40"),
    "batch_size": (lambda: gapscope.noise_scale(network(), (X, Y), batch_size=8), r"1\.\.7"),
    "two examples": (lambda: gapscope.noise_scale(network(), (X[:2], Y[:2])), "batches"),
    "inputs in pairs": (lambda: gapscope.near_rank(network(), (X, Y)), r"tensor \(b, \.\.\.\)"),
    "threshold": (lambda: gapscope.near_rank(network(), X, threshold=-1), "threshold"),
    "no layers": (lambda: gapscope.near_rank(nn.Linear(6, 2), X), "unit_layers"),
    "a vector": (lambda: gapscope.spectra(torch.ones(3)), "two or more axes"),
    "method": (lambda: gapscope.spectra(X, method="svd"), "certified"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_is_answered_with_what_was_wanted(name: str) -> None:
    call, wanted = WRONG[name]
    with pytest.raises(InputError, match=wanted):
        call()
