"""Observers: strides in closed form, the same rows after a stop, and no trace in the run itself."""

import copy
import math
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import runs
import torch
from runs import Checkpoint
from test_resume import After
from torch import Tensor

from gapscope import seeds
from gapscope.errors import InputError, StoppedError
from gapscope.optim.schedules import Schedule
from gapscope.optim.sgd import SGD
from gapscope.training import graphs
from gapscope.training.batches import batches
from gapscope.training.gradient import make_update
from gapscope.training.loop import Training
from gapscope.training.observers import OBSERVERS, Losses, Observer, Row, Strides, choose_update, make_observers

DIRECT = 1e-12
SUMS = 1e-9  # a variance from sums of squares in float64, whose mean is a few deviations away from 0
PLAIN = Schedule([4, 4], [3, 3], [0.1, 0.05, 0.02, 0.01, 0.005, 0.002])
WATCHED = {"observers": ("strides", "losses")}


def by_quantity(rows: list[Row], epoch: int, quantity: str) -> dict[str, float]:
    return {row["layer"]: row["value"] for row in rows if (row["epoch"], row["quantity"]) == (epoch, quantity)}


def walked(momentum: float, fault: str = "none") -> tuple[list[Row], dict[str, list[Tensor]], dict[str, Tensor]]:
    """Take six steps of SGD on made-up gradients; return the rows, the gradients, and the net change."""
    draw = torch.Generator().manual_seed(0)
    parameters = {"weight": torch.randn(3, 5, generator=draw).double(), "bias": torch.randn(5, generator=draw).double()}
    initial = {name: p.clone() for name, p in parameters.items()}
    optimizer = SGD(list(parameters.values()), [], weight_decay=0.0, momentum=momentum)
    observer, rows, gradients = Strides(parameters, optimizer, PLAIN), [], {name: [] for name in parameters}
    for update, lr in enumerate(PLAIN.rates):
        for name, p in parameters.items():
            p.grad = torch.randn(p.shape, generator=draw).double()
            gradients[name].append(p.grad.clone())
        if fault != "weights not kept":
            observer.before_step(lr)
        optimizer.step(lr)
        observer.after_step(0.1 if fault == "first rate" else lr)
        if update in {2, 5}:
            rows += observer.rows(1 + update // 3)
    return rows, gradients, {name: p - initial[name] for name, p in parameters.items()}


def check_closed_form(fault: str = "none", momentum: float = 0.0) -> None:
    rows, gradients, change = walked(momentum, fault)
    assert len(rows) == 2 * 2 * 5
    for name, steps in gradients.items():
        lengths = torch.stack([g.abs().mean() for g in steps])
        squares = torch.stack([g.square().mean() for g in steps])
        strides = lengths * torch.tensor(PLAIN.rates, dtype=torch.float64)
        for epoch, part in ((1, slice(0, 3)), (2, slice(3, 6))):
            quantities = ("stride", "stride_per_lr", "path", "mean_square_gradient")
            found = {q: by_quantity(rows, epoch, q)[name] for q in quantities}
            known = (strides[part].mean(), lengths[part].mean(), strides[: part.stop].sum(), squares[part].mean())
            torch.testing.assert_close(tuple(found.values()), tuple(map(float, known)), rtol=DIRECT, atol=0)
        net = by_quantity(rows, 2, "net_displacement")[name]
        torch.testing.assert_close(net, float(change[name].abs().mean()), rtol=DIRECT, atol=0)
        assert net < by_quantity(rows, 2, "path")[name]


def test_without_momentum_a_stride_is_the_rate_times_the_mean_gradient() -> None:
    check_closed_form()


@pytest.mark.parametrize(("fault", "momentum"), [("weights not kept", 0.0), ("first rate", 0.0), ("none", 0.9)])
def test_strides_are_not(fault: str, momentum: float) -> None:
    with pytest.raises(AssertionError):
        check_closed_form(fault, momentum)


def trained(checkpoint: Checkpoint | None = None, **changes) -> tuple[dict[str, Tensor], list[dict], list[Row]]:
    model = runs.network()
    result = runs.run(model, checkpoint, **changes)
    return copy.deepcopy(model.state_dict()), runs.plain(result.history), result.observed


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def test_a_watched_run_has_the_bits_of_one_that_is_not_and_its_history() -> None:
    weights, history, nothing = trained()
    watched, watched_history, rows = trained(**WATCHED)
    rows = [row for row in rows if "layer" in row]
    assert same(weights, watched)
    assert history == watched_history
    assert nothing == []
    names = [name for name, _ in runs.network().named_parameters()]
    assert [row["layer"] for row in rows[::5]] == names * runs.EPOCHS
    assert {row["quantity"] for row in rows} == {
        "stride", "stride_per_lr", "mean_square_gradient", "path", "net_displacement",
    }  # fmt: skip
    updates = 4
    for layer in names:
        strides = [by_quantity(rows, epoch, "stride")[layer] for epoch in range(1, runs.EPOCHS + 1)]
        assert by_quantity(rows, runs.EPOCHS, "path")[layer] == pytest.approx(updates * sum(strides), rel=DIRECT)
    moved = sum(by_quantity(rows, runs.EPOCHS, "net_displacement")[layer] > 0 for layer in names)
    assert moved == len(names)


@pytest.mark.parametrize("updates", [1, 4, 6, 13, 23])  # an epoch has 4
def test_rows_after_a_stop_are_those_of_a_run_without_one(tmp_path: Path, updates: int) -> None:
    checkpoint = Checkpoint(tmp_path / "checkpoint", {}, 100)
    with pytest.raises(StoppedError):
        trained(checkpoint, stop=After(updates), **WATCHED)
    weights, history, rows = trained(checkpoint, **WATCHED)
    known = trained(**WATCHED)
    assert same(weights, known[0])
    assert (history, rows) == known[1:]


def test_a_state_that_is_not_restored_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = trained(**WATCHED)[2]
    checkpoint = Checkpoint(tmp_path / "checkpoint", {}, 100)
    with pytest.raises(StoppedError):
        trained(checkpoint, stop=After(6), **WATCHED)
    whole = Strides.state
    monkeypatch.setattr(Strides, "state", lambda of: {name: t.clone() for name, t in whole(of).items()})
    assert trained(checkpoint, **WATCHED)[2] != known


# --- losses ---


def losses_of(rows: list[Row]) -> dict[int, tuple[float, float]]:
    """Return mean and sampling deviation by update."""
    found: dict[int, dict[str, float]] = {}
    for row in rows:
        if row["quantity"].startswith("batch_loss"):
            found.setdefault(row["update"], {})[row["quantity"]] = row["value"]
    return {update: (of["batch_loss"], of["batch_loss_sampling_sd"]) for update, of in found.items()}


def check_losses(fault: str = "none") -> None:
    """The first update's loss is that of the initial weights over the first batch, in training mode."""
    model = runs.network(dropout=0.0)
    settings = runs.changed(observers=("losses",), augment=False, batch_norm=False)
    training = Training(model, runs.data(), settings, batch_size=runs.BATCH, epochs=1, seed=3, device="cpu")
    index = batches(runs.IMAGES, runs.BATCH, 4, 3, 1, "cpu")[0]
    batch = training.task.batch(training.training, index)
    losses = training.task.losses(copy.deepcopy(model)(batch.inputs), batch).detach().double()
    for _ in training:
        pass
    found = losses_of(training.result().observed)
    assert list(found) == [1, 2, 3, 4]  # 20 + 20 + 20 + 2 images
    n, of_n = len(losses), {"none": 1 / 20 - 1 / 62, "with replacement": 1 / 20}[fault]
    torch.testing.assert_close(found[1], (float(losses.mean()), float(losses.var() * of_n) ** 0.5), rtol=SUMS, atol=0)
    assert n == runs.BATCH


def test_the_loss_of_a_batch_is_that_before_its_update_with_its_sampling_spread() -> None:
    check_losses()


def test_the_sampling_spread_of_a_batch_is_that_without_replacement() -> None:
    with pytest.raises(AssertionError):
        check_losses("with replacement")


def test_micro_batches_give_the_losses_of_the_whole_batch() -> None:
    def found(**changes) -> dict[int, tuple[float, float]]:
        model = Plain()
        return losses_of(runs.run(model, observers=("losses",), augment=False, batch_norm=False, **changes).observed)

    whole, parts = found(), found(micro_batch=7)
    assert list(whole) == list(parts)
    for update, values in whole.items():
        torch.testing.assert_close(parts[update], values, rtol=SUMS, atol=0)


class Plain(torch.nn.Module):
    """A network without batch norm, in float64."""

    def __init__(self) -> None:
        super().__init__()
        with seeds.seeded(0, "test"):
            self.head = torch.nn.Linear(64, 10).double()

    def forward(self, images: Tensor) -> Tensor:
        return self.head(images.double().flatten(1))


def test_a_whole_epoch_as_one_batch_has_no_sampling_spread_and_one_example_has_none_to_say() -> None:
    parameters = {"weight": torch.zeros(2)}
    optimizer = SGD([*parameters.values()], [], weight_decay=0.0, momentum=0.0)
    observer = Losses(parameters, optimizer, Schedule([3], [2], [0.1] * 2))
    for losses in (torch.tensor([1.0, 3.0, 5.0]), torch.tensor([2.0])):
        observer.read_losses(torch.stack([torch.tensor(len(losses)), losses.sum(), losses.square().sum()]).double(), 3)
    (whole, one), rows = losses_of(list(observer.rows(1))).values(), list(observer.rows(1))
    assert whole == (3, 0)
    assert one[0] == 2
    assert math.isnan(one[1])
    assert rows == []  # a new epoch begins


@pytest.mark.parametrize(("updates", "reads"), [(1, 1), (49, 49), (50, 50), (51, 50), (1875, 50)])
def test_the_updates_of_an_epoch_that_are_read_are_evenly_spaced(updates: int, reads: int) -> None:
    plan = Schedule([4, 4], [updates, updates], [0.1] * 2 * updates)
    parameters = {"weight": torch.zeros(2)}
    observer = Losses(parameters, SGD([*parameters.values()], [], weight_decay=0.0, momentum=0.0), plan)
    read = [update for update in range(2 * updates) if observer.reads(update)]
    assert len(read) == 2 * reads
    assert [update - updates for update in read[reads:]] == read[:reads]
    gaps = {after - before for before, after in pairwise(read)}
    assert len(gaps) <= 2 + (updates > reads)
    assert read[0] - 0 <= updates / reads
    assert updates - read[reads - 1] <= updates / reads + 1


class Sparse(Observer):
    """Reads every third update, in Python."""

    in_graphs = False

    def __init__(self, *about: object) -> None:
        super().__init__(*about)
        self.read = torch.zeros((), dtype=torch.int64)

    def reads(self, update: int) -> bool:
        return update % 3 == 0

    def before_step(self, lr: float | Tensor) -> None:
        assert all(p.grad is not None for p in self.parameters.values())
        self.read += 1

    def state(self) -> dict[str, Tensor]:
        return {"read": self.read}

    def rows(self, epoch: int) -> Iterator[Row]:
        yield {"epoch": epoch, "layer": "", "quantity": "read", "value": int(self.read)}


@pytest.fixture
def sparse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "observers_of_a_user.py").write_text(
        "from test_observers import Sparse\nnumber = 3\n"  # a module of the user's
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return "observers_of_a_user:Sparse"


def test_an_observer_of_ones_own_reads_where_it_says(sparse: str) -> None:
    weights, _, rows = trained(observers=("strides", sparse))
    assert [row["value"] for row in rows if row["quantity"] == "read"] == [2, 3, 4, 6, 7, 8]  # of 4, 8, ... 24 updates
    assert same(weights, trained()[0])


def test_updates_are_made_once_for_each_set_of_observers_that_read_together() -> None:
    parameters = {"weight": torch.zeros(2)}
    optimizer = SGD([*parameters.values()], [], weight_decay=0.0, momentum=0.0)
    both = [Strides(parameters, optimizer, PLAIN), Sparse(parameters, optimizer, PLAIN)]
    made, called = [], []
    update = choose_update(lambda reading: made.append(reading) or (lambda *_: called.append(len(reading))), both)
    for number in range(7):
        update(torch.arange(2), 0.1, number)
    assert [len(reading) for reading in made] == [2, 1]
    assert called == [2, 1, 1, 2, 1, 1, 2]


def test_a_run_without_graphs_for_an_observers_sake_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    parameters = {"weight": torch.zeros(2)}
    optimizer = SGD([*parameters.values()], [], weight_decay=0.0, momentum=0.0)
    strides, own = Strides(parameters, optimizer, PLAIN), Sparse(parameters, optimizer, PLAIN)
    own.name = "mine:Sparse"
    assert graphs.why_not_graphs(optimizer, [strides]) is None
    assert graphs.why_not_graphs(optimizer, [strides, own]) == "the observer mine:Sparse needs Python at each update"
    monkeypatch.setattr(optimizer, "in_graphs", False)
    assert graphs.why_not_graphs(optimizer, []) == "the optimiser sgd is not capturable"
    # as if this were a GPU on which graphs are possible: the record says that there were none
    monkeypatch.setattr("gapscope.training.loop.graphs_possible", lambda *_: True)
    monkeypatch.setitem(OBSERVERS, "sparse", Sparse)
    result = runs.run(runs.network(), observers=("sparse",))
    assert result.final["without_cuda_graphs"] == "the observer sparse needs Python at each update"
    result = runs.run(runs.network(), name="torch.optim:SGD")
    assert result.final["without_cuda_graphs"] == "the optimiser torch.optim:SGD is not capturable"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("stride", "unknown observer 'stride'; did you mean 'strides'"),
        ("torch.nn:Linear", "torch.nn:Linear is not a subclass of gapscope.training.observers.Observer"),
        ("torch.nn:Linearr", "observer 'torch.nn:Linearr' cannot be imported"),
    ],
)
def test_what_is_no_observer_is_refused(name: str, said: str) -> None:
    parameters = {"weight": torch.zeros(2)}
    optimizer = SGD([*parameters.values()], [], weight_decay=0.0, momentum=0.0)
    with pytest.raises(InputError, match=said):
        make_observers([name], parameters, optimizer, PLAIN)


def test_an_observer_named_twice_is_refused() -> None:
    with pytest.raises(InputError, match=r"train.observers must name each observer once, got strides, strides"):
        runs.changed(observers=("strides", "strides"))


def test_observers_see_the_gradient_of_the_update_and_the_weights_after_it() -> None:
    model, seen = runs.network(dropout=0.0), []

    class Noting(Sparse):
        def before_step(self, lr: float | Tensor) -> None:
            seen.append(("before", model.head.weight.detach().clone(), model.head.weight.grad.clone()))

        def after_step(self, lr: float | Tensor) -> None:
            seen.append(("after", model.head.weight.detach().clone(), float(lr)))

    from gapscope.data.images import split_images

    optimizer = SGD([*model.parameters()], [], weight_decay=0.0, momentum=0.0)
    observer = Noting(dict(model.named_parameters()), optimizer, PLAIN)
    images = split_images(runs.data(), "train", "cpu")
    update = make_update(model, optimizer, images, runs.SETTINGS, observers=[observer])
    update(torch.arange(20), 0.25)
    (_, before, gradient), (_, after, lr) = seen
    torch.testing.assert_close(after, before - lr * gradient, rtol=DIRECT, atol=DIRECT)
