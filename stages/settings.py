"""Stage settings: every param of a study that results may depend on, as composed, with changes by a command line."""

import re
from pathlib import Path

from gapscope.config import PARAMS
from gapscope.records.files import write_text
from gapscope.runtime import arguments, run_stage


def main() -> None:
    """Run the stage."""
    args = arguments(__doc__, out=(Path, "file to write"))
    params = PARAMS.read_text(encoding="utf-8")
    write_text(args.out, re.sub(r"(?m)^runtime:\n(?: .*\n)*", "", params))  # no number depends on that group


if __name__ == "__main__":
    run_stage(main)
