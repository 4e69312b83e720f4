"""Small records that go into git: JSON objects with their schema, and CSV tables."""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from gapscope.errors import InputError, reading
from gapscope.records.files import atomic_path, write_text
from gapscope.records.integrity import check_written

if TYPE_CHECKING:  # pandas takes a second to import, and most stages write no table
    import pandas as pd

SCHEMA = 1
AGAIN = "remove it and run its stage again"


class Record(dict[str, Any]):
    """A JSON object of a file: a key that is missing is the file's fault, and is named with it."""

    def __init__(self, path: Path, entries: Mapping[str, Any]) -> None:
        super().__init__(entries)
        self.path = path

    def __missing__(self, key: str) -> NoReturn:
        raise InputError(f"{self.path} lacks {key!r}: it is damaged, or of another version; {AGAIN}")


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write one JSON object; infinities and NaN become null, since not every JSON reader accepts them."""
    write_text(
        path,
        json.dumps(_finite({"schema": SCHEMA, **record}), indent=2, allow_nan=False) + "\n",
    )


def read_record(path: Path) -> Record:
    """Read a record that `write_record` has written.

    Raises:
        InputError: the file is missing, damaged, or of another schema.
    """
    check_written(path)
    with reading(path, "a complete JSON record", AGAIN, "run the stage that makes it"):
        record = json.loads(path.read_text(encoding="utf-8"), object_hook=partial(Record, path))
    if not isinstance(record, Record) or record.get("schema") != SCHEMA:
        raise InputError(f"{path} is not a record of schema {SCHEMA}; remove it and run its stage again")
    return record


def write_summary(path: Path, numbers: Mapping[str, Any]) -> None:
    """Write the numbers that `dvc metrics` and `dvc exp show` list, as one JSON object."""
    write_text(path, json.dumps(numbers, indent=2) + "\n")


def write_table(path: Path, rows: "pd.DataFrame | Sequence[Mapping[str, Any]]", *, exact: bool = False) -> None:
    """Write a CSV table; None and NaN are empty.

    Args:
        path: .csv to write.
        rows: the table.
        exact: floats are written so that the same bits are read back; else they keep 10 significant digits.
    """
    records: Sequence[Mapping[Any, Any]] = rows if isinstance(rows, Sequence) else rows.to_dict("records")
    # an empty frame has columns too
    columns = dict.fromkeys(name for record in records for name in record) or list(getattr(rows, "columns", []))
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        # csv, not pandas: importing pandas takes longer than most stages' own work
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: cell_text(value, exact=exact) for name, value in record.items()} for record in records)


def read_table(path: Path, *, exact: Sequence[str] = (), needed: Sequence[str] = ()) -> "pd.DataFrame":
    """Read a CSV table.

    Args:
        path: .csv.
        exact: columns whose floats are read with exactly the bits that were written; older versions of pandas may be
            off by the last bit.
        needed: columns that it must have.

    Raises:
        InputError: the file is missing, is not what its stage wrote, or is not a complete CSV table.
    """
    import pandas as pd

    check_written(path)
    with reading(path, "a complete CSV table", AGAIN, "run the stage that makes it"):
        if not path.read_bytes().endswith(b"\n"):
            raise InputError(f"{path} is not a complete CSV table (its last line has no end); {AGAIN}")
        frame: pd.DataFrame = pd.read_csv(path, converters=dict.fromkeys(exact, _number))
        if lacking := [name for name in needed if name not in frame]:
            raise InputError(f"{path} lacks the columns {', '.join(lacking)}; {AGAIN}")
        return frame.copy()  # in one block of memory, so that adding columns is fast


def _number(text: str) -> float:
    return float(text) if text else math.nan


def cell_text(value: Any, *, exact: bool) -> Any:
    """Return a value as a CSV cell."""
    if isinstance(value, float):
        return "" if math.isnan(value) else repr(float(value)) if exact else f"{value:.10g}"
    return "" if value is None or type(value).__name__ == "NAType" else value  # pandas' own empty cell


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
