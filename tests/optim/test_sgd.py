"""SGD without the optimiser object, against the optimiser object: the same bits."""

import copy
import subprocess
import sys

import pytest
import torch
from torch import nn

from gapscope import seeds
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


def run(model: nn.Module, updates: int, momentum: float = 0.9, weight_decay: float = 0.1) -> list[torch.Tensor]:
    optimizer = SGD(*split(model), momentum=momentum, weight_decay=weight_decay)
    return descend(model, optimizer.zero_grad, optimizer.step, updates)


def reference(model: nn.Module, updates: int, momentum: float = 0.9) -> list[torch.Tensor]:
    decayed, others = split(model)
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=1.0, momentum=momentum, fused=True)

    def step(lr: float) -> None:
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.step()

    return descend(model, optimizer.zero_grad, step, updates)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_updates_have_the_bits_of_torch_optim(momentum: float) -> None:
    model = network()
    for found, known in zip(run(copy.deepcopy(model), 5, momentum), reference(model, 5, momentum), strict=True):
        assert torch.equal(found, known)


@pytest.mark.parametrize("wrong", [{"momentum": 0.8}, {"weight_decay": 0.0}])
def test_updates_are_not_those_of_other_settings(wrong: dict[str, float]) -> None:
    model = network()
    found, known = run(copy.deepcopy(model), 5, **wrong), reference(model, 5)
    assert not all(map(torch.equal, found, known))


def test_a_parameter_without_a_gradient_stays() -> None:
    model = network()
    model[0].weight.requires_grad_(False)
    frozen, moved = model[0].weight.clone(), model[3].weight.clone()
    run(model, 3)
    assert torch.equal(model[0].weight, frozen)
    assert not torch.equal(model[3].weight, moved)


def test_no_compiler_is_imported() -> None:
    code = (
        "import sys, torch; from gapscope.optim.sgd import SGD; p = torch.ones(2, requires_grad=True);"
        "o = SGD([p], [], momentum=0.9, weight_decay=0.0); p.sum().backward(); o.step(0.1);"
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
