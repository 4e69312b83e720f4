"""Stage overview: every study at a glance: verdicts, and which of the papers' tables and figures were run."""

import argparse
from pathlib import Path

from gapscope.artifacts.files import write_text
from gapscope.report import overview
from gapscope.runtime import run_stage


def main() -> None:
    """Run the stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--metrics", type=Path, required=True, help="folder of all studies' tables")
    parser.add_argument("--plots", type=Path, required=True, help="folder of all studies' figures")
    parser.add_argument("--out", type=Path, required=True, help=".md to write")
    args = parser.parse_args()
    verdicts = overview.read_verdicts(args.metrics / "claims")
    status = overview.status_table(args.metrics, args.plots, above="../")
    write_text(args.out, overview.page(verdicts, status))


if __name__ == "__main__":
    run_stage(main)
