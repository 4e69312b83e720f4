"""Small records that go into git: JSON objects with schema and provenance, and CSV tables."""

import csv
import json
import math
import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gapscope.errors import InputError
from gapscope.records.files import atomic_path, write_text

if TYPE_CHECKING:  # pandas takes a second to import, and most stages write no table
    import pandas as pd

SCHEMA = 1


def provenance(device: str, threads: int, wall_s: float) -> dict[str, Any]:
    """Return how a number was made: commit, device, thread count, versions, seconds."""
    return {
        "device": device,
        "threads": threads,
        "wall_s": round(wall_s, 3),
        "commit": _commit(),
        "gapscope": version("gapscope"),
        "torch": version("torch"),
        "python": platform.python_version(),
    }


def wall_seconds(record: Mapping[str, Any]) -> float:
    """Return how long a record took to make; its own `wall_s` has the time before a stop, which provenance has not."""
    return float(max(record["provenance"]["wall_s"], record.get("wall_s") or 0))


def _commit() -> str | None:
    commit = _git("rev-parse", "--short", "HEAD")
    # results and dvc.lock change while a study runs: only an edit of what makes them counts
    edited = _git("status", "--porcelain", "--untracked-files=no", "--", "src", "stages", "conf", "dvc.yaml")
    return f"{commit}-dirty" if commit and edited else commit or None


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=False).stdout.strip()


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write one JSON object; infinities and NaN become null, which every JSON reader takes."""
    write_text(
        path,
        json.dumps(_finite({"schema": SCHEMA, **record}), indent=2, allow_nan=False) + "\n",
    )


def read_record(path: Path) -> dict[str, Any]:
    """Read what `write_record` wrote.

    Raises:
        InputError: the file is missing, not whole, or of another schema.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing: run the stage that makes it") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not a whole JSON record ({error}); remove it and run its stage again") from error
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        raise InputError(f"{path} is not a record of schema {SCHEMA}; remove it and run its stage again")
    return record


def write_table(path: Path, rows: "pd.DataFrame | Sequence[Mapping[str, Any]]") -> None:
    """Write a CSV table; floats keep 10 significant digits, None and NaN are empty."""
    records: Sequence[Mapping[Any, Any]] = rows if isinstance(rows, Sequence) else rows.to_dict("records")
    # an empty frame has columns all the same
    columns = dict.fromkeys(name for record in records for name in record) or list(getattr(rows, "columns", []))
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        # csv, not pandas, whose import takes longer than most stages' own work
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _cell(value) for name, value in record.items()} for record in records)


def write_observed(path: Path, rows: "Sequence[Mapping[str, Any]]") -> None:
    """Write the rows of `train.observers`; without any, there is no file."""
    if rows:
        write_table(path, rows)
    else:
        path.unlink(missing_ok=True)


def read_table(path: Path) -> "pd.DataFrame":
    """Read a CSV table.

    Raises:
        InputError: the file is missing or is no CSV table.
    """
    import pandas as pd

    try:
        if not path.read_bytes().endswith(b"\n"):
            raise InputError(
                f"{path} is not a whole CSV table (its last line has no end); remove it and run its stage again"
            )
        return pd.read_csv(path).copy()  # as one block: columns are added to wide tables
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing: run the stage that makes it") from error
    except (
        pd.errors.ParserError,
        pd.errors.EmptyDataError,
        UnicodeDecodeError,
    ) as error:
        raise InputError(f"{path} is not a whole CSV table ({error}); remove it and run its stage again") from error


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.10g}"
    return value


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
