"""CBLR on functions whose curvature is known, and the diagonal that training gives it."""

import math
from typing import Any

import pytest
import runs
import torch
from torch import Tensor, nn

from gapscope import seeds
from gapscope.data.images import split_images
from gapscope.errors import InputError
from gapscope.optim.cblr import CBLR
from gapscope.training.hessian_diagonal import hessian_diagonals
from gapscope.training.loop import make_optimizer_of
from gapscope.training.objective import Objective
from gapscope.training.running_diagonal import RunningDiagonal

ROUNDING = {"rtol": 1e-13, "atol": 1e-13}  # float64, one step
PIXELS = 1e-6  # training normalises its images in float32, a measurement in float64
A = torch.tensor([0.5, 2.0, 300.0, 1e-3], dtype=torch.float64)
B = torch.tensor([1.0, -2.0, 0.5, 7.0], dtype=torch.float64)
PLAIN = {"damping": 0.0, "average": 0.0}


def on_parabola(updates: int, gamma: float, *, decay: float = 0.0, h: Tensor = 2 * A, **settings: Any) -> Tensor:
    """Return the weights after updates on sum a (w - b)^2 + decay / 2 w^2, equation 12, from w = 3."""
    w = torch.full((4,), 3.0, dtype=torch.float64)
    optimizer = CBLR([w], [], weight_decay=decay, momentum=0.0, settings=settings, diagonal=lambda *_: lambda _: [h])
    for _ in range(updates):
        w.grad = 2 * A * (w - B)
        optimizer.step(gamma)
    return w


@pytest.mark.parametrize(
    ("settings", "lands"),
    [
        (PLAIN, True), ({**PLAIN, "average": 0.99}, True), ({**PLAIN, "damping": 0.1}, False),
        ({**PLAIN, "radius": "eq9"}, False),
        ({**PLAIN, "radius": "eq17"}, False), ({**PLAIN, "cap": 1.0}, False), ({**PLAIN, "cap": 10.0}, True),
    ],
)  # fmt: skip
def test_one_step_lands_on_the_minimum_of_a_parabola(settings: dict, lands: bool) -> None:
    assert torch.allclose(on_parabola(1, 1.0, **settings), B, **ROUNDING) == lands


def test_the_penalty_is_part_of_the_curvature() -> None:
    torch.testing.assert_close(on_parabola(1, 1.0, decay=0.1, **PLAIN), 2 * A * B / (2 * A + 0.1), **ROUNDING)


@pytest.mark.parametrize(("radius", "same"), [("eq9", True), ("hessian", False)])
def test_equation_9_has_the_printed_factor(radius: str, same: bool) -> None:
    gamma, w = 1e-3, torch.full((4,), 3.0, dtype=torch.float64)
    g = 2 * A * (w - B)
    known = (1 - gamma * (1 + g.square()) ** 1.5) * (w - B)
    found = on_parabola(1, gamma, radius=radius, **PLAIN) - B
    assert torch.allclose(found, known, **ROUNDING) == same
    assert float(((on_parabola(1, 1.0, radius="eq9", **PLAIN) - B) / (w - B)).abs().max()) > 1  # |g| > 0.77 diverges


@pytest.mark.parametrize(("gamma", "same"), [(0.01, True), (0.02, False)])
def test_equation_17_shrinks_weights_by_a_constant_factor(gamma: float, same: bool) -> None:
    w = torch.tensor([3.0, -2.0, 1e-5], dtype=torch.float64)
    known = w * (1 - 0.01) ** 50
    optimizer = CBLR([w], [], weight_decay=0.0, momentum=0.0, settings={"radius": "eq17"})
    for update in range(50):
        w.grad = w.sign() * (1 + update) * torch.tensor([1e-9, 1.0, 1e9], dtype=torch.float64)  # only its sign counts
        optimizer.step(gamma)
    assert torch.allclose(w, known, rtol=1e-13, atol=0) == same


@pytest.mark.parametrize(("radius", "same"), [("hessian", True), ("eq17", True), ("eq9", False)])
def test_a_loss_times_1000_changes_no_step(radius: str, same: bool) -> None:
    found = []
    for scale in (1.0, 1000.0):
        w = torch.full((4,), 3.0, dtype=torch.float64)
        h = scale * 2 * A
        make = lambda *_, h=h: lambda _: [h]  # noqa: E731
        optimizer = CBLR([w], [], weight_decay=0.0, momentum=0.0, settings={"radius": radius}, diagonal=make)
        w.grad = scale * 1e-3 * torch.sin(torch.arange(1.0, 5.0, dtype=torch.float64))
        optimizer.step(0.1)
        found.append(w)
    assert torch.allclose(*found, **ROUNDING) == same


@pytest.mark.parametrize("radius", ["hessian", "eq9"])
def test_a_weight_without_curvature_stays(radius: str) -> None:
    h = torch.tensor([1.0, 0.0, 2.0, 0.0], dtype=torch.float64)
    moved = on_parabola(1, 0.1, h=h, radius=radius, **PLAIN) != 3.0
    assert moved.tolist() == [True, False, True, False]
    assert not (on_parabola(1, 0.1, h=0 * h, radius=radius) != 3.0).any()  # a dead layer, damped


@pytest.mark.parametrize("radius", ["hessian", "eq9"])
def test_nan_reaches_the_weights(radius: str) -> None:
    w = torch.ones(4, dtype=torch.float64)
    make = lambda *_: lambda _: [A]  # noqa: E731
    optimizer = CBLR([w], [], weight_decay=0.0, momentum=0.0, settings={"radius": radius}, diagonal=make)
    w.grad = torch.tensor([0.0, torch.nan, 1.0, 1.0], dtype=torch.float64)
    optimizer.step(0.1)
    assert w.isnan().tolist() == [False, True, False, False]


class Plain(nn.Module):
    """A network without batch norm, in float64."""

    def __init__(self) -> None:
        super().__init__()
        layers = nn.Conv2d(1, 3, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(27, 10)
        self.layers = nn.Sequential(*layers).double()

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images.double())


def diagonal(model: nn.Module, method: str, count: int = 12) -> RunningDiagonal:
    names = [*reversed(dict(model.named_parameters()))]
    return RunningDiagonal(model, count, method, names=names, images=split_images(runs.data(), "train", "cpu"), seed=5)


@pytest.mark.parametrize("fault", ["none", "weights not taken over", "another update"])
def test_the_running_diagonal_is_the_hessians(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with seeds.seeded(0, "test"):
        model = Plain()
    running = diagonal(model, "exact")
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.sin(torch.arange(p.numel(), dtype=torch.float64)).reshape(p.shape))
    if fault == "weights not taken over":
        monkeypatch.setattr(running._squares.model, "load_state_dict", lambda _: None)
    found = running(8 if fault == "another update" else 7)
    chosen = torch.randint(runs.IMAGES, (12,), generator=seeds.generator(5, "diagonal", 7))
    images = split_images(runs.data(), "train", "cpu").subset(chosen)
    (known,) = hessian_diagonals(Objective(model, images, micro_batch=5), generator=torch.Generator())
    for (name, value), own in zip(known.values.items(), reversed(found), strict=True):
        assert ((value - own.flatten()).abs().max() <= PIXELS * value.max()) == (fault == "none"), name


def test_sampled_labels_have_the_exact_mean() -> None:
    with seeds.seeded(0, "test"):
        model = Plain()
    exact, sampled = diagonal(model, "exact", 50), diagonal(model, "sampled", 50)
    pairs = [(sampled(update)[0], exact(update)[0]) for update in range(200)]
    differences = torch.stack([s - e for s, e in pairs])  # on other images: the streams draw labels after images
    z = differences.mean(0) / (differences.std(0) / math.sqrt(len(pairs)))
    assert float(z.abs().max()) < 4  # standard errors, of ten entries
    assert float((1.2 * differences.mean(0) - 0.2 * pairs[0][1]).abs().max()) > float(differences.mean(0).abs().max())


def test_training_gives_it_the_diagonal() -> None:
    settings = runs.changed(name="cblr", settings={"damping": 1.0, "images": 4}, lr_start=1e-3, lr_end=1e-4)
    model, images = runs.network(dropout=0.0), split_images(runs.data(), "train", "cpu")
    mode = model.training
    optimizer = make_optimizer_of(model, settings, images, 3)
    assert model.training == mode
    assert not optimizer.in_graphs
    before = [p.detach().clone() for p in model.parameters()]
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step(1e-3)
    assert all((p != was).any() for p, was in zip(model.parameters(), before, strict=True))
    with pytest.raises(InputError, match="cblr needs the Hessian of a cross-entropy"):
        make_optimizer_of(model, runs.changed(settings, task="examples.square_loss:SquareLoss"), images)
