"""One split of a table on the device: features, standardised when a batch is taken, and labels or targets."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from gapscope.data.images import Augmentation, Images
from gapscope.data.tabular import Table
from gapscope.data.tokens import random_tokens
from gapscope.errors import InputError


@dataclass(frozen=True)
class Features(Images):
    """Examples of a table in the place of images: whatever takes a split of images takes these.

    `images` are features (n, f), `labels` are labels (n,) or targets (n, outputs); `mean` and `std` are of features.

    Attributes:
        target_mean: of the training targets (outputs,); 0 for labels.
        target_std: their deviation (outputs,).
    """

    target_mean: Tensor
    target_std: Tensor
    unit: ClassVar[str] = "example"

    def inputs(
        self, index: Tensor | slice, dtype: torch.dtype = torch.float32, augmentation: Augmentation | None = None
    ) -> Tensor:
        """Return the features at `index`, standardised.

        Raises:
            InputError: an augmentation, which moves pixels.
        """
        if augmentation is not None:
            raise InputError("train.augment crops and mirrors images; features of a table have no pixels: set it false")
        return (self.images[index].to(dtype) - self.mean.to(dtype)) / self.std.to(dtype)

    def targets(self, index: Tensor | slice, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the targets at `index` in deviations from the mean of the training targets, (b, outputs)."""
        return (self.labels[index].to(dtype) - self.target_mean.to(dtype)) / self.target_std.to(dtype)

    def subset(self, index: Tensor) -> "Features":
        """Return the examples at `index` only."""
        statistics = self.mean, self.std, self.target_mean, self.target_std
        return Features(self.images[index], self.labels[index], *statistics)


def split_features(table: Table, split: str, device: str) -> Features:
    """Put one split, "train" or "test", on the device."""
    x, y = (table.x_train, table.y_train) if split == "train" else (table.x_test, table.y_test)
    arrays = (x, y, *table.channel_statistics(), *table.target_statistics())
    return Features(*(torch.from_numpy(np.ascontiguousarray(array)).to(device) for array in arrays))


def random_features(  # noqa: PLR0917
    count: int, features: int, outputs: int, targets: str, draw: torch.Generator, device: str
) -> Images:
    """Return random examples of a table for a network with so many outputs.

    Their targets are those of a task, `Task.targets`. Where they are "tokens", the examples are sequences of `features`
    tokens, out of `outputs` different ones.
    """
    if targets == "tokens":
        return random_tokens(count, features, outputs, draw, device)
    x, y = torch.randn(count, features, generator=draw), torch.randn(count, outputs, generator=draw)
    if targets != "numbers":
        y = random_labels(count, outputs, targets, draw)
    zero, one = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    return Features(*(tensor.to(device) for tensor in (x, y, zero, one, zero, one)))


def random_labels(count: int, outputs: int, targets: str, draw: torch.Generator) -> Tensor:
    """Return random labels (count,), or with "label sets" (count, outputs), for a network with so many outputs."""
    if targets == "label sets":
        return torch.randint(0, 2, (count, outputs), generator=draw)
    return torch.randint(0, max(outputs, 2), (count,), generator=draw)  # one logit is for two classes
