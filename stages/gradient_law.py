"""Stage gradient_law: how each layer's mean gradient falls with the batch size, along a short training."""

from pathlib import Path

from gapscope.runtime import arguments, run_stage


def main() -> None:
    """Run the stage."""
    args = arguments(__doc__, "model", "data", "seed", out=(Path, "path without suffix: .csv and .json"))

    from gapscope.measures import gradient_law
    from gapscope.measures.short_training import measure_seed

    measure_seed("gradient_law", gradient_law.GradientLawSettings, gradient_law.of_seed, **vars(args))


if __name__ == "__main__":
    run_stage(main)
