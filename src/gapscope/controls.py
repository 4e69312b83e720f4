"""Controls of the near-rank count: what it gives where training at that batch size can have had no part in it.

- `reference`: the model trained at the study's first batch size, on the b images that the run at b is measured on. Its
  count grows with b by shape alone, since its training does not differ.
- `untrained`: the initial weights of the same seed, batch norm's statistics estimated over the training set as for
  trained models, on the same images.
- `random`: independent normal entries in each layer's shape, scaled to the Frobenius norm of `reference` (in
  expectation), as the thresholds are absolute.
- `input`: the images themselves (H^0).

(The fifth control, every model on one fixed probe, is a sample of the activations stage.) A layer at a time is held,
in an unnamed temporary file that memory caches; nothing of it is kept.
"""

import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from gapscope import seeds
from gapscope.activations import ActivationSettings, extract, sample_indices
from gapscope.images import Images
from gapscope.models import unit_layers

CONTROLS = ("reference", "untrained", "random", "input")


@dataclass(frozen=True)
class ControlSettings:
    """Params of the controls stage; `conf/config.yaml` says what each is."""

    seeds: tuple[int, ...]
    eval_batch: int
    threads: int


@dataclass(frozen=True)
class Control:
    """One tensor to count in."""

    sample: str  # one of CONTROLS
    batch_size: int
    layer: str
    tensor: np.ndarray


def controls(
    models: Mapping[str, nn.Module],
    training: Images,
    batch_sizes: Sequence[int],
    seed: int,
    settings: ActivationSettings,
    *,
    folder: Path,
) -> Iterator[Control]:
    """Yield the controls at every batch size, a layer at a time; a tensor is to be used before the next is asked for.

    Args:
        models: "reference" and "untrained", on the device of `training`; left in float64.
        training: training images.
        batch_sizes: numbers of images.
        seed: draws the images, as it does for the runs, and the random tensors.
        settings: of the activations stage.
        folder: where the temporary file is put; one layer of the largest batch must fit.

    Raises:
        InputError: a batch size above the number of training images.
    """
    for model in models.values():
        model.double()  # whatever `settings.precision`: a float32 pass would add its own error to the controls

    def open_layer(_: str, shape: tuple[int, ...]) -> np.ndarray:
        with tempfile.TemporaryFile(dir=folder) as file:  # the map keeps the file, which has no name to be left behind
            return np.memmap(file, dtype=np.float64, mode="w+", shape=shape)

    for size in batch_sizes:
        index = sample_indices(len(training), size, seed, settings.probe_images)["run"]
        inputs = partial(training.subset(index.to(training.labels.device)).inputs, dtype=torch.float64)
        images = open_layer("input", (size, *inputs(slice(0, 1)).shape[1:]))
        for start in range(0, size, settings.forward_batch):
            rows = slice(start, min(start + settings.forward_batch, size))
            images[rows] = inputs(rows).cpu().numpy()
        yield Control("input", size, "input", images)
        for layer in unit_layers(models["reference"]):
            norm, shape = 0.0, ()
            for name, model in models.items():
                tensor = extract(model, inputs, size, open_layer, settings, only=[layer])[layer]
                if name == "reference":
                    norm, shape = float(np.linalg.norm(tensor)), tensor.shape
                yield Control(name, size, layer, tensor)
            tensor, draws = open_layer("random", shape), seeds.generator(seed, "random tensor", size, layer)
            for sample in tensor:
                sample[:] = torch.randn(shape[1:], generator=draws, dtype=torch.float64).numpy()
            tensor *= norm / math.sqrt(tensor.size)
            yield Control("random", size, layer, tensor)
