"""Stage spectra: singular values of every unfolding of every layer's activations."""

from pathlib import Path

from gapscope.runtime import arguments, run_stage


def main() -> None:
    """Run the stage."""
    args = arguments(__doc__, activations=(Path, "folder of the activations stage"), out=(Path, ".jsonl to write"))

    from gapscope.measures.spectra import measure_activations

    measure_activations(**vars(args))


if __name__ == "__main__":
    run_stage(main)
