"""Stage sharpness: Keskar's metric of the training or test cross-entropy, in full space and in a random manifold."""

import argparse
import time
from pathlib import Path

from gapscope.config import load_params
from gapscope.errors import InputError
from gapscope.runtime import describe_device, pick_device, progress, run_stage, set_threads


def main() -> None:
    """Run the stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, required=True, help=".safetensors of the train stage")
    parser.add_argument("--data", type=Path, required=True, help=".npz of the download stage")
    parser.add_argument("--out", type=Path, required=True, help=".json to write")
    args = parser.parse_args()

    from gapscope import models
    from gapscope.data import datasets, images
    from gapscope.numerics.loss_surface import sharpness
    from gapscope.records.tables import provenance, write_record
    from gapscope.records.weights import read_weights
    from gapscope.training.objective import Objective

    settings = load_params().section("sharpness", sharpness.SharpnessSettings)
    set_threads(settings.threads)
    device, start = pick_device(), time.perf_counter()
    state, header = read_weights(args.weights)
    record: dict[str, object] = {**header, "sharpness": [], "settings": vars(settings)}
    if header["status"] == "ok":
        model = models.build(models.ModelSpec.from_header(header["model"]))
        model.load_state_dict(state)
        dataset, precision = datasets.load(args.data), sharpness.PRECISIONS[settings.precision]
        objectives = {
            split: Objective.of_images(
                model.to(device),
                images.split_images(dataset, split, device),
                settings.images if split == "train" else None,
                settings.micro_batch,
                precision,
                batch_norm_statistics=settings.batch_norm_statistics,
            )
            for split in settings.splits
        }
        record["conditions"] = {split: objective.conditions() for split, objective in objectives.items()}
        rows = (
            {"split": split, **row}
            for split, objective in objectives.items()
            for row in sharpness.measure(objective, objective.weights(), settings, seed=header["seed"])
        )
        total = 2 * len(settings.epsilons) * len(objectives)
        try:
            record["sharpness"] = list(progress(rows, args.weights.stem, total))
        except ValueError as error:  # a loss that is not finite in the box
            raise InputError(f"{args.weights}: {error}") from error
    made = provenance(describe_device(device), settings.threads, time.perf_counter() - start)
    write_record(args.out, {**record, "provenance": made})


if __name__ == "__main__":
    run_stage(main)
