"""Singular values of random matrices: which laws and shapes, how many of each, and the records of them."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from time import process_time
from typing import TYPE_CHECKING, Annotated, Any

from gapscope.config import Count, Within, load_params
from gapscope.errors import InputError
from gapscope.measures.quantity import Quantity
from gapscope.records.long import read_long
from gapscope.records.tables import read_record
from gapscope.runtime import RuntimeSettings, describe_device, progress

if TYPE_CHECKING:  # a page is drawn without torch
    import pandas as pd

    from gapscope.measures.study import Study

RUNS_ON = "study"
LAWS = ("gaussian", "uniform", "lognormal")
SHAPE = ("law", "rows", "columns")
QUANTITIES = {
    "sigma_min": Quantity("smallest singular value", "", (*SHAPE, "repetition"), None),
    "sigma_max": Quantity("largest singular value", "", (*SHAPE, "repetition"), None),
    "pooled": Quantity("matrices in a histogram", "", SHAPE, None),
    "count": Quantity("singular values in a bin", "", (*SHAPE, "bin_low", "bin_high"), None),
    "expected": Quantity("expected number in a bin", "", (*SHAPE, "bin_low", "bin_high"), None),
}


@dataclass(frozen=True)
class RandomMatrixSettings:
    """Params of the random_matrices stage."""

    shapes: tuple[tuple[Annotated[int, Within(1, 100_000)], ...], ...]
    repetitions: Annotated[int, Within(2, 1_000_000)]
    seed: int
    spectrum_values: Count
    bins: Annotated[int, Within(1, 100_000)]

    def __post_init__(self) -> None:
        for shape in self.shapes:
            if len(shape) != 2 or not shape[0] >= shape[1] >= 1:
                raise InputError(f"random_matrices.shapes holds [m, n] with m >= n >= 1, got {list(shape)}")
        if self.repetitions < 2:
            raise InputError(
                f"random_matrices.repetitions must be at least 2, got {self.repetitions}: one has no spread"
            )
        if self.spectrum_values < 1 or self.bins < 1:
            raise InputError("random_matrices: spectrum_values and bins must each be at least 1")

    def of_law(self, name: str) -> dict[str, Any]:
        """Return all that a repetition of this law depends on, besides its shape and number."""
        return {"law": name, "seed": self.seed, "spectrum_values": self.spectrum_values, "bins": self.bins}


def measure_law(*, law: str, log: Path, out: Path) -> None:
    """Draw and measure all matrices of one law, in several processes, and write the record.

    Args:
        law: gaussian, uniform or lognormal.
        log: file that keeps the finished repetitions; removed at the end.
        out: path of the record, without suffix.
    """
    from gapscope.numerics import random_matrices
    from gapscope.records.cell import write_cell
    from gapscope.records.provenance import Start
    from gapscope.records.resumable import finish

    params, start = load_params(), Start.of("random_matrices")
    settings = params.section("random_matrices", RandomMatrixSettings)
    workers = params.section("runtime", RuntimeSettings).workers
    entries, about = random_matrices.law(law), settings.of_law(law)
    pieces = [(m, n, index) for m, n in settings.shapes for index in range(settings.repetitions)]
    identity = about | {"revision": start.revision, "torch": version("torch")}
    finished = finish(partial(repetition, settings=about), pieces, log, identity, workers)
    by_piece = {(row["m"], row["n"], row["repetition"]): row for row in progress(finished, law, len(pieces))}
    measured = [by_piece[piece] for piece in pieces]
    record = {"law": law, "entry_mean": entries.mean, "entry_std": entries.std, "settings": vars(settings)}
    write_cell(
        out,
        rows(measured, random_matrices.histogram_rows(measured, law, settings.bins)),
        record,
        start,
        device=describe_device("cpu"),
        threads=1,
        cpu_s=sum(row["cpu_s"] for row in measured),
    )
    log.unlink()


def repetition(piece: tuple[int, int, int], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Draw and measure one matrix; its random stream is its own, so that it can be computed alone and in any order.

    Args:
        piece: m, n and the number of the repetition.
        settings: `RandomMatrixSettings.of_law`.

    Returns:
        m, n, repetition, sigma_min, sigma_max; `histogram`, bin index -> number of singular values, for the first
        repetitions, until they hold `spectrum_values` values together (else None); and cpu_s, which took them.
    """
    import numpy as np
    import torch

    from gapscope import seeds
    from gapscope.numerics.random_matrices import bin_width, extreme_singular_values, law, triangle

    start, (m, n, index), name = process_time(), piece, settings["law"]
    generator = seeds.generator(settings["seed"], "random matrix", name, m, n, index)
    R = triangle(law(name).draw((m, n), generator))
    smallest, largest = extreme_singular_values(R, generator)
    histogram = None
    if index * n < settings["spectrum_values"]:
        values = torch.linalg.svdvals(R).numpy()
        bins, counts = np.unique((values / bin_width(name, m, settings["bins"])).astype(int), return_counts=True)
        histogram = dict(zip(map(str, bins), counts.tolist(), strict=True))
    found = {"sigma_min": smallest, "sigma_max": largest, "histogram": histogram, "cpu_s": process_time() - start}
    return {"m": m, "n": n, "repetition": index, **found}


def rows(measured: Iterable[Mapping[str, Any]], histograms: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the long rows of one law's record, to 10 significant digits.

    Args:
        measured: results of `repetition`.
        histograms: of `numerics.random_matrices.histogram_rows`.
    """
    for row in measured:
        place = {"rows": row["m"], "columns": row["n"], "repetition": row["repetition"]}
        for quantity in ("sigma_min", "sigma_max"):
            yield {**place, "quantity": quantity, "value": _rounded(row[quantity])}
    pooled: dict[tuple[int, int], int] = {}
    for row in histograms:
        if (row["m"], row["n"]) not in pooled:
            pooled[row["m"], row["n"]] = row["repetitions"]
            yield {"rows": row["m"], "columns": row["n"], "quantity": "pooled", "value": row["repetitions"]}
        place = {"rows": row["m"], "columns": row["n"]}
        place |= {"bin_low": _rounded(row["low"]), "bin_high": _rounded(row["high"])}
        for quantity in ("count", "expected"):
            yield {**place, "quantity": quantity, "value": _rounded(row[quantity])}


def _rounded(value: Any) -> Any:
    return float(f"{value:.10g}") if isinstance(value, float) else value


def read(study: "Study") -> "tuple[dict[str, float], pd.DataFrame, pd.DataFrame]":
    """Return law -> standard deviation of an entry, values (one row per matrix), histograms (one row per bin)."""
    import pandas as pd

    stds, values, histograms = {}, [], []
    for law in LAWS:
        path = study.folder / "random_matrices" / law
        stds[law] = float(read_record(path.with_suffix(".json"))["entry_std"])
        table = read_long(path.with_suffix(".csv")).rename(columns={"rows": "m", "columns": "n"})
        each = table[table["repetition"].notna()]
        wide = each.pivot_table(index=["m", "n", "repetition"], columns="quantity", values="value", sort=False)
        values.append(wide.reset_index().assign(law=law))
        bins = table[table["bin_low"].notna()]
        place = ["m", "n", "bin_low", "bin_high"]
        wide = bins.pivot_table(index=place, columns="quantity", values="value", sort=False).reset_index()
        pooled = table[table["quantity"] == "pooled"].set_index(["m", "n"])["value"].rename("repetitions").astype(int)
        wide = wide.join(pooled, on=["m", "n"]).rename(columns={"bin_low": "low", "bin_high": "high"})
        histograms.append(wide.assign(law=law).astype({"count": int}))
    plain = {"m": int, "n": int}
    return stds, *(pd.concat(frames, ignore_index=True).astype(plain) for frames in (values, histograms))  # type: ignore[return-value]


def means(values: "pd.DataFrame", stds: Mapping[str, float]) -> "pd.DataFrame":
    """Return one row per law and shape: means and standard errors of sigma_min and sigma_max, beside the bounds.

    Args:
        values: one row per repetition: law, m, n, sigma_min, sigma_max.
        stds: law -> standard deviation of an entry.

    Returns:
        `lower` and `upper` are sqrt(m) -+ sqrt(n), times the standard deviation of an entry. Proposition 2 states them
        for Gaussian entries; Remark 1 takes Proposition 1 for other laws too. A margin is how far within its bound a
        mean lies, in its standard errors: a negative one violates the bound.
    """
    import pandas as pd

    rows = []
    for _, group in values.groupby(["law", "m", "n"], sort=False):
        name, m, n = group[["law", "m", "n"]].iloc[0]
        row: dict[str, Any] = {"law": name, "m": m, "n": n, "repetitions": len(group)}
        for column in ("sigma_min", "sigma_max"):
            row |= {f"{column}_mean": group[column].mean(), f"{column}_se": group[column].sem()}
        row["lower"], row["upper"] = (stds[name] * (math.sqrt(m) + sign * math.sqrt(n)) for sign in (-1, 1))
        row["lower_margin_se"] = (row["sigma_min_mean"] - row["lower"]) / row["sigma_min_se"]
        row["upper_margin_se"] = (row["upper"] - row["sigma_max_mean"]) / row["sigma_max_se"]
        rows.append(row)
    return pd.DataFrame(rows)
