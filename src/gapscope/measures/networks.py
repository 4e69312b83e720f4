"""A trained network and the objectives at its weights, as the measures on cells and pairs need them."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from gapscope.config import Params
from gapscope.data import datasets, images
from gapscope.data.datasets import Dataset
from gapscope.numerics.loss_surface.sharpness import PRECISIONS
from gapscope.records.weights import read_weights
from gapscope.training.networks import restored
from gapscope.training.objective import Objective


class LossSettings(Protocol):
    """What a measure's settings say of the loss."""

    @property
    def images(self) -> int | None:
        """Training images in it; None: all."""

    @property
    def batch_norm_statistics(self) -> str:
        """Which statistics batch norm uses: running or batch."""

    @property
    def micro_batch(self) -> int:
        """Images at a time."""

    @property
    def precision(self) -> str:
        """Name of its precision."""


@dataclass(frozen=True)
class Network:
    """A trained network: its weights' header, and the network itself, None where its run diverged."""

    header: dict[str, Any]
    model: nn.Module | None
    dataset: Dataset
    device: str

    @classmethod
    def read(cls, params: Params, weights: Path, data: Path, device: str) -> "Network":
        """Read a weights file of the train stage; the header's status says whether there is anything to measure.

        Raises:
            InputError: the file holds no network of the study.
        """
        state, header = read_weights(weights)
        dataset = datasets.load(data)
        if header["status"] != "ok":
            return cls(header, None, dataset, device)
        return cls(header, restored(params, state, header, dataset, weights).to(device), dataset, device)

    def objectives(self, splits: Iterable[str], settings: LossSettings) -> dict[str, Objective]:
        """Return the objective of each split: the training loss over `settings.images`, the test loss over all."""
        assert self.model is not None  # asked for where the status is ok
        return {
            split: Objective.of_images(
                self.model,
                images.split_images(self.dataset, split, self.device),
                settings.images if split == "train" else None,
                settings.micro_batch,
                PRECISIONS[settings.precision],
                batch_norm_statistics=settings.batch_norm_statistics,
            )
            for split in splits
        }
