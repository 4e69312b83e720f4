"""A study as one HTML page that needs nothing else: verdicts, tables, figures, and how each number was made.

It is made of the files in metrics/STUDY and plots/STUDY and of conf/study/STUDY.yaml alone: they are in git, so a page
can be made again in any clone, without torch and without training. The same files give the same bytes.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from gapscope.claims.hypothesis_tests import SIGNS
from gapscope.drawing import numbers, svg
from gapscope.errors import InputError
from gapscope.records import provenance
from gapscope.records.tables import read_table
from gapscope.report import figure_catalogue, figures, gap, page_tables

TESTED = ("supported", "contradicted", "undecided")  # verdicts of which the page says that there is none
MADE = ("device", "threads", "commit", "gapscope", "torch", "python")  # of a record's provenance


@dataclass(frozen=True)
class Drawn:
    """A figure of the page."""

    name: str
    title: str
    reading: str
    svg: Markup


Figure = tuple[str, figure_catalogue.Shown, pd.DataFrame]


def page(
    study: str,
    metrics: Path,
    plots: Path,
    settings: Path,
    verdicts: Path,
    *,
    each: Callable[[Callable[[Figure], Drawn], Iterable[Figure]], Iterable[Drawn]] = map,
) -> str:
    """Return a study's page.

    Args:
        study: its name.
        metrics: folder metrics/STUDY.
        plots: folder plots/STUDY, of which the tables are read and not the pictures.
        settings: conf/study/STUDY.yaml.
        verdicts: metrics/claims/STUDY.csv; there need be none.
        each: `map`, or that of a pool of processes: drawing takes most of the time.
    """
    environment = Environment(
        loader=PackageLoader("gapscope.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"sized": numbers.number, "effect": numbers.effect}
    tested = claims(verdicts)
    found = Counter(row["verdict"] for row in tested)
    configuration, every = settings.read_text(encoding="utf-8"), metrics / "params.yaml"
    return environment.get_template("report.html.j2").render(
        study=study,
        about=about(configuration),
        claims=tested,
        signs=SIGNS,
        counted=", ".join(f"{found[verdict]} {verdict}" for verdict in SIGNS if found[verdict] or verdict in TESTED),
        answers=answers(metrics / "gap.csv"),
        tables=page_tables.of_study(metrics),
        figures=list(each(drawn, figure_catalogue.of_study(plots))),
        made=made(metrics),
        configuration=configuration,
        params=every.read_text(encoding="utf-8") if every.exists() else "",
    )


def claims(path: Path) -> list[Mapping[str, Any]]:
    """Return the rows of a table of claims, in its order; none where there is no file, or an empty one.

    Raises:
        InputError: a verdict that is none of `SIGNS`.
    """
    if not path.exists() or not path.read_text(encoding="utf-8").strip():
        return []
    rows = page_tables.records(read_table(path))
    if unknown := {str(row["verdict"]) for row in rows} - set(SIGNS):
        raise InputError(f"{path}: a verdict must be one of {', '.join(SIGNS)}, got {', '.join(sorted(unknown))}")
    return rows


def answers(path: Path) -> list[str]:
    """Return how large a batch each network stands, in words; none where the study has no two batch sizes."""
    table = read_table(path) if path.exists() else pd.DataFrame()
    return gap.answer(table) if len(table) else []


def drawn(figure: Figure) -> Drawn:
    """Return a figure of the page, drawn anew from its table."""
    name, shown, rows = figure
    label = f"{shown.title}. {shown.reading}"
    readable = shown.readable and not rows.empty
    picture = svg.inline(figures.styled(shown.draw, rows), name, label, readable=readable)
    return Drawn(name, shown.title, shown.reading, Markup(picture))


def made(metrics: Path) -> list[dict[str, Any]]:
    """Return how the records of a folder metrics/STUDY were made: a row a stage and way, with their number and time.

    Of records without a file in provenance/ the number alone.
    Where the folder has a `runs.csv`, records of cells that it does not list are of an earlier choice of cells.
    """
    names = _cells(metrics / "runs.csv")
    found: dict[tuple[Any, ...], list[float]] = {}
    for path in sorted(metrics.glob("*/*.json*")):
        if names and path.stem not in names:
            continue
        how = provenance.read_provenance(path)
        seconds = provenance.seconds(how)
        found.setdefault((path.parent.name, *(how.get(name) for name in MADE)), []).append(seconds)
    return [
        {"stage": stage, **dict(zip(MADE, how, strict=True)), "records": len(seconds), "seconds": sum(seconds)}
        for (stage, *how), seconds in found.items()
    ]


def about(configuration: str) -> str:
    """Return what a study's file says of itself: the comment that it opens with."""
    lines = [line for line in configuration.splitlines() if not line.startswith("# @package")]
    opening = re.match(r"(?:#.*\n)*", "\n".join([*lines, ""]))
    return " ".join(line.lstrip("# ") for line in opening[0].splitlines()) if opening else ""


def _cells(runs: Path) -> set[str]:
    if not runs.exists():
        return set()
    pairs = [(f"{row['model']}-{row['dataset']}", row) for row in page_tables.records(read_table(runs))]
    of_seeds = {f"{pair}-s{row['seed']}" for pair, row in pairs}
    return of_seeds | {f"{pair}-b{row['batch_size']}-s{row['seed']}" for pair, row in pairs}
