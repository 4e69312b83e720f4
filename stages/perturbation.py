"""Stage perturbation: how far a small change of the input moves a linear problem's solution, beside the bounds."""

import argparse
from pathlib import Path

from gapscope.config import load_params
from gapscope.runtime import progress, run_stage, set_threads


def main() -> None:
    """Run the stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help=".csv to write")
    args = parser.parse_args()

    from gapscope.measures import perturbation
    from gapscope.records.long import write_long

    settings = load_params().section("perturbation", perturbation.PerturbationSettings)
    set_threads(1)
    found = [
        perturbation.perturb(samples, index, settings)
        for samples in progress(settings.samples, "perturbation")
        for index in range(settings.repetitions)
    ]
    write_long(args.out, perturbation.rows(found))


if __name__ == "__main__":
    run_stage(main)
