"""Stage tables: one row a run, one row a batch size, the figures that DVC shows, and the paper's table beside them."""

import argparse
import json
import sys
from pathlib import Path

import pandas as pd

from gapscope import papers
from gapscope.config import load_params
from gapscope.measures.spectra import methods
from gapscope.records.cells import cells
from gapscope.records.files import write_text
from gapscope.records.spectra import read_spectra
from gapscope.records.tables import read_record, read_table, write_table
from gapscope.report import gap, tables
from gapscope.runtime import run_stage

sys.path.append(str(Path(__file__).parents[1]))
from migrations import runs as migrated


def main() -> None:
    """Run the stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--near-rank", type=Path, required=True, help=".csv of the near_rank stage")
    parser.add_argument("--out", type=Path, required=True, help="folder to write into")
    args = parser.parse_args()
    params = load_params()
    near_rank, todo = read_table(args.near_rank), cells(params)
    spectra = [read_spectra(cell.record("spectra", ".jsonl")) for cell in todo]
    rows = [
        tables.run_row(
            cell.columns(),
            read_record(cell.record("train", ".json")),
            read_record(cell.record("sharpness", ".json")),
            near_rank,
            spectra_methods=methods(layers),
        )
        for cell, (_, layers) in zip(todo, spectra, strict=True)
    ]
    runs = pd.DataFrame(rows)
    histories = [read_table(cell.record("train", ".csv")) for cell in todo]
    runs = runs.join(tables.best_epochs(runs, histories))
    batches = tables.batch_table(runs)
    by_cell = ((cell.columns(), layers) for cell, (_, layers) in zip(todo, spectra, strict=True))
    write_table(args.out / "layers.csv", tables.layer_table(by_cell))
    write_table(args.out / "runs.csv", runs)
    write_table(args.out / "batch_sizes.csv", batches)
    write_text(args.out / "summary.json", json.dumps(tables.summary(batches), indent=2) + "\n")
    settings = params.section("tables", gap.TableSettings)
    write_table(args.out / "gap.csv", gap.gap_table(runs, settings.tolerance_points))
    table, text = papers.beside(params.study, migrated.long_batches(batches), migrated.long_runs(runs)[1])
    write_table(args.out / "paper.csv", table)
    write_text(args.out / "paper.md", text or "This study repeats no printed table.\n")


if __name__ == "__main__":
    run_stage(main)
