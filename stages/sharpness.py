"""Stage sharpness: Keskar's metric of the mean cross-entropy, in full space and in a random manifold."""

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
    parser.add_argument("--weights", type=Path, required=True, help=".safetensors of the train stage")
    parser.add_argument("--data", type=Path, required=True, help=".npz of the download stage")
    parser.add_argument("--out", type=Path, required=True, help=".json to write")
    args = parser.parse_args()

    from gapscope import data, images, models
    from gapscope.artifacts.records import provenance, write_record
    from gapscope.artifacts.weights import read_weights
    from gapscope.measure import sharpness
    from gapscope.objective import Objective

    settings = load_params().section("sharpness", sharpness.SharpnessSettings)
    set_threads(settings.threads)
    device, start = pick_device(), time.perf_counter()
    state, header = read_weights(args.weights)
    record: dict[str, object] = {**header, "sharpness": [], "settings": vars(settings)}
    if header["status"] == "ok":
        model = models.build(models.ModelSpec.from_header(header["model"]))
        model.load_state_dict(state)
        training = images.split_images(data.load(args.data), "train", device)
        objective = Objective.of_images(
            model.to(device), training, settings.images, settings.micro_batch, sharpness.PRECISIONS[settings.precision]
        )
        record |= {
            "images": len(objective.labels),
            "batch_norm": "running (re-estimated)",
            "precision": "float64",
        }
        measurements = sharpness.measure(objective, objective.weights(), settings, seed=header["seed"])
        record["sharpness"] = list(progress(measurements, args.weights.stem, 2 * len(settings.epsilons)))
    made = provenance(describe_device(device), settings.threads, time.perf_counter() - start)
    write_record(args.out, {**record, "provenance": made})


if __name__ == "__main__":
    run_stage(main)
