"""A study as one HTML page that needs nothing else: verdicts, tables, figures, and how each number was made.

It is made of the files in metrics/STUDY, provenance/STUDY and plots/STUDY and of conf/study/STUDY.yaml. These are in
git, so a page can be made in any clone, without torch and without training. The same files give the same bytes.
"""

import re
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from gapscope import measures
from gapscope.claims.wording import SIGNS, p_value
from gapscope.config import read_yaml
from gapscope.drawing import names, numbers, svg
from gapscope.errors import InputError
from gapscope.measures.study import words_of_records
from gapscope.records import proofs, provenance
from gapscope.records.tables import read_table
from gapscope.report import gap, measure_tables, opening, page_tables, processors
from gapscope.report.sections import code, unbroken
from gapscope.tasks.words import Words

MADE = ("device", "threads", "commit", "gapscope", "torch", "python")  # of a record's provenance
KEY = 6  # claims that a page shows at its top
FAMILIES = {  # family -> its heading and what a reader needs to know; "" has what is not testable
    "primary": (
        "Primary claims",
        "From the papers' abstracts and conclusions. They were fixed before these runs, and are corrected together.",
    ),
    "exploratory": (
        "Primary claims, on runs that had been seen",
        "From the papers' abstracts and conclusions, corrected together. They were chosen after these runs had been "
        "seen, so the verdicts are exploratory.",
    ),
    "secondary": ("Secondary claims", "Not corrected for their number: some will be significant by chance."),
    "control": (
        "Controls",
        "They ask whether a supported claim has another explanation. They are tested only where that claim is "
        "supported, and are corrected together.",
    ),
    "twin": ("The same claims at further thresholds and box sizes", "Not corrected, and counted nowhere."),
    "": ("Not testable here", ""),
}


@dataclass(frozen=True)
class Family:
    """Claims of one family."""

    name: str
    title: str
    note: str
    counted: str
    claims: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Shown:
    """A figure of the page."""

    name: str
    title: str
    caption: str
    svg: Markup


def page(
    study: str,
    metrics: Path,
    plots: Path,
    settings: Path,
    verdicts: Path,
) -> str:
    """Return a study's page.

    Args:
        study: its name.
        metrics: folder metrics/STUDY.
        plots: folder plots/STUDY: figures as .svg, and their tables.
        settings: conf/study/STUDY.yaml.
        verdicts: metrics/claims/STUDY.csv; there need be none.
    """
    tested = claims(verdicts)
    configuration, every = settings.read_text(encoding="utf-8"), metrics / "params.yaml"
    opens = opening.opening(study, read_yaml(every) if every.exists() else {}, metrics, tested)
    said = in_words_of(words(metrics))
    first, others = figures(plots, metrics, opens.measure, said)
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            study=study,
            about=about(configuration),
            opening=opens.in_words(said),
            claims=by_family(tested),
            several=len({(row["model"], row["dataset"]) for row in tested}) > 1,
            key=KEY,
            signs=SIGNS,
            answers=[said(answer) for answer in answers(metrics / "gap.csv")],
            tables=[table.in_words(said) for table in measure_tables.of_study(metrics)],
            first=first,
            figures=others,
            made=made(metrics),
            mixed=processors.mixed(metrics, _cells(metrics / "cells.csv")),
            proved=proofs.standing(study) if (proofs.VERIFIED / f"{study}.csv").exists() else (),
            configuration=escape(configuration),  # to be copied as it is
            params=escape(every.read_text(encoding="utf-8")) if every.exists() else "",
        )
    )


def words(metrics: Path) -> Words:
    """Return the words of the task of a study, by what was measured."""
    tables = (metrics / f"{name}.csv" for name in ("batch_sizes", "warmstart"))
    table = next((read_table(path) for path in tables if path.exists()), None)
    return words_of_records(metrics, () if table is None else set(table["quantity"]))


def in_words_of(words: Words) -> Callable[[str], str]:
    """Return what puts a text into a task's words. Claims and names of quantities are in these words already, and stay.

    Example:
        >>> from gapscope.tasks.words import LANGUAGE_MODEL
        >>> in_words_of(LANGUAGE_MODEL)("cross-entropy per token, and error, of two images")
        'cross-entropy per token, and token error, of two sequences'
    """
    if not words.instead:
        return words.said
    own = "|".join(re.escape(text) for text in sorted(words.instead.values(), key=len, reverse=True))
    parts = re.compile(f"({own})", re.IGNORECASE)
    return lambda text: "".join(
        part if number % 2 else words.said(part) for number, part in enumerate(parts.split(text))
    )


@cache
def environment() -> Environment:
    """Return the templates of pages."""
    made = Environment(
        loader=PackageLoader("gapscope.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        finalize=lambda shown: unbroken(shown) if type(shown) is str else shown,
    )
    script = Markup(made.loader.get_source(made, "report.js")[0])  # type: ignore[union-attr]
    made.globals |= {"script": script, "script_hash": content_hash(script)}
    made.filters |= {
        "effect": numbers.effect,
        "slope": numbers.slope,
        "p_value": p_value,
        "pair": lambda row: names.pair(row["model"], row["dataset"]),
        "at_odds": opening.at_odds,
        "code": lambda text: Markup(code(text)),
    }
    return made


def content_hash(script: str) -> str:
    """Return the source that a Content-Security-Policy allows an inline script by, whatever else is on the page."""
    return f"sha256-{b64encode(sha256(script.encode()).digest()).decode()}"


def claims(path: Path) -> list[Mapping[str, Any]]:
    """Return the rows of a table of claims, in its order; none where there is no file, or an empty one.

    Raises:
        InputError: a verdict that is none of `SIGNS`, or a table of an earlier revision.
    """
    if not path.exists() or not path.read_text(encoding="utf-8").strip():
        return []
    rows = page_tables.records(read_table(path))
    if rows and "family" not in rows[0]:
        raise InputError(
            f"{path} is from an earlier revision of the stage claims; make it again: dvc repro --allow-missing"
        )
    if unknown := {str(row["verdict"]) for row in rows} - set(SIGNS):
        raise InputError(f"{path}: a verdict must be one of {', '.join(SIGNS)}, got {', '.join(sorted(unknown))}")
    return rows


def by_family(rows: Sequence[Mapping[str, Any]]) -> list[Family]:
    """Return a page's claims by family; what is not testable comes last, whatever its family."""
    found = []
    for name, (title, note) in FAMILIES.items():
        own = [row for row in rows if (row["family"] if row["verdict"] != "not testable" else "") == name]
        if own:
            found.append(Family(name, title, note, counted(own), own))
    return found


def counted(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return how many verdicts of each kind there are, in words; twins are not counted."""
    found = Counter(str(row["verdict"]) for row in rows if row["family"] != "twin")
    return ", ".join(f"{found[verdict]} {verdict}" for verdict in SIGNS if found[verdict])


def answers(path: Path) -> list[str]:
    """Return how large a batch each network stands, in words; none where the study has no two batch sizes."""
    table = read_table(path) if path.exists() else pd.DataFrame()
    return gap.answer(table) if len(table) else []


def figures(plots: Path, metrics: Path, measure: str, said: Callable[[str], str]) -> tuple[list[Shown], list[Shown]]:
    """Return the figure that a page opens with, if there is one, and the others in the order of the measures.

    Args:
        plots: folder plots/STUDY.
        metrics: folder metrics/STUDY.
        measure: the page opens with its first figure that the study has.
        said: puts titles and captions into the words of the study's task; the figures themselves have them.
    """
    own = [figure.name for figure in measures.figures(measure)]
    drawn = list(_drawn(plots, metrics, said))
    first = next((name for name in own if any(shown.name == name for shown in drawn)), "")
    return [shown for shown in drawn if shown.name == first], [shown for shown in drawn if shown.name != first]


def _drawn(plots: Path, metrics: Path, said: Callable[[str], str]) -> Iterator[Shown]:
    for each in (figure for name in measures.names() for figure in measures.figures(name)):
        table, picture = (plots / f"{each.name}{suffix}" for suffix in (".csv", ".svg"))
        if table.exists() and picture.exists():
            rows = read_table(table)
            if rows.empty and each.optional:
                continue
            title, caption = said(each.title), "" if rows.empty else said(each.told(rows, metrics))
            drawn = svg.inline(picture.read_text(encoding="utf-8"), f"{title}. {caption}")
            yield Shown(each.name, title, caption, Markup(drawn))


def made(metrics: Path) -> list[dict[str, Any]]:
    """Return how the records of a folder metrics/STUDY were made: one row per stage and way, with number and time.

    Records without provenance are only counted. Records of runs that `cells.csv` does not list are left out: they
    belong to an earlier choice of cells.
    """
    names = _cells(metrics / "cells.csv")
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


def _cells(cells: Path) -> set[str]:
    if not cells.exists():
        return set()
    rows = [(f"{row['model']}-{row['dataset']}", row) for row in page_tables.records(read_table(cells))]
    of_seeds = {f"{pair}-s{row['seed']}" for pair, row in rows}
    return of_seeds | {f"{pair}-b{row.get('batch_size')}-s{row['seed']}" for pair, row in rows}
