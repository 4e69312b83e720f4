"""Singular values: JSON lines, a header and then one spectrum a line, values with 10 significant digits."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from gapscope.errors import InputError
from gapscope.records.files import write_text
from gapscope.records.tables import SCHEMA


def write_spectra(path: Path, header: Mapping[str, Any], spectra: Iterable[Mapping[str, Any]]) -> None:
    """Write a header and spectra, each a mapping whose `values` are floats in descending order.

    Ten digits move a value by at most 5e-10 of itself: 5e-14 at the threshold 1e-4, where a solver's bound is about
    1e-15 of the largest value.
    """
    lines = [json.dumps({"schema": SCHEMA, **header}, allow_nan=False)]
    for spectrum in spectra:
        values = [float(f"{value:.10g}") for value in spectrum["values"]]
        lines.append(json.dumps({**spectrum, "values": values}, allow_nan=False))
    write_text(path, "\n".join([*lines, json.dumps({"end": len(lines)})]) + "\n")


def read_spectra(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the header and the spectra.

    Raises:
        InputError: the file is missing or not whole (its last line counts the others).
    """
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing: run the spectra stage") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not whole ({error}); run the spectra stage again") from error
    if (
        len(lines) < 2
        or lines[-1] != {"end": len(lines) - 1}
        or not isinstance(lines[0], dict)
        or lines[0].get("schema") != SCHEMA
    ):
        raise InputError(f"{path} is not whole; run the spectra stage again")
    return lines[0], lines[1:-1]
