"""Stage random_matrices_report: means by law and shape, the printed Tables A1-A3 beside them, and their differences."""

import argparse
import json
from pathlib import Path

from gapscope.config import load_params
from gapscope.measures import perturbation, random_matrices
from gapscope.measures.study import Study
from gapscope.papers.oyedotun2022 import random_matrices as paper
from gapscope.records.files import write_text
from gapscope.records.tables import write_table
from gapscope.runtime import run_stage


def main() -> None:
    """Run the stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder to write into")
    out, study = parser.parse_args().out, Study(load_params())
    stds, values, _ = random_matrices.read(study)
    means = random_matrices.means(values, stds)
    rows = paper.beside(paper.printed(), means)
    perturbed = perturbation.by_samples(perturbation.read(study))
    write_table(out / "shapes.csv", means)
    write_table(out / "paper.csv", rows)
    write_text(out / "paper.md", paper.markdown(rows))
    write_text(out / "summary.json", json.dumps(paper.summary(rows, perturbed), indent=2) + "\n")


if __name__ == "__main__":
    run_stage(main)
