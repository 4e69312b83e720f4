"""`gapscope export`: a study's runs and verdicts as files for other programs and for papers."""

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gapscope.cli.study_files import add_study
from gapscope.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

EXAMPLE = "example: gapscope export table05 --format latex --out tables"
FOLDER = Path("export")
FORMATS = {"csv": ".csv", "parquet": ".parquet", "latex": ".tex"}
PRINTED = {  # column -> its head in a LaTeX table, which has no room for all of them
    "runs": {
        **{name: name.replace("_", " ") for name in ("model", "dataset", "batch_size", "seed", "status", "updates")},
        "test_error_pct[statistics=reestimated]": "test error (%)",
        "train_error_pct[statistics=reestimated]": "train error (%)",
        "train_cross_entropy[statistics=reestimated]": "train cross-entropy",
        "test_cross_entropy[statistics=reestimated]": "test cross-entropy",
    },
    "verdicts": {
        **{name: name for name in ("claim", "family", "model", "dataset", "n", "effect", "low", "high")},
        **{"effect_unit": "unit", "slope": "slope", "slope_low": "slope, low", "slope_high": "slope, high"},
        **{"p": "p", "p_corrected": "corrected p", "p_none": "p of no effect", "p_none_corrected": "corrected"},
        "verdict": "verdict",
    },
}


def add(commands: Any) -> None:
    """Add the command to the parser."""
    purpose = "write a study's runs and verdicts as tables: one row per run, one row per claim"
    parser = commands.add_parser("export", help=purpose, description=purpose, epilog=EXAMPLE)
    add_study(parser, help="a study that has been run")
    parser.add_argument("--format", choices=[*FORMATS], default="csv", help="default csv; latex: the main columns")
    parser.add_argument("--out", type=Path, metavar="DIR", help=f"folder to write, default {FOLDER}/STUDY")
    parser.set_defaults(run=export)


def export(args: Namespace) -> None:
    """Write the tables and say where they lie.

    Raises:
        InputError: no such study, a study without runs and verdicts, or a format that needs a package that is missing.
    """
    from gapscope.library.study import load

    found = load(args.study)
    tables = {"runs": found.runs, "verdicts": found.verdicts}
    if not any(map(len, tables.values())):
        raise InputError(f"{args.study} has neither runs nor verdicts; its tables are in {found.folder}/")
    folder = args.out or FOLDER / args.study
    for name, table in tables.items():
        if len(table):
            path = folder / f"{name}{FORMATS[args.format]}"
            write(path, table, PRINTED[name])
            print(f"{path}: {len(table)} rows")


def write(path: Path, table: "pd.DataFrame", printed: dict[str, str]) -> None:
    """Write a table in the format of the path's suffix.

    Args:
        path: .csv, .parquet or .tex.
        table: the whole of it.
        printed: column -> its head, of a .tex.

    Raises:
        InputError: parquet without a package that writes it.
    """
    from gapscope.records.files import atomic_path, write_text
    from gapscope.records.tables import write_table

    if path.suffix == ".csv":
        write_table(path, table, exact=True)
    elif path.suffix == ".tex":
        write_text(path, latex(table, printed))
    else:
        with atomic_path(path) as temporary:
            try:
                table.to_parquet(temporary, index=False)
            except ImportError as error:
                raise InputError("parquet needs the package pyarrow; install it: uv pip install pyarrow") from error


def latex(table: "pd.DataFrame", printed: dict[str, str]) -> str:
    r"""Return a LaTeX tabular with the rules of booktabs; `\usepackage{booktabs}` is needed."""
    shown = table[[name for name in printed if name in table]].rename(columns=printed)
    # convert_dtypes: whole numbers, such as updates, are printed as such
    text: str = shown.convert_dtypes().to_latex(index=False, escape=True, float_format="%.4g", na_rep="")
    return text
