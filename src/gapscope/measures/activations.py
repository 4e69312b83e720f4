"""Activations: the output of every hidden unit layer over a batch of images, H^l of Oyedotun et al. 2022.

The paper does not say which outputs it takes, in which batch-norm mode and in which precision. We take the outputs
after the non-linearity and before pooling, without augmentation. Batch norm is in eval mode with re-estimated
statistics, or in train mode by a param. The forward pass is in float64, into which float32 weights convert exactly. A
float32 pass adds noise of about 1e-7 sigma_max, which hides values under 1e-5.
"""

import copy
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gapscope.config import Threads, load_params
from gapscope.errors import InputError
from gapscope.measures.quantity import Quantity
from gapscope.runtime import describe_device, pick_device, set_threads

if TYPE_CHECKING:  # a page is drawn without torch
    from torch import Tensor, nn

RUNS_ON = "cell"
QUANTITIES: dict[str, Quantity] = {}  # what is measured on activations belongs to the spectra
PRECISIONS = ("float64", "float32")


@dataclass(frozen=True)
class ActivationSettings:
    """Params of the activations stage; `conf/config.yaml` explains each."""

    batch_norm_statistics: str
    precision: str
    probe_images: int
    forward_batch: int
    threads: Threads

    def __post_init__(self) -> None:
        if self.batch_norm_statistics not in ("running", "batch"):
            raise InputError(
                f"activations.batch_norm_statistics must be running or batch, got {self.batch_norm_statistics!r}"
            )
        if self.precision not in PRECISIONS:
            raise InputError(f"activations.precision must be float64 or float32, got {self.precision!r}")
        if self.probe_images < 1 or self.forward_batch < 1:
            raise InputError("activations.probe_images and activations.forward_batch must be at least 1")


def write_run(*, weights: Path, data: Path, out: Path) -> None:
    """Write a trained network's activations over both samples; none where its run diverged.

    Args:
        weights: .safetensors of the train stage.
        data: .npz of the download stage.
        out: folder to write.
    """
    import torch

    from gapscope.data import datasets, images
    from gapscope.models.hidden import untracked_batch_norms
    from gapscope.records.activations import write_activations
    from gapscope.records.weights import read_weights
    from gapscope.training.networks import restored

    params = load_params()
    settings = params.section("activations", ActivationSettings)
    set_threads(settings.threads)
    device, dtype = pick_device(), getattr(torch, settings.precision)
    state, header = read_weights(weights)
    header |= {"activations": vars(settings), "device": describe_device(device)}
    with write_activations(out, header) as open_layer:
        if header["status"] == "diverged":
            print("this run diverged: there is nothing to measure")
            return
        dataset = datasets.load(data)
        model = restored(params, state, header, dataset, weights).to(device, dtype)
        training = images.split_images(dataset, "train", device)
        sizes = header["batch_size"], header["seed"], settings.probe_images
        header["forward_error"] = {}
        if untracked := untracked_batch_norms(model):
            header["untracked_batch_norms"] = untracked
        samples = training.samples
        for sample, index in sample_indices(len(training), *sizes).items():
            inputs = training.subset(index.to(device)).inputs
            open_sample = partial(open_layer, sample)
            layers = extract(model, partial(inputs, dtype=dtype), len(index), open_sample, settings, samples=samples)
            if settings.precision == "float32":
                exact, exact_inputs = copy.deepcopy(model).double(), partial(inputs, dtype=torch.float64)
                header["forward_error"][sample] = forward_errors(exact, exact_inputs, layers, settings, samples=samples)


def sample_indices(images: int, batch_size: int, seed: int, probe_images: int) -> "dict[str, Tensor]":
    """Draw the training images to measure on, without replacement.

    Returns:
        "run": `batch_size` images drawn by the run's seed, as in Algorithm 1 of the paper. With one seed, a smaller
        batch is the beginning of a larger one. "probe": a control, the same `probe_images` images in every run.

    Raises:
        InputError: more images are asked for than there are.
    """
    import torch

    from gapscope import seeds

    if max(batch_size, probe_images) > images:
        raise InputError(f"{max(batch_size, probe_images)} images asked for, but the training set has {images}")
    run = torch.randperm(images, generator=seeds.generator(seed, "activations"))[:batch_size]
    probe = torch.randperm(images, generator=seeds.generator("probe"))[:probe_images]
    return {"run": run, "probe": probe}


def extract(
    model: "nn.Module",
    inputs: "Callable[[slice], Tensor]",
    images: int,
    open_layer: Callable[[str, tuple[int, ...]], np.ndarray],
    settings: ActivationSettings,
    *,
    only: Collection[str] | None = None,
    samples: int = 1,
) -> dict[str, np.ndarray]:
    """Run the model over `images` inputs and write each unit layer's output into the array from `open_layer`.

    Args:
        model: on its device, in the precision of its inputs; it is left in eval mode.
        inputs: slice of 0..images -> normalised images (b, c, h, w) on the model's device.
        images: number of inputs; the first axis of every array.
        open_layer: layer name, shape -> array to fill. At most `forward_batch` images of a layer are in memory. With
            the batch's batch-norm statistics, the whole batch goes through at once.
        settings: mode and sizes.
        only: names of the layers to write; None: all.
        samples: of one input. Of a sequence they are its L tokens: an output (b, L, units) gives b L rows.

    Returns:
        The filled arrays by layer name.

    Raises:
        InputError: no unit layer, or one whose output has not one row per image.
    """
    import torch

    from gapscope.models.hidden import nothing_measured, unit_outputs, untracked_batch_norms

    arrays: dict[str, np.ndarray] = {}
    left_out: list[str] = []
    rows = slice(0, 0)

    def store(name: str, output: "Tensor") -> None:
        if only is not None and name not in only:
            return
        each = samples if output.ndim > 2 and output.shape[1] == samples else 1  # pooled over tokens: one row
        output = output.flatten(0, 1) if each > 1 else output
        if name not in arrays:
            arrays[name] = open_layer(name, (images * each, *output.shape[1:]))
        arrays[name][rows.start * each : rows.stop * each] = output.cpu().numpy()

    at_once = settings.batch_norm_statistics == "batch" or untracked_batch_norms(model)
    step = images if at_once else settings.forward_batch
    model.eval()
    with (
        torch.no_grad(),
        unit_outputs(model, lambda: rows.stop - rows.start, store, left_out.append),
        _batch_statistics(model, settings.batch_norm_statistics == "batch"),
    ):
        for start in range(0, images, step):
            rows = slice(start, min(start + step, images))
            model(inputs(rows))
    if not arrays and only is None:
        raise nothing_measured(model, left_out)
    return arrays


def forward_errors(
    model: "nn.Module",
    inputs: "Callable[[slice], Tensor]",
    written: Mapping[str, np.ndarray],
    settings: ActivationSettings,
    *,
    samples: int = 1,
) -> dict[str, float]:
    """Return the Frobenius norm of the difference between each layer's outputs and those of a float64 forward pass.

    By Weyl's inequality it bounds the error of every singular value of every unfolding.

    Args:
        model: as for `extract`, in float64.
        inputs: as for that pass.
        written: layer name -> outputs of a pass in another precision.
        settings: as for that pass.
        samples: as for that pass.
    """
    differences = {name: _Difference(array) for name, array in written.items()}
    images = len(next(iter(written.values()))) // samples
    extract(model, inputs, images, lambda name, _shape: differences[name], settings, samples=samples)  # type: ignore[arg-type, return-value]
    return {name: math.sqrt(difference.squares) for name, difference in differences.items()}


@dataclass
class _Difference:
    # stands in for an array to fill: sums the squared differences to the array that is there
    array: np.ndarray
    squares: float = 0.0

    def __setitem__(self, rows: slice, values: np.ndarray) -> None:
        self.squares += float(np.square(self.array[rows] - values).sum())


def activation_bytes(model: "nn.Module", image_shape: tuple[int, ...], *, tokens: bool = False) -> int:
    """Return the float64 bytes of all unit layers for one image; `tokens` as in `unit_bytes`.

    Raises:
        InputError: no unit layer.
    """
    return sum(unit_bytes(model, image_shape, tokens=tokens)[0].values())


def unit_bytes(
    model: "nn.Module", image_shape: tuple[int, ...], *, tokens: bool = False
) -> tuple[dict[str, int], list[str]]:
    """Return each unit layer's float64 bytes for one image, and the non-linearities that are none.

    It takes a pass on the meta device, or on the CPU where the network looks at values.

    Args:
        model: the network.
        image_shape: of one example.
        tokens: whether examples are sequences of tokens, so whole numbers.

    Raises:
        InputError: no unit layer.
    """
    try:
        return _unit_bytes(copy.deepcopy(model).to("meta"), image_shape, tokens)
    except InputError:
        raise
    except (RuntimeError, TypeError, ValueError, AssertionError):  # the meta device has no values
        copied = copy.deepcopy(model)
        copied = copied.to_empty(device="cpu") if _is_meta(copied) else copied
        return _unit_bytes(copied, image_shape, tokens)


def _is_meta(model: "nn.Module") -> bool:
    return any(parameter.is_meta for parameter in model.parameters())


def _unit_bytes(model: "nn.Module", image_shape: tuple[int, ...], tokens: bool) -> tuple[dict[str, int], list[str]]:
    import torch

    from gapscope.models.hidden import nothing_measured, unit_outputs

    sizes: dict[str, int] = {}
    left_out: list[str] = []
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    dtype = torch.long if tokens else None
    images = torch.zeros(2, *image_shape, dtype=dtype, device=device)  # of one image the first axis would say nothing

    def take(name: str, output: "Tensor") -> None:
        sizes[name] = 8 * math.prod(output.shape[1:])

    with torch.no_grad(), unit_outputs(model.eval(), lambda: len(images), take, left_out.append):
        model(images)
    if not sizes:
        raise nothing_measured(model, left_out)
    return sizes, left_out


@contextmanager
def _batch_statistics(model: "nn.Module", wanted: bool) -> Iterator[None]:
    from torch import nn

    # train mode for batch-norm layers only, so dropout stays off; without tracking their buffers do not change
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)] if wanted else []
    tracked = [norm.track_running_stats for norm in norms]
    for norm in norms:
        norm.train()
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm, was_tracked in zip(norms, tracked, strict=True):
            norm.eval()
            norm.track_running_stats = was_tracked
