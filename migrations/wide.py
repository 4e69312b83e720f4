"""Every number of version 0.1's wide tables against the long tables of version 0.2.

    python -m migrations.wide OLD NEW

compares OLD/STUDY/{runs,curvature,batch_sizes,landscape,warmstart,noise_scale}.csv of every study with NEW/STUDY.
`runs.py` says which quantity and axes a wide column is.
"""

import argparse
import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from migrations.plain_names import plain
from migrations.records import typed
from migrations.runs import BOUNDS, quantity

RUN = ("model", "dataset", "batch_size", "seed")
AXES = ("split", "statistics", "chosen_on", "sample", "threshold", "relative", "space", "dimension", "epsilon")
MORE = ("level", "radius", "start_epoch", "phase", "end", "epoch")
NOTES = ("status", "device", "sharpness_images")  # spectra_methods names the run's own now, not its controls'
ENDS = dict(zip(BOUNDS, ("low", "high"), strict=True))
Place = tuple[tuple[str, Any], ...]


def spelled(column: str) -> tuple[str, dict[str, Any], str] | None:
    """Return quantity, axes and column (value, low or high) of a wide column; None for what is no number."""
    found = quantity(column)
    if found is None:
        return None
    name = found.pop("quantity")
    part = name.removeprefix("near_rank_")
    return ("near_rank_excess", found, ENDS[part]) if part in ENDS else (name, found, "value")


def compare(old: Path, new: Path) -> tuple[list[str], int]:
    """Compare all numbers of a study's wide tables with its long ones: what differs, and how many were compared.

    Args:
        old: folder metrics/STUDY of version 0.1.
        new: that of version 0.2.
    """
    different: list[str] = []
    count = 0
    for place, value, found in _pairs(old, new):
        count += 1
        if found != value:
            different.append(f"{place}: {value!r} became {found!r}")
    return different, count


def _pairs(old: Path, new: Path) -> Iterator[tuple[str, Any, Any]]:
    if (old / "runs.csv").exists():
        yield from _runs(old, new)
    if (old / "warmstart.csv").exists():
        yield from _starts(read(old / "warmstart.csv"), new)
    for name, keys in (("landscape", ("end",)), ("noise_scale", ("epoch",))):
        if (old / f"{name}.csv").exists():
            yield from _by_seed(read(old / f"{name}.csv"), read(new / f"{name}.csv"), keys)


def _runs(old: Path, new: Path) -> Iterator[tuple[str, Any, Any]]:
    values = _lookup(read(new / "runs.csv"), ("value", "low", "high"))
    notes = {_key(row, RUN): row for row in read(new / "cells.csv")}
    wide = read(old / "runs.csv")
    for row in wide:
        key = _key(row, RUN)
        for column, value in row.items():
            if found := spelled(column):
                name, axes, into = found
                yield f"runs {key} {column}", value, values.get((key, name, _place(axes), into))
            elif column in NOTES:
                yield f"cells {key} {column}", value, notes[key].get(column)
    if (old / "curvature.csv").exists():
        yield from _curvature(read(old / "curvature.csv"), read(new / "runs.csv"))
    yield from _batches(read(old / "batch_sizes.csv"), new, list(notes.values()))


def _curvature(wide: list[dict[str, Any]], long: list[dict[str, Any]]) -> Iterator[tuple[str, Any, Any]]:
    values = {(_key(row, RUN), row["quantity"]): row for row in long}
    for row in wide:
        key = _key(row, RUN)
        for column, value in row.items():
            if column.startswith(("hessian", "gauss_newton", "ball", "gradient", "parameters")):
                found = values.get((key, column), {})
                yield f"curvature {key} {column}", value, found.get("value")
                if column.endswith("above_level"):
                    yield f"curvature {key} level", row["level"], found.get("level")


def _starts(wide: list[dict[str, Any]], new: Path) -> Iterator[tuple[str, Any, Any]]:
    keys = ("model", "dataset", "seed", "start_epoch")
    long, cells = read(new / "warmstart.csv"), {_key(row, keys): row for row in read(new / "cells.csv")}
    values = {
        (_key(row, keys), row["quantity"], row["phase"], row["split"], row["epsilon"]): row["value"] for row in long
    }
    sizes = {(_key(row, keys), row["phase"]): row["batch_size"] for row in long}
    for row in wide:
        key = _key(row, keys)
        for column in ("status", "device"):
            yield f"starts {key} {column}", row[column], cells[key][column]
        for column, value in row.items():
            phase, _, name = column.partition("_")
            if name == "batch_size":
                yield f"starts {key} {column}", value, sizes[key, phase]
            elif phase in ("small", "large") and (found := spelled(name)):
                quantity, axes, _ = found
                at = (key, quantity, phase, axes.get("split"), axes.get("epsilon"))
                yield f"starts {key} {column}", value, values.get(at)


def _by_seed(
    wide: list[dict[str, Any]], long: list[dict[str, Any]], keys: tuple[str, ...]
) -> Iterator[tuple[str, Any, Any]]:
    keys = ("model", "dataset", "seed", *keys)
    values = {(_key(row, keys), row["quantity"], row.get("split")): row for row in long}
    for row in wide:
        key = _key(row, keys)
        for column, value in row.items():
            split, _, name = column.partition("_") if column.startswith(("train_", "test_")) else (None, "", column)
            if found := values.get((key, name, split)):
                yield f"{key} {column}", value, found["value"]
                if name == "noise_scale":
                    for end in ("low", "high"):
                        yield f"{key} {end}", row[end], found[end]


def _batches(wide: list[dict[str, Any]], new: Path, cells: list[dict[str, Any]]) -> Iterator[tuple[str, Any, Any]]:
    group = RUN[:3]
    means = _lookup(read(new / "batch_sizes.csv"), ("mean", "std", "n"), group)
    for row in wide:
        key = _key(row, group)
        for column, value in row.items():
            name, _, part = column.rpartition("_")
            if part in ("mean", "std") and (found := spelled(name)):
                named, axes, into = found
                if into == "value":  # version 0.2 has no means of the bounds of a count
                    yield f"batch_sizes {key} {column}", value, means.get((key, named, _place(axes), part))
        here = [run for run in cells if _key(run, group) == key]
        for column, status in (("n", "ok"), ("diverged", "diverged"), ("stuck", "learned nothing")):
            yield f"batch_sizes {key} {column}", row[column], sum(run["status"] == status for run in here)


def _key(row: Mapping[str, Any], names: tuple[str, ...]) -> tuple[Any, ...]:
    return tuple(row[name] for name in names)


def _lookup(
    rows: list[dict[str, Any]], columns: tuple[str, ...], keys: tuple[str, ...] = RUN
) -> dict[tuple[Any, ...], Any]:
    found: dict[tuple[Any, ...], Any] = {}
    for row in rows:
        key = tuple(row[name] for name in keys)
        place = _place({axis: row.get(axis) for axis in (*AXES, *MORE)})
        for column in columns:
            if row.get(column) is not None:
                found[key, row["quantity"], place, column] = row[column]
    return found


def _place(axes: Mapping[str, Any]) -> Place:
    return tuple((name, axes[name]) for name in (*AXES, *MORE) if axes.get(name) is not None)


def read(path: Path) -> list[dict[str, Any]]:
    """Return a table's rows; empty cells are None."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [{name: typed(plain(text) if name == "model" else text) for name, text in row.items()} for row in rows]


def main() -> None:
    """Compare every study, and say how many numbers are equal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path, help="folder metrics/ of version 0.1")
    parser.add_argument("new", type=Path, help="folder metrics/ of version 0.2")
    args = parser.parse_args()
    failed = 0
    for study in sorted(path.name for path in args.old.iterdir() if path.is_dir() and path.name != "claims"):
        different, count = compare(args.old / study, args.new / study)
        failed += len(different)
        print(f"{study}: {count} values compared, {len(different)} differ")
        print("".join(f"  {line}\n" for line in different[:10]), end="")
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
