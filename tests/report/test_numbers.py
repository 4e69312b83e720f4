"""Numbers as a reader sees them."""

import math

import pytest

from gapscope.drawing import numbers


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (8.512345, "8.51"), (0.5, "0.5"), (0.00011, "0.00011"), (0.00002277, "2.28e-05"), (-0.00002, "−2e-05"),
        (26212.4, "26,212"), (-250000.0, "−250,000"), (2e9, "2e+09"), (9.9996, "10"), (0.0, "0"),
        (-math.inf, "−inf"),
    ],
)  # fmt: skip
def test_a_number_has_three_figures_and_its_whole_part(value: float, shown: str) -> None:
    assert numbers.number(value, 3) == shown


def test_a_change_has_a_sign_and_zero_has_none() -> None:
    assert [numbers.signed(change) for change in (2.0, -2.0, 0.0)] == ["+2", "−2", "0"]
    assert [numbers.fixed(value, places) for value, places in ((-2.0, 2), (-0.001, 2), (5783.0, -1))] == [
        "−2.00", "0.00", "5,780",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"effect": 3.5, "effect_low": 2.0, "effect_high": 6.0, "effect_unit": "times"}, "3.5 (2 to 6) times"),
        (
            {"effect": 26210.0, "effect_low": -5.25, "effect_high": 2e9, "effect_unit": "values"},
            "+26,210 (−5.25 to 2e+09) values",
        ),
        ({"effect": 0.5, "effect_low": None, "effect_high": None, "effect_unit": "nats"}, "+0.5 nats"),
        ({"effect": -2.0, "effect_low": None, "effect_high": None, "effect_unit": None}, "−2"),
        ({"effect": None, "effect_low": None, "effect_high": None, "effect_unit": "times"}, "no finite effect"),
    ],
)
def test_an_effect_is_said_with_its_interval_and_unit(row: dict[str, object], words: str) -> None:
    assert numbers.effect(row) == words


@pytest.mark.parametrize(
    ("counts", "shown"),
    [
        ([3, 3], "n = 3 seeds"),
        ([3, 1], "n = 1 to 3 seeds"),
        ([1, 1], "n = 1"),
        ([0, 1], "n = 0 to 1"),
        ([], "n = 0 seeds"),
    ],
)
def test_n_has_both_ends_where_parts_differ(counts: list[int], shown: str) -> None:
    assert numbers.seeds(counts) == shown
