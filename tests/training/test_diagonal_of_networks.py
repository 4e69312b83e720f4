"""The diagonal of a network's Hessian: which way each tensor takes, over which examples."""

from dataclasses import dataclass

import oracles
import pytest
import torch
from torch import Tensor, nn

from gapscope import seeds
from gapscope.training.hessian_diagonal import Diagonal, hessian_diagonals
from gapscope.training.objective import Objective

DIRECT = 1e-12  # float64 sums in another order, relative to the largest entry of a tensor
STANDARD_ERRORS = 4  # of an estimate at a fixed seed
COUNT, REACH = 20, 3.0


@dataclass(frozen=True)
class Vectors:
    """Examples that are float64 as they are."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def inputs(self, index: slice, *_: object) -> Tensor:
        return self.images[index]


def examples(count: int = COUNT) -> Vectors:
    draw = torch.Generator().manual_seed(0)
    images = torch.randn(COUNT, 6, generator=draw, dtype=torch.float64)
    return Vectors(images[:count], torch.randint(3, (COUNT,), generator=draw)[:count])


def network(activation: nn.Module, *, norm: bool = False) -> nn.Module:
    with seeds.seeded(0, "test"):
        middle = nn.BatchNorm1d(4) if norm else nn.Identity()
        model = nn.Sequential(nn.Linear(6, 4), middle, activation, nn.Linear(4, 3)).double()
        if norm:
            middle.running_mean.normal_()
            middle.running_var.uniform_(0.5, 2)
    return model


def found(model: nn.Module, count: int = COUNT, *, micro_batch: int = 7, **options: object) -> list[Diagonal]:
    statistics = {"batch_norm_statistics": options.pop("statistics", "running")}
    loss = Objective(model, examples(count), micro_batch=micro_batch, **statistics)
    return list(hessian_diagonals(loss, generator=torch.Generator().manual_seed(0), **options))


def dense(model: nn.Module) -> dict[str, Tensor]:
    of = examples()
    diagonal = oracles.dense_hessian(model, of.images, of.labels).diagonal()
    sizes = [p.numel() for p in model.parameters()]
    return dict(zip([name for name, _ in model.named_parameters()], diagonal.split(sizes), strict=True))


def close(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=0, atol=DIRECT * float(other.abs().max()))


def test_a_network_of_relu_is_exact_over_any_number_of_examples() -> None:
    model = network(nn.ReLU(), norm=True).eval()
    *parts, whole = found(model, at=[5, 8, 64])
    assert [of.examples for of in parts] == [5, 8]
    for name, values in dense(model).items():
        close(whole.values[name], values)
    assert whole.standard_errors == {}
    (alone,) = found(model, 8, micro_batch=100)
    for one, other in ((parts[1].values, alone.values), (parts[1].fisher, alone.fisher)):
        assert set(one) == set(other) == set(dense(model))
        for name in one:
            close(one[name], other[name])


def test_a_tensor_before_a_tanh_goes_by_probes_and_the_head_is_exact() -> None:
    model = network(nn.Tanh())
    (whole,) = found(model, probes=400)
    known = dense(model)
    assert set(whole.standard_errors) == {"0.weight", "0.bias"}
    for name, errors in whole.standard_errors.items():
        assert bool(((whole.values[name] - known[name]).abs() <= STANDARD_ERRORS * errors + DIRECT).all())
    for name in ("3.weight", "3.bias"):
        close(whole.values[name], known[name])
    gauss_newton = oracles.dense_gauss_newton(model, examples().images).diagonal()[:24]
    errors = whole.standard_errors["0.weight"]
    assert not bool(((whole.values["0.weight"] - gauss_newton).abs() <= STANDARD_ERRORS * errors).all())


@pytest.mark.parametrize("method", ["sampled", "hutchinson"])
def test_the_estimates_are_of_the_same_diagonal(method: str) -> None:
    model = network(nn.ReLU())
    loss = Objective(model, examples(), micro_batch=7)
    draws = torch.Generator().manual_seed(0)
    many = [next(iter(hessian_diagonals(loss, method=method, probes=2, generator=draws))) for _ in range(200)]
    for name, known in dense(model).items():
        values = torch.stack([of.values[name].sum() for of in many])
        assert abs(values.mean() - known.sum()) <= STANDARD_ERRORS * values.std() / 200**0.5
        assert (name in many[0].standard_errors) == (method == "hutchinson")


def test_shared_statistics_leave_only_probes() -> None:
    (whole,) = found(network(nn.ReLU(), norm=True), micro_batch=COUNT, statistics="batch", probes=3)
    assert set(whole.standard_errors) == set(whole.values)
    assert whole.fisher == {}


def test_larger_weights_under_batch_norm_have_a_flatter_loss() -> None:
    model = network(nn.ReLU(), norm=True).eval()
    model[1].eps = 0.0
    (before,) = found(model)
    gradient = before.fisher["0.weight"]
    with torch.no_grad():
        model[0].weight *= REACH
        model[0].bias *= REACH
        model[1].running_mean *= REACH
        model[1].running_var *= REACH**2
    (after,) = found(model)
    torch.testing.assert_close(after.values["0.weight"], before.values["0.weight"] / REACH**2, rtol=1e-9, atol=0)
    torch.testing.assert_close(after.fisher["0.weight"], gradient / REACH**2, rtol=1e-9, atol=0)  # g -> g / c
    torch.testing.assert_close(after.values["3.weight"], before.values["3.weight"], rtol=1e-9, atol=0)


def test_what_has_no_diagonal_is_refused() -> None:
    model = network(nn.ReLU())
    with pytest.raises(ValueError, match="method must be one of exact, sampled, hutchinson, got 'dense'"):
        found(model, method="dense")
    with torch.no_grad():
        model[0].weight[0, 0] = torch.nan
    with pytest.raises(ValueError, match="the loss at these weights is nan: no curvature there"):
        found(model)
