"""Stage warmstart_report: every quantity of every start in one table, how the starts ended, and means over seeds."""

import argparse
import json
from pathlib import Path

from gapscope.config import load_params
from gapscope.measures import warm_start
from gapscope.measures.study import Study
from gapscope.records.files import write_text
from gapscope.records.tables import write_table
from gapscope.runtime import run_stage


def main() -> None:
    """Run the stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder to write into")
    out, study = parser.parse_args().out, Study(load_params())
    values, starts = warm_start.study_table(study), warm_start.starts_table(study)
    write_table(out / "warmstart.csv", values)
    write_table(out / "cells.csv", starts)
    write_text(out / "summary.json", json.dumps(warm_start.summary(values, starts), indent=2) + "\n")


if __name__ == "__main__":
    run_stage(main)
