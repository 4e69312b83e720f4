"""Stage noise_scale: gradient noise scale along a short training. How large a batch is worth it?"""

import argparse
import time
from pathlib import Path

from gapscope.config import load_params
from gapscope.runtime import describe_device, pick_device, run_stage, set_threads


def main() -> None:
    """Run the stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="a name of the study's models")
    parser.add_argument("--data", type=Path, required=True, help=".npz of the download stage")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True, help="path without suffix: .csv and .json")
    args = parser.parse_args()

    from gapscope import models, seeds
    from gapscope.data import datasets
    from gapscope.measures import noise_scale
    from gapscope.records.cell import write_cell
    from gapscope.training.networks import study_spec
    from gapscope.training.settings import TrainSettings

    params, start = load_params(), time.perf_counter()
    settings = params.section("noise_scale", noise_scale.NoiseScaleSettings)
    training = params.section("train", TrainSettings)
    set_threads(settings.threads)
    device, dataset = pick_device(), datasets.load(args.data)
    spec = study_spec(params, args.model, dataset.image_shape, dataset.classes)
    with seeds.seeded(args.seed, "initialisation"):
        model = models.build(spec).to(device)
    status, found = noise_scale.noise_scales(model, dataset, training, settings, seed=args.seed, device=device)
    record = {"status": status, "model": spec.to_header(), "dataset": dataset.name, "seed": args.seed}
    record |= {"settings": vars(settings), "train": training.identity(), "conditions": noise_scale.conditions(found)}
    kind, rows = describe_device(device), noise_scale.rows(found)
    write_cell(args.out, rows, record, stage="noise_scale", device=kind, threads=settings.threads, start=start)
    print(noise_scale.printed(found))


if __name__ == "__main__":
    run_stage(main)
