"""Optimisers without the optimiser objects, against the optimiser objects: the same bits."""

import copy
import subprocess
import sys

import pytest
import torch
from torch import nn

from gapscope import seeds
from gapscope.optim.adam import Adam
from gapscope.optim.optimizer import Optimizer
from gapscope.optim.sgd import SGD


def network() -> nn.Module:
    with seeds.seeded(0, "test"):
        return nn.Sequential(nn.Linear(7, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3))


def split(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    return [p for p in model.parameters() if p.ndim > 1], [p for p in model.parameters() if p.ndim == 1]


def descend(model: nn.Module, zero_grad, step, updates: int) -> list[torch.Tensor]:
    inputs = torch.randn(16, 7, generator=torch.Generator().manual_seed(0))
    for update in range(updates):
        zero_grad()
        model(inputs).square().sum().backward()
        step(0.01 / (1 + update))
    return [p.detach() for p in model.parameters()]


OURS = {
    "sgd": lambda groups, decay: SGD(*groups, momentum=0.0, weight_decay=decay),
    "momentum": lambda groups, decay: SGD(*groups, momentum=0.9, weight_decay=decay),
    "adam": lambda groups, decay: Adam(*groups, weight_decay=decay),
}
TORCH = {
    "sgd": lambda groups: torch.optim.SGD(groups, lr=1.0, fused=True),
    "momentum": lambda groups: torch.optim.SGD(groups, lr=1.0, momentum=0.9, fused=True),
    "adam": lambda groups: torch.optim.Adam(groups, lr=1.0, fused=True),
}


def optimizer(model: nn.Module, name: str, decay: float = 0.1) -> Optimizer:
    return OURS[name](split(model), decay)


def run(model: nn.Module, name: str, updates: int = 5, decay: float = 0.1) -> list[torch.Tensor]:
    ours = optimizer(model, name, decay)
    return descend(model, ours.zero_grad, ours.step, updates)


def reference(model: nn.Module, name: str) -> list[torch.Tensor]:
    decayed, others = split(model)
    theirs = TORCH[name]([{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}])

    def step(lr: float) -> None:
        for group in theirs.param_groups:
            group["lr"] = lr
        theirs.step()

    return descend(model, theirs.zero_grad, step, 5)


@pytest.mark.parametrize("name", OURS)
def test_updates_have_the_bits_of_torch_optim(name: str) -> None:
    model = network()
    for found, known in zip(run(copy.deepcopy(model), name), reference(model, name), strict=True):
        assert torch.equal(found, known)


@pytest.mark.parametrize(("name", "decay"), [("sgd", 0.1), ("momentum", 0.0), ("adam", 0.0)])
def test_updates_are_not_those_of_other_settings(name: str, decay: float) -> None:
    model = network()
    found, known = run(copy.deepcopy(model), name, decay=decay), reference(model, "momentum" if decay else name)
    assert not all(map(torch.equal, found, known))


@pytest.mark.parametrize("name", OURS)
def test_the_state_is_all_that_a_run_needs_to_go_on(name: str) -> None:
    model, whole = network(), network()
    run(whole, name, 6)
    first = optimizer(model, name)
    descend(model, first.zero_grad, first.step, 3)
    second = optimizer(model, name)
    second.restore(first.state(), first.numbers())
    inputs = torch.randn(16, 7, generator=torch.Generator().manual_seed(0))
    for update in range(3, 6):
        second.zero_grad()
        model(inputs).square().sum().backward()
        second.step(0.01 / (1 + update))
    assert all(map(torch.equal, model.parameters(), whole.parameters()))
    assert name == "sgd" or not all(map(torch.equal, run(network(), name, 3), whole.parameters()))


@pytest.mark.parametrize("name", OURS)
def test_a_parameter_without_a_gradient_stays(name: str) -> None:
    model = network()
    model[0].weight.requires_grad_(False)
    frozen, moved = model[0].weight.clone(), model[3].weight.clone()
    run(model, name, 3)
    assert torch.equal(model[0].weight, frozen)
    assert not torch.equal(model[3].weight, moved)


def test_no_compiler_is_imported() -> None:
    code = (
        "import sys, torch; from gapscope.optim.optimizers import SGD, Adam; p = torch.ones(2, requires_grad=True);"
        "o = [SGD([p], [], momentum=0.9, weight_decay=0.0), Adam([p], [], weight_decay=0.0)]; p.sum().backward();"
        "[one.step(0.1) for one in o]; sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
