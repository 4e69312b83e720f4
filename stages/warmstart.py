"""Stage warmstart: one model, one seed, at a small batch, and from its epochs at a large one: figures and sharpness."""

import argparse
import time
from pathlib import Path

from gapscope.config import load_params
from gapscope.runtime import RuntimeSettings, describe_device, pick_device, run_stage, set_threads, stop_requests


def main() -> None:
    """Run the stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="a built-in name or package.module:Class")
    parser.add_argument("--data", type=Path, required=True, help=".npz of the download stage")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True, help="path without suffix: .csv, a row a start, and .json")
    parser.add_argument(
        "--checkpoint", type=Path, required=True, help="folder of what is finished, to go on from; removed at the end"
    )
    args = parser.parse_args()

    import torch

    from gapscope import models, seeds
    from gapscope.data import datasets
    from gapscope.measures import warm_start
    from gapscope.numerics.loss_surface.sharpness import SharpnessSettings
    from gapscope.records.checkpoints import code_digest
    from gapscope.records.tables import provenance, write_record, write_table
    from gapscope.training.settings import TrainSettings

    params, start = load_params(), time.perf_counter()
    settings = params.section("warmstart", warm_start.WarmstartSettings)
    training = params.section("train", TrainSettings).changed({"schedule.patience": None})
    sharpness = params.section("sharpness", SharpnessSettings)
    set_threads(settings.threads)
    dataset, device = datasets.load(args.data), pick_device()
    spec = models.ModelSpec(args.model, dataset.image_shape, dataset.classes, *training.switches)

    def initial() -> torch.nn.Module:
        with seeds.seeded(args.seed, "initialisation"):
            return models.build(spec)

    header = {"model": spec.to_header(), "dataset": dataset.name, "seed": args.seed, "settings": vars(settings)}
    header |= {"train": training.identity(), "sharpness": vars(sharpness)}
    own = code_digest(Path("digests/warmstart.txt"), Path(params.groups["code"]["model"]))
    made = {"data": dataset.digest(), "device": describe_device(device), "torch": torch.__version__, "code": own}
    with stop_requests() as stop:
        cell = warm_start.Warmstart(
            initial, dataset, settings, training, sharpness, seed=args.seed, device=device,
            folder=args.checkpoint, identity=header | made, stop=stop,
            checkpoint_epochs=params.section("runtime", RuntimeSettings).checkpoint_epochs,
        )  # fmt: skip
        rows = list(cell.rows())
    write_table(args.out.with_name(args.out.name + ".csv"), rows)
    how = provenance(describe_device(device), settings.threads, time.perf_counter() - start)
    write_record(args.out.with_name(args.out.name + ".json"), {**header, "provenance": how})
    cell.remove()


if __name__ == "__main__":
    run_stage(main)
