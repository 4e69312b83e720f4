"""Rates and batch sizes over a run: ends exact, shapes as named, switches where they are said to be."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from runs import SETTINGS, changed

from gapscope.errors import InputError
from gapscope.optim.schedules import SCALINGS, SHAPES, Schedule, Switch, curve, schedule


def laid(images: int = 100, batch_size: int = 30, shape: str = "cosine", **changes) -> Schedule:
    plain = {"epochs": 4, "updates": None, "switches": (), "drop_last": False, "warmup_epochs": 0.0}
    rate = lambda own, step, last: curve(shape, own or 0.1, 1e-4, step, last)  # noqa: E731
    return schedule(images, batch_size, rate=rate, **{**plain, **changes})


@pytest.mark.parametrize("shape", ["cosine", "step", "exponential"])
@pytest.mark.parametrize(
    ("switches", "updates", "length"),
    [((), None, 16), ((Switch(3, 7, None),), None, 38), ((), 1, 1), ((), 5, 5), ((), 13, 13)],
)
def test_both_ends_are_exact_and_rates_fall(
    shape: str, switches: tuple[Switch, ...], updates: int | None, length: int
) -> None:
    run = laid(shape=shape, switches=switches, updates=updates)
    assert len(run.rates) == sum(run.updates) == length
    assert run.rates[0] == 0.1
    assert run.rates[-1] == (1e-4 if len(run.rates) > 1 else 0.1)
    assert run.rates == sorted(run.rates, reverse=True)


def test_shapes_are_what_they_are_called() -> None:
    last = 80
    rates = {shape: np.array([curve(shape, 0.1, 1e-4, step, last) for step in range(last + 1)]) for shape in SHAPES}
    steps = np.arange(last + 1)
    np.testing.assert_allclose(rates["cosine"], 1e-4 + (0.1 - 1e-4) * np.cos(steps * np.pi / 2 / last) ** 2, rtol=1e-12)
    np.testing.assert_allclose(rates["exponential"][1:] / rates["exponential"][:-1], (1e-3) ** (1 / last), rtol=1e-12)
    assert set(rates["constant"]) == {0.1}
    np.testing.assert_allclose(
        rates["step"][[0, 19, 20, 39, 40, 59, 60, 80]], 10.0 ** -np.array([1, 1, 2, 2, 3, 3, 4, 4])
    )


def test_a_switch_changes_the_batch_size_and_leaves_the_curve() -> None:
    plain, switched = laid(epochs=4), laid(epochs=4, switches=(Switch(3, 10, None),))
    assert (plain.batch_sizes, switched.batch_sizes) == ([30] * 4, [30, 30, 10, 10])
    assert (plain.updates, switched.updates) == ([4] * 4, [4, 4, 10, 10])
    for run, last in ((plain, 3 + 3 / 4), (switched, 3 + 9 / 10)):  # epochs, to the last update
        firsts = np.cumsum([0, *run.updates[:-1]])
        known = 1e-4 + (0.1 - 1e-4) * np.cos(np.arange(4) / last * np.pi / 2) ** 2
        np.testing.assert_allclose([run.rates[first] for first in firsts], known, rtol=1e-12)


def test_a_switch_with_a_rate_begins_a_curve_of_its_own() -> None:
    run = laid(switches=(Switch(3, 10, 0.05),))
    assert run.rates[8] == 0.05
    assert run.rates[-1] == 1e-4


FIRST = {  # of the first epoch (Gao & Zhong, section 3.2, and its controls)
    (10, 0.02): (10, [0.02] * 10),
    (None, 0.02): (30, [0.02] * 4),
    (10, None): (10, [0.1] * 10),
    (None, None): (30, [0.1] * 4),
}


@pytest.mark.parametrize(("batch_size", "lr"), FIRST)
def test_the_first_epoch_can_have_its_own_batch_size_and_rate(batch_size: int | None, lr: float | None) -> None:
    back = None if lr is None else 0.1
    run = laid(shape="constant", switches=(Switch(1, batch_size, lr), Switch(2, None, back)))
    first, rates = FIRST[batch_size, lr]
    assert run.batch_sizes == [first, 30, 30, 30]
    assert run.updates == [len(rates), 4, 4, 4]
    assert run.rates == [*rates, *[0.1] * 12]


def test_a_first_epoch_without_a_rate_stays_on_the_curve() -> None:
    plain, run = laid(), laid(switches=(Switch(1, 10, None), Switch(2, None, None)))
    np.testing.assert_allclose(run.rates[10:], plain.rates[4:], rtol=1e-12)  # an epoch is cut into more steps
    assert run.rates[0] == 0.1
    assert run.rates[:10] == sorted(run.rates[:10], reverse=True)


def test_a_first_epoch_s_rate_and_the_one_after_it_begin_curves_of_their_own() -> None:
    run = laid(switches=(Switch(1, 10, 0.02), Switch(2, None, 0.1)))
    assert (run.rates[0], run.rates[10], run.rates[-1]) == (0.02, 0.1, 1e-4)


def test_warmup_covers_the_first_epoch_s_own_rate() -> None:
    run = laid(shape="constant", warmup_epochs=1.0, switches=(Switch(1, 10, 0.02), Switch(2, None, 0.1)))
    np.testing.assert_allclose(run.rates[:10], 0.02 * np.arange(1, 11) / 10, rtol=1e-12)
    assert run.rates[10:] == [0.1] * 12


def test_a_rate_at_epoch_1_leaves_nothing_to_tune() -> None:
    tuned = {"lr_candidates": (0.1, 0.2), "validation_images": 10}
    changed(**tuned, batch_schedule=(Switch(1, 10, None), Switch(2, None, None)))
    with pytest.raises(InputError, match=r"lr_candidates chooses lr_start, which .* replaces at epoch 1"):
        changed(**tuned, batch_schedule=(Switch(1, 10, 0.02), Switch(2, None, 0.1)))


def test_updates_cut_the_last_epoch() -> None:
    run = laid(updates=10)
    assert (run.batch_sizes, run.updates) == ([30, 30, 30], [4, 4, 2])
    assert laid(updates=8, drop_last=True).updates == [3, 3, 2]


def test_warmup_rises_to_the_curve() -> None:
    plain, warm = laid(), laid(warmup_epochs=2.0)
    ratio = np.array(warm.rates) / plain.rates
    np.testing.assert_allclose(ratio[:8], np.arange(1, 9) / 8)
    assert warm.rates[8:] == plain.rates[8:]


@pytest.mark.parametrize(("rule", "factor"), [("none", 1.0), ("linear", 4.0), ("sqrt", 2.0)])
def test_scalings(rule: str, factor: float) -> None:
    assert SCALINGS[rule](4.0) == factor


@pytest.mark.parametrize(("rule", "first"), [("none", 0.1), ("linear", 0.4), ("sqrt", 0.2)])
def test_a_run_starts_at_the_scaled_rate_and_ends_at_the_common_one(rule: str, first: float) -> None:
    settings = changed(lr_scaling=rule, lr_reference_batch=10)
    rates = settings.lay_out(100, 40, 3).rates
    assert (rates[0], rates[-1]) == (pytest.approx(first), SETTINGS.schedule.lr_end)
    assert settings.lay_out(100, 40, 3, lr=0.0).rates[0] == 0.0  # a rate, not the lack of one


@given(images=st.integers(1, 60), size=st.integers(1, 60), epochs=st.integers(1, 5), drop_last=st.booleans())
def test_an_epoch_has_its_updates(images: int, size: int, epochs: int, drop_last: bool) -> None:
    run = partial(laid, images, min(size, images), epochs=epochs, drop_last=drop_last)()
    assert run.updates == [(np.floor if drop_last else np.ceil)(images / min(size, images))] * epochs


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        ({"switches": (Switch(3, 10, None), Switch(2, 10, None))}, "its epochs must rise, from 1 to 4, got"),
        ({"switches": (Switch(0, 10, None),)}, "its epochs must rise"),
        ({"switches": (Switch(1, 10, None), Switch(1, None, None))}, "its epochs must rise"),
        ({"switches": (Switch(1, 0, None),)}, "batch_size must be in"),
        ({"switches": (Switch(5, 10, None),)}, "its epochs must rise"),
        ({"switches": (Switch(2, 101, None),)}, "batch_size must be in"),
        ({"updates": 0}, "train.schedule.updates must be at least 1"),
        ({"updates": 5, "switches": (Switch(2, 10, None),)}, "batch_schedule"),
        ({"batch_size": 0}, "batch_size must be in"),
    ],
)
def test_what_cannot_be_laid_out_raises(changes: dict, hint: str) -> None:
    with pytest.raises(InputError, match=hint):
        laid(**changes)
