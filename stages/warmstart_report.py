"""Stage warmstart_report: every quantity of every start in one table, the status of the starts, means over seeds."""

from pathlib import Path

from gapscope.config import load_params
from gapscope.measures import warm_start
from gapscope.measures.study import Study
from gapscope.records.tables import write_summary, write_table
from gapscope.runtime import arguments, run_stage


def main() -> None:
    """Run the stage."""
    out, study = arguments(__doc__, out=(Path, "folder to write into")).out, Study(load_params())
    values, starts = warm_start.study_table(study), warm_start.starts_table(study)
    write_table(out / "warmstart.csv", values)
    write_table(out / "cells.csv", starts)
    write_summary(out / "summary.json", warm_start.summary(values, starts))


if __name__ == "__main__":
    run_stage(main)
