"""Stage warmstart: one model, one seed, trained at a small batch size, and from its epochs on at a large one."""

from pathlib import Path

from gapscope.runtime import arguments, run_stage


def main() -> None:
    """Run the stage."""
    args = arguments(
        __doc__,
        "model",
        "data",
        "seed",
        out=(Path, "path without suffix: .csv and .json"),
        checkpoint=(Path, "folder that keeps what is finished; removed at the end"),
    )

    from gapscope.measures.warm_start_runs import train_seed

    train_seed(**vars(args))


if __name__ == "__main__":
    run_stage(main)
