"""Figure of near-rank loss against batch size: as the paper counts, beside controls, and what remains."""

from collections.abc import Iterator
from typing import Any

import pandas as pd
from matplotlib.figure import Figure as Drawing

from gapscope.drawing import axes as drawing
from gapscope.drawing.figure import Figure
from gapscope.measures.study import Study
from gapscope.records.long import RUN
from gapscope.records.long import axis_text as text

AS_PAPER, EXCESS, REMAINS = "as the paper counts", "excess over b images", "what remains"
QUESTIONS = (AS_PAPER, EXCESS, REMAINS)


def table(study: Study) -> pd.DataFrame:
    """Return near-rank counts against batch size, one row per run and series; the panel names the threshold.

    The question "as the paper counts" has the whole count and its structural part; "excess over b images" what is left
    in the run and in each control; "what remains" the run's excess minus that of the model trained at the first batch
    size on the same images, and the excess over one fixed probe.
    """
    runs = study.good_runs
    counted = runs[runs["quantity"].str.startswith(("near_rank", "undecidable"))]
    frames = [
        frame
        for (threshold, relative), of in counted.groupby(["threshold", "relative"], sort=False)
        for frame in _panels(of, int(runs["batch_size"].iloc[0]), f"≤ {text(threshold)}{_of_the_largest(relative)}")
    ]
    columns = [*drawing.LONG, "undecidable", "question"]
    return pd.concat(frames, ignore_index=True).reindex(columns=columns) if frames else pd.DataFrame(columns=columns)


def _of_the_largest(relative: object) -> str:
    return " of the largest" if relative else ""


def _panels(counted: pd.DataFrame, first: int, threshold: str) -> Iterator[pd.DataFrame]:
    run, reference = _values(counted, "run"), _values(counted, "reference")
    yield _series(run, threshold, AS_PAPER, "structural + excess", "near_rank_full")
    structural = run.assign(undecidable=False)  # zeros by shape are exact
    yield _series(structural, threshold, AS_PAPER, "structural (zero by shape)", "near_rank_structural")
    yield _series(run, threshold, EXCESS, "trained at b", "near_rank_excess")
    controls = {f"trained at b = {first}": reference, "untrained": _values(counted, "untrained")}
    controls |= {"random": _values(counted, "random"), "images": _values(counted, "input")}
    for name, of in controls.items():
        yield _series(of, threshold, EXCESS, f"control: {name}", "near_rank_excess")
    both = run.join(reference.add_suffix("_reference"), how="inner")
    if len(both):
        both["remains"] = both["near_rank_excess"] - both["near_rank_excess_reference"]
        both["undecidable"] |= both["undecidable_reference"]  # a difference is as unsure as either count
        yield _series(both, threshold, REMAINS, f"trained at b, minus trained at {first}", "remains")
    yield _series(_values(counted, "probe"), threshold, REMAINS, "excess over one fixed probe", "near_rank_excess")


def _values(counted: pd.DataFrame, sample: str) -> pd.DataFrame:
    """Return one row per run: its counts in a sample, and whether any of them is undecidable."""
    here = counted[counted["sample"] == sample]
    wide = here.pivot_table(index=[*RUN, "threshold", "relative"], columns="quantity", values="value", sort=False)
    if wide.empty:
        return wide
    return wide.assign(undecidable=wide["undecidable_spectra"] > 0)


def _series(values: pd.DataFrame, threshold: str, question: str, series: str, column: str) -> pd.DataFrame:
    if values.empty:
        return pd.DataFrame()
    rows = values[[column, "undecidable"]].rename(columns={column: "value"}).reset_index()
    return drawing.rows_of(rows, f"values {threshold}: {question}", series).assign(question=question)


def caption(rows: pd.DataFrame) -> str:
    """Return how to read the figure."""
    whole = "As the paper counts, structural zeros are included: the shape forces them, whatever training did."
    excess = "The excess is the number of values that could have been large and are not."
    if rows["series"].str.startswith("control").any():
        excess += " The controls were not trained at that batch size."
    panels = {AS_PAPER: whole, EXCESS: excess, REMAINS: "What remains is for training to explain."}
    told = [text for question, text in panels.items() if question in set(rows["question"])]
    unsure = rows["undecidable"].astype(bool).any()
    ring = ["A ring marks a count that the error bounds leave open."] if unsure else []
    return " ".join(["One row of panels per threshold.", *told, drawing.runs_caption(rows), *ring])


def draw(rows: pd.DataFrame) -> Drawing:
    """Draw near-rank counts against batch size: one row of panels per threshold, one column per question."""
    title = "Near-rank loss, summed over layers and modes"
    figure = drawing.against_batch_size(rows, title, rows["question"].nunique())
    for axes in figure.axes:
        axes.set_yscale("symlog", linthresh=1)  # counts of 0 are results too
        low, high = axes.dataLim.intervaly
        axes.set_ylim(low / 2 if low > 1 else min(-0.3, 3 * low), 2 * max(1.0, high))
    return figure


FIGURES: list[Any] = [Figure("near_rank", "Near-rank loss", caption, table, draw)]
