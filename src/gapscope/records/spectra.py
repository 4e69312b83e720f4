"""Spectra as small JSON lines: every singular value up to a cut, and about 200 of the values above it, for figures.

The first line is a header and the last one counts the others. An object on a line of its own describes the tensor of a
layer. One list per mode follows it, in the order of `COLUMNS`. A mode keeps:

- `tail`: every value that may be at or below the cut within its error bound, to ten significant digits (see
  `gapscope.records.descending`). That rounding is 5e-14 at the threshold 1e-4, where a solver's bound is about 1e-15 of
  the largest value.
- `error_bound`: the bounds of all values as runs [count, exponent of 2]. A bound that is no power of two is a float.
- `quantiles`: about 200 values above the tail by index (`kept_indices`), to four significant digits.
- the largest and the smallest value, and three effective ranks, to ten digits. The ranks need all values.

Records of version 0.1 (schema 1) list every value. They can be read too, with an infinite cut.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from gapscope.errors import reading
from gapscope.records.descending import decode, encode, rounded
from gapscope.records.files import write_text
from gapscope.records.integrity import check_written

SCHEMA = 2
ALL_VALUES = 1  # schema of the records that list every value
DIGITS = 10  # of values in the tail, extremes and effective ranks
FIGURE_DIGITS = 4  # of the quantiles: a figure of 20 decades shows no more
LOG_POINTS = 120  # largest number of quantiles that are spaced in log(index) from both ends; the others are even
POINTS = 200  # largest number of quantiles
RANKS = ("stable_rank", "effective_rank", "participation_ratio")
EXACT = {"dead_units": 1, "duplicate_samples": 0}  # where exact zeros come from -> the axis of its indices
COLUMNS = ("method", "largest", "smallest", *RANKS, "error_bound", "tail", "quantiles")


@dataclass(frozen=True)
class ModeRecord:
    """The part of one mode's spectrum that a record keeps.

    Attributes:
        method: of the solver.
        largest, smallest: extreme values.
        error_bound: one per value of the whole spectrum.
        tail: the last values, descending: all that a threshold up to the cut can count.
        quantiles: index in `kept_indices` -> value, without the tail.
        ranks: name in `RANKS` -> value; empty in a record that lists every value.
    """

    method: str
    largest: float
    smallest: float
    error_bound: np.ndarray
    tail: np.ndarray
    quantiles: Mapping[int, float] = field(default_factory=dict)
    ranks: Mapping[str, float] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Number of values of the whole spectrum."""
        return len(self.error_bound)

    def value(self, index: int) -> float:
        """Return the value at an index of `kept_indices`, or of the tail."""
        in_tail = index - (self.count - len(self.tail))
        return float(self.tail[in_tail]) if in_tail >= 0 else self.quantiles[index]


@dataclass(frozen=True)
class LayerRecord:
    """The spectra of one layer's activations.

    Attributes:
        sample: the images: `run`, `probe`, or a control.
        layer: its name.
        shape: of the tensor.
        modes: one spectrum per mode.
        batch_size: number of images of a control, None otherwise.
        dead_units, duplicate_samples: as in `numerics.hosvd.exact_zeros`; None if they were not determined.
    """

    sample: str
    layer: str
    shape: tuple[int, ...]
    modes: Sequence[ModeRecord]
    batch_size: int | None = None
    dead_units: Sequence[int] | None = None
    duplicate_samples: Sequence[int] | None = None


def log_indices(count: int) -> list[int]:
    """Return indices (from 0) of a descending spectrum, spaced evenly in log(index) from both ends.

    The last values matter most, so half of the points are spaced from the end.
    """
    ends = np.rint(np.geomspace(1, count, LOG_POINTS // 2)).astype(int).tolist()
    return sorted({index - 1 for index in ends} | {count - index for index in ends})


def kept_indices(count: int) -> list[int]:
    """Return the indices of the quantiles: `log_indices` and evenly spaced ones, or all indices of a short spectrum."""
    if count <= POINTS:
        return list(range(count))
    spaced = log_indices(count)
    even = np.rint(np.linspace(0, count - 1, POINTS - len(spaced))).astype(int).tolist()
    return sorted({*spaced, *even})


def write_spectra(path: Path, header: Mapping[str, Any], layers: Iterable[LayerRecord]) -> None:
    """Write a header, which must name the `cut`, and the spectra of each layer.

    Raises:
        ValueError: a value that is not finite.
    """
    write_text(path, spectra_text(header, layers))


def spectra_text(header: Mapping[str, Any], layers: Iterable[LayerRecord]) -> str:
    """Return the text of a record of spectra; arguments and errors as of `write_spectra`."""
    known = {name: value for name, value in header.items() if name not in ("schema", "columns")}
    lines = [_json({"schema": SCHEMA, **known, "cut": header["cut"], "columns": COLUMNS})]
    for layer in layers:
        about: dict[str, Any] = {"sample": layer.sample, "layer": layer.layer, "shape": layer.shape}
        if layer.batch_size is not None:
            about["batch_size"] = layer.batch_size
        for name in EXACT:
            if (indices := getattr(layer, name)) is not None:
                about[name] = ranges(indices)
        lines.append(_json(about))
        lines += [_json(_row(mode)) for mode in layer.modes]
    return "\n".join([*lines, _json({"end": len(lines)})]) + "\n"


def read_spectra(path: Path) -> tuple[dict[str, Any], list[LayerRecord]]:
    """Return the header, with the `cut`, and the spectra of each layer.

    Raises:
        InputError: the file is missing, incomplete (its last line counts the others), or not what its stage wrote.
    """
    check_written(path)
    with reading(path, "a whole record of spectra", "run the spectra stage again", "run the spectra stage"):
        return parse_spectra(path.read_text(encoding="utf-8"))


def parse_spectra(text: str) -> tuple[dict[str, Any], list[LayerRecord]]:
    """Return the header and the spectra of each layer from a record's text.

    Raises:
        ValueError, TypeError, KeyError, IndexError: the text is damaged.
    """
    header, *lines = [json.loads(line) for line in text.splitlines()]
    if not lines or lines.pop() != {"end": len(lines) + 1}:
        raise ValueError("its last line does not count the others")
    if header["schema"] == ALL_VALUES:
        zeros = {(entry["sample"], entry["layer"]): entry for entry in header.pop("exact_zeros", [])}
        return {**header, "cut": math.inf}, list(_all_values(lines, zeros))
    if header["schema"] != SCHEMA:
        raise ValueError(f"schema {header['schema']!r}; known: {ALL_VALUES}, {SCHEMA}")
    if header.pop("columns") != list(COLUMNS) or "cut" not in header:
        raise ValueError(f"it has no cut, or its columns are not {', '.join(COLUMNS)}")
    if not _is_number(header["cut"]):
        raise ValueError(f"its cut is {header['cut']!r}")
    return header, list(_layers(lines))


def _row(mode: ModeRecord) -> list[Any]:
    largest = rounded(mode.largest, DIGITS)
    known = [largest, rounded(mode.smallest, DIGITS), *(rounded(mode.ranks[name], DIGITS) for name in RANKS)]
    bounds = [[len(list(run)), _exponent(bound)] for bound, run in groupby(mode.error_bound.tolist())]
    above = [value for index, value in sorted(mode.quantiles.items()) if 0 < index < mode.count - len(mode.tail)]
    tail = encode(mode.tail, digits=DIGITS, start=largest)
    return [mode.method, *known, bounds, tail, encode(above, digits=FIGURE_DIGITS, start=largest)]


def _mode(row: Sequence[Any], count: int) -> ModeRecord:
    method, largest, smallest, *ranks, bounds, tail, quantiles = row
    values = decode(tail, digits=DIGITS, start=largest, most=count)
    counts, exponents = zip(*bounds, strict=True)
    if not len(values) <= sum(counts) <= count:
        raise ValueError(f"error bounds of {sum(counts)} values, for a tail of {len(values)} and a shape with {count}")
    error_bound = np.repeat([_bound(exponent) for exponent in exponents], counts)
    first = len(error_bound) - len(values)
    indices = [index for index in kept_indices(len(error_bound)) if 0 < index < first]
    above = decode(quantiles, digits=FIGURE_DIGITS, start=largest, most=POINTS).tolist()
    known = dict(zip(indices, above, strict=True)) | ({0: largest} if first else {})
    ranks = dict(zip(RANKS, ranks, strict=True))  # type: ignore[assignment]
    return _checked(ModeRecord(method, largest, smallest, error_bound, values, known, ranks))  # type: ignore[arg-type]


def _checked(mode: ModeRecord) -> ModeRecord:
    """Return a mode as it is.

    Raises:
        ValueError: numbers that no spectrum has: they would be counted, or drawn, like any other.
    """
    numbers = [mode.largest, mode.smallest, *mode.ranks.values()]
    if not all(_is_number(value) and value >= 0 for value in numbers) or mode.smallest > mode.largest:
        raise ValueError(f"{numbers} cannot be the largest value, the smallest one, and ranks")
    if not all((np.isfinite(array) & (array >= 0)).all() for array in (mode.error_bound, mode.tail)):
        raise ValueError("a value or an error bound is negative or not finite")
    return mode


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _layers(lines: Iterable[Any]) -> Iterator[LayerRecord]:
    about: dict[str, Any] | None = None
    rows: list[Sequence[Any]] = []
    for line in lines:
        if isinstance(line, list):
            rows.append(line)
            continue
        if about is not None:
            yield _layer(about, rows)
        about, rows = line, []
    if about is not None:
        yield _layer(about, rows)


def _layer(about: Mapping[str, Any], rows: Sequence[Sequence[Any]]) -> LayerRecord:
    shape = tuple(about["shape"])
    size = math.prod(shape)
    counts = [min(length, size // length) for length in (shape[:1] if len(shape) == 2 else shape)]
    modes = [_mode(row, count) for row, count in zip(rows, counts, strict=True)]
    return LayerRecord(
        about["sample"], about["layer"], shape, modes, about.get("batch_size"), **_exact_zeros(about, shape)
    )


def _exact_zeros(about: Mapping[str, Any], shape: Sequence[int]) -> dict[str, list[int] | None]:
    """Return the indices of dead units and of duplicate samples; None where nobody looked for them."""
    return {name: _indices(about[name], shape[axis]) if name in about else None for name, axis in EXACT.items()}


def _all_values(rows: Iterable[Mapping[str, Any]], zeros: Mapping[Any, Mapping[str, Any]]) -> Iterator[LayerRecord]:
    """Yield the spectra of a record that lists every value, with all values as the tail."""
    for (size, sample, layer), group in groupby(rows, lambda row: (row.get("batch_size"), row["sample"], row["layer"])):
        modes, shape = [], ()
        for row in group:
            values, shape = np.asarray(row["values"], dtype=np.float64), tuple(row["shape"])
            counts, bounds = zip(*row["error_bound"], strict=True)
            error_bound = np.repeat(np.asarray(bounds, dtype=np.float64), counts)
            if len(values) != len(error_bound):
                raise ValueError(f"{len(error_bound)} error bounds of {len(values)} values")
            modes.append(_checked(ModeRecord(row["method"], float(values[0]), float(values[-1]), error_bound, values)))
        of_layer = {name: ranges(found) for name, found in zeros.get((sample, layer), {}).items() if name in EXACT}
        yield LayerRecord(sample, layer, shape, modes, size, **_exact_zeros(of_layer, shape))


def _exponent(bound: float) -> int | float:
    mantissa, exponent = math.frexp(bound)
    return exponent - 1 if mantissa == 0.5 else bound


def _bound(exponent: int | float) -> float:
    return math.ldexp(1.0, exponent) if isinstance(exponent, int) else exponent


def ranges(indices: Iterable[int]) -> str:
    """Return ascending indices as text: "3 7-19"."""
    runs: list[list[int]] = []
    for index in indices:
        if runs and index == runs[-1][1] + 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    return " ".join(f"{first}-{last}" if last > first else f"{first}" for first, last in runs)


def _indices(text: str, length: int) -> list[int]:
    """Return the indices that `ranges` wrote, of an axis of this length."""
    found: list[int] = []
    for first, _, last in (word.partition("-") for word in text.split()):
        if int(last or first) >= length:
            raise ValueError(f"index {last or first} of an axis of length {length}")
        found += range(int(first), int(last or first) + 1)
    if ranges(sorted({*found})) != text:  # what is backwards, twice, or negative would change a count without a word
        raise ValueError(f"{text!r} are no ascending indices")
    return found


def _json(value: Any) -> str:
    return json.dumps(value, allow_nan=False, separators=(",", ":"))
