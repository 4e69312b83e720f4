"""What each figure draws, as a table: the CSV files in plots/<study>, and nothing else, are what the figures show."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from gapscope.records.spectra import LayerRecord, log_indices
from gapscope.report import names
from gapscope.report.tables import KEYS

LONG = [*KEYS, "seed", "panel", "series", "value", "source"]
LAYERS = 8  # of a network in the figure of spectra, spaced evenly, the first and the last among them


def gap(runs: pd.DataFrame, printed: pd.DataFrame) -> pd.DataFrame:
    """Return error and loss against batch size, one row per run and series; printed values have the source `paper`.

    Args:
        runs: one row per run.
        printed: long rows of batch_size, quantity, split, value, as `papers.printed` gives them; may be empty.
    """
    measures = {
        "train error": ("error_pct", "train_error_pct"),
        "test error": ("error_pct", "test_error_pct"),
        "train cross-entropy": ("loss", "train_cross_entropy"),
        "test cross-entropy": ("loss", "test_cross_entropy"),
        "penalty": ("loss", "penalty"),
        "train cross-entropy + penalty": ("loss", "train_loss"),
    }
    rows = _runs_long(runs, measures)
    pairs = [{"model": m, "dataset": d} for m, d in dict.fromkeys(zip(runs["model"], runs["dataset"], strict=True))]
    rows += [
        {**pair, "batch_size": line["batch_size"], "panel": line["quantity"], "source": "paper"}
        | {"series": f"{line['split']} {line['quantity'].removesuffix('_pct')}", "value": line["value"]}
        for pair in pairs
        for line in printed.to_dict("records")
    ]
    return pd.DataFrame(rows, columns=LONG).dropna(subset=["value"])


def near_rank(runs: pd.DataFrame) -> pd.DataFrame:
    """Return near-rank counts against batch size, a row a run and series; `panel` is "threshold: question".

    "as the paper counts" has the whole count and the structural part, "excess" what is left in the run and in each
    control over b images, "what remains" the run's excess less that of the model trained at the first batch size on the
    same images, and the excess over one fixed probe.
    """
    first = runs["batch_size"].iloc[0]
    counted = {f"trained at b = {first}": "reference", "untrained": "untrained", "random": "random", "images": "input"}
    measures, flags = {}, {}
    for name in runs.columns:
        if not (name.startswith("near_rank_run_") and name.endswith("_full")):
            continue
        threshold = name.removeprefix("near_rank_run_").removesuffix("_full")
        remains = f"remains_{threshold}"
        runs = runs.assign(**{remains: _excess(runs, "run", threshold) - _excess(runs, "reference", threshold)})
        for question, series, sample, column in (
            ("as the paper counts", "structural + excess", "run", name),
            ("as the paper counts", "structural (zero by shape)", "run", f"near_rank_run_{threshold}_structural"),
            ("excess over b images", "trained at b", "run", f"near_rank_run_{threshold}_excess"),
            *(
                ("excess over b images", f"control: {series}", sample, f"near_rank_{sample}_{threshold}_excess")
                for series, sample in counted.items()
            ),
            ("what remains", f"trained at b, less trained at {first}", "run", remains),
            ("what remains", "excess over one fixed probe", "probe", f"near_rank_probe_{threshold}_excess"),
        ):
            key = f"{series}@{threshold}@{question}"
            measures[key] = (f"{threshold}: {question}", column)
            # zeros by shape are exact; a difference is as unsure as either count
            unsure = {"structural (zero by shape)": (), f"trained at b, less trained at {first}": ("run", "reference")}
            flags[key] = [f"near_rank_{name}_{threshold}_undecidable" for name in unsure.get(series, (sample,))]
    rows = _runs_long(runs, measures, flags)
    return pd.DataFrame(
        [{**row, "series": row["series"].partition("@")[0]} for row in rows], columns=[*LONG, "undecidable"]
    )


def _excess(runs: pd.DataFrame, sample: str, threshold: str) -> pd.Series:
    name = f"near_rank_{sample}_{threshold}_excess"
    return runs[name] if name in runs else pd.Series(float("nan"), index=runs.index)


def sharpness(runs: pd.DataFrame) -> pd.DataFrame:
    """Return test accuracy and sharpness against batch size, a row a run and series (as in Keskar's Figure 4)."""
    runs = runs.assign(accuracy=100 - runs["test_error_pct"])
    measures = {"test accuracy": ("accuracy_pct", "accuracy")}
    for column in [name for name in runs.columns if name.startswith("sharpness_") and name.endswith("_pct")]:
        split, space, epsilon = names.sharpness(column)
        measures[f"{column}@{space}, ε = {epsilon}"] = (f"{split}_sharpness_pct", column)
    rows = _runs_long(runs, measures)
    return pd.DataFrame([{**row, "series": row["series"].rpartition("@")[2]} for row in rows], columns=LONG)


def curves(histories: Iterable[tuple[Mapping[str, Any], pd.DataFrame]]) -> pd.DataFrame:
    """Return every epoch of every run, in the columns that a training curve needs."""
    kept = ["epoch", "updates", "train_error_pct_running", "test_error_pct_running", "train_cross_entropy_running"]
    frames = [history[kept].assign(**cell) for cell, history in histories]
    frame = pd.concat(frames).rename(columns=lambda name: name.removesuffix("_running"))
    return frame[[*KEYS, "seed", "epoch", "updates", "train_error_pct", "test_error_pct", "train_cross_entropy"]]


def spectra(records: Iterable[tuple[Mapping[str, Any], Iterable[LayerRecord]]]) -> pd.DataFrame:
    """Return the spectra over b images at `log_indices`, counted from 1; of a deep network at most `LAYERS` layers."""
    return pd.DataFrame(
        [
            {**cell, "layer": layer.layer, "mode": mode, "index": index + 1, "value": spectrum.value(index)}
            | {"error_bound": spectrum.error_bound[index], "count": spectrum.count, "method": spectrum.method}
            for cell, layers in records
            for layer in _shown([layer for layer in layers if layer.sample == "run"])
            for mode, spectrum in enumerate(layer.modes)
            for index in log_indices(spectrum.count)
        ],
        columns=[*KEYS, "seed", "layer", "mode", "index", "value", "error_bound", "count", "method"],
    )


def _shown(layers: Sequence[LayerRecord]) -> list[LayerRecord]:
    places = np.linspace(0, len(layers) - 1, min(LAYERS, len(layers))).round().astype(int)
    return [layers[place] for place in dict.fromkeys(places.tolist())]


def _runs_long(
    runs: pd.DataFrame, measures: Mapping[str, tuple[str, str]], flags: Mapping[str, Sequence[str]] | None = None
) -> list[dict[str, Any]]:
    return [
        {**{key: run[key] for key in [*KEYS, "seed"]}, "panel": panel, "series": series, "value": run[column]}
        | {"source": "measured"}
        | ({"undecidable": any(run.get(flag, 0) > 0 for flag in flags[series])} if flags else {})
        for _, run in runs[runs["status"] == "ok"].iterrows()
        for series, (panel, column) in measures.items()
        if column in runs and not (isinstance(run[column], float) and math.isnan(run[column]))
    ]
