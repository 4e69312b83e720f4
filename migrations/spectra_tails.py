"""Spectra and controls of 0.1, which list every value, in the form of 0.2, which keeps what later stages need.

Counts at every threshold up to the cut, their bounds, and the effective ranks stay what they were: `differences`
compares them. What is dropped: the values above the cut, of which figures keep about 200 per spectrum to four digits.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np

from gapscope.measures.spectra import mode_record, tails
from gapscope.numerics.hosvd.effective_ranks import condition_number, effective_ranks
from gapscope.numerics.hosvd.near_rank import near_rank_count
from gapscope.numerics.hosvd.spectrum import ModeSpectrum, SpectrumTail, mode_sizes
from gapscope.records.spectra import RANKS, LayerRecord, ModeRecord, kept_indices, parse_spectra, spectra_text

CUT = 1e-2  # spectra.cut of the studies of 0.1
PRINTED = 10  # significant digits in tables
FIGURE = 5e-4  # of a quantile: half a unit of its fourth digit, relative to a leading digit of 1


def convert(old: bytes, cut: float = CUT) -> bytes:
    """Return the bytes of a record in the new form; one that has it already is returned as it is.

    Args:
        old: the whole file.
        cut: every value up to it is kept.
    """
    header, layers = parse_spectra(old.decode())
    if np.isfinite(header["cut"]):
        return old
    header |= {"cut": cut, "spectra": {**header["spectra"], "cut": cut}}
    kept = [
        dataclasses.replace(layer, modes=[mode_record(spectrum, cut) for spectrum in whole_spectra(layer)])
        for layer in layers
    ]
    return spectra_text(header, kept).encode()


def whole_spectra(layer: LayerRecord) -> list[ModeSpectrum]:
    """Return the spectra of a layer from a record that lists every value."""
    return [
        ModeSpectrum(mode.tail, size, mode.error_bound, mode.method)
        for (size, _), mode in zip(mode_sizes(layer.shape), layer.modes, strict=True)
    ]


def differences(old: bytes, new: bytes, relative: tuple[float, ...] = (1e-12, 1e-9, 1e-7, 1e-6, 1e-5)) -> list[str]:
    """Return in what a record in the new form differs from the old one; nothing if the conversion is right.

    Compared are counts and their bounds at every absolute threshold up to the cut and at `relative` parts of each
    largest value, effective ranks and condition numbers to the last printed digit, extremes, all error bounds, what is
    known of dead units and duplicate samples, the header, and the quantiles to their four digits.
    """
    before, layers = parse_spectra(old.decode())
    after, kept = parse_spectra(new.decode())
    own = ("schema", "cut", "spectra")
    found = [f"header: {name}" for name in {*before, *after} if name not in own and before.get(name) != after.get(name)]
    if [_about(layer) for layer in layers] != [_about(layer) for layer in kept]:
        return [*found, "layers, shapes, dead units or duplicate samples"]
    for layer, thinned in zip(layers, kept, strict=True):
        where = " ".join(map(str, (layer.sample, layer.batch_size or "", layer.layer)))
        tail_of_modes = tails(thinned, after["cut"])
        for mode, (whole, record, tail) in enumerate(
            zip(whole_spectra(layer), thinned.modes, tail_of_modes, strict=True)
        ):
            found += [f"{where} mode {mode}: {what}" for what in _of_mode(whole, record, tail, relative)]
    return found


def _about(layer: LayerRecord) -> tuple[object, ...]:
    zeros = (layer.dead_units, layer.duplicate_samples)
    return (layer.sample, layer.layer, layer.shape, layer.batch_size, *zeros, len(layer.modes))


def _of_mode(whole: ModeSpectrum, record: ModeRecord, tail: SpectrumTail, relative: tuple[float, ...]) -> Iterator[str]:
    if (record.method, record.count) != (whole.method, len(whole.values)):
        yield "method or number of values"
        return
    if (record.largest, record.smallest) != (whole.values[0], whole.values[-1]):
        yield "largest or smallest value"
    if not np.array_equal(record.error_bound, whole.error_bound):
        yield "error bounds"
    (known,) = effective_ranks([whole])
    if any(f"{getattr(known, name):.{PRINTED}g}" != f"{record.ranks[name]:.{PRINTED}g}" for name in RANKS):
        yield "effective ranks"
    if condition_number(record.largest, record.smallest, float(record.error_bound[-1])) != known.condition_number:
        yield "condition number"
    if not _same_counts(whole, tail):
        yield "counts at an absolute threshold"
    parts = [part for part in relative if part * tail.largest <= tail.cut]
    if any(near_rank_count([whole], t, relative=True) != near_rank_count([tail], t, relative=True) for t in parts):
        yield "counts at a relative threshold"
    for index in kept_indices(record.count):
        if not np.isclose(record.value(index), whole.values[index], rtol=FIGURE, atol=0):
            yield f"quantile {index}"


def _same_counts(whole: ModeSpectrum, tail: SpectrumTail) -> bool:
    """Whether economy, certain and possible are equal at every threshold from 0 to the cut.

    Each is the number of entries of an array at or below the threshold. Two arrays give equal numbers at every
    threshold up to the cut if their entries up to it, sorted, are equal: so all thresholds are compared, not a choice
    of them.
    """
    if (whole.structural, len(whole.values)) != (tail.structural, tail.count):
        return False
    for sign in (0, 1, -1):
        ours, theirs = (np.sort(part.values + sign * part.error_bound) for part in (whole, tail))
        if not np.array_equal(ours[ours <= tail.cut], theirs[theirs <= tail.cut]):
            return False
    return True
