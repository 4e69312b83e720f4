"""Controls of the near-rank count: tensors that training at that batch size did not shape.

- `reference`: the model trained at the study's first batch size, on the same b images as the run at b. Its training is
  the same for every b, so its count grows with b by shape alone.
- `untrained`: the initial weights of the same seed, on the same images. Batch norm's statistics are estimated over the
  training set without augmentation, `controls.eval_batch` images at a time.
- `random`: independent normal entries in each layer's shape. They are scaled to the expected Frobenius norm of
  `reference`, since the thresholds are absolute.
- `input`: the images themselves (H^0). Tokens are codes and no values, so a text has no such control.

A fifth control, every model on one fixed probe, is a sample of the activations stage. A group of layers is held at a
time, in unnamed temporary files that memory caches. None of them is kept.
"""

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np

from gapscope.config import Threads, Within, load_params
from gapscope.measures.activations import ActivationSettings, extract, sample_indices, unit_bytes
from gapscope.measures.quantity import Quantity
from gapscope.measures.spectra import SpectraSettings, layer_spectra
from gapscope.records.files import reserve
from gapscope.runtime import describe_device, pick_device, progress, set_threads

if TYPE_CHECKING:  # a page is drawn without torch
    from torch import nn

    from gapscope.data.images import Images
    from gapscope.models import ModelSpec
    from gapscope.records.spectra import LayerRecord

RUNS_ON = "seed"
QUANTITIES: dict[str, Quantity] = {}  # near_rank and effective_ranks count in the controls' spectra
HELD = 2**31  # bytes of one model's activations at a time, or one layer's
CONTROLS = ("reference", "untrained", "random", "input")


@dataclass(frozen=True)
class ControlSettings:
    """Params of the controls stage; `conf/config.yaml` explains each."""

    seeds: tuple[int, ...]
    eval_batch: Annotated[int, Within(2)]
    threads: Threads


@dataclass(frozen=True)
class Control:
    """One tensor whose spectra are a control."""

    sample: str  # one of CONTROLS
    batch_size: int
    layer: str
    tensor: np.ndarray


def measure_controls(*, weights: Path, data: Path, out: Path) -> None:
    """Compute the spectra of a seed's controls and write their record; without layers where its run diverged.

    Args:
        weights: .safetensors of the train stage, at the study's first batch size.
        data: .npz of the download stage.
        out: .jsonl to write.
    """
    from gapscope.data import datasets, images
    from gapscope.models import build
    from gapscope.records.provenance import Start, write_provenance
    from gapscope.records.spectra import write_spectra
    from gapscope.records.weights import read_weights
    from gapscope.training.networks import checked_spec, loaded

    params, start = load_params(), Start.of("controls")
    settings = params.section("controls", ControlSettings)
    forward, spectra = params.section("activations", ActivationSettings), params.section("spectra", SpectraSettings)
    set_threads(settings.threads)
    device = pick_device()
    state, header = read_weights(weights)
    kind = describe_device(device)
    header |= {"activations": vars(forward), "spectra": vars(spectra), "cut": spectra.cut, "device": kind}
    layers: list[LayerRecord] = []
    if header["status"] != "diverged":
        dataset = datasets.load(data)
        spec = checked_spec(params, header, dataset, weights)
        training = images.split_images(dataset, "train", device)
        reference = loaded(build(spec), state, weights)
        models = networks(spec, reference, training, settings, seed=header["seed"], device=device)
        sizes = list(dict.fromkeys(params.batch_sizes))
        tensors = controls(models, training, sizes, header["seed"], forward, folder=weights.parent)
        layers = [
            layer_spectra(c.tensor, spectra, device=device, sample=c.sample, layer=c.layer, batch_size=c.batch_size)
            for c in progress(tensors, out.stem, number_of_tensors(models, sizes, training, dataset.image_shape))
        ]
    write_spectra(out, header, layers)
    write_provenance(out, start, device=kind, threads=settings.threads)


def networks(
    spec: "ModelSpec",
    reference: "nn.Module",
    training: "Images",
    settings: ControlSettings,
    *,
    seed: int,
    device: str,
) -> "dict[str, nn.Module]":
    """Return the models of the controls: "reference", and "untrained" with re-estimated batch-norm statistics.

    Args:
        spec: of the network.
        reference: with its trained weights.
        training: training images, for the statistics.
        settings: images at a time.
        seed: of the initial weights.
        device: of the models.
    """
    from gapscope.training.evaluation import reestimate_batch_norm
    from gapscope.training.networks import initial

    untrained = initial(spec, seed).to(device)
    reestimate_batch_norm(untrained, training, settings.eval_batch)
    return {"reference": reference.to(device), "untrained": untrained}


def number_of_tensors(
    models: "Mapping[str, nn.Module]", batch_sizes: Sequence[int], training: "Images", image_shape: tuple[int, ...]
) -> int:
    """Return the number of tensors that `controls` yields."""
    tokens = training.samples > 1
    layers = unit_bytes(models["reference"], image_shape, tokens=tokens)[0]
    return len(batch_sizes) * ((not tokens) + 3 * len(layers))


def controls(
    models: "Mapping[str, nn.Module]",
    training: "Images",
    batch_sizes: Sequence[int],
    seed: int,
    settings: ActivationSettings,
    *,
    folder: Path,
) -> Iterator[Control]:
    """Yield the controls at every batch size, one layer at a time. Use a tensor before asking for the next one.

    Args:
        models: "reference" and "untrained", on the device of `training`; they are converted to float64.
        training: training images.
        batch_sizes: numbers of images.
        seed: draws the images, as it does for the runs, and the random tensors.
        settings: of the activations stage.
        folder: of the temporary files; three times HELD must fit there, or three layers of the largest batch.

    Raises:
        InputError: a batch size above the number of training images.
    """
    import torch

    from gapscope.models import unit_layers

    samples = training.samples
    order = {name: place for place, name in enumerate(unit_layers(models["reference"]))}
    for model in models.values():
        model.double()  # also if `settings.precision` is float32, whose pass would add an error of its own

    def open_layer(_: str, shape: tuple[int, ...]) -> np.ndarray:
        with tempfile.TemporaryFile(dir=folder) as file:  # unlinked: nothing remains after a crash
            reserve(file.fileno(), 8 * math.prod(shape))
            return np.memmap(file, dtype=np.float64, mode="w+", shape=shape)

    for size in batch_sizes:
        index = sample_indices(len(training), size, seed, settings.probe_images)["run"]
        inputs = partial(training.subset(index.to(training.labels.device)).inputs, dtype=torch.float64)
        if samples == 1:
            images = open_layer("input", (size, *inputs(slice(0, 1)).shape[1:]))
            for start in range(0, size, settings.forward_batch):
                rows = slice(start, min(start + settings.forward_batch, size))
                images[rows] = inputs(rows).cpu().numpy()
            yield Control("input", size, "input", images)
        first = min(size, 2)
        few = extract(models["reference"], inputs, first, lambda _, shape: np.empty(shape), settings, samples=samples)
        used = sorted(few, key=lambda name: order.get(name, len(order)))  # a network may not use all of them
        for layers in _groups({name: few[name].nbytes // first * size for name in used}):
            held = {
                name: extract(model, inputs, size, open_layer, settings, only=layers, samples=samples)
                for name, model in models.items()
            }
            for layer in layers:
                for name, tensors in held.items():
                    yield Control(name, size, layer, tensors[layer])
                yield Control("random", size, layer, _random(held["reference"][layer], open_layer, seed, layer))


def _groups(sizes: Mapping[str, int]) -> Iterator[list[str]]:
    """Yield the layers in order, in groups of at most HELD bytes: one forward pass per layer would take too long."""
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
    import torch

    from gapscope import seeds

    tensor, draws = open_layer("random", like.shape), seeds.generator(seed, "random tensor", len(like), layer)
    for sample in tensor:
        sample[:] = torch.randn(like.shape[1:], generator=draws, dtype=torch.float64).numpy()
    tensor *= float(np.linalg.norm(like)) / math.sqrt(tensor.size)
    return tensor
