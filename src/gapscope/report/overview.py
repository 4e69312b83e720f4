"""Every study at a glance: which claims hold where, printed and measured gaps, and how far each item was run.

`overview.sections` returns the content as data and `overview.page` as Markdown; `report.sections.html` writes it for a
site. No stage makes it, since it is about all studies.
"""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from gapscope import papers
from gapscope.claims.claim import Claim
from gapscope.claims.wording import SIGNS, evidence
from gapscope.drawing import names, numbers
from gapscope.papers.paper import Item
from gapscope.records.tables import read_table
from gapscope.report import verdict_tables
from gapscope.report.sections import Cell, Link, Section, Table, markdown

KEY = (
    ", ".join(f"{sign} {word}" for word, sign in SIGNS.items()) + ".",
    "Each sign is the verdict on one claim in one study. A claim that was tested at several thresholds, box sizes or"
    " epochs has one sign for each. Open a sign to read its evidence: the effect, for a trend its slope per doubling of"
    " the batch size, p, and n where it is smaller than that of the study. Effects and slopes are means over seeds with"
    " 95 % intervals. An empty cell: the study does not measure it.",
    "A claim needs at least 3 seeds, and is decided at `claims.level` (default: 2 %). Primary claims and controls are"
    " corrected for their number (Holm). Secondary claims have a raw p: some will be significant by chance."
    " For no effect it is the p of a change as large as the margin.",
)
SHORT = (0, 1, 2, 3, 5)  # study, claim, verdict, effect with slope and p, n; a study's page has the rest
OTHERS = "Other studies"
MARKED = "‡ Runs that learned nothing are left out."
PAGES = ""  # how this page reaches the studies' pages


def page(metrics: Path, plots: Path) -> str:
    """Return the whole page as Markdown; arguments as of `sections`."""
    return markdown(sections(metrics, plots))


def sections(metrics: Path, plots: Path, pages: str = PAGES) -> list[Section]:
    """Return the page: verdicts by paper, those of all other studies, gaps, and the status of what is printed.

    Args:
        metrics: folder of all studies' tables.
        plots: folder of all studies' figures.
        pages: how the page reaches the studies' pages.
    """
    verdicts = verdict_tables.read_verdicts(metrics / "claims")
    found = [
        Section(
            "Which claims hold, in which studies?",
            1,
            ["Made from the committed records. Each study has a page of its own."],
        ),
        Section("Verdicts", 2, KEY if len(verdicts) else ["No study has tested its claims yet."]),
        *(_verdict_sections(verdicts, pages) if len(verdicts) else []),
    ]
    gaps = gap_table(metrics, pages)
    found += [Section("Printed and measured gaps", 2, [gaps])] if gaps.rows else []
    return [*found, Section("What is printed, and what was run", 2, [status_table(metrics, plots, pages)])]


def _verdict_sections(verdicts: pd.DataFrame, pages: str) -> list[Section]:
    """Tables of the studies that change only the batch size, one per paper and one of others, and one of remedies."""
    arms = {claim.name: claim.arm for claim in papers.claims()}
    plain = verdicts["claim"].map(arms).eq("plain")
    tables = _tables(verdicts).where(plain)
    found = [
        Section(title, 3, [_signs(verdicts[tables == title], pages)])
        for title in (*(paper.title for paper in papers.PAPERS.values()), OTHERS)
        if (tables == title).any()
    ]
    if plain.all():
        return found
    remedies = verdict_tables.arms(verdicts[~plain])
    heads, *rows = ([row[place] for place in SHORT] for row in (remedies.heads, *remedies.rows))
    short = Table(heads, rows)
    return [*found, Section("Remedies, widths and warm starts", 3, [short])]


def _tables(verdicts: pd.DataFrame) -> "pd.Series[str]":
    """Return the title of the table of each verdict: that of the paper that its study repeats.

    A claim of another paper that only one of these studies tests stands in the table of its own paper.
    """
    studies = {item.study: paper.title for paper in reversed(papers.PAPERS.values()) for item in paper.items}
    owners = {claim.name: paper.title for paper in papers.PAPERS.values() if paper.items for claim in paper.claims}
    tables, own = verdicts["study"].map(studies).fillna(OTHERS), verdicts["claim"].map(owners)
    tested_by, of = (verdicts.groupby(keys)["study"].transform("nunique") for keys in ([tables, "claim"], tables))
    foreign = (tested_by == 1) & (of > 1) & own.notna() & (tables != OTHERS)
    return tables.mask(foreign, own)


def _signs(verdicts: pd.DataFrame, pages: str) -> Table:
    """Return the verdicts' signs, with a column per study, or per network and data set of a study that has several."""
    tested = verdicts.groupby("claim")["verdict"].transform(lambda of: of.ne(verdict_tables.NOT_TESTABLE).any())
    several = verdicts.groupby("study")[["model", "dataset"]].nunique().gt(1).any(axis=1)
    rows = verdicts[tested].to_dict("records")
    own = [names.pair(row["model"], row["dataset"]) if several[row["study"]] else "" for row in rows]
    columns = [f"{row['study']}{': ' if of else ''}{of}" for row, of in zip(rows, own, strict=True)]
    heads = {column: Link(column, f"{pages}{row['study']}.html") for column, row in zip(columns, rows, strict=True)}
    return verdict_tables.matrix(verdicts[tested].assign(study=columns), heads, folded=True)


def gap_table(metrics: Path, pages: str = "reports/") -> Table:
    """Return a row per printed table that was run at its size: test error at both ends, the gap, and the verdict on it.

    The ends are the smallest and the largest batch size that are both printed and measured; ‡: runs that learned
    nothing are left out there. Where a smaller batch size was run, gap and verdict are about that one, and left out.

    Args:
        metrics: folder of all studies' tables.
        pages: how the text reaches the studies' pages.
    """
    heads = [
        "printed",
        "network, data",
        "b",
        "test error %, printed",
        "measured",
        "n",
        "gap, printed",
        "measured, points",
    ]
    rows = [_gap_row(item, metrics, pages) for _, item in papers.items() if item.as_printed]
    found = [row for row in rows if row]
    notes = [MARKED] if any("‡" in f"{cell}" for row in found for cell in row) else []
    return Table([*heads, "does test error rise?"], found, notes)


def _gap_row(item: Item, metrics: Path, pages: str) -> list[Cell]:
    folder = metrics / item.study
    if not (folder / "paper.csv").exists():
        return []
    rows, gaps = (read_table(folder / f"{name}.csv") for name in ("paper", "gap"))
    rows = rows[rows["quantity"].eq("error_pct") & rows["split"].eq("test")]
    rows = rows[rows["printed"].notna() & rows["mean"].notna()]
    if rows["batch_size"].nunique() < 2:
        return []
    own = rows[["model", "dataset"]].iloc[0]  # the paper's network, where a study has others too
    rows, gaps = (table[(table[list(own.index)] == own).all(axis=1)] for table in (rows, gaps))
    ends = rows.sort_values("batch_size").iloc[[0, -1]]
    last = gaps.set_index("batch_size").loc[ends["batch_size"].iloc[-1]]
    same = last["smallest"] == ends["batch_size"].iloc[0]
    marked = [numbers.fixed(row["mean"], 2) + (" ‡" if row["stuck"] else "") for row in ends.to_dict("records")]
    cells: list[Cell] = [Link(item.item, f"{pages}{item.study}.html"), item.what, _arrow(map(str, ends["batch_size"]))]
    cells += [_arrow(numbers.fixed(value, 2) for value in ends["printed"]), _arrow(marked), f"{last['n']:.0f}"]
    cells.append(numbers.signed(ends["printed"].iloc[-1] - ends["printed"].iloc[0]))
    verdict = _rises(metrics / "claims" / f"{item.study}.csv", own, str(ends["batch_size"].iloc[-1]))
    return [*cells, _gap(last) if same else "", verdict if same else ""]


def _arrow(values: Iterable[str]) -> str:
    return " → ".join(values)


def _gap(row: pd.Series) -> str:
    between = "" if pd.isna(row["gap_low"]) else f" ({numbers.interval(row['gap_low'], row['gap_high'])})"
    return f"{numbers.signed(row['gap'])}{between}"


def _rises(path: Path, own: pd.Series, largest: str) -> str:
    """Return the verdict that test error rises, with its evidence: the effect too, if it is about other batch sizes."""
    if not path.exists():
        return ""
    found = read_table(path)
    names = {claim.name for claim in papers.claims() if _is_gap(claim)}
    rows = found[(found[list(own.index)] == own).all(axis=1) & found["claim"].isin(names)]
    if rows.empty:
        return ""
    row = rows.iloc[0].to_dict()
    sign, tested = SIGNS[row["verdict"]], str(row["levels"]).rpartition(", ")[2]
    if tested == largest:
        return f"{sign} {evidence(row, effect=False, n=False)}".rstrip()
    return f"{sign} to {tested}: {evidence(row)}"


def _is_gap(claim: Claim) -> bool:
    """Whether the claim is that test error rises with batch size; each arm has one."""
    test_error = claim.measured.quantity == "error_pct" and claim.measured.where.get("split") == "test"
    return test_error and claim.test == "rises" and claim.over == "batch_size" and claim.compared_with is None


def status_table(metrics: Path, plots: Path, pages: str = PAGES) -> Table:
    """Return a row per table or figure of the papers: the study that repeats it, and how far it was run.

    Args:
        metrics: folder of all studies' tables.
        plots: folder of all studies' figures.
        pages: how the page reaches the studies' pages.
    """
    rows: list[list[Cell]] = []
    for paper, item in papers.items():
        figure = item.file.endswith(".svg")
        path = plots / item.study / f"{Path(item.file).stem}.csv" if figure else metrics / item.study / item.file
        run = item.study and path.exists()
        status = Link(extent(metrics / item.study), f"{pages}{item.study}.html") if run else item.why
        rows.append([paper.title, item.item, item.what, item.study and f"`{item.study}`", status])
    return Table(["paper", "printed", "what", "study", "run so far"], rows)


def extent(study: Path) -> str:
    """Return how far a study was run, in words."""
    paths = [study / f"{name}.csv" for name in ("cells", "runs", "warmstart")]
    table = next((read_table(path) for path in paths if path.exists()), pd.DataFrame())
    if "seed" not in table:
        return "run"
    seeds = table["seed"].nunique()
    counted = f"{seeds} seed{'s' if seeds > 1 else ''}"
    if "batch_size" in table and table["batch_size"].notna().any():
        return f"b = {', '.join(map(str, sorted(table['batch_size'].unique())))}; {counted}"
    return f"{table['start_epoch'].nunique()} starts; {counted}"
