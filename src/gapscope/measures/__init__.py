"""Measures: one module each, with its settings, what it runs on, its records, the quantities that it gives.

A module here is a measure if it has a line `RUNS_ON = ...`; so a new one needs no entry in any list. It has

- `RUNS_ON`: "cell" (a run), "seed" (a model, data set and seed), "pair" (two runs) or "study";
- `QUANTITIES`: name -> `Quantity`;
- where they differ from the default, `NEEDS` (other measures), `STAGE` (the stage that takes it, and the folder of its
records), `run_rows`
  (its rows in `runs.csv`; by default every row of its records), `study_table` (a table of a measure that does not run
  on cells), `notes` (what it says of each run that is no number), `table_notes` (what stands below a reader's table),
  `table_labels` (labels of its rows that depend on a study's records),
  `HEADLINES` (quantities in `summary.json`), `SHOWN` (rows of a reader's table; by default every quantity), and in the
  measure that gives the test error `gap_columns` (column of the gap's table -> quantity and axes);
- `FIGURES`: its figures, in the module or in its sibling `NAME_figures`, so that a stage that only measures does not
  import matplotlib, and an edit of a caption is no edit of the code that measures.

`MEASURES`, name -> module, is filled when it is first asked for: the import of one measure does not import the others.
"""

from collections.abc import Collection, Iterable
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from gapscope.errors import InputError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

    from gapscope.drawing.figure import Figure
    from gapscope.measures.quantity import Quantity
    from gapscope.measures.study import Study

    MEASURES: dict[str, ModuleType]

FIRST = ("evaluation", "near_rank", "spectra", "sharpness")  # on a page, in this order; the others by name


@cache
def names() -> tuple[str, ...]:
    """Return the names of all measures, in the order of a page; none of them is imported."""
    found = sorted(path.stem for path in Path(__file__).parent.glob("*.py") if _is_measure(path))
    return (*(name for name in FIRST if name in found), *(name for name in found if name not in FIRST))


def _is_measure(path: Path) -> bool:
    return any(line.startswith("RUNS_ON = ") for line in path.read_text(encoding="utf-8").splitlines())


@cache
def _all() -> dict[str, ModuleType]:
    return {name: import_module(f"{__name__}.{name}") for name in names()}


def __getattr__(name: str) -> Any:
    if name == "MEASURES":
        return _all()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def check(listed: Iterable[str]) -> None:
    """Refuse a list of measures that cannot be taken together.

    Raises:
        InputError: there is no such measure, or one of them needs another.
    """
    listed = list(listed)
    if not listed:
        raise InputError(f"measures is empty; list at least one of {', '.join(names())}")
    for name in listed:
        if name not in names():
            raise InputError(f"unknown measure {name!r}; {did_you_mean(str(name), names())}")
        module = _all()[name]
        trained = ("evaluation",) if module.RUNS_ON in ("cell", "pair") and name != "evaluation" else ()
        for needed in (*trained, *getattr(module, "NEEDS", ())):
            if needed not in listed:
                raise InputError(f"the measure {name} needs {needed}: add it to measures, which are {listed}")
    if {"evaluation", "warm_start"} <= set(listed):
        raise InputError("the measures evaluation and warm_start write the same tables: give each a study of its own")


def asked(study: "Study") -> dict[str, ModuleType]:
    """Return the measures that a study lists, in the order of a page.

    Raises:
        InputError: as `check`.
    """
    listed = study.params.groups["measures"]
    check(listed)
    return {name: module for name, module in _all().items() if name in listed}


def stage(name: str) -> str:
    """Return the stage that takes a measure."""
    return str(getattr(_all()[name], "STAGE", name))


def quantities() -> "dict[str, Quantity]":
    """Return every quantity by name; two measures may give the same one."""
    return {name: quantity for module in _all().values() for name, quantity in module.QUANTITIES.items()}


def gap_columns(quantities: Collection[str]) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return the quantities that the table of gaps is made of: column -> quantity and axes.

    They are the test error, and how far each run was trained: train error and updates.

    Args:
        quantities: that the study has.
    """
    module = next(module for module in _all().values() if hasattr(module, "gap_columns"))
    columns: dict[str, tuple[str, dict[str, Any]]] = module.gap_columns(quantities)
    return columns


def figures(name: str) -> "list[Figure]":
    """Return the figures of a measure."""
    sibling = f"{__name__}.{name}_figures"
    module = import_module(sibling) if find_spec(sibling) else _all()[name]
    return list(getattr(module, "FIGURES", []))


def run_rows(study: "Study") -> "pd.DataFrame":
    """Return every quantity of every run of a study, long: `runs.csv`. Values that are missing are left out."""
    import pandas as pd

    from gapscope.records.long import ordered

    frames = [
        module.run_rows(study) if hasattr(module, "run_rows") else study.long(stage(name))
        for name, module in asked(study).items()
        if module.RUNS_ON == "cell"
    ]
    table = pd.concat([frame for frame in frames if len(frame)], ignore_index=True).dropna(subset=["value"])
    if "low" in table:
        table = table.astype({"low": float, "high": float})
    return pd.DataFrame(ordered(table.astype(object).where(table.notna(), None).to_dict("records")))


def notes(study: "Study") -> "list[list[dict[str, Any]]]":
    """Return what each measure of a study says of its runs beside numbers: lists of rows, one row per run."""
    return [module.notes(study) for module in asked(study).values() if hasattr(module, "notes")]
