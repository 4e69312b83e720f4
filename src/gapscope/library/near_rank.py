"""Near-rank loss of a model's activations, Oyedotun et al. 2022, Algorithm 1: `gapscope.near_rank`.

The activations are those of the pipeline (`gapscope.measures.activations`): the outputs of the unit layers, in eval
mode and float64. The counts depend on the number of inputs, so the inputs are one batch.
"""

import copy
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gapscope.errors import InputError
from gapscope.library.inputs import MICRO_BATCH, device_of
from gapscope.library.result import Result
from gapscope.library.spectra import counts, spectra
from gapscope.measures.activations import ActivationSettings, extract


@dataclass(frozen=True, repr=False)
class NearRankResult(Result):
    """Near-rank loss of a model at a batch of inputs, summed over layers and modes.

    Attributes:
        excess: singular values at or below the threshold, without structural zeros.
        low: fewest values that the solver's error bounds allow.
        high: most values that they allow.
        structural: structural zeros, which the shapes of the activations force.
        singular_values: number of values, without structural zeros.
        threshold: of the count.
        relative: whether it is a fraction of each mode's largest value.
        inputs: number of inputs.
        layers: one row per layer and mode, with these counts.
    """

    excess: int
    low: int
    high: int
    structural: int
    singular_values: int
    threshold: float
    relative: bool
    inputs: int
    layers: tuple[Mapping[str, Any], ...]

    @property
    def full(self) -> int:
        """The count with structural zeros."""
        return self.excess + self.structural

    def __str__(self) -> str:
        interval = "" if self.low == self.high else f" ({self.low} to {self.high})"
        return (
            f"{self.excess}{interval} of {self.singular_values} singular values <= {self.threshold:g}"
            f"{' of the largest' if self.relative else ''}, beside {self.structural} structural zeros; "
            f"{len({row['layer'] for row in self.layers})} layers, {self.inputs} inputs"
        )

    def rows(self) -> Iterator[Mapping[str, Any]]:
        """Yield one row per layer and mode."""
        yield from self.layers


def near_rank(
    model: nn.Module, inputs: Tensor | np.ndarray, *, threshold: float = 1e-4, relative: bool = False
) -> NearRankResult:
    """Return how many singular values of a model's activations lie at or below a threshold.

    Layers are the model's own `unit_layers` (a dict of names and modules), or else its non-linearities.

    Args:
        model: on its device; a float64 copy is run, in eval mode.
        inputs: one batch (b, ...), normalised as the model wants it. All its activations are held in float64.
        threshold: 1e-4 and 1e-5 in the paper.
        relative: whether it is a fraction of each mode's largest value.

    Raises:
        InputError: no such model or inputs, or a model without unit layers.
        ValueError: activations that are not finite.
    """
    device = device_of(model)
    if not (isinstance(inputs, Tensor | np.ndarray) and inputs.ndim >= 2 and len(inputs)):
        got = tuple(inputs.shape) if isinstance(inputs, Tensor | np.ndarray) else type(inputs).__name__
        raise InputError(f"inputs must be one batch as a tensor (b, ...), since the counts depend on b; got {got}")
    if not (math.isfinite(threshold) and threshold >= 0):
        raise InputError(f"threshold must be a finite number >= 0, got {threshold}")
    arrays = _activations(model, torch.as_tensor(inputs), device)
    rows = [
        {"layer": name, **count}
        for name, array in arrays.items()
        for count in counts(spectra(torch.from_numpy(array).to(device)), threshold, relative=relative)
    ]
    total = {name: sum(row[name] for row in rows) for name in ("excess", "low", "high", "structural")}
    values = sum(row["singular_values"] for row in rows)
    about: dict[str, Any] = {"threshold": threshold, "relative": relative}
    layers = tuple({**row, **about, "inputs": len(inputs)} for row in rows)
    return NearRankResult(**total, singular_values=values, **about, inputs=len(inputs), layers=layers)


def _activations(model: nn.Module, inputs: Tensor, device: torch.device) -> dict[str, np.ndarray]:
    if inputs.dtype == torch.uint8:
        raise InputError("inputs must be normalised as the model wants them, got uint8; give e.g. images.float() / 255")
    settings = ActivationSettings("running", "float64", probe_images=1, forward_batch=MICRO_BATCH, threads=1)

    def batch(rows: slice) -> Tensor:
        part = inputs[rows].to(device)
        return part.double() if part.is_floating_point() else part

    return extract(copy.deepcopy(model).double(), batch, len(inputs), lambda _name, shape: np.empty(shape), settings)
