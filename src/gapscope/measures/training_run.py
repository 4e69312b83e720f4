"""One training run of a study, from its initial weights to its weights file and record: what the stage train does."""

from collections import deque
from functools import partial
from pathlib import Path
from typing import Any

import torch

from gapscope.config import Params, load_params
from gapscope.data import datasets
from gapscope.data.datasets import Dataset
from gapscope.measures import evaluation
from gapscope.models import ModelSpec
from gapscope.records.cell import write_cell
from gapscope.records.checkpoints import Checkpoint, code_digest
from gapscope.records.provenance import Start
from gapscope.records.weights import write_weights
from gapscope.runtime import RuntimeSettings, describe_device, pick_device, progress, set_threads, stop_requests
from gapscope.training.distributed import join_ranks, launch
from gapscope.training.loop import Training
from gapscope.training.networks import initial, study_spec
from gapscope.training.settings import TrainSettings
from gapscope.training.tuning import tune_rate


def train_network(
    *, model: str, data: Path, batch_size: int, seed: int, weights: Path, record: Path, checkpoint: Path
) -> None:
    """Train a network at one batch size and write its weights and its record; a stopped run goes on where it was.

    Args:
        model: one of the study's models.
        data: .npz of the download stage.
        batch_size: of the run.
        seed: of the run.
        weights: .safetensors to write.
        record: path of the record, without suffix.
        checkpoint: file that keeps the state; removed at the end.

    Raises:
        InputError: a param that cannot be trained with.
        StoppedError: a signal came; the state is saved.
    """
    params, start = load_params(), Start.of("train")
    settings, machine = params.section("train", TrainSettings), params.section("runtime", RuntimeSettings)
    if launch(machine.launcher):
        return
    set_threads(settings.threads)
    dataset = datasets.load(data)
    spec = study_spec(params, model, dataset.image_shape, dataset.classes)
    make = partial(initial, spec, seed)
    sizes: dict[str, Any] = {"batch_size": batch_size, "epochs": params.epochs, "seed": seed}
    header = {"model": spec.to_header(), "dataset": dataset.name, **sizes}
    with join_ranks(pick_device()) as (ranks, device), stop_requests() as stop:
        identity = {**header, "settings": settings.identity(), **run_identity(params, spec, dataset, start, device)}
        state = Checkpoint(checkpoint, identity | {"ranks": ranks.world}, machine.checkpoint_epochs)
        lr, sweep = ranks.from_rank_zero(tune_rate(
            make, dataset, settings, batch_size=batch_size, seed=seed, device=device, checkpoint=state, stop=stop
        ))  # fmt: skip
        network = make()
        training = Training(
            network, dataset, settings, **sizes, device=device, lr=lr, checkpoint=state, stop=stop, ranks=ranks
        )
        shown = progress(training, record.name, facts=partial(latest, training)) if ranks.writes else training
        deque(shown, maxlen=0)
        result = training.result()
        if not ranks.writes:
            return
    header = {"status": result.status, **header}
    write_weights(weights, network.state_dict(), result.as_trained, header)
    of_a_split = (*training.task.quantities, "loss")
    guessing = training.task.guessing_loss(training.training)
    rows = [*evaluation.rows(result.history, result.final, of_a_split), *result.observed]
    own = {**header, "lr_start": lr, "lr_sweep": sweep, **evaluation.beside_numbers(result.final, of_a_split)}
    own |= {} if guessing is None else {"guessing": {training.task.loss_name: guessing}}
    baselines = training.task.baselines(training.training, training.test)
    own |= (
        {"baselines": {name: {training.task.loss_name: loss} for name, loss in baselines.items()}} if baselines else {}
    )
    write_cell(
        record, rows, own, start, device=describe_device(device), threads=settings.threads, ranks=ranks.world,
        epochs_s=[row["wall_s"] for row in result.history], training_s=result.final["wall_s"],
    )  # fmt: skip
    state.remove()


def latest(training: Training) -> str:
    """Return the latest evaluation of a run for its progress line; empty before the first one.

    Example of a line: `test error 3.12 %, train cross entropy 0.104`.
    """
    if not training.state.history:
        return ""
    row, task = training.state.history[-1], training.task
    shown = (("test", task.error_name), ("train", task.loss_name))
    return ", ".join(f"{split} {_in_words(name, row[f'{split}_{name}_running'])}" for split, name in shown)


def _in_words(name: str, value: float) -> str:
    return f"{name.removesuffix('_pct').replace('_', ' ')} {value:.3g}{' %' if name.endswith('_pct') else ''}"


def run_identity(params: Params, spec: ModelSpec, dataset: Dataset, start: Start, device: str) -> dict[str, Any]:
    """Return what determines a run's bits besides its settings: device, library, code, data and revision."""
    return {
        "device": describe_device(device),
        "torch": torch.__version__,
        "models": code_digest(Path(params.groups["code"]["model"])),
        "source": spec.source,
        "data": dataset.digest(),
        "revision": start.revision,
    }
