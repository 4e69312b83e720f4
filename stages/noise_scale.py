"""Stage noise_scale: gradient noise scale along a short training. How large a batch is worth it?"""

from pathlib import Path

from gapscope.runtime import arguments, run_stage


def main() -> None:
    """Run the stage."""
    args = arguments(__doc__, "model", "data", "seed", out=(Path, "path without suffix: .csv and .json"))

    from gapscope.measures import noise_scale
    from gapscope.measures.short_training import measure_seed

    measure_seed("noise_scale", noise_scale.NoiseScaleSettings, noise_scale.of_seed, **vars(args))


if __name__ == "__main__":
    run_stage(main)
