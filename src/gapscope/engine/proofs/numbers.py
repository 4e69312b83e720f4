"""All numbers in a stage's outputs as one mapping, whatever the files' form, and how far two such mappings differ.

A number's name is its file and its place there, such as `metrics/smoke/train/lenet5-digits-b128-s0.csv/3/penalty`. In a
long table the place is the row's quantity and axes; in any other table it is the number of the row. Provenance and
settings are left out (`legacy.py`), and so are pictures, pages and Markdown.
"""

import csv
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gapscope.engine.proofs.legacy import PROVENANCE, SETTINGS
from gapscope.errors import InputError

LEFT_OUT = PROVENANCE | SETTINGS
NO_NUMBERS = frozenset({".png", ".svg", ".html", ".md", ".txt", ".yaml", ".log"})
VALUES = frozenset({"value", "low", "high", "n", "mean", "std"})  # columns of a long table that identify no row
DIGITS = 10  # significant digits of a number in a record

Value = float | str | np.ndarray
Numbers = dict[str, Value]


@dataclass
class Difference:
    """How two mappings of numbers differ; `largest` is relative to the larger of the two values."""

    numbers: int = 0
    differing: int = 0
    largest: float = 0.0
    where: str = ""  # the name of the largest difference
    missing: list[str] = field(default_factory=list)  # names that only the old mapping has
    more: list[str] = field(default_factory=list)  # names that only the new mapping has

    @property
    def same_bits(self) -> bool:
        """Whether the new mapping has every old number, to the last bit."""
        return not self.differing and not self.missing and self.numbers > 0

    def in_words(self) -> str:
        """Return what differs, in one line."""
        largest = f"the largest relative difference is {self.largest:.3g}, in {self.where}"
        parts = [f"{self.differing} of {self.numbers} numbers differ; {largest}"]
        parts = parts if self.differing else [f"{self.numbers} numbers have the same bits"]
        if self.missing:
            parts.append(f"{len(self.missing)} are missing, such as {self.missing[0]}")
        if self.more:
            parts.append(f"{len(self.more)} are new")
        return "; ".join(parts)


def read_numbers(outs: Iterable[str], root: Path = Path()) -> Numbers:
    """Return the numbers of a stage's outputs, files or folders.

    Raises:
        InputError: an output is missing.
    """
    numbers = Numbers()
    for out in outs:
        path = root / out
        if not path.exists():
            raise InputError(f"{path} is missing")
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and not _is_provenance(file.relative_to(root)):
                numbers.update({f"{file.relative_to(root).as_posix()}/{name}": v for name, v in numbers_of(file)})
    return numbers


def _is_provenance(path: Path) -> bool:
    return path.parts[0] == "provenance" or path.suffix in NO_NUMBERS


def numbers_of(path: Path) -> Iterator[tuple[str, Value]]:
    """Yield (place, value) for each number of a file; an array or tensor is one value.

    Raises:
        InputError: a file of an unknown form.
    """
    if path.suffix == ".csv":
        yield from _of_table(path)
    elif path.suffix == ".json":
        yield from _of_json(json.loads(path.read_text(encoding="utf-8")))
    elif path.suffix == ".jsonl":
        for index, line in enumerate(path.read_text(encoding="utf-8").splitlines()):
            yield from _of_json(json.loads(line), f"{index}/")
    elif path.suffix == ".npy":
        yield "array", np.load(path, allow_pickle=False)
    elif path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            yield from ((name, file[name]) for name in file.files)
    elif path.suffix == ".safetensors":
        from safetensors.numpy import load_file

        yield from sorted(load_file(path).items())
    else:
        raise InputError(f"{path}: numbers are compared in .csv, .json, .jsonl, .npy, .npz and .safetensors only")


def _of_table(path: Path) -> Iterator[tuple[str, Value]]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    long = bool(rows) and "quantity" in rows[0]
    for index, row in enumerate(rows):
        keys = [f"{name}={text}" for name, text in row.items() if name not in VALUES and text] if long else [str(index)]
        place = ",".join(keys)
        for name, text in row.items():
            if name not in PROVENANCE and (not long or name in VALUES):
                yield f"{place}/{name}", _value(text)


def _of_json(value: Any, place: str = "") -> Iterator[tuple[str, Value]]:
    if isinstance(value, dict):
        for key, item in value.items():
            if key not in LEFT_OUT:
                yield from _of_json(item, f"{place}{key}/")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _of_json(item, f"{place}{index}/")
    else:
        yield place.rstrip("/"), float(value) if isinstance(value, float | int) else str(value)


def _value(text: str | None) -> Value:
    try:
        return float(text or "")
    except ValueError:
        return text or ""


def compare(old: Mapping[str, Value], new: Mapping[str, Value]) -> Difference:
    """Return how the new numbers differ from the old ones with the same names."""
    result = Difference()
    for name, value in old.items():
        if name not in new:
            result.missing.append(name)
            continue
        result.numbers += value.size if isinstance(value, np.ndarray) else 1
        count, largest = _differences(value, new[name])
        result.differing += count
        if count and (largest >= result.largest or not result.where):
            result.largest, result.where = largest, name
    result.more = [name for name in new if name not in old]
    return result


def _differences(old: Value, new: Value) -> tuple[int, float]:
    """Return the number of values that differ in any bit, and the largest difference relative to the larger value."""
    if isinstance(old, np.ndarray) and isinstance(new, np.ndarray):
        return _array_differences(old, new)
    if isinstance(old, float) and isinstance(new, float):
        same = old == new or (math.isnan(old) and math.isnan(new))
        return (0, 0.0) if same else (1, relative_difference(old, new))
    same = type(old) is type(new) and old == new
    return (0, 0.0) if same else (1, math.inf)


def _array_differences(old: np.ndarray, new: np.ndarray) -> tuple[int, float]:
    if (old.dtype, old.shape) != (new.dtype, new.shape):
        return max(old.size, 1), math.inf
    if old.tobytes() == new.tobytes():
        return 0, 0.0
    differs = np.frombuffer(old.tobytes(), f"V{old.itemsize}") != np.frombuffer(new.tobytes(), f"V{new.itemsize}")
    a, b = (x.ravel()[differs].astype(np.float64) for x in (old, new))
    with np.errstate(invalid="ignore"):
        relative = np.abs(a - b) / np.maximum(np.maximum(np.abs(a), np.abs(b)), np.finfo(np.float64).tiny)
    return int(differs.sum()), float(np.where(np.isfinite(relative), relative, math.inf).max())


def relative_difference(old: float, new: float) -> float:
    """Return the absolute difference of two numbers over the larger absolute value."""
    if old == new:
        return 0.0
    if not (math.isfinite(old) and math.isfinite(new)):
        return math.inf
    return abs(old - new) / max(abs(old), abs(new))


def absent(old: Mapping[str, Value], new: Mapping[str, Value]) -> list[str]:
    """Return the names of the old numbers that the new outputs have under no name at all.

    This is for outputs whose form has changed without a converter. Numbers are compared to the ten digits that records
    keep, and arrays by their bits. A number that occurs twice in the old outputs must occur twice in the new ones.
    """
    unmatched = Counter(_plain(value) for value in new.values())
    names = []
    for name, value in old.items():
        plain = _plain(value)
        if unmatched[plain]:
            unmatched[plain] -= 1
        elif value != "":  # an empty cell of a wide table has no row in a long one
            names.append(name)
    return names


def _plain(value: Value) -> object:
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    return f"{value:.{DIGITS}g}" if isinstance(value, float) else value
