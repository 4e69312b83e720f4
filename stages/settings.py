"""Stage settings: every param of a study that results may depend on, as composed, with changes by a command line."""

import argparse
import re
from pathlib import Path

from gapscope.config import PARAMS
from gapscope.records.files import write_text
from gapscope.runtime import run_stage


def main() -> None:
    """Run the stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="file to write")
    args = parser.parse_args()
    whole = PARAMS.read_text(encoding="utf-8")
    write_text(args.out, re.sub(r"(?m)^runtime:\n(?: .*\n)*", "", whole))  # no number depends on that group


if __name__ == "__main__":
    run_stage(main)
