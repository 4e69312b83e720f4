"""Stage plan: check a study's cells on one data set before any of them starts, and say what they cost."""

import argparse
from pathlib import Path

from gapscope.config import load_params
from gapscope.runtime import run_stage


def main() -> None:
    """Run the stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--found", type=Path, required=True, help=".json of the download stage")
    parser.add_argument("--out", type=Path, required=True, help="file to write when all is well")
    args = parser.parse_args()

    from gapscope.engine import plan
    from gapscope.records.files import write_text
    from gapscope.records.tables import read_record

    found = read_record(args.found)
    shape = tuple(found["image_shape"])
    print(
        plan.check(
            load_params(),
            found["dataset"],
            shape,
            found["classes"],
            found["train_images"],
        )
    )
    # always the same text: a study that has grown by a cell is checked anew, and its other cells are not trained anew
    write_text(args.out, "checked\n")


if __name__ == "__main__":
    run_stage(main)
