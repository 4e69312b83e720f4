"""Near-rank loss: singular values at or below a threshold, summed over layers and modes.

Oyedotun et al. 2022, Definition 1 and Algorithm 1: singular values at or below a threshold, summed over layers. The sum
over modes, and the split into excess and structural zeros, are ours (`gapscope.numerics.hosvd.near_rank`).

`near_rank.csv` has one row per value:

- per spectrum (sample, layer, mode): `singular_values`, the number of values; `near_rank_structural`; and
  `near_rank_excess` at each threshold. Where the error bounds allow other counts, low and high are the extremes;
- per layer: `exact_zeros`, `dead_units`, `duplicate_samples`.

Zeros have no row, except in `exact_zeros`: there a missing row says that nobody looked for them. If no spectrum of a
sample has any excess at a threshold, one row without layer and mode says so. `sums` adds up each run.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gapscope.config import Params
from gapscope.errors import InputError
from gapscope.measures.quantity import Quantity
from gapscope.measures.spectra import methods, tails
from gapscope.numerics.hosvd.near_rank import absolute, near_rank_count, undecidable
from gapscope.numerics.hosvd.spectrum import SpectrumTail, mode_sizes
from gapscope.records.cells import cells
from gapscope.records.long import RUN
from gapscope.records.spectra import LayerRecord, read_spectra

if TYPE_CHECKING:  # pandas takes a second to import
    import pandas as pd

    from gapscope.measures.study import Study

RUNS_ON = "cell"
NEEDS = ("spectra",)
COUNTED = ("sample", "threshold", "relative")
QUANTITIES = {
    "near_rank_full": Quantity("near-rank loss as the paper counts", "values", COUNTED, None),
    "near_rank_structural": Quantity("structural zeros", "values", COUNTED, None),
    "near_rank_excess": Quantity("near-rank excess over structural zeros", "values", COUNTED, None),
    "near_rank_fraction": Quantity("near-rank excess as a share of all values", "", COUNTED, None),
    "undecidable_spectra": Quantity("spectra whose count the error bounds leave open", "spectra", COUNTED, None),
    "exact_zeros": Quantity("zeros of dead units and duplicate images", "values", ("sample",), None),
}
SAMPLES = ("run", "reference", "untrained", "probe")
HEADLINES = [("near_rank_excess", {"sample": "run"})]
SHOWN: list[tuple[str, dict[str, Any]]] = [
    ("near_rank_structural", {"sample": "run"}),
    *(("near_rank_excess", {"sample": sample}) for sample in SAMPLES),
    ("exact_zeros", {"sample": "run"}),
]
COLUMNS = (*RUN, "sample", "layer", "mode", "threshold", "relative", "quantity", "value", "low", "high")

Threshold = tuple[float, bool]  # and whether it is a part of the largest value
Row = dict[str, Any]


@dataclass(frozen=True)
class NearRankSettings:
    """Params of the near_rank stage beside the study's `thresholds`; `conf/config.yaml` explains each."""

    relative_thresholds: tuple[float, ...]

    def __post_init__(self) -> None:
        if not all(0 <= threshold < 1 for threshold in self.relative_thresholds):
            raise InputError(f"near_rank.relative_thresholds must lie in [0, 1), got {list(self.relative_thresholds)}")


def thresholds(params: Params) -> list[Threshold]:
    """Return a study's thresholds: the absolute ones, then the relative ones."""
    relative = params.section("near_rank", NearRankSettings).relative_thresholds
    return [(t, False) for t in params.thresholds] + [(t, True) for t in relative]


def rows(
    run: Mapping[str, Any], layers: Sequence[LayerRecord], of: Sequence[Threshold], *, cut: float, path: Path
) -> Iterator[Row]:
    """Yield the long rows of one record of spectra.

    Args:
        run: its `RUN` columns; a control's batch size is in its layers.
        layers: the spectra.
        of: thresholds.
        cut: up to it the record has every value.
        path: of the record, for messages.

    Raises:
        InputError: a threshold above the cut.
    """
    _check(layers, of, cut, path)
    samples: dict[tuple[str, int | None], list[LayerRecord]] = {}
    for layer in layers:
        samples.setdefault((layer.sample, layer.batch_size), []).append(layer)
    for (sample, batch_size), group in samples.items():
        about = {**run, "sample": sample} | ({} if batch_size is None else {"batch_size": batch_size})
        spectra = [
            ({"layer": each.layer, "mode": m}, tail) for each in group for m, tail in enumerate(tails(each, cut))
        ]
        for where, tail in spectra:
            yield _row(about | where, "singular_values", tail.count)
            if tail.structural:
                yield _row(about | where, "near_rank_structural", tail.structural)
        for each in group:
            yield from _exact_zeros(about | {"layer": each.layer}, each)
        for threshold, relative in of:
            yield from _excess(about | {"threshold": threshold, "relative": relative}, spectra)


def _exact_zeros(about: Mapping[str, Any], layer: LayerRecord) -> Iterator[Row]:
    if layer.dead_units is None or layer.duplicate_samples is None:
        return
    counts = {"dead_units": len(layer.dead_units), "duplicate_samples": len(layer.duplicate_samples)}
    yield _row(about, "exact_zeros", exact_zero_values(layer.shape, **counts))
    yield from (_row(about, name, count) for name, count in counts.items() if count)


def _excess(about: Row, spectra: Sequence[tuple[Row, SpectrumTail]]) -> Iterator[Row]:
    """Yield the excess of those spectra of a sample that have any, at the threshold that `about` names."""
    counts = near_rank_count([tail for _, tail in spectra], about["threshold"], relative=about["relative"])
    found = [(where, count) for (where, _), count in zip(spectra, counts, strict=True) if count.possible]
    for where, count in found:
        bounds = (count.certain, count.possible) if count.certain < count.possible else ()
        yield _row(about | where, "near_rank_excess", count.economy, *bounds)
    if not found:
        yield _row(about, "near_rank_excess", 0)


def exact_zero_values(shape: Sequence[int], dead_units: int, duplicate_samples: int) -> int:
    """Return how many singular values of a tensor are zero because of dead units and duplicate samples alone.

    Without these the unfoldings are those of a smaller tensor. It has fewer singular values; the missing ones are zeros
    of the whole tensor, and so are part of its near-rank excess at any threshold.

    Args:
        shape: samples, units, and the other axes.
        dead_units: number of units that are zero for every sample.
        duplicate_samples: number of samples that equal an earlier one.

    Example:
        >>> exact_zero_values((128, 84), dead_units=4, duplicate_samples=0)
        4
    """
    samples, units, *rest = shape
    alive = (samples - duplicate_samples, units - dead_units, *rest)
    whole, left = (sum(count for _, count in mode_sizes(of)) for of in (shape, alive))
    return whole - left


def run_rows(study: "Study") -> "pd.DataFrame":
    """Return the quantities of each run of a study as long rows."""
    return sums(study.table("near_rank"))


def notes(study: "Study") -> list[Row]:
    """Return the methods that each run's spectra needed."""
    found = ((cell.columns(), read_spectra(cell.record("spectra", ".jsonl"))[1]) for cell in cells(study.params))
    return [{**run, "spectra_methods": methods(layers)} for run, layers in found if layers]


def sums(table: "pd.DataFrame") -> "pd.DataFrame":
    """Return the quantities of each run as long rows: sums over its layers and modes.

    Args:
        table: near_rank.csv, as `rows` made it.

    Returns:
        `QUANTITIES` with the columns RUN, sample, threshold, relative, quantity, value, low, high. The fraction is the
        summed excess over the summed number of values. Low and high are given for the excess.
    """
    import pandas as pd

    if table.empty:
        return table
    sample, at = [*RUN, "sample"], [*RUN, *COUNTED]
    excess = table[table["quantity"] == "near_rank_excess"]
    bounds = {end: excess[end].astype(float).fillna(excess["value"]) for end in ("low", "high")}
    excess = excess.assign(**bounds)
    wide = pd.Series(
        [undecidable(low, high) for low, high in zip(excess["low"], excess["high"], strict=True)], excess.index, bool
    )
    counted = excess.assign(undecidable=wide).groupby(at, sort=False)
    added = counted[["value", "low", "high", "undecidable"]].sum().reset_index()
    total = {name: _sums(table, name, sample) for name in ("singular_values", "near_rank_structural", "exact_zeros")}
    keys = pd.MultiIndex.from_frame(added[sample])
    structural = total["near_rank_structural"].reindex(keys, fill_value=0).to_numpy()
    values = total["singular_values"].reindex(keys).to_numpy()
    parts: dict[str, dict[str, Any]] = {
        "near_rank_full": {"value": added["value"] + structural},
        "near_rank_structural": {"value": structural},
        "near_rank_excess": {"value": added["value"], "low": added["low"], "high": added["high"]},
        "near_rank_fraction": {"value": added["value"] / values},
        "undecidable_spectra": {"value": added["undecidable"]},
    }
    frames = [added[at].assign(quantity=name, **columns) for name, columns in parts.items()]
    frames.append(total["exact_zeros"].rename("value").reset_index().assign(quantity="exact_zeros"))
    columns = [*at, "quantity", "value", "low", "high"]
    return pd.concat([frame for frame in frames if len(frame)] or frames[:1]).reindex(columns=columns)


def _sums(table: "pd.DataFrame", quantity: str, by: list[str]) -> "pd.Series[float]":
    return table[table["quantity"] == quantity].groupby(by, sort=False)["value"].sum()


def _row(about: Mapping[str, Any], quantity: str, value: float, low: Any = None, high: Any = None) -> Row:
    known = {**about, "quantity": quantity, "value": value, "low": low, "high": high}
    return {name: known.get(name) for name in COLUMNS}


def _check(layers: Sequence[LayerRecord], of: Sequence[Threshold], cut: float, path: Path) -> None:
    """Raise InputError where a threshold is above the cut in any spectrum of a record."""
    largest = max((mode.largest for layer in layers for mode in layer.modes), default=0.0)
    needed, relative = max((absolute(threshold, largest, relative=relative), relative) for threshold, relative in of)
    if needed <= cut:
        return
    kind = f"relative threshold, {needed:.4g} at the largest value," if relative else f"threshold {needed:g}"
    new = float(f"{2 * needed:.0e}") if relative else needed  # other records may have larger values
    raise InputError(
        f"{path} has every value only up to {cut:g}, and the {kind} is above it; to compute the spectra again, repeat "
        f"the study's overrides in: gapscope run {path.parts[-3]} -S spectra.cut={new:g}"
    )
