"""Stage settings: every param of a study as it was composed, what a command line changed included."""

import argparse
from pathlib import Path

from gapscope.config import PARAMS
from gapscope.records.files import write_text
from gapscope.runtime import run_stage


def main() -> None:
    """Run the stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="file to write")
    args = parser.parse_args()
    write_text(args.out, PARAMS.read_text(encoding="utf-8"))


if __name__ == "__main__":
    run_stage(main)
