"""A network of one's own, for docs/own_model.md: any class that is called like this one will do."""

import torch
from torch import Tensor, nn


class Net(nn.Module):
    """Two hidden layers. `width` is optional; with it, `Net_w2` in a study is this network with twice the units."""

    def __init__(self, image_shape: tuple[int, int, int], classes: int, width: float = 1.0) -> None:
        super().__init__()
        channels, height, rows = image_shape
        first, second = round(128 * width), round(64 * width)
        self.hidden1 = nn.Sequential(nn.Linear(channels * height * rows, first), nn.ReLU())
        self.hidden2 = nn.Sequential(nn.Linear(first, second), nn.ReLU())
        self.head = nn.Linear(second, classes)
        # what is measured; without it, every non-linearity's output
        self.unit_layers = {"hidden1": self.hidden1, "hidden2": self.hidden2}

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (b, classes) of images (b, channels, height, width)."""
        return self.head(self.hidden2(self.hidden1(torch.flatten(images, 1))))  # type: ignore[no-any-return]
