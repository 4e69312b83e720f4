"""Stage warmstart: one model, one seed, at a small batch, and from its epochs at a large one: figures and sharpness."""

import argparse
import time
from pathlib import Path

from gapscope.config import load_params, revision
from gapscope.runtime import RuntimeSettings, describe_device, pick_device, run_stage, set_threads, stop_requests


def main() -> None:
    """Run the stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="a name of the study's models")
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
    from gapscope.measures.sharpness import SharpnessSettings
    from gapscope.records.cell import write_cell
    from gapscope.records.checkpoints import code_digest
    from gapscope.training.networks import study_spec
    from gapscope.training.settings import TrainSettings

    params, start = load_params(), time.perf_counter()
    settings = params.section("warmstart", warm_start.WarmstartSettings)
    training = params.section("train", TrainSettings).changed({"schedule.patience": None})
    sharpness = params.section("sharpness", SharpnessSettings)
    set_threads(settings.threads)
    dataset, device = datasets.load(args.data), pick_device()
    spec = study_spec(params, args.model, dataset.image_shape, dataset.classes)

    def initial() -> torch.nn.Module:
        with seeds.seeded(args.seed, "initialisation"):
            return models.build(spec)

    header = {"model": spec.to_header(), "dataset": dataset.name, "seed": args.seed, "settings": vars(settings)}
    header |= {"train": training.identity(), "sharpness": vars(sharpness)}
    kind, own = describe_device(device), code_digest(Path(params.groups["code"]["model"]))
    made = {"data": dataset.digest(), "device": kind, "torch": torch.__version__, "models": own, "source": spec.source}
    identity = header | made | {"revision": revision("warmstart")}
    with stop_requests() as stop:
        cell = warm_start.Warmstart(
            initial, dataset, settings, training, sharpness, seed=args.seed, device=device,
            folder=args.checkpoint, identity=identity, stop=stop,
            checkpoint_epochs=params.section("runtime", RuntimeSettings).checkpoint_epochs,
        )  # fmt: skip
        starts = list(cell.rows())
    record = {**header, "starts": warm_start.statuses(starts)}
    rows, threads = warm_start.rows(starts), settings.threads
    write_cell(args.out, rows, record, stage="warmstart", device=kind, threads=threads, start=start)
    cell.remove()


if __name__ == "__main__":
    run_stage(main)
