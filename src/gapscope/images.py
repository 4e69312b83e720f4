"""One split of a data set on the device: uint8 images, normalised when a batch is taken."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gapscope.data import Dataset


@dataclass(frozen=True)
class Images:
    """Images (n, c, h, w) as uint8, labels (n,) as int64, and the training set's channel mean and deviation (c,)."""

    images: Tensor
    labels: Tensor
    mean: Tensor
    std: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def inputs(self, index: Tensor | slice, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the images at `index` scaled to 0..1, less the channel mean, over the channel deviation."""
        mean, std = (statistic.to(dtype).view(1, -1, 1, 1) for statistic in (self.mean, self.std))
        return self.images[index].to(dtype).div_(255).sub_(mean).div_(std)

    def subset(self, index: Tensor) -> "Images":
        """Return the images at `index` only."""
        return Images(self.images[index], self.labels[index], self.mean, self.std)


def split_images(data: Dataset, split: str, device: str) -> Images:
    """Put one split, "train" or "test", on the device."""
    x, y = (data.x_train, data.y_train) if split == "train" else (data.x_test, data.y_test)
    mean, std = data.channel_statistics()
    return Images(*(torch.from_numpy(np.ascontiguousarray(array)).to(device) for array in (x, y, mean, std)))
