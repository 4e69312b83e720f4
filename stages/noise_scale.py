"""Stage noise_scale: gradient noise scale along a short training. How large a batch is worth it?"""

from pathlib import Path

from gapscope.runtime import arguments, run_stage


def main() -> None:
    """Run the stage."""
    args = arguments(__doc__, "model", "data", "seed", out=(Path, "path without suffix: .csv and .json"))

    from gapscope.measures.noise_scale import measure_seed

    measure_seed(**vars(args))


if __name__ == "__main__":
    run_stage(main)
