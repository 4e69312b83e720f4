"""One split of a data set on the device: uint8 images, normalised (and augmented) when a batch is taken."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from gapscope.data.datasets import Dataset
from gapscope.data.tabular import Table
from gapscope.data.text import Text

PADDING = 4  # pixels on each side before a crop, as He et al. 2016, section 4.2


@dataclass(frozen=True)
class Augmentation:
    """Random crops and mirror images of one epoch, one draw for each image.

    Attributes:
        rows: (n,), first row of the crop in the padded image, 0 to 8.
        columns: (n,), its first column.
        mirrored: (n,), whether the image is mirrored.
    """

    rows: Tensor
    columns: Tensor
    mirrored: Tensor

    @classmethod
    def none(cls, images: int, device: torch.device | str) -> "Augmentation":
        """Return one that leaves every image as it is."""
        rows, columns = torch.full((2, images), PADDING, device=device)
        return cls(rows, columns, torch.zeros(images, dtype=torch.bool, device=device))

    @classmethod
    def drawn(cls, images: int, device: torch.device | str, generator: torch.Generator) -> "Augmentation":
        """Return a draw like that of an epoch."""
        augmentation = cls.none(images, device)
        augmentation.redraw(generator)
        return augmentation

    def redraw(self, generator: torch.Generator) -> None:
        """Draw again, in place: crops uniformly, and mirror each image with probability 1/2."""
        sides = torch.randint(0, 2 * PADDING + 1, (2, len(self.mirrored)), generator=generator)
        mirrored = torch.randint(0, 2, self.mirrored.shape, generator=generator, dtype=torch.bool)
        for own, drawn in zip((self.rows, self.columns, self.mirrored), (*sides, mirrored), strict=True):
            own.copy_(drawn)


@dataclass(frozen=True)
class Images:
    """Images (n, c, h, w) as uint8, labels (n,) as int64, and the training set's channel mean and deviation (c,)."""

    images: Tensor
    labels: Tensor
    mean: Tensor
    std: Tensor
    unit: ClassVar[str] = "image"

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def samples(self) -> int:
        """How many samples of a unit layer's activations one example gives."""
        return 1

    def inputs(
        self, index: Tensor | slice, dtype: torch.dtype = torch.float32, augmentation: Augmentation | None = None
    ) -> Tensor:
        """Return the images at `index`, scaled to 0..1, minus the channel mean, divided by the channel deviation.

        With an augmentation each image is first padded with black, cropped to its size and perhaps mirrored.
        """
        mean, std = (statistic.to(dtype).view(1, -1, 1, 1) for statistic in (self.mean, self.std))
        images = self.images[index] if augmentation is None else self._augmented(index, augmentation)
        return images.to(dtype).div_(255).sub_(mean).div_(std)

    def _augmented(self, index: Tensor | slice, augmentation: Augmentation) -> Tensor:
        padded = pad(self.images[index], [PADDING] * 4)
        height, width = self.images.shape[2:]
        mirrored = augmentation.mirrored[index][:, None]
        down = torch.arange(height, device=padded.device)
        across = torch.arange(width, device=padded.device).expand(len(padded), -1)
        rows = augmentation.rows[index][:, None] + down
        columns = augmentation.columns[index][:, None] + torch.where(mirrored, across.flip(1), across)
        image = torch.arange(len(padded), device=padded.device)
        picked = padded.permute(0, 2, 3, 1)[image[:, None, None], rows[:, :, None], columns[:, None, :]]
        return picked.permute(0, 3, 1, 2)

    def subset(self, index: Tensor) -> "Images":
        """Return the images at `index` only."""
        return Images(self.images[index], self.labels[index], self.mean, self.std)


def split_images(data: Dataset, split: str, device: str) -> Images:
    """Put one split, "train" or "test", on the device; of a table its features, of a text its tokens."""
    if isinstance(data, Table):
        from gapscope.data.features import split_features  # features stand in for images

        return split_features(data, split, device)
    if isinstance(data, Text):
        from gapscope.data.tokens import split_tokens  # so do tokens

        return split_tokens(data, split, device)
    x, y = (data.x_train, data.y_train) if split == "train" else (data.x_test, data.y_test)
    mean, std = data.channel_statistics()
    return Images(*(torch.from_numpy(np.ascontiguousarray(array)).to(device) for array in (x, y, mean, std)))
