"""Stage tables: every quantity by run and by batch size, the gap, the means that DVC shows, and a paper's table."""

from pathlib import Path

from gapscope.config import load_params
from gapscope.report.tables import write_tables
from gapscope.runtime import arguments, run_stage


def main() -> None:
    """Run the stage."""
    args = arguments(__doc__, out=(Path, "folder to write into"))
    write_tables(load_params(), args.out)


if __name__ == "__main__":
    run_stage(main)
