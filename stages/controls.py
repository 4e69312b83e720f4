"""Stage controls: singular values of activations that training at that batch size did not shape; they are not kept."""

from pathlib import Path

from gapscope.runtime import arguments, run_stage


def main() -> None:
    """Run the stage."""
    args = arguments(__doc__, "weights", "data", out=(Path, ".jsonl to write"))

    from gapscope.measures.controls import measure_controls

    measure_controls(**vars(args))


if __name__ == "__main__":
    run_stage(main)
