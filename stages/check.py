"""Stage check: params that can be read, measures that go together, safe names; all other stages wait for it."""

import argparse
from pathlib import Path

from gapscope import measures
from gapscope.config import load_params
from gapscope.records.files import write_text
from gapscope.runtime import run_stage


def main() -> None:
    """Run the stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="file to write when all is well")
    args = parser.parse_args()
    measures.check(load_params().groups["measures"])
    # always the same text: other names make nothing stale
    write_text(args.out, "names: safe\n")


if __name__ == "__main__":
    run_stage(main)
