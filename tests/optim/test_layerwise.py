"""LARS, LAMB, PercentDelta and MCLR against formulas written out here and other libraries, and in undefined cases."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gapscope import seeds
from gapscope.errors import InputError
from gapscope.optim import mclr
from gapscope.optim.optimizer import Optimizer
from gapscope.optim.optimizers import make_optimizer

DIRECT = {"rtol": 1e-12, "atol": 1e-14}  # float64, sums in another order
GAMMA = 0.01
RULES = ("lars", "percent_delta", "mclr", "lamb")


def tensors() -> list[Tensor]:
    """Return a dense layer's weight, a convolution's, and a bias."""
    draw = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=draw, dtype=torch.float64) for shape in ((6, 5), (4, 3, 3, 3), (7,))]


def gradients(update: int = 0) -> list[Tensor]:
    draw = torch.Generator().manual_seed(100 + update)
    return [torch.randn(w.shape, generator=draw, dtype=torch.float64) for w in tensors()]


def made(
    name: str,
    weights: list[Tensor],
    *,
    decay: float = 0.0,
    momentum: float = 0.0,
    settings: dict[str, Any] | None = None,
) -> Optimizer:
    groups = [w for w in weights if w.ndim > 1], [w for w in weights if w.ndim == 1]
    return make_optimizer(name, *groups, weight_decay=decay, momentum=momentum, settings=settings or {})


def stepped(name: str, weights: list[Tensor], grads: list[Tensor], **options: Any) -> list[Tensor]:
    """Return the steps w_before - w_after of one update at the rate GAMMA."""
    new = [w.clone() for w in weights]
    optimizer = made(name, new, **options)
    for w, g in zip(new, grads, strict=True):
        w.grad = g.clone()
    optimizer.step(GAMMA)
    return [before - after for before, after in zip(weights, new, strict=True)]


NORMS: Callable[[Tensor, Tensor], Tensor] = lambda dw, w: dw.norm() / w.norm()  # noqa: E731
MEDIANS: Callable[[Tensor, Tensor], Tensor] = lambda dw, w: dw.abs().median() / w.abs().median()  # noqa: E731
MEANS: Callable[[Tensor, Tensor], Tensor] = lambda dw, w: (dw / w).abs().mean()  # noqa: E731


@pytest.mark.parametrize(
    ("name", "options", "relative", "exact"),
    [
        ("lars", {}, NORMS, True),
        ("mclr", {"settings": {"cap": None}}, MEDIANS, True),
        ("percent_delta", {"settings": {"floor": 0.0}}, MEANS, True),
        ("percent_delta", {"settings": {"floor": 0.0}, "decay": 0.1}, MEANS, True),
        ("lars", {"decay": 0.1}, NORMS, False),
        ("lars", {}, MEDIANS, False),
        ("mclr", {"settings": {"reading": "signed"}}, MEDIANS, False),
        ("mclr", {"settings": {"reading": "ratio"}}, MEDIANS, False),
        ("percent_delta", {"settings": {"floor": 1.0}}, MEANS, False),
        ("sgd", {}, NORMS, False),
    ],
)
def test_the_relative_step_is_the_rate(name: str, options: dict, relative: Callable, exact: bool) -> None:
    found = []
    for scale in (1.0, 1e-6):  # a vanishing gradient does not shorten the step
        steps = stepped(name, tensors(), [scale * g for g in gradients()], **options)
        found += [float(relative(dw, w)) for dw, w in zip(steps[:2], tensors(), strict=False)]
    assert all(math.isclose(of, GAMMA, rel_tol=1e-12) for of in found) == exact


def local_rate(rule: str, w: Tensor, g: Tensor, beta: float, fault: str) -> float:
    """Return a tensor's rate as the papers' formulas have it."""
    decay = 0.0 if fault == "no decay in the denominator" else beta
    s = g + beta * w
    if rule == "percent_delta":
        return 1 / float((s.abs() / w.abs().clamp(min=1e-3)).mean())
    if w.ndim == 1 and fault != "vectors scaled":
        return 0.5
    if rule == "lars":
        return math.sqrt(w.square().sum()) / (math.sqrt(g.square().sum()) + decay * math.sqrt(w.square().sum()))
    if rule == "signed":
        return abs(float(w.median()) / (float(g.median()) + decay * float(w.median())))
    if rule == "ratio":
        return float((w / (g + decay * w)).abs().median())
    return float(w.abs().median()) / (float(g.abs().median()) + decay * float(w.abs().median()))


def by_hand(rule: str, rates: list[float], beta: float, momentum: float, fault: str) -> list[Tensor]:
    weights = tensors()
    velocities = [torch.zeros_like(w) for w in weights]
    for update, lr in enumerate(rates):
        for n, (w, g) in enumerate(zip(weights, gradients(update), strict=True)):
            own = beta if w.ndim > 1 else 0.0
            step = local_rate(rule, w, g, own, fault) * (g + own * w)
            if fault == "velocity of raw gradients" and not update:
                step = g / lr
            if fault == "rate outside the velocity":
                velocities[n] = momentum * velocities[n] + step
                weights[n] = w - lr * velocities[n]
            else:
                velocities[n] = momentum * velocities[n] + lr * step
                weights[n] = w - velocities[n]
    return weights


SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "lars": ("lars", {"unscaled_factor": 0.5}),
    "percent_delta": ("percent_delta", {}),
    "robust": ("mclr", {"unscaled_factor": 0.5}),
    "signed": ("mclr", {"reading": "signed", "unscaled_factor": 0.5}),
    "ratio": ("mclr", {"reading": "ratio", "unscaled_factor": 0.5}),
}
FAULTS = ("no decay in the denominator", "velocity of raw gradients", "rate outside the velocity", "vectors scaled")


@pytest.mark.parametrize(
    ("rule", "fault"),
    [
        (rule, fault)
        for rule in SETTINGS
        for fault in ("none", *FAULTS)
        if rule != "percent_delta" or fault not in {FAULTS[0], FAULTS[3]}  # it has no such terms
    ],
)
def test_three_updates_are_the_formulas(rule: str, fault: str) -> None:
    (name, settings), rates, weights = SETTINGS[rule], [0.01, 0.02, 0.005], tensors()
    optimizer = made(name, weights, decay=0.1, momentum=0.9, settings=settings)
    for update, lr in enumerate(rates):
        for w, g in zip(weights, gradients(update), strict=True):
            w.grad = g
        optimizer.step(torch.tensor(lr, dtype=torch.float64) if update else lr)
    known = by_hand(rule, rates, 0.1, 0.9, fault)
    same = [torch.allclose(w, k, **DIRECT) for w, k in zip(weights, known, strict=True)]
    assert all(same) == (fault == "none")


def lamb_by_hand(rates: list[float], *, corrected: bool, fault: str = "none") -> list[Tensor]:
    weights = tensors()
    means, squares = ([torch.zeros_like(w) for w in weights] for _ in range(2))
    for update, lr in enumerate(rates, 1):
        for n, (w, g) in enumerate(zip(weights, gradients(update - 1), strict=True)):
            means[n] = 0.9 * means[n] + 0.1 * g
            squares[n] = 0.999 * squares[n] + 0.001 * g * g
            m = means[n] / (1 - 0.9**update) if corrected else means[n]
            v = squares[n] / (1 - 0.999**update) if corrected else squares[n]
            u = m / (v.sqrt() + 1e-6) + (0.1 * w if w.ndim > 1 and fault != "no decay" else 0.0)
            trust = 1.0 if fault == "vectors unscaled" and w.ndim == 1 else float(w.norm() / u.norm())
            weights[n] = w - lr * trust * u
    return weights


@pytest.mark.parametrize(
    ("corrected", "fault"), [(True, "none"), (False, "none"), (True, "no decay"), (True, "vectors unscaled")]
)
def test_three_updates_of_lamb_are_the_formula(corrected: bool, fault: str) -> None:
    rates, weights = [0.01, 0.02, 0.005], tensors()
    optimizer = made("lamb", weights, decay=0.1, settings={"bias_correction": corrected})
    for update, lr in enumerate(rates):
        for w, g in zip(weights, gradients(update), strict=True):
            w.grad = g
        optimizer.step(lr)
    for mistaken in (corrected, not corrected):
        known = lamb_by_hand(rates, corrected=mistaken, fault=fault)
        same = all(torch.allclose(w, k, **DIRECT) for w, k in zip(weights, known, strict=True))
        assert same == (fault == "none" and mistaken == corrected)


def theirs(optimizer: Callable[[list], Any], weights: list[Tensor]) -> list[Tensor]:
    """Return the weights after three updates of another library's optimiser, with decay for all but vectors."""
    new = [nn.Parameter(w.clone()) for w in weights]
    groups = [
        {"params": [p for p in new if (p.ndim > 1) == decayed], "weight_decay": 0.1 * decayed} for decayed in (1, 0)
    ]
    other = optimizer(groups)
    for update in range(3):
        for p, g in zip(new, gradients(update), strict=True):
            p.grad = g.clone()
        other.step()
    return [p.detach() for p in new]


def ours(name: str, weights: list[Tensor], decay: float = 0.1, **options: Any) -> list[Tensor]:
    new = [w.clone() for w in weights]
    optimizer = made(name, new, decay=decay, **options)
    for update in range(3):
        for w, g in zip(new, gradients(update), strict=True):
            w.grad = g.clone()
        optimizer.step(GAMMA)
    return new


@pytest.mark.filterwarnings("ignore")  # importing them warns of other packages
def test_lars_is_pytorch_optimizers() -> None:
    """Its trust coefficient is ours times lr; vectors are plain SGD at its own lr."""
    import pytorch_optimizer as library

    known = theirs(lambda groups: library.LARS(groups, lr=1.0, momentum=0.9, trust_coefficient=GAMMA), tensors())
    found = ours("lars", tensors(), momentum=0.9, settings={"unscaled_factor": 1 / GAMMA})
    torch.testing.assert_close(found, known, **DIRECT)
    assert not torch.allclose(ours("lars", tensors(), momentum=0.8)[0], known[0], **DIRECT)


@pytest.mark.filterwarnings("ignore")
def test_lars_of_matrices_is_timms() -> None:
    """Its epsilon of 1e-8 in the denominator stays; `always_adapt`, or it is plain SGD without decay."""
    from timm import optim

    known = theirs(
        lambda groups: optim.Lars(groups, lr=1.0, momentum=0.9, trust_coeff=GAMMA, always_adapt=True), tensors()
    )
    found = ours("lars", tensors(), momentum=0.9)
    torch.testing.assert_close(found[:2], known[:2], rtol=1e-8, atol=1e-10)
    assert not torch.allclose(found[2], known[2], rtol=1e-8)


@pytest.mark.filterwarnings("ignore")
def test_lamb_is_timms() -> None:
    """With its clipping of the gradient off, and with groups scaled that have no decay."""
    from timm import optim

    known = theirs(lambda groups: optim.Lamb(groups, lr=GAMMA, max_grad_norm=None, always_adapt=True), tensors())
    torch.testing.assert_close(ours("lamb", tensors()), known, **DIRECT)
    assert not torch.allclose(ours("lamb", tensors(), settings={"bias_correction": False})[0], known[0], **DIRECT)


@pytest.mark.filterwarnings("ignore")
def test_lamb_without_bias_correction_is_pytorch_optimizers() -> None:
    """Its defaults make first steps 10 times too long. It adds 1e-6 to a step's norm, and cuts weights' norms at 10."""
    import pytorch_optimizer as library

    few = [w / 2 for w in tensors()]

    def make(groups: list) -> Any:
        undecayed = [{**group, "weight_decay": 0.0} for group in groups]  # there, decay is no part of the step
        return library.Lamb(undecayed, lr=GAMMA, weight_decouple=False, adam_debias=True)

    known = theirs(make, few)
    found = ours("lamb", few, decay=0.0, settings={"bias_correction": False})
    torch.testing.assert_close(found, known, rtol=1e-6, atol=1e-7)
    assert not torch.allclose(ours("lamb", few, decay=0.0)[0], known[0], rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "options", "same"),
    [
        *((name, {}, True) for name in RULES[:3]),
        ("lamb", {"settings": {"epsilon": 0.0}}, True),
        *(("mclr", {"settings": {"reading": reading}}, True) for reading in ("signed", "ratio")),
        ("mclr", {"settings": {"cap": 1e-3}}, False),
        ("lars", {"decay": 0.1}, False),
        ("sgd", {}, False),
    ],
)
def test_a_loss_times_1000_changes_no_step(name: str, options: dict, same: bool) -> None:
    plain = stepped(name, tensors(), gradients(), **options)
    scaled = stepped(name, tensors(), [1000 * g for g in gradients()], **options)
    assert all(torch.allclose(a, b, **DIRECT) for a, b in zip(plain[:2], scaled, strict=False)) == same


@pytest.mark.parametrize(
    ("name", "settings", "invariant"),
    [
        ("lars", {}, True), ("mclr", {}, True), ("percent_delta", {"floor": 0.0}, True),
        ("lamb", {"epsilon": 0.0}, True), ("cblr", {"radius": "eq17"}, True),
        ("percent_delta", {"floor": 1.0}, False), ("sgd", {}, False),
    ],
)  # fmt: skip
def test_the_step_grows_with_weights_that_batch_norm_rescales(name: str, settings: dict, invariant: bool) -> None:
    c, found = 3.0, []
    for factor in (1.0, c):
        with seeds.seeded(0, "test"):
            model = nn.Sequential(nn.Linear(7, 5, bias=False), nn.BatchNorm1d(5, eps=1e-30), nn.Linear(5, 3)).double()
            inputs = torch.randn(16, 7, dtype=torch.float64)
        with torch.no_grad():
            model[0].weight *= factor
        model(inputs).square().sum().backward()
        found += stepped(name, [model[0].weight.detach()], [model[0].weight.grad], settings=settings)
    assert torch.allclose(found[1], c * found[0], rtol=1e-9) == invariant


@pytest.mark.parametrize(
    ("name", "settings"), [*((name, {}) for name in (*RULES, "eq17")), ("percent_delta", {"floor": 0.0})]
)
def test_without_a_gradient_nothing_moves(name: str, settings: dict) -> None:
    own = {"radius": "eq17"} if name == "eq17" else settings
    zero = [torch.zeros_like(w) for w in tensors()]
    assert not any(dw.any() for dw in stepped("cblr" if name == "eq17" else name, tensors(), zero, settings=own))


@pytest.mark.parametrize(
    ("name", "settings", "moves"),
    [
        ("lars", {"unscaled_factor": 0.5}, 0.5), ("mclr", {"unscaled_factor": 0.5}, 0.5),
        ("mclr", {"reading": "signed"}, 0.0), ("mclr", {"reading": "ratio"}, 0.0),
        ("cblr", {"radius": "eq17"}, 0.0), ("percent_delta", {"floor": 0.0}, 0.0),
    ],
)  # fmt: skip
def test_a_tensor_of_zeros_takes_the_unscaled_rate_or_stays_as_printed(name: str, settings: dict, moves: float) -> None:
    (step,) = stepped(name, [torch.zeros(6, 5, dtype=torch.float64)], gradients()[:1], settings=settings)
    torch.testing.assert_close(step, GAMMA * moves * gradients()[0], **DIRECT)


def test_zero_biases_move_in_proportion_to_the_floor() -> None:
    (step,) = stepped("percent_delta", [torch.zeros(7, dtype=torch.float64)], gradients()[2:])
    assert math.isclose(float(step.abs().mean()), GAMMA * 1e-3, rel_tol=1e-12)


@pytest.mark.parametrize("reading", mclr.READINGS)
def test_medians_and_dead_units(reading: str) -> None:
    """Three quarters of g are 0, which makes the printed medians infinite; the robust one is over the others."""
    (w, *_), (g, *_) = tensors(), gradients()
    dead = torch.arange(w.numel()).reshape(w.shape) % 4 > 0
    (step,) = stepped("mclr", [w], [torch.where(dead, 0.0, g)], settings={"reading": reading, "cap": 77.0})
    own = w[~dead].abs().sort().values[7 // 2] / g[~dead].abs().sort().values[7 // 2]  # 8 of 30, the lower median
    rate = float(own) if reading == "robust" else 77.0
    torch.testing.assert_close(step, GAMMA * rate * torch.where(dead, 0.0, g), **DIRECT)
    (infinite,) = stepped("mclr", [w], [torch.where(dead, 0.0, g)], settings={"reading": reading, "cap": None})
    assert bool(infinite.isfinite().all()) == (reading == "robust")


@pytest.mark.parametrize("name", [*RULES, "eq17"])
def test_nan_in_a_gradient_reaches_the_weights(name: str) -> None:
    grads = gradients()
    grads[0][2, 3] = torch.nan
    steps = stepped(
        "cblr" if name == "eq17" else name, tensors(), grads, settings={"radius": "eq17"} if name == "eq17" else {}
    )
    assert bool(steps[0][2, 3].isnan())


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("count", [1, 30, 31])
def test_both_medians_are_the_lower_one_without_nan(share: float, count: int) -> None:
    values = torch.randn(count, generator=torch.Generator().manual_seed(0))
    values[: int(share * count)] = torch.nan
    kept = values.clone()
    for found in (mclr.median(values.reshape(count, 1)), mclr.median_by_sorting(values)):
        torch.testing.assert_close(found, kept.nanmedian(), rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(values, kept, rtol=0, atol=0, equal_nan=True)
    upper = values.nan_to_num(torch.inf).sort().values[int((~values.isnan()).sum()) // 2]
    assert (upper == kept.nanmedian()) == (int((~values.isnan()).sum()) % 2 == 1) or share == 1.0


@pytest.mark.parametrize("fault", [False, True])
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("lars", {}), ("percent_delta", {}), *(("mclr", {"reading": reading}) for reading in mclr.READINGS),
        ("lamb", {}), ("cblr", {"radius": "eq17", "cap": 1.0}),
    ],
)  # fmt: skip
def test_a_step_reads_no_value(name: str, settings: dict, fault: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the meta device tensors have shapes and no values: what works there can be recorded as a CUDA graph."""
    weights = [w.to("meta") for w in tensors()]
    optimizer = made(name, weights, decay=0.1, momentum=0.9, settings=settings)
    for w in weights:
        w.grad = torch.empty_like(w)
    if fault:  # a branch on a value
        monkeypatch.setattr(
            torch, "_foreach_sub_", lambda those, steps: [w if s.any() else None for w, s in zip(those, steps)]
        )
    assert optimizer.in_graphs
    if not fault:
        optimizer.step(torch.zeros((), device="meta"))
        return
    with pytest.raises((RuntimeError, NotImplementedError)):
        optimizer.step(torch.zeros((), device="meta"))


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("lars", {"unscaled_facto": 1.0}, "settings.unscaled_facto'; did you mean 'unscaled_factor'"),
        ("lars", {"unscaled_factor": "a"}, "settings.unscaled_factor must be a number, got the text 'a'"),
        ("lars", {"unscaled_factor": -1.0}, r"unscaled_factor must be a number in \[0, inf\), got -1.0"),
        ("lars", {"unscaled_factor": math.nan}, "unscaled_factor must be a finite number of usual size, got nan"),
        ("percent_delta", {"floor": True}, "floor must be of type float, got True"),
        ("mclr", {"reading": "median"}, "reading must be one of robust, signed, ratio, got 'median'"),
        ("mclr", {"cap": -2}, r"cap must be a number in \[0, inf\), got -2.0"),
        ("lamb", {"betas": [0.9]}, "betas must be two numbers, got 1"),
        ("lamb", {"betas": [0.9, 1.0]}, r"betas must be a number in \[0, 1\), got 1.0"),
        ("cblr", {"radius": "eq20"}, "radius must be one of hessian, eq9, eq17, got 'eq20'"),
        ("cblr", {"images": 0}, r"images must be a number in \[1, inf\), got 0"),
        ("cblr", {}, "cblr needs the Hessian of a cross-entropy"),
        ("larz", {}, "unknown optimiser 'larz'; did you mean 'lars'"),
    ],
)  # fmt: skip
def test_settings_that_do_not_suit_are_refused_in_one_line(name: str, settings: dict, said: str) -> None:
    with pytest.raises(InputError, match=said) as refused:
        made(name, tensors(), settings=settings)
    assert "\n" not in str(refused.value)
