"""Stage train: one model, one data set, one batch size, one seed -> weights, history of epochs, final metrics."""

from pathlib import Path

from gapscope.runtime import arguments, run_stage


def main() -> None:
    """Run the stage."""
    args = arguments(
        __doc__,
        "model",
        "data",
        "seed",
        batch_size=(int, "images in each update"),
        weights=(Path, ".safetensors to write"),
        record=(Path, "path of the record, without suffix: .csv and .json"),
        checkpoint=(Path, "file that keeps the state of an unfinished run"),
    )

    from gapscope.measures.training_run import train_network

    train_network(**vars(args))


if __name__ == "__main__":
    run_stage(main)
