"""Stage landscape: loss and error between the small-batch and the large-batch solution, and around each of them."""

import argparse
import time
from functools import partial
from pathlib import Path
from typing import Any

from gapscope.config import load_params
from gapscope.errors import InputError
from gapscope.runtime import describe_device, pick_device, progress, run_stage, set_threads


def main() -> None:
    """Run the stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", type=Path, required=True, help=".safetensors trained at the small batch size")
    parser.add_argument("--large", type=Path, required=True, help=".safetensors trained at the large one")
    parser.add_argument("--data", type=Path, required=True, help=".npz of the download stage")
    parser.add_argument("--out", type=Path, required=True, help="path without suffix: .csv and .json")
    args = parser.parse_args()

    import pandas as pd

    from gapscope import models
    from gapscope.data import datasets, images
    from gapscope.numerics.loss_surface import landscape
    from gapscope.records.tables import provenance, write_record, write_table
    from gapscope.records.weights import read_weights
    from gapscope.training.objective import Objective

    settings = load_params().section("landscape", landscape.LandscapeSettings)
    set_threads(settings.threads)
    device, start = pick_device(), time.perf_counter()
    read = {"small": read_weights(args.small), "large": read_weights(args.large)}
    headers = {name: header for name, (_, header) in read.items()}
    shared = {key: headers["small"][key] for key in ("model", "dataset", "seed")}
    for key, value in shared.items():
        if headers["large"][key] != value:
            raise InputError(f"the {key} of {args.small} is {value}, that of {args.large} {headers['large'][key]}")
    sizes = {name: header["batch_size"] for name, header in headers.items()}
    status = "ok" if all(header["status"] == "ok" for header in headers.values()) else "diverged"
    record: dict[str, Any] = {"status": status, **shared, "batch_sizes": sizes, "settings": vars(settings)}
    rows: list[dict[str, Any]] = []
    if status == "ok":
        dataset = datasets.load(args.data)
        training, testing = (images.split_images(dataset, split, device) for split in ("train", "test"))
        objective = partial(
            Objective.of_images,
            micro_batch=settings.micro_batch,
            dtype=settings.dtype,
            batch_norm_statistics=settings.batch_norm_statistics,
        )
        ends, vectors, curved = {}, {}, {}
        for name, (state, header) in read.items():
            model = models.build(models.ModelSpec.from_header(header["model"])).to(device)
            model.load_state_dict(state)
            train, test = objective(model, training, settings.images), objective(model, testing, None)
            both = partial(landscape.loss_and_error, train, test)
            ends[name] = landscape.End(train.weights(), train.shapes, train, both)
            try:
                curved[name], vectors[name] = landscape.steepness(ends[name], settings, seed=shared["seed"])
            except (ValueError, RuntimeError) as error:
                raise InputError(f"{getattr(args, name)}: {error}") from error
            print(f"{args.out.name} {name}: largest eigenvalue {curved[name]['eigenvalues'][0]:.4g}", flush=True)
        record |= {"conditions": {"train": train.conditions(), "test": test.conditions()}, "ends": curved}
        record["distance"] = (ends["large"].x - ends["small"].x).norm().item()
        walk = landscape.walk(ends, vectors, settings, seed=shared["seed"])
        rows = list(progress(walk, args.out.name, settings.evaluations))
    prefix = str(args.out)  # not with_suffix: names of models have dots
    write_table(Path(prefix + ".csv"), pd.DataFrame(rows, columns=landscape.COLUMNS))
    made = provenance(describe_device(device), settings.threads, time.perf_counter() - start)
    write_record(Path(prefix + ".json"), {**record, "provenance": made})


if __name__ == "__main__":
    run_stage(main)
