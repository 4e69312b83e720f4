"""Effective ranks and condition number of each layer's activations: how near they are to losing directions.

Remark 1 of Oyedotun et al. 2022 says that the condition number rises with the batch size; the paper prints none.
`gapscope.numerics.hosvd.effective_ranks` has the definitions. Here all are of the samples' mode (mode 0, samples x
units); the records of spectra hold those of every mode. `near_rank.csv` has the condition numbers of runs and controls,
and `layers.csv` everything about the runs. A run's condition number is the median over its layers, since one dead unit
makes a layer's infinite.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from gapscope.measures.quantity import Quantity
from gapscope.numerics.hosvd.effective_ranks import condition_number, effective_ranks
from gapscope.numerics.hosvd.spectrum import ModeSpectrum
from gapscope.records.cells import cells
from gapscope.records.long import RUN
from gapscope.records.spectra import RANKS, LayerRecord, ModeRecord, ranges, read_spectra

if TYPE_CHECKING:  # pandas takes a second to import
    import pandas as pd

    from gapscope.measures.study import Study

RUNS_ON = "cell"
STAGE = "near_rank"
NEEDS = ("spectra", "near_rank")
SHOWN = [("condition_number", {"sample": "run"})]
QUANTITIES = {
    "condition_number": Quantity("condition number, median over layers", "", ("sample",), None),
}


def rows(run: Mapping[str, Any], layers: Iterable[LayerRecord]) -> Iterator[dict[str, Any]]:
    """Yield the long rows of one record of spectra: the condition number of each layer's mode 0.

    Args:
        run: its `RUN` columns; a control's batch size is in its layers.
        layers: the spectra.
    """
    for layer in layers:
        about = {**run, "sample": layer.sample, "layer": layer.layer, "mode": 0}
        if layer.batch_size is not None:
            about["batch_size"] = layer.batch_size
        yield {**about, "quantity": "condition_number", "value": of_mode(layer.modes[0])["condition_number"]}


def of_mode(mode: ModeRecord) -> dict[str, float]:
    """Return the effective ranks and the condition number of one mode by name."""
    ranks = mode.ranks
    if not ranks:  # a record that lists every value
        (found,) = effective_ranks([ModeSpectrum(mode.tail, mode.count, mode.error_bound, mode.method)])
        ranks = {name: getattr(found, name) for name in RANKS}
    condition = condition_number(mode.largest, mode.smallest, float(mode.error_bound[-1]))
    return {**ranks, "condition_number": condition}


def run_rows(study: "Study") -> "pd.DataFrame":
    """Return each run's condition number as long rows."""
    return medians(study.table("near_rank"))


def medians(table: "pd.DataFrame") -> "pd.DataFrame":
    """Return each run's condition number as long rows: the median over layers.

    Args:
        table: near_rank.csv, which has the rows of `rows`.
    """
    if table.empty:
        return table
    of_layers = table[(table["quantity"] == "condition_number") & (table["mode"] == 0)]
    found = of_layers.groupby([*RUN, "sample"], sort=False)["value"].median()
    return found.reset_index().assign(quantity="condition_number")


def layer_table(study: "Study") -> "pd.DataFrame":
    """Return one row per run, sample and layer: sources of exact zeros, and effective ranks of the samples' mode."""
    import pandas as pd

    rows = []
    for cell in cells(study.params):
        for layer in read_spectra(cell.record("spectra", ".jsonl"))[1]:
            samples, units, *_ = layer.shape
            zeros = {"dead_units": layer.dead_units or (), "duplicate_samples": layer.duplicate_samples or ()}
            about = {"sample": layer.sample, "layer": layer.layer, "samples": samples, "units": units}
            listed = {name: ranges(indices) for name, indices in zeros.items()}
            counted = {f"{name}_count": len(indices) for name, indices in zeros.items()}
            rows.append({**cell.columns(), **about, **listed, **counted, **of_mode(layer.modes[0])})
    return pd.DataFrame(rows)
