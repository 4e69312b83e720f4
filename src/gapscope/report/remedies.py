"""What closes the gap: one page over all remedies, with the gap before and after, and what each of them costs."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from gapscope.config import read_yaml
from gapscope.drawing import names, numbers, svg
from gapscope.drawing.axes import PANEL, looks
from gapscope.drawing.figure import styled
from gapscope.records import provenance
from gapscope.records.cells import WIDENED
from gapscope.records.tables import read_table
from gapscope.report import opening, question
from gapscope.report.sections import Cell, Link, Table

ENDS = ("before", "after")
NO_BREAK = "\N{NO-BREAK SPACE}"
COLUMNS = ["study", "remedy", "pair", "size", "verdict", *(f"{what}_{end}" for end in ENDS for what in (
    "gap", "low", "high", "updates", "seconds", "device"))]  # fmt: skip


@dataclass(frozen=True)
class End:
    """One end of a comparison: a study, one of its networks, and its table of gaps."""

    metrics: Path
    study: str
    model: str
    dataset: str

    @property
    def gaps(self) -> pd.DataFrame:
        """Its gaps, by batch size."""
        table = read_table(self.metrics / self.study / "gap.csv")
        return table[(table["model"] == self.model) & (table["dataset"] == self.dataset)].set_index("batch_size")

    def at(self, size: int) -> dict[str, Any]:
        """Return gap, updates, and the mean seconds of a training run on its device, at a batch size."""
        row = self.gaps.loc[size]
        cells = (self.metrics / self.study / "train").glob(f"{self.model}-{self.dataset}-b{size}-s*.json")
        how = [provenance.read_provenance(path) for path in sorted(cells)]
        devices = {str(of.get("device", "")).split(" (")[0] for of in how}
        seconds = [provenance.seconds(of) for of in how]
        return {
            **{"gap": row["gap"], "low": row["gap_low"], "high": row["gap_high"], "updates": row["updates"]},
            "seconds": sum(seconds) / len(seconds) if seconds else math.nan,
            "device": ", ".join(sorted(devices)),
        }


def rows(metrics: Path, studies: list[str]) -> pd.DataFrame:
    """Return one row per remedy, at the largest batch size that it and its reference have.

    Args:
        metrics: folder of all studies' tables.
        studies: their names. Those whose param `claims.arm` is plain are no remedies, and those without a table of gaps
            or whose reference has none cannot be compared.

    Returns:
        Columns `COLUMNS`; gaps in points with their 95 % intervals, and mean seconds per training run.
    """
    found = [row for study in studies for row in _of_study(metrics, study)]
    return pd.DataFrame(found, columns=COLUMNS)


def _of_study(metrics: Path, study: str) -> Iterator[dict[str, Any]]:
    path = metrics / study / "params.yaml"
    params = read_yaml(path) if path.exists() else {}
    if question.arm(params) == "plain" or not (metrics / study / "gap.csv").exists():
        return
    for before, after in _compared(metrics, study, params):
        if not (metrics / before.study / "gap.csv").exists():
            continue
        sizes = sorted(set(before.gaps.index) & set(after.gaps.index))
        if sizes:
            ends = {f"{what}_{name}": value for name, end in zip(ENDS, (before, after), strict=True)
                    for what, value in end.at(sizes[-1]).items()}  # fmt: skip
            width = WIDENED.fullmatch(after.model)
            remedy = f"width times {width['width']}" if width else question.remedy(params)
            pair = f"{question.networks([before.model], params)} on {names.dataset(after.dataset)}"
            verdict = opening.verdict(metrics / "claims" / f"{study}.csv")
            yield {"study": study, "remedy": remedy, "pair": pair, "size": sizes[-1],
                   "verdict": verdict, **ends}  # fmt: skip


def _compared(metrics: Path, study: str, params: Mapping[str, Any]) -> Iterator[tuple[End, End]]:
    """Yield both ends of each comparison: a wider network and that of the usual width, else study and reference."""
    reference = str(params["claims"]["reference"])
    for model in params["models"]:
        width = WIDENED.fullmatch(model)
        if float(width["width"]) > 1 if width else reference != study:
            for dataset in params["datasets"]:
                base = End(metrics, reference, width["name"] if width else model, dataset)
                yield base, End(metrics, study, model, dataset)


def table(found: pd.DataFrame) -> Table:
    """Return the remedies as a table: gap before and after, verdict, and cost."""
    heads = ["remedy", "network, data, b", "gap before, points", "gap after, points", "is it smaller?"]
    heads += ["updates", "seconds"]
    notes = [
        "The gap is the test error at b minus that at the smallest batch size, with its 95 % interval over seeds.",
        "A gap also shrinks when the smallest batch gets worse. The study's page has both test errors.",
        "Updates and seconds are those of one run at b. Seconds on different kinds of device are not compared.",
    ]
    return Table(heads, [_cells(row) for row in found.to_dict("records")], notes)


def _cells(row: Mapping[Any, Any]) -> list[Cell]:
    cost = [" → ".join(numbers.number(round(row[f"updates_{end}"])) for end in ENDS), _seconds(row)]
    about: list[Cell] = [Link(row["remedy"], f"{row['study']}.html"), f"{row['pair']}, {row['size']}"]
    verdict = (row["verdict"] or "not tested").replace(" ", NO_BREAK).replace(f",{NO_BREAK}", ", ")  # broken at commas
    gaps, cost = ([cell.replace(" ", NO_BREAK) for cell in cells] for cells in ([_gap(row, end) for end in ENDS], cost))
    return [*about, *gaps, verdict, *cost]


def _gap(row: Mapping[Any, Any], end: str) -> str:
    low, high = row[f"low_{end}"], row[f"high_{end}"]
    return f"{numbers.signed(row[f'gap_{end}'])}{'' if pd.isna(low) else f' ({numbers.interval(low, high)})'}"


def _seconds(row: Mapping[Any, Any]) -> str:
    if pd.isna(row["seconds_before"]) or pd.isna(row["seconds_after"]):
        return "not recorded"
    if row["device_before"] != row["device_after"]:
        return f"on {row['device_before']} and {row['device_after']}"
    return f"{' → '.join(numbers.number(row[f'seconds_{end}'], 3) for end in ENDS)} ({row['device_after']})"


def figure(found: pd.DataFrame) -> str:
    """Return the dot plot, as an element of a page: one line per remedy, a dot before and one after."""
    label = "Gap at the large batch before and after each remedy, in points of test error, with 95 % intervals."
    return svg.inline(svg.drawn(styled(draw, found), "remedies"), label)


def draw(found: pd.DataFrame) -> Figure:
    """Draw the gap before and after each remedy: one panel per network and data set."""
    pairs = list(found.groupby("pair", sort=False))
    most = max(len(of) for _, of in pairs)
    figsize = (PANEL[0] * len(pairs), 0.55 * most + 0.9)
    drawn, grid = plt.subplots(1, len(pairs), figsize=figsize, squeeze=False)
    for axes, (pair, of) in zip(grid[0], pairs, strict=True):
        places = -np.arange(len(of))
        for end, look, shift in zip(ENDS, looks(), (0.0, -0.2), strict=False):
            for low, high, place in zip(of[f"low_{end}"], of[f"high_{end}"], places + shift, strict=True):
                axes.plot([low, high], [place, place], color=look["color"], linestyle="-", linewidth=1, marker="")
            axes.plot(of[f"gap_{end}"], places + shift, **look | {"linestyle": ""}, label=f"{end} the remedy")
        for name, size, place in zip(of["remedy"], of["size"], places, strict=True):
            named = axes.text(
                0.01, place + 0.3, f"{name}, b = {size}", transform=axes.get_yaxis_transform(), va="center"
            )
            named.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.5})  # no line strikes it through
            named.set_in_layout(False)  # or the panel would shrink to give it room
        axes.axvline(0, color="0.4", linewidth=0.8, linestyle="--")
        axes.set(xlabel=f"gap in test error (points)\n{pair}", ylim=(-most + 0.4, 0.6), yticks=[])
        axes.fmt_xdata = lambda value: f"{value:.3g}"
    drawn.suptitle("Gap at the large batch (bars: 95 % intervals)")
    return drawn
