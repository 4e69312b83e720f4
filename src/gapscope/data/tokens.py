"""One split of a text on the device: tokens, and the tokens that follow them."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from gapscope.data.images import Augmentation, Images
from gapscope.data.text import IGNORED, Text
from gapscope.errors import InputError


@dataclass(frozen=True)
class Tokens(Images):
    """Sequences in the place of images: whatever takes a split of images takes these.

    `images` are tokens (n, L), `labels` the tokens that follow (n, L) or `IGNORED`; `mean` and `std` are not used.
    """

    unit: ClassVar[str] = "sequence"

    @property
    def samples(self) -> int:
        """Tokens are the samples of a unit layer's activations."""
        return self.images.shape[1]

    def inputs(
        self, index: Tensor | slice, dtype: torch.dtype = torch.float32, augmentation: Augmentation | None = None
    ) -> Tensor:
        """Return the tokens at `index` (b, L), in int64 whatever the dtype.

        Raises:
            InputError: an augmentation, which moves pixels.
        """
        if augmentation is not None:
            raise InputError("train.augment crops and mirrors images; tokens have no pixels: set it false")
        return self.images[index].long()

    def targets(self, index: Tensor | slice) -> Tensor:
        """Return the tokens that follow at `index` (b, L), in int64."""
        return self.labels[index].long()

    def counted(self, index: Tensor | None = None) -> int:
        """Return the number of targets that count, over the sequences at `index`; None: over all."""
        labels = self.labels if index is None else self.labels[index]
        return int((labels != IGNORED).sum())

    def subset(self, index: Tensor) -> "Tokens":
        """Return the sequences at `index` only."""
        return Tokens(self.images[index], self.labels[index], self.mean, self.std)


def split_tokens(text: Text, split: str, device: str) -> Tokens:
    """Put one split, "train" or "test", on the device."""
    x, y = (text.x_train, text.y_train) if split == "train" else (text.x_test, text.y_test)
    arrays = (x, y, *text.channel_statistics())
    return Tokens(*(torch.from_numpy(np.ascontiguousarray(array)).to(device) for array in arrays))


def random_tokens(count: int, length: int, classes: int, draw: torch.Generator, device: str) -> Tokens:
    """Return random sequences."""
    stream = torch.randint(0, classes, (count, length + 1), generator=draw, dtype=torch.int32)
    zero, one = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    return Tokens(
        *(tensor.to(device) for tensor in (stream[:, :-1].contiguous(), stream[:, 1:].contiguous(), zero, one))
    )
