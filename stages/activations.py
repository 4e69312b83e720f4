"""Stage activations: every unit layer's output over b images drawn by the run's seed, and over one fixed probe."""

from pathlib import Path

from gapscope.runtime import arguments, run_stage


def main() -> None:
    """Run the stage."""
    args = arguments(__doc__, "weights", "data", out=(Path, "folder to write"))

    from gapscope.measures.activations import write_run

    write_run(**vars(args))


if __name__ == "__main__":
    run_stage(main)
