"""Stage curvature: Hessian and Gauss-Newton spectra, trace and the rise within a ball, at a run's weights."""

import argparse
import time
from pathlib import Path

from gapscope.config import load_params
from gapscope.errors import InputError
from gapscope.runtime import describe_device, pick_device, run_stage, set_threads


def main() -> None:
    """Run the stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, required=True, help=".safetensors of the train stage")
    parser.add_argument("--data", type=Path, required=True, help=".npz of the download stage")
    parser.add_argument("--out", type=Path, required=True, help=".json to write")
    args = parser.parse_args()

    from gapscope import models
    from gapscope.data import datasets, images
    from gapscope.measures import curvature as geometry
    from gapscope.numerics.loss_surface.sharpness import PRECISIONS
    from gapscope.records.tables import provenance, write_record
    from gapscope.records.weights import read_weights
    from gapscope.training.objective import Objective

    settings = load_params().section("curvature", geometry.GeometrySettings)
    set_threads(settings.threads)
    device, start = pick_device(), time.perf_counter()
    state, header = read_weights(args.weights)
    record: dict[str, object] = {**header, "settings": vars(settings)}
    if header["status"] == "ok":
        model = models.build(models.ModelSpec.from_header(header["model"]))
        model.load_state_dict(state)
        objective = Objective.of_images(
            model.to(device),
            images.split_images(datasets.load(args.data), "train", device),
            settings.images,
            settings.micro_batch,
            PRECISIONS[settings.precision],
            batch_norm_statistics=settings.batch_norm_statistics,
        )
        record["conditions"] = objective.conditions()
        try:
            record |= geometry.measure(objective, objective.weights(), settings, seed=header["seed"])
        except ValueError as error:
            raise InputError(f"{args.weights}: {error}") from error
    made = provenance(describe_device(device), settings.threads, time.perf_counter() - start)
    write_record(args.out, {**record, "provenance": made})


if __name__ == "__main__":
    run_stage(main)
