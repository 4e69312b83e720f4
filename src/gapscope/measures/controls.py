"""Controls of the near-rank count: what it gives where training at that batch size can have had no part in it.

- `reference`: the model trained at the study's first batch size, on the b images that the run at b is measured on. Its
  count grows with b by shape alone, since its training does not differ.
- `untrained`: the initial weights of the same seed, batch norm's statistics estimated over the training set
  (`controls.eval_batch` images at a time, as they are), on the same images.
- `random`: independent normal entries in each layer's shape, scaled to the Frobenius norm of `reference` (in
  expectation), as the thresholds are absolute.
- `input`: the images themselves (H^0).

(The fifth control, every model on one fixed probe, is a sample of the activations stage.) Some layers at a time are
held, in unnamed temporary files that memory caches; nothing of them is kept.
"""

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from gapscope import seeds
from gapscope.data.images import Images
from gapscope.measures.activations import ActivationSettings, extract, sample_indices
from gapscope.models import unit_layers

HELD = 2**31  # bytes of one model's activations at a time, or one layer's
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
        folder: where the temporary files are put; three times HELD must fit, or three layers of the largest batch.

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
        few = extract(models["reference"], inputs, min(size, 2), lambda _, shape: np.empty(shape), settings)
        used = [name for name in unit_layers(models["reference"]) if name in few]  # a network may have a spare one
        for layers in _groups({name: few[name][0].nbytes * size for name in used}):
            held = {
                name: extract(model, inputs, size, open_layer, settings, only=layers) for name, model in models.items()
            }
            for layer in layers:
                for name, tensors in held.items():
                    yield Control(name, size, layer, tensors[layer])
                yield Control("random", size, layer, _random(held["reference"][layer], open_layer, seed, layer))


def _groups(sizes: Mapping[str, int]) -> Iterator[list[str]]:
    """Yield the layers, in their order, in groups of at most HELD bytes: a forward pass a layer would take too long."""
    group: list[str] = []
    for layer, size in sizes.items():
        if group and sum(sizes[name] for name in group) + size > HELD:
            yield group
            group = []
        group.append(layer)
    yield group


def _random(
    like: np.ndarray, open_layer: Callable[[str, tuple[int, ...]], np.ndarray], seed: int, layer: str
) -> np.ndarray:
    tensor, draws = open_layer("random", like.shape), seeds.generator(seed, "random tensor", len(like), layer)
    for sample in tensor:
        sample[:] = torch.randn(like.shape[1:], generator=draws, dtype=torch.float64).numpy()
    tensor *= float(np.linalg.norm(like)) / math.sqrt(tensor.size)
    return tensor
