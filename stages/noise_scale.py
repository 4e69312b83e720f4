"""Stage noise_scale: gradient noise scale along a short training. How large a batch is worth it?"""

import argparse
import time
from pathlib import Path

from gapscope.config import load_params
from gapscope.runtime import describe_device, pick_device, run_stage, set_threads


def main() -> None:
    """Run the stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="a built-in name or package.module:Class")
    parser.add_argument("--data", type=Path, required=True, help=".npz of the download stage")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True, help="record to write: .json, and a row an epoch as .csv")
    args = parser.parse_args()

    import pandas as pd

    from gapscope import models, seeds
    from gapscope.data import datasets
    from gapscope.measures import noise_scale as critical_batch
    from gapscope.records.tables import provenance, write_record, write_table
    from gapscope.training.settings import TrainSettings

    params = load_params()
    settings = params.section("noise_scale", critical_batch.NoiseScaleSettings)
    training = params.section("train", TrainSettings)
    set_threads(settings.threads)
    device, start, dataset = pick_device(), time.perf_counter(), datasets.load(args.data)
    spec = models.ModelSpec(args.model, dataset.image_shape, dataset.classes, *training.switches)
    with seeds.seeded(args.seed, "initialisation"):
        model = models.build(spec).to(device)
    status, rows = critical_batch.noise_scales(model, dataset, training, settings, seed=args.seed, device=device)
    write_table(args.out.with_name(f"{args.out.name}.csv"), rows)
    made = provenance(describe_device(device), settings.threads, time.perf_counter() - start)
    header = {"status": status, "model": spec.to_header(), "dataset": dataset.name, "seed": args.seed}
    header |= {"settings": vars(settings), "train": training.identity()}
    write_record(args.out.with_name(f"{args.out.name}.json"), {**header, "provenance": made})
    columns = ["epoch", "loss", "noise_scale", "low", "high"]
    print(pd.DataFrame(rows)[columns].to_string(index=False, float_format="%.4g"))


if __name__ == "__main__":
    run_stage(main)
