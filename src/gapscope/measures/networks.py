"""A trained network and the losses at its weights; and the steps that all measures of one network share."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from torch import nn

from gapscope.config import Params, load_params
from gapscope.data import datasets, images
from gapscope.data.datasets import Dataset
from gapscope.errors import InputError
from gapscope.models import ModelSpec
from gapscope.numerics.loss_surface.sharpness import PRECISIONS
from gapscope.records.cell import write_cell
from gapscope.records.provenance import Start
from gapscope.records.weights import read_weights
from gapscope.runtime import describe_device, pick_device, set_threads
from gapscope.tasks import make_task
from gapscope.tasks.task import Task
from gapscope.training.networks import checked_spec, restored
from gapscope.training.objective import Objective
from gapscope.training.settings import TrainSettings

Rows = Iterable[Mapping[str, Any]]


class MeasureSettings(Protocol):
    """What the settings of every measure have."""

    @property
    def threads(self) -> int:
        """Number of CPU threads."""


S = TypeVar("S", bound=MeasureSettings)


class LossSettings(Protocol):
    """What the settings of a measure of the loss have."""

    @property
    def images(self) -> int | None:
        """Training images in it; None: all."""

    @property
    def micro_batch(self) -> int:
        """Number of images in one pass."""

    @property
    def precision(self) -> str:
        """Name of its precision."""


@dataclass(frozen=True)
class Network:
    """A trained network.

    Attributes:
        header: of its weights file.
        model: None if its run diverged.
        dataset: that it was trained on.
        task: that it was trained for.
        device: of the model.
        spec: what the model was built from; None if its run diverged.
    """

    header: dict[str, Any]
    model: nn.Module | None
    dataset: Dataset
    task: Task
    device: str
    spec: ModelSpec | None = None

    @classmethod
    def read(cls, params: Params, weights: Path, data: Path, device: str) -> "Network":
        """Read a weights file of the train stage; the header's status says whether there is anything to measure.

        Raises:
            InputError: the file holds no network of the study.
        """
        state, header = read_weights(weights)
        dataset = datasets.load(data)
        task = make_task(params.section("train", TrainSettings).task)
        if header["status"] != "ok":
            return cls(header, None, dataset, task, device)
        spec = checked_spec(params, header, dataset, weights)
        model = restored(params, state, header, dataset, weights).to(device)
        return cls(header, model, dataset, task, device, spec)

    def objectives(
        self, splits: Iterable[str], settings: LossSettings, batch_norm_statistics: str
    ) -> dict[str, Objective]:
        """Return the objective of each split: the training loss over `settings.images`, the test loss over all."""
        assert self.model is not None  # asked for where the status is ok
        found = {
            split: Objective.of_images(
                self.model,
                images.split_images(self.dataset, split, self.device),
                settings.images if split == "train" else None,
                settings.micro_batch,
                PRECISIONS[settings.precision],
                batch_norm_statistics=batch_norm_statistics,
                task=self.task,
            )
            for split in splits
        }
        for objective in found.values():
            objective.check_steady()
        return found


def measure_network(
    stage: str,
    settings_class: type[S],
    measure: Callable[[Network, S], tuple[Rows, dict[str, Any]]],
    *,
    weights: Path,
    data: Path,
    out: Path,
) -> None:
    """Measure a trained network and write its record; a run that diverged gets a record without rows.

    Args:
        stage: its name in dvc.yaml, and of its group of params.
        settings_class: of the measure.
        measure: network and settings -> long rows, and further entries of the JSON record, such as its conditions.
        weights: .safetensors of the train stage.
        data: .npz of the download stage.
        out: path of the record, without suffix.

    Raises:
        InputError: the file holds no network of the study, or the measure raised a ValueError.
    """
    params, start = load_params(), Start.of(stage)
    settings = params.section(stage, settings_class)
    set_threads(settings.threads)
    device = pick_device()
    network = Network.read(params, weights, data, device)
    rows: list[Mapping[str, Any]] = []
    more: dict[str, Any] = {}
    if network.model:
        try:
            measured, more = measure(network, settings)
            rows = list(measured)
        except InputError:
            raise
        except ValueError as error:  # such as a loss that is not finite
            raise InputError(f"{weights}: {error}") from error
    record = {**network.header, "settings": vars(settings), **more}
    write_cell(out, rows, record, start, device=describe_device(device), threads=settings.threads)
