"""Stage train: one model, one data set, one batch size, one seed -> weights, history of epochs, final figures."""

import argparse
import time
from collections import deque
from pathlib import Path

from gapscope import runtime
from gapscope.config import load_params, revision
from gapscope.runtime import describe_device


def main() -> None:
    """Run the stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="a name of the study's models")
    parser.add_argument("--data", type=Path, required=True, help=".npz of the download stage")
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--weights", type=Path, required=True, help=".safetensors to write")
    parser.add_argument("--record", type=Path, required=True, help="record to write, without suffix: .csv and .json")
    parser.add_argument("--checkpoint", type=Path, help="file to keep the state in, and to go on from; none by default")
    args = parser.parse_args()

    import torch

    from gapscope import models, seeds
    from gapscope.data import datasets
    from gapscope.measures import evaluation
    from gapscope.records.cell import write_cell
    from gapscope.records.checkpoints import Checkpoint, code_digest
    from gapscope.records.weights import write_weights
    from gapscope.training.distributed import join_ranks, launch
    from gapscope.training.loop import Training
    from gapscope.training.networks import study_spec
    from gapscope.training.settings import TrainSettings
    from gapscope.training.tuning import tune_rate

    params = load_params()
    settings, machine = params.section("train", TrainSettings), params.section("runtime", runtime.RuntimeSettings)
    if launch(machine.launcher):
        return
    runtime.set_threads(settings.threads)
    dataset, start = datasets.load(args.data), time.perf_counter()
    spec = study_spec(params, args.model, dataset.image_shape, dataset.classes)

    def initial() -> torch.nn.Module:
        with seeds.seeded(args.seed, "initialisation"):
            return models.build(spec)

    sizes = {"batch_size": args.batch_size, "epochs": params.epochs, "seed": args.seed}
    header = {"model": spec.to_header(), "dataset": dataset.name, **sizes}
    with join_ranks(runtime.pick_device()) as (ranks, device), runtime.stop_requests() as stop:
        kind, own = describe_device(device), code_digest(Path(params.groups["code"]["model"]))
        made = {"device": kind, "torch": torch.__version__, "ranks": ranks.world, "models": own, "source": spec.source}
        made |= {"data": dataset.digest(), "revision": revision("train")}
        identity = {**header, "settings": settings.identity(), **made}
        checkpoint = Checkpoint(args.checkpoint, identity, machine.checkpoint_epochs) if args.checkpoint else None
        lr, swept = ranks.from_rank_zero(tune_rate(
            initial, dataset, settings, batch_size=args.batch_size, seed=args.seed, device=device,
            checkpoint=checkpoint, stop=stop,
        ))  # fmt: skip
        model = initial()
        training = Training(
            model, dataset, settings, **sizes, device=device, lr=lr, checkpoint=checkpoint, stop=stop, ranks=ranks
        )
        deque(runtime.progress(training, args.record.name) if ranks.writes else training, maxlen=0)
        result = training.result()
        if not ranks.writes:
            return
    write_weights(args.weights, model.state_dict(), result.as_trained, header := {"status": result.status, **header})
    final, rows = evaluation.beside_numbers(result.final), evaluation.rows(result.history, result.final)
    seconds = {"epochs_s": [row["wall_s"] for row in result.history], "training_s": result.final["wall_s"]}
    write_cell(
        args.record, [*rows, *result.observed], {**header, "lr_start": lr, "lr_sweep": swept, **final},
        stage="train", device=kind, threads=settings.threads, start=start, ranks=ranks.world, **seconds,
    )  # fmt: skip
    if checkpoint:
        checkpoint.remove()


if __name__ == "__main__":
    runtime.run_stage(main)
