"""Stage plots: each figure of the study's measures, and beside it the table that it draws."""

import argparse
from pathlib import Path

from gapscope import measures, papers
from gapscope.config import load_params
from gapscope.drawing import figure
from gapscope.measures.study import Study
from gapscope.runtime import run_stage


def main() -> None:
    """Run the stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder to write into")
    args, params = parser.parse_args(), load_params()
    study = Study(params, papers.printed(params.study))
    for name in measures.asked(study):
        figure.save(measures.figures(name), study, args.out, study.said)


if __name__ == "__main__":
    run_stage(main)
