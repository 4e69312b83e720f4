"""Optimisers by import path, against PyTorch's own in a plain loop; their state; what is refused."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import runs
import torch
from test_optimizers import descend, network, split

from gapscope.errors import InputError
from gapscope.optim.imported import TorchOptimizer
from gapscope.optim.optimizers import make_optimizer

pytestmark = pytest.mark.filterwarnings("ignore")  # importing torch._dynamo warns of other packages

CASES: dict[str, dict[str, Any]] = {
    "torch.optim:AdamW": {"amsgrad": True, "betas": [0.8, 0.99]},
    "torch.optim:RMSprop": {"alpha": 0.9, "momentum": 0.5, "centered": True},
    "torch.optim:Adagrad": {"lr_decay": 0.1, "initial_accumulator_value": 0.2},
    "torch.optim:SGD": {"momentum": 0.9, "nesterov": True},
    "torch.optim:NAdam": {},
    "torch.optim:ASGD": {},
    "torch.optim:Rprop": {},
}
INPUTS = torch.randn(16, 7, generator=torch.Generator().manual_seed(0))


def ours(model: torch.nn.Module, path: str, decay: float = 0.1) -> TorchOptimizer:
    decay = 0.0 if "Rprop" in path else decay
    found = make_optimizer(path, *split(model), weight_decay=decay, momentum=0.9, settings=CASES[path])
    assert isinstance(found, TorchOptimizer)
    return found


def by_hand(model: torch.nn.Module, path: str, updates: int = 6) -> list[torch.Tensor]:
    decayed, others = split(model)
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    if "Rprop" in path:
        groups = [{"params": decayed}, {"params": others}]
    theirs = getattr(torch.optim, path.rpartition(":")[2])(groups, **CASES[path])

    def step(lr: float) -> None:
        for group in theirs.param_groups:
            group["lr"] = lr
        theirs.step()

    return descend(model, theirs.zero_grad, step, updates)


@pytest.mark.parametrize("path", CASES)
def test_updates_have_the_bits_of_a_plain_loop(path: str) -> None:
    model = network()
    optimizer = ours(model, path)
    found = descend(model, optimizer.zero_grad, optimizer.step, 6)
    assert all(map(torch.equal, found, by_hand(network(), path)))


def test_decay_covers_the_decayed_parameters_alone() -> None:
    model, path = network(), "torch.optim:AdamW"
    optimizer = ours(model, path, decay=0.0)
    found = descend(model, optimizer.zero_grad, optimizer.step, 6)
    assert not all(map(torch.equal, found, by_hand(network(), path)))


def go_on(model: torch.nn.Module, optimizer: TorchOptimizer, first: int, last: int) -> None:
    for update in range(first, last):
        optimizer.zero_grad()
        model(INPUTS).square().sum().backward()
        optimizer.step(0.01 / (1 + update))


@pytest.mark.parametrize("fault", ["none", "tensors", "numbers"])
@pytest.mark.parametrize("path", CASES)
def test_a_run_goes_on_with_the_same_bits(path: str, fault: str) -> None:
    model, known = network(), by_hand(network(), path)
    first = ours(model, path)
    go_on(model, first, 0, 3)
    tensors = {name: tensor.clone() for name, tensor in first.state().items()}
    numbers = json.loads(json.dumps(first.numbers()))
    second = ours(model, path)
    if fault == "tensors":
        tensors = {name: torch.zeros_like(tensor) for name, tensor in tensors.items()}
    if fault != "numbers":
        second.restore(tensors, numbers)
    go_on(model, second, 3, 6)
    assert all(map(torch.equal, model.parameters(), known)) == (fault == "none")


def test_the_state_keeps_its_types() -> None:
    model = network()
    first, second = (ours(model, "torch.optim:AdamW") for _ in range(2))
    go_on(model, first, 0, 2)
    second.restore(first.state(), json.loads(json.dumps(first.numbers())))
    for own, other in zip(first._optimizer.state.values(), second._optimizer.state.values(), strict=True):
        assert {name: (t.dtype, t.device) for name, t in own.items()} == {
            name: (t.dtype, t.device) for name, t in other.items()
        }
    assert [group["betas"] for group in second._optimizer.param_groups] == [(0.8, 0.99)] * 2


MINE = """
import torch

class Counting(torch.optim.SGD):
    '''SGD whose rate falls with a count that it keeps as plain numbers, nested.'''
    def step(self, closure=None):
        for group in self.param_groups:
            group["lr"] /= 1 + group.setdefault("counted", {"steps": [0]})["steps"][0]
            group["counted"]["steps"][0] += 1
        return super().step(closure)

class Odd(torch.optim.SGD):
    def step(self, closure=None):
        self.param_groups[0]["odd"] = object()
        return super().step(closure)

class NoRate(torch.optim.Optimizer):
    def __init__(self, params, momentum=0.9):
        super().__init__(params, {"momentum": momentum})

number = 3
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "optimisers_of_a_user.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    sys.modules.pop("optimisers_of_a_user", None)
    return "optimisers_of_a_user"


def test_plain_numbers_of_an_optimiser_of_ones_own_are_kept(mine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CASES, f"{mine}:Counting", {})
    whole, model = network(), network()
    go_on(whole, ours(whole, f"{mine}:Counting"), 0, 6)
    first = ours(model, f"{mine}:Counting")
    go_on(model, first, 0, 3)
    second = ours(model, f"{mine}:Counting")
    second.restore(first.state(), json.loads(json.dumps(first.numbers())))
    go_on(model, second, 3, 6)
    assert all(map(torch.equal, model.parameters(), whole.parameters()))


def test_a_state_that_a_checkpoint_cannot_hold_is_refused(mine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CASES, f"{mine}:Odd", {})
    optimizer = ours(model := network(), f"{mine}:Odd")
    go_on(model, optimizer, 0, 1)
    with pytest.raises(InputError, match=r"cannot hold the state of .*:Odd: group.0.odd is a object"):
        optimizer.numbers()


@pytest.mark.parametrize(
    ("name", "settings", "decay", "said"),
    [
        ("adamw", {}, 0.1, "unknown optimiser 'adamw'; did you mean 'adam'"),
        ("sgd", {"nesterov": True}, 0.1, "settings are for an import path, .*; sgd takes none, got nesterov"),
        ("torch.optim:AdamWW", {}, 0.1, "train.optimizer.name 'torch.optim:AdamWW' cannot be imported"),
        ("no.such.module:X", {}, 0.1, "cannot be imported"),
        ("MINE:number", {}, 0.1, "number is not a subclass of torch.optim.Optimizer"),
        ("torch.nn:Linear", {}, 0.1, "Linear is not a subclass of torch.optim.Optimizer"),
        ("torch.optim:LBFGS", {}, 0.0, "LBFGS needs a closure"),
        ("torch.optim:AdamW", {"beta": 0.9}, 0.1, "cannot be made with beta=0.9: .*unexpected keyword argument 'beta'"),
        ("torch.optim:AdamW", {"eps": -1.0}, 0.1, "cannot be made with eps=-1.0: Invalid epsilon"),
        ("torch.optim:AdamW", {"lr": 0.1, "weight_decay": 1.0}, 0.1, "settings must not hold lr, weight_decay"),
        ("torch.optim:Rprop", {}, 0.1, "Rprop has no weight decay; set train.optimizer.weight_decay=0.0"),
        ("MINE:NoRate", {}, 0.0, "cannot be made with no settings: .*'lr'"),
    ],
)
def test_what_is_no_optimiser_for_this_loop_is_refused_in_one_line(
    mine: str, name: str, settings: dict[str, Any], decay: float, said: str
) -> None:
    groups = split(network())
    with pytest.raises(InputError, match=said) as refused:
        make_optimizer(name.replace("MINE", mine), *groups, weight_decay=decay, momentum=0.9, settings=settings)
    assert "\n" not in str(refused.value)


def test_graphs_need_an_optimiser_that_is_capturable() -> None:
    groups = split(network())
    options: dict[str, Any] = {"weight_decay": 0.1, "momentum": 0.9}
    assert make_optimizer("sgd", *groups, settings={}, **options).in_graphs
    assert not make_optimizer("torch.optim:AdamW", *groups, settings={}, **options).in_graphs
    assert make_optimizer("torch.optim:AdamW", *groups, settings={"capturable": True}, **options).in_graphs


@pytest.mark.parametrize("name", ["torch.optim:AdamW", "torch.optim:RMSprop"])
def test_a_whole_run_has_the_bits_of_a_plain_loop(name: str) -> None:
    from gapscope.data.images import split_images
    from gapscope.training.batches import batches

    found = runs.network(dropout=0.0)
    changes = {"name": name, "augment": False, "decay": "all", "lr_start": 0.01, "settings": {"eps": 1e-6}}
    result = runs.run(found, **changes)
    assert "without_cuda_graphs" not in result.final  # on a CPU there are none to do without
    plain, images = runs.network(dropout=0.0).train(), split_images(runs.data(), "train", "cpu")
    make = getattr(torch.optim, name.rpartition(":")[2])
    optimizer = make(plain.parameters(), lr=0.01, weight_decay=1e-3, eps=1e-6)
    rates = iter(runs.changed(**changes).lay_out(runs.IMAGES, runs.BATCH, runs.EPOCHS).rates)
    for epoch in range(1, runs.EPOCHS + 1):
        for index in batches(runs.IMAGES, runs.BATCH, 4, 3, epoch):
            optimizer.param_groups[0]["lr"] = next(rates)
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(plain(images.inputs(index)), images.labels[index]).backward()
            optimizer.step()
    assert all(map(torch.equal, found.parameters(), plain.parameters()))


def test_the_compiler_is_imported_only_for_an_import_path() -> None:
    code = (
        "import sys, torch; from gapscope.optim.optimizers import make_optimizer; "
        "p = torch.ones(2, requires_grad=True);"
        "[make_optimizer(n, [p], [], weight_decay=0.0, momentum=0.0, settings={}) for n in ('sgd', 'adam')];"
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
