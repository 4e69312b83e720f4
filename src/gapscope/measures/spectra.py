"""Spectra: the singular values of every unfolding of every layer's activations, thinned to what later stages need.

De Lathauwer et al. 2000 (HOSVD). `gapscope.numerics.hosvd.singular_values` computes them; this module says what of them
is kept. A near-rank count needs the values near zero, one by one; a figure needs the course of the others.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gapscope.config import Params, Threads, load_params
from gapscope.errors import InputError, reading
from gapscope.measures.quantity import Quantity
from gapscope.numerics.hosvd.effective_ranks import effective_ranks
from gapscope.numerics.hosvd.spectrum import METHODS, ModeSpectrum, SpectrumTail, mode_sizes
from gapscope.records.cells import cells, seed_records
from gapscope.records.descending import rounded
from gapscope.records.spectra import DIGITS, RANKS, LayerRecord, ModeRecord, kept_indices, write_spectra
from gapscope.runtime import describe_device, pick_device, progress, set_threads

RUNS_ON = "cell"
QUANTITIES: dict[str, Quantity] = {}  # what is counted in spectra belongs to near_rank and effective_ranks


def run_rows(_study: object) -> list[object]:
    """Return nothing: a run's spectra are no numbers of the run."""
    return []


@dataclass(frozen=True)
class SpectraSettings:
    """Params of the spectra stage; `conf/config.yaml` explains each."""

    method: str
    cut: float
    threads: Threads

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InputError(f"spectra.method must be one of {', '.join(METHODS)}, got {self.method!r}")
        if not (np.isfinite(self.cut) and self.cut >= 0):
            raise InputError(f"spectra.cut must be a finite number >= 0, got {self.cut}")


def measure_activations(*, activations: Path, out: Path) -> None:
    """Compute the spectra of a run's activations and write their record.

    Args:
        activations: folder of the activations stage.
        out: .jsonl to write.
    """
    from gapscope.records.activations import read_activations
    from gapscope.records.provenance import Start, write_provenance

    params, start = load_params(), Start.of("spectra")
    settings = params.section("spectra", SpectraSettings)
    set_threads(settings.threads)
    device = pick_device()
    header, tensors = read_activations(activations)
    header |= {"status": header["status"], "forward_device": header["device"]}
    del header["device"]
    layers = progress(tensors, activations.name)
    try:
        found = list(spectra(layers, settings, device=device, errors=forward_errors(header, activations)))
    except InputError:
        raise
    except ValueError as error:  # such as values that are not finite
        raise InputError(f"{activations}: {error}; run the activations stage again, or train again") from error
    kind = describe_device(device)
    write_spectra(out, header | {"spectra": vars(settings), "cut": settings.cut, "device": kind}, found)
    write_provenance(out, start, device=kind, threads=settings.threads)


def forward_errors(header: Mapping[str, Any], activations: Path) -> dict[str, dict[str, float]]:
    """Return sample -> layer -> norm of the error that a float32 forward pass left; empty after a float64 pass.

    Raises:
        InputError: the header of the activations has something else there.
    """
    with reading(activations, "a folder of activations", "run the activations stage again"):
        errors: dict[str, dict[str, float]] = header.get("forward_error", {})
        if not all(math.isfinite(error) and error >= 0 for of in errors.values() for error in of.values()):
            raise ValueError(f"its forward_error is {errors}")
        return errors


def spectra(
    layers: Iterable[tuple[str, str, np.ndarray]],
    settings: SpectraSettings,
    *,
    device: str,
    errors: Mapping[str, Mapping[str, float]],
) -> Iterator[LayerRecord]:
    """Yield the record of each layer's spectra, with its dead units and duplicate samples.

    Args:
        layers: sample, layer, activations with the batch axis first.
        settings: method and cut.
        device: for the solver.
        errors: sample -> layer -> norm of the error that a float32 forward pass left; empty after a float64 pass.
    """
    from gapscope.numerics.hosvd.exact_zeros import exact_zeros

    for sample, layer, tensor in layers:
        zeros, error = exact_zeros(tensor), errors.get(sample, {}).get(layer, 0.0)
        about = {"dead_units": zeros.dead_units, "duplicate_samples": zeros.duplicate_samples}
        yield layer_spectra(tensor, settings, device=device, widened=error, sample=sample, layer=layer, **about)


def layer_spectra(
    tensor: np.ndarray, settings: SpectraSettings, *, device: str, widened: float = 0.0, **about: Any
) -> LayerRecord:
    """Return the record of one layer's spectra.

    Args:
        tensor: activations, the batch axis first.
        settings: method and cut.
        device: for the solver.
        widened: added to each error bound: the norm of an error that the activations have.
        about: the other fields of the record, such as sample and layer.
    """
    from gapscope.numerics.hosvd.singular_values import mode_singular_values

    spectra = mode_singular_values(tensor, method=settings.method, device=device)
    modes = [mode_record(spectrum.widened(widened), settings.cut) for spectrum in spectra]
    return LayerRecord(shape=tuple(map(int, tensor.shape)), modes=modes, **about)


def mode_record(spectrum: ModeSpectrum, cut: float) -> ModeRecord:
    """Return what a record keeps of a spectrum; the numbers are of its values rounded to ten digits."""
    values = np.array([rounded(value, DIGITS) for value in spectrum.values.tolist()])
    whole = ModeSpectrum(values, spectrum.size, spectrum.error_bound, spectrum.method)
    tail, (ranks,) = whole.tail(cut).values, effective_ranks([whole])
    above = [index for index in kept_indices(len(values)) if index < len(values) - len(tail)]
    return ModeRecord(
        spectrum.method,
        float(values[0]),
        float(values[-1]),
        whole.error_bound,
        tail,
        {index: float(values[index]) for index in above},
        {name: getattr(ranks, name) for name in RANKS},
    )


def tails(layer: LayerRecord, cut: float) -> list[SpectrumTail]:
    """Return each mode's tail, to count in; `cut` is that of the record's header."""
    return [
        SpectrumTail(
            mode.tail, mode.error_bound[mode.count - len(mode.tail) :], mode.count, size, mode.largest,
            float(mode.error_bound[0]), cut,
        )
        for (size, _), mode in zip(mode_sizes(layer.shape), layer.modes, strict=True)
    ]  # fmt: skip


def records(params: Params) -> Iterator[tuple[dict[str, Any], Path]]:
    """Yield a study's records of spectra: the `RUN` columns that each has, and its path; controls come last."""
    for cell in cells(params):
        yield cell.columns(), cell.record("spectra", ".jsonl")
    for about, path in seed_records(params, "controls", params.groups["controls"]["seeds"]):
        yield about, Path(f"{path}.jsonl")


def methods(layers: Iterable[LayerRecord]) -> str:
    """Return the names of the methods that a run's spectra needed, with spaces between."""
    return " ".join(sorted({mode.method for layer in layers for mode in layer.modes}))
