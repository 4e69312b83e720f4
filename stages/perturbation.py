"""Stage perturbation: how far a small change of the input moves a linear problem's solution, beside the bounds."""

from pathlib import Path

from gapscope.runtime import arguments, run_stage


def main() -> None:
    """Run the stage."""
    args = arguments(__doc__, out=(Path, ".csv to write"))

    from gapscope.measures.perturbation import measure_problems

    measure_problems(**vars(args))


if __name__ == "__main__":
    run_stage(main)
