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

    from gapscope.numerics.perturbation import PerturbationSettings, perturb
    from gapscope.records.tables import write_table

    settings = load_params().section("perturbation", PerturbationSettings)
    set_threads(1)
    rows = [
        perturb(samples, index, settings)
        for samples in progress(settings.samples, "perturbation")
        for index in range(settings.repetitions)
    ]
    write_table(args.out, rows)


if __name__ == "__main__":
    run_stage(main)
