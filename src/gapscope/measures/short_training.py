"""A short training at a constant rate, and the record of what is measured along it: one per network and seed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from gapscope.config import load_params
from gapscope.data import datasets
from gapscope.data.datasets import Dataset
from gapscope.records.cell import write_cell
from gapscope.records.provenance import Start
from gapscope.runtime import describe_device, pick_device, set_threads
from gapscope.training.loop import Training
from gapscope.training.networks import initial, study_spec
from gapscope.training.settings import TrainSettings
from gapscope.training.tuning import settings_of_sweep


@dataclass(frozen=True)
class OfSeed:
    """What was measured along a short training.

    Attributes:
        status: "ok" or "diverged".
        rows: long rows.
        conditions: what they were measured on.
        printed: text for a terminal.
    """

    status: str
    rows: Sequence[Mapping[str, Any]]
    conditions: Mapping[str, Any]
    printed: str


def short_training(model: nn.Module, data: Dataset, training: TrainSettings, **options: Any) -> Training:
    """Return a training with the study's settings, but at a constant rate; the options are those of `Training`."""
    plain = settings_of_sweep(training).changed({"schedule.lr_shape": "constant"})
    return Training(model, data, plain, **options)


def measure_seed(
    stage: str,
    settings_class: type[Any],
    of_seed: Callable[..., OfSeed],
    *,
    model: str,
    data: Path,
    seed: int,
    out: Path,
) -> None:
    """Measure a network from its initial weights on; write and print the record.

    Args:
        stage: its name, which is that of its params too.
        settings_class: of its params; it has `threads`.
        of_seed: network, data set, params of training and of the stage, `seed` and `device` -> what was measured.
        model: one of the study's models.
        data: .npz of the download stage.
        seed: of the run.
        out: path of the record, without suffix.

    Raises:
        InputError: as `of_seed`.
    """
    params, start = load_params(), Start.of(stage)
    settings, training = params.section(stage, settings_class), params.section("train", TrainSettings)
    set_threads(settings.threads)
    device, dataset = pick_device(), datasets.load(data)
    spec = study_spec(params, model, dataset.image_shape, dataset.classes)
    network = initial(spec, seed).to(device)
    found = of_seed(network, dataset, training, settings, seed=seed, device=device)
    record = {"status": found.status, "model": spec.to_header(), "dataset": dataset.name, "seed": seed}
    record |= {"settings": vars(settings), "train": training.identity(), "conditions": found.conditions}
    write_cell(out, found.rows, record, start, device=describe_device(device), threads=settings.threads)
    print(found.printed)
