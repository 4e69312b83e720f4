"""Stage train: one model, one data set, one batch size, one seed -> weights, history of epochs, final figures."""

import argparse
import time
from pathlib import Path

from gapscope.config import load_params
from gapscope.runtime import (
    describe_device,
    pick_device,
    progress,
    run_stage,
    set_threads,
)


def main() -> None:
    """Run the stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="a built-in name or package.module:Class")
    parser.add_argument("--data", type=Path, required=True, help=".npz of the download stage")
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--weights", type=Path, required=True, help=".safetensors to write")
    parser.add_argument(
        "--record",
        type=Path,
        required=True,
        help="record to write: .json, and the history as .csv",
    )
    args = parser.parse_args()

    from gapscope import (
        data,
        models,
        seeds,
    )  # torch comes with these: --help answers without it
    from gapscope.artifacts.records import provenance, write_record, write_table
    from gapscope.artifacts.weights import write_weights
    from gapscope.training import TrainSettings, train

    params = load_params()
    settings = params.section("train", TrainSettings)
    set_threads(settings.threads)
    device, dataset, start = pick_device(), data.load(args.data), time.perf_counter()
    spec = models.ModelSpec(
        args.model,
        dataset.image_shape,
        dataset.classes,
        settings.batch_norm,
        settings.linear,
    )

    with seeds.seeded(args.seed, "initialisation"):
        model = models.build(spec)
    sizes = {"batch_size": args.batch_size, "epochs": params.epochs, "seed": args.seed}
    label = f"{args.model} {dataset.name} batch {args.batch_size} seed {args.seed}"
    result = train(
        model,
        dataset,
        settings,
        **sizes,
        device=device,
        on_epoch=lambda it: progress(it, label, params.epochs),
    )
    made = provenance(describe_device(device), settings.threads, time.perf_counter() - start)
    header = {
        "status": result.status,
        "model": spec.to_header(),
        "dataset": dataset.name,
        **sizes,
    }
    write_weights(args.weights, model.state_dict(), result.as_trained, header)
    write_table(args.record.with_name(args.record.name + ".csv"), result.history)
    write_record(args.record.with_name(args.record.name + ".json"), {**header, **result.final, "provenance": made})


if __name__ == "__main__":
    run_stage(main)
