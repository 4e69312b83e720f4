"""Stage random_matrices_report: means by law and shape, the printed Tables A1-A3 beside them, and their differences."""

from pathlib import Path

from gapscope.config import load_params
from gapscope.measures import perturbation, random_matrices
from gapscope.measures.study import Study
from gapscope.papers.oyedotun2022 import random_matrices as paper
from gapscope.records.files import write_text
from gapscope.records.tables import write_summary, write_table
from gapscope.runtime import arguments, run_stage


def main() -> None:
    """Run the stage."""
    out, study = arguments(__doc__, out=(Path, "folder to write into")).out, Study(load_params())
    stds, values, _ = random_matrices.read(study)
    means = random_matrices.means(values, stds)
    rows = paper.beside(paper.printed(), means)
    write_table(out / "shapes.csv", means)
    write_table(out / "paper.csv", rows)
    write_text(out / "paper.md", paper.markdown(rows))
    write_summary(out / "summary.json", paper.summary(rows, perturbation.by_samples(perturbation.read(study))))


if __name__ == "__main__":
    run_stage(main)
