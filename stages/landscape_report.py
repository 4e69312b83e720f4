"""Stage landscape_report: what was measured at each solution of each seed, in one table."""

from pathlib import Path

from gapscope.config import load_params
from gapscope.measures import landscape
from gapscope.measures.study import Study
from gapscope.records.tables import write_table
from gapscope.runtime import arguments, run_stage


def main() -> None:
    """Run the stage."""
    args = arguments(__doc__, out=(Path, ".csv to write"))
    write_table(args.out, landscape.study_table(Study(load_params())))


if __name__ == "__main__":
    run_stage(main)
