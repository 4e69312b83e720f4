"""Stage plots: each figure, and beside it the table that it draws."""

import argparse
from functools import partial
from pathlib import Path

import pandas as pd

from gapscope import papers
from gapscope.config import load_params
from gapscope.records.cells import cells
from gapscope.records.spectra import read_spectra
from gapscope.records.tables import read_table
from gapscope.report import figure_tables, figures
from gapscope.runtime import run_stage


def main() -> None:
    """Run the stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", type=Path, required=True, help="folder of the tables stage")
    parser.add_argument("--out", type=Path, required=True, help="folder to write into")
    args = parser.parse_args()
    params = load_params()
    todo = cells(params)
    runs = read_table(args.tables / "runs.csv")
    spectra = ((cell.columns(), read_spectra(cell.record("spectra", ".jsonl"))[1]) for cell in todo)
    histories = ((cell.columns(), read_table(cell.record("train", ".csv"))) for cell in todo)
    drawn: dict[str, tuple[pd.DataFrame, figures.Draw]] = {
        "gap": (figure_tables.gap(runs, papers.printed(params.study)), figures.draw_gap),
        "near_rank": (figure_tables.near_rank(runs), figures.draw_near_rank),
        "spectra": (figure_tables.spectra(spectra), partial(figures.draw_spectra, thresholds=params.thresholds)),
        "sharpness": (figure_tables.sharpness(runs), figures.draw_sharpness),
        "curves": (figure_tables.curves(histories), figures.draw_curves),
    }
    figures.save(drawn, args.out)


if __name__ == "__main__":
    run_stage(main)
