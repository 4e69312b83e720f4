"""Stage download: find a data set, check it, and write it as one .npz with a note of what was found."""

import argparse
from pathlib import Path

from gapscope.config import load_params
from gapscope.data import datasets
from gapscope.records.tables import write_record
from gapscope.runtime import run_stage


def main() -> None:
    """Run the stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--dataset",
        required=True,
        help="digits, mnist, fashion_mnist, cifar10, cifar100 or your own",
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        help=".npz to write; the note goes beside it as .json",
    )
    args = parser.parse_args()
    settings = load_params().section("data", datasets.DataSettings)
    found = datasets.fetch(args.dataset, args.out, settings.files)
    write_record(args.out.with_suffix(".json"), found)
    print(f"{args.dataset}: {found['train_images']} training and {found['test_images']} test images, {found['source']}")


if __name__ == "__main__":
    run_stage(main)
