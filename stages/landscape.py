"""Stage landscape: loss and error between the small-batch and the large-batch solution, and around each of them."""

from pathlib import Path

from gapscope.runtime import arguments, run_stage


def main() -> None:
    """Run the stage."""
    args = arguments(
        __doc__,
        "data",
        small=(Path, ".safetensors of the train stage at the small batch size"),
        large=(Path, ".safetensors of the train stage at the large batch size"),
        out=(Path, "path without suffix: .csv and .json"),
    )

    from gapscope.measures.landscape_walk import measure_pair

    measure_pair(**vars(args))


if __name__ == "__main__":
    run_stage(main)
