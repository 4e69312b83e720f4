"""Stage noise_scale_report: the noise scale along the short training of every seed, in one table."""

from pathlib import Path

from gapscope.config import load_params
from gapscope.measures import noise_scale
from gapscope.measures.study import Study
from gapscope.records.tables import write_table
from gapscope.runtime import arguments, run_stage


def main() -> None:
    """Run the stage."""
    args = arguments(__doc__, out=(Path, ".csv to write"))
    write_table(args.out, noise_scale.study_table(Study(load_params())))


if __name__ == "__main__":
    run_stage(main)
