"""Wide tables of runs, as gapscope 0.1 wrote them, to long ones: every value moves, and none changes.

    python migrations/runs.py METRICS OUT [STUDY ...]

reads METRICS/STUDY/{runs,curvature,warmstart,batch_sizes}.csv and writes the long tables and `cells.csv` to OUT/STUDY/.
Tables that are long already are copied as they are.
"""

import argparse
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from gapscope.records.long import AXES, RUN
from gapscope.records.tables import read_table, write_table

SPLIT = re.compile(r"(?P<split>train|test)_(?P<what>error_pct|cross_entropy|loss|loss_keras)(?P<running>_running)?")
BEST = {"test_error_pct_best_epoch": "own", "test_error_pct_others_best_epoch": "others"}
NEAR_RANK = re.compile(
    r"near_rank_(?P<sample>[a-z]+)_(?P<threshold>[\d.e+-]+)(?P<relative>-relative)?"
    r"_(?P<part>excess|structural|full|fraction|undecidable|certain|possible)"
)
EXACT_ZEROS = re.compile(r"near_rank_(?P<sample>[a-z]+)_exact_zeros")
CONDITION = re.compile(r"condition_number_(?P<sample>[a-z]+)")
SHARPNESS = re.compile(r"sharpness_(?P<test>test_)?(?P<space>full|random\d+)_(?P<epsilon>[\d.e+-]+)_pct")
PLAIN = ("penalty", "weight_norm", "distance_from_initial", "distance_from_start", "updates", "epochs")
OPERATOR = re.compile(r"(?P<operator>hessian|gauss_newton)_(?P<what>\w+)")
CELL = ("status", "device", "spectra_methods", "sharpness_images", "commit", "train_wall_s")  # no quantity of a measure
BOUNDS = ("certain", "possible")  # of an excess: columns low and high


def quantity(column: str) -> dict[str, Any] | None:  # noqa: PLR0911
    """Return the quantity and axes that the name of a wide column says; None for what is no quantity.

    Example:
        >>> quantity("near_rank_run_0.0001_excess")
        {'quantity': 'near_rank_excess', 'sample': 'run', 'threshold': 0.0001, 'relative': False}
    """
    if column in PLAIN:
        return {"quantity": column}
    if column in BEST:
        axes = {"split": "test", "statistics": "running", "chosen_on": BEST[column]}
        return {"quantity": "best_epoch_error_pct", **axes}
    if found := SPLIT.fullmatch(column):
        of: dict[str, Any] = {"quantity": found["what"], "split": found["split"]}
        statistics = {"statistics": "running" if found["running"] else "reestimated"}
        return of if found["what"] == "loss_keras" else of | statistics
    if found := NEAR_RANK.fullmatch(column):
        names = {"undecidable": "undecidable_spectra"}
        name = names.get(found["part"], f"near_rank_{found['part']}")
        about = {"quantity": name, "sample": found["sample"], "threshold": float(found["threshold"])}
        return {**about, "relative": bool(found["relative"])}
    if found := EXACT_ZEROS.fullmatch(column):
        return {"quantity": "exact_zeros", "sample": found["sample"]}
    if found := CONDITION.fullmatch(column):
        return {"quantity": "condition_number", "sample": found["sample"]}
    if found := SHARPNESS.fullmatch(column):
        split, full = "test" if found["test"] else "train", found["space"] == "full"
        dimension = None if full else int(found["space"].removeprefix("random"))
        space = {"space": "full" if full else "manifold", "dimension": dimension}
        return {"quantity": "sharpness_pct", "split": split, **space, "epsilon": float(found["epsilon"])}
    return None


def long_runs(wide: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the long table and the cells of a wide table of runs."""
    keys = [*RUN]
    named = {column: quantity(str(column)) for column in wide.columns if column not in keys and column not in CELL}
    check(named)
    excess = {_axes(of): column for column, of in named.items() if of and of["quantity"] == "near_rank_excess"}
    bounds = {
        (excess[_axes({**of, "quantity": "near_rank_excess"})], end): column
        for column, of in named.items()
        for end, part in zip(("low", "high"), BOUNDS, strict=True)
        if of and of["quantity"] == f"near_rank_{part}"
    }
    apart = set(bounds.values())
    parts = [
        _rows(wide, keys, column, of, {end: bounds[column, end] for end in ("low", "high") if (column, end) in bounds})
        for column, of in named.items()
        if of and column not in apart
    ]
    return _table(parts), wide[[*keys, *(name for name in CELL[:4] if name in wide)]]


def long_curvature(wide: pd.DataFrame) -> pd.DataFrame:
    """Return the long table of a wide table of curvature."""
    parts = []
    for column in (column for column in wide.columns if column not in RUN):
        found = OPERATOR.fullmatch(str(column))
        if found:
            of: dict[str, Any] = {"quantity": column}
            level = {"level": "level"} if found["what"] == "above_level" else {}
            parts.append(_rows(wide, [*RUN], column, of, level))
        elif column in ("ball_plain_rise", "ball_adaptive_rise", "gradient_norm", "parameters"):
            parts.append(_rows(wide, [*RUN], column, {"quantity": column}, {}))
    return _table(parts)


def long_starts(wide: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the long table and the cells (one per start) of a wide table of warm starts."""
    keys, parts = ["model", "dataset", "seed", "start_epoch"], []
    for phase in ("small", "large"):
        sized = wide.assign(batch_size=wide[f"{phase}_batch_size"])
        for column in (column for column in wide.columns if str(column).startswith(f"{phase}_")):
            of = quantity(str(column).removeprefix(f"{phase}_"))
            if of:
                parts.append(_rows(sized, [*RUN, "start_epoch"], column, {**of, "phase": phase}, {}))
    return _table(parts), wide[[*keys, *(name for name in CELL[:2] if name in wide)]]


def long_batches(wide: pd.DataFrame) -> pd.DataFrame:
    """Return the long table of means and standard deviations over seeds of a wide table, one row per batch size."""
    keys = ["model", "dataset", "batch_size", "n"]
    parts = []
    for column in (str(column).removesuffix("_mean") for column in wide.columns if str(column).endswith("_mean")):
        of = quantity(column)
        if of and of["quantity"] not in {f"near_rank_{part}" for part in BOUNDS}:
            about = {key: wide[key] for key in keys} | of
            parts.append(pd.DataFrame(about | {"mean": wide[f"{column}_mean"], "std": wide[f"{column}_std"]}))
    counts = [name for name in ("diverged", "stuck", "updates", "sharpness_images", "controls_n") if name in wide]
    parts += [
        pd.DataFrame({key: wide[key] for key in keys} | {"quantity": name, "mean": wide[name]}) for name in counts
    ]
    return _table(parts, last=("n", "mean", "std"))


def check(named: dict[Any, dict[str, Any] | None]) -> None:
    """Raise ValueError for a column whose name says no quantity, so that nothing is lost silently."""
    if lost := [column for column, of in named.items() if of is None]:
        raise ValueError(f"columns that are no known quantity: {', '.join(map(str, lost))}")


def _axes(of: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(sorted((axis, value) for axis, value in of.items() if axis != "quantity"))


def _rows(wide: pd.DataFrame, keys: list[str], column: Any, of: dict[str, Any], others: dict[str, str]) -> pd.DataFrame:
    """One column as rows; `others` are columns of the long table and the wide ones that they come from."""
    about: dict[str, Any] = {key: wide[key] for key in keys} | of
    about |= {name: wide[source] for name, source in others.items()}
    return pd.DataFrame({**about, "value": wide[column]}).dropna(subset=["value"])


def _table(parts: list[pd.DataFrame], last: tuple[str, ...] = ("value", "low", "high")) -> pd.DataFrame:
    records = [record for part in parts for record in part.to_dict("records")]
    used = dict.fromkeys(name for record in records for name, value in record.items() if value is not None)
    columns = [name for name in (*RUN, "quantity", *AXES, *last) if name in used]
    return pd.DataFrame(records, columns=columns)


def tables(folder: Path) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the long tables of a study's folder, by name; a table that is long already comes as it is."""
    starts, runs = folder / "warmstart.csv", folder / "runs.csv"
    for path, convert in ((runs, long_runs), (starts, long_starts)):
        if path.exists():
            wide = read_table(path)
            if "quantity" in wide:
                yield path.stem, wide
                yield "cells", read_table(folder / "cells.csv")
            else:
                values, found = convert(wide)
                yield path.stem, values
                yield "cells", found
    for name, of in (("curvature", long_curvature), ("batch_sizes", long_batches)):
        if (folder / f"{name}.csv").exists():
            table = read_table(folder / f"{name}.csv")
            yield name, table if "quantity" in table else of(table)


def main() -> None:
    """Convert the tables of some studies, or of all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("metrics", type=Path, help="folder of all studies' tables")
    parser.add_argument("out", type=Path, help="folder to write into")
    parser.add_argument("studies", nargs="*", help="default: all")
    args = parser.parse_args()
    for study in args.studies or sorted(path.name for path in args.metrics.iterdir() if path.is_dir()):
        for name, table in tables(args.metrics / study):
            write_table(args.out / study / f"{name}.csv", table)


if __name__ == "__main__":
    main()
