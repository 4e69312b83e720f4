"""Stage random_matrices_report: the printed Tables A1-A3 beside the measured ones, Figures A1-A3, Propositions 1-3."""

import argparse
import json
from pathlib import Path

import pandas as pd

from gapscope.papers.oyedotun2022 import random_matrices
from gapscope.records.files import write_text
from gapscope.records.tables import read_record, read_table, write_table
from gapscope.report import figures
from gapscope.report import random_matrix_figures as drawing
from gapscope.runtime import run_stage


def main() -> None:
    """Run the stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=Path, required=True, help="folder of the random_matrices stage")
    parser.add_argument("--perturbation", type=Path, required=True, help=".csv of the perturbation stage")
    parser.add_argument("--out", type=Path, required=True, help="folder of the tables")
    parser.add_argument("--plots", type=Path, required=True, help="folder of the figures")
    args = parser.parse_args()
    printed = random_matrices.printed()
    tables = dict(zip(printed["law"], printed["table"], strict=True))
    stds = {law: read_record(args.records / f"{law}.json")["entry_std"] for law in tables}
    values, histograms = (
        pd.concat([read_table(args.records / f"{law}{suffix}").assign(law=law) for law in tables], ignore_index=True)
        for suffix in (".csv", ".histogram.csv")
    )
    cells = random_matrices.cells(values, stds)
    paper = random_matrices.beside(printed, cells)
    perturbed = random_matrices.perturbation_table(read_table(args.perturbation))
    write_table(args.out / "cells.csv", cells)
    write_table(args.out / "paper.csv", paper)
    write_text(args.out / "paper.md", random_matrices.markdown(paper))
    write_text(args.out / "summary.json", json.dumps(random_matrices.summary(paper, perturbed), indent=2) + "\n")
    drawn = {
        "proposition_1": (drawing.marchenko_pastur(histograms, stds), drawing.draw_marchenko_pastur),
        "proposition_2": (drawing.extremes(cells, stds), drawing.draw_extremes),
        "proposition_3": (perturbed, drawing.draw_perturbation),
    }
    for law, number in tables.items():
        rows = drawing.distributions(histograms, law, stds)
        drawn[f"figure_{number.lower()}"] = (rows, drawing.draw_distributions)
    figures.save(drawn, args.plots)


if __name__ == "__main__":
    run_stage(main)
