"""Stage report: one HTML page of a study, from its committed records and figures' tables."""

import argparse
from pathlib import Path

from gapscope.records.files import write_text
from gapscope.report.page import page
from gapscope.runtime import run_stage


def main() -> None:
    """Run the stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", required=True, help="its name")
    parser.add_argument("--metrics", type=Path, required=True, help="folder metrics/STUDY")
    parser.add_argument("--plots", type=Path, required=True, help="folder plots/STUDY")
    parser.add_argument("--settings", type=Path, required=True, help="conf/study/STUDY.yaml")
    parser.add_argument("--verdicts", type=Path, required=True, help="metrics/claims/STUDY.csv; there need be none")
    parser.add_argument("--out", type=Path, required=True, help=".html to write")
    args = parser.parse_args()
    write_text(args.out, page(args.study, args.metrics, args.plots, args.settings, args.verdicts))


if __name__ == "__main__":
    run_stage(main)
