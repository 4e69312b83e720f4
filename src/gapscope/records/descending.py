"""Descending numbers as short text: each is rounded to d significant digits and written as a difference.

A number >= 0 of d significant digits has an integer code that keeps the order. The code of zero is 0. The code of
mantissa * 10^(exponent - d + 1) is 1 + (exponent + 324) * 9 * 10^(d - 1) + mantissa - 10^(d - 1).

The text has one word per number, in base 36: the previous number's code minus its own code. `0*N` stands for N numbers
that equal the previous one. The first number is compared with a start value that writer and reader know. Nothing is
lost beyond the rounding, and values that are close together need few characters.
"""

import string
from collections.abc import Iterable, Iterator
from itertools import groupby, pairwise

import numpy as np

LOWEST = -324  # exponent of the smallest float64
ALPHABET = string.digits + string.ascii_lowercase


def rounded(value: float, digits: int) -> float:
    """Return a number rounded to `digits` significant digits."""
    return float(f"{value:.{digits}g}")


def encode(values: Iterable[float], *, digits: int, start: float) -> str:
    """Return the text of descending numbers.

    Args:
        values: finite, >= 0. An ascent is allowed and costs a sign.
        digits: significant digits to keep.
        start: the value that the first number is compared with.

    Raises:
        ValueError: a number that is negative, infinite or NaN.

    Example:
        >>> encode([0.5, 0.25, 0.25, 0.0], digits=2, start=0.5)
        '0 p 0 mhq'
    """
    codes = [_code(value, digits) for value in (start, *values)]
    words = (_base36(before - code) for before, code in pairwise(codes))
    return " ".join(_repeated(words))


def decode(text: str, *, digits: int, start: float, most: int) -> np.ndarray:
    """Return the numbers of a text that `encode` has written; arguments as there, and how many there may be at most.

    Raises:
        ValueError: the text is damaged.
    """
    code, values = _code(start, digits), list[float]()
    for word in text.split():
        step, _, times = word.partition("*")
        code -= int(step, 36)
        if not 1 <= int(times or 1) <= most - len(values):
            raise ValueError(f"the text has not 1 to {most} numbers")
        values += [_value(code, digits)] * int(times or 1)
    return np.array(values, dtype=np.float64)


def _repeated(words: Iterable[str]) -> Iterator[str]:
    for word, run in groupby(words):
        times = len(list(run))
        yield from [f"0*{times}"] if word == "0" and times > 1 else [word] * times


def _code(value: float, digits: int) -> int:
    if not (np.isfinite(value) and value >= 0):
        raise ValueError(f"a singular value must be finite and >= 0, got {value}")
    if value == 0:
        return 0
    mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
    least = int(10 ** (digits - 1))
    return 1 + (int(exponent) - LOWEST) * 9 * least + int(mantissa.replace(".", "")) - least


def _value(code: int, digits: int) -> float:
    if code == 0:
        return 0.0
    least = 10 ** (digits - 1)
    exponent, mantissa = divmod(code - 1, 9 * least)
    if code < 0:
        raise ValueError("the text has a number below zero")
    return float(f"{mantissa + least}e{exponent + LOWEST - digits + 1}")


def _base36(number: int) -> str:
    sign, number, digits = "-" * (number < 0), abs(number), ""
    while number or not digits:
        number, digit = divmod(number, 36)
        digits = ALPHABET[digit] + digits
    return sign + digits
