"""Tables and paragraphs as data, and how Markdown and HTML write them."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from urllib.parse import quote


@dataclass(frozen=True)
class Link:
    """A cell that leads somewhere."""

    text: str
    target: str


@dataclass(frozen=True)
class Folded:
    """A cell of which a page shows a short text, and the whole where a reader opens it; Markdown has the whole."""

    text: str
    whole: str


Cell = str | Link | Folded


@dataclass(frozen=True)
class Table:
    """A table: its heads, its rows, and what is to be said below it."""

    heads: Sequence[Cell]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = field(default=())


@dataclass(frozen=True)
class Section:
    """A heading with paragraphs and tables below it."""

    title: str
    level: int
    parts: Sequence[str | Table] = field(default=())


def unbroken(text: str) -> str:
    r"""Return a text in which no line ends inside `n = 3` or `0.5 %`.

    Example:
        >>> unbroken("train error 0 % (n = 3)") == "train error 0\xa0% (n\xa0=\xa03)"
        True
    """
    return re.sub(r"\b([bnpε]) = (?=\d)", "\\1\xa0=\xa0", re.sub(r"(?<=\d) (?=%)|(?<=≤) (?=\d)", "\xa0", text))


def table_markdown(table: Table) -> str:
    """Return a table, and its notes, as Markdown."""
    lines = [_row(table.heads), "|---" * len(table.heads) + "|", *map(_row, table.rows)]
    return "\n\n".join(["\n".join(lines), *map(_plain, table.notes)])


def markdown(sections: Iterable[Section]) -> str:
    """Return sections as Markdown."""
    parts: list[str] = []
    for section in sections:
        parts.append(f"{'#' * section.level} {_plain(section.title)}")
        parts += [_plain(part) if isinstance(part, str) else table_markdown(part) for part in section.parts]
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def html(sections: Iterable[Section]) -> str:
    """Return sections as HTML: headings, paragraphs and tables, to be put into a page."""
    parts: list[str] = []
    for section in sections:
        parts += [f"<h{section.level}>{escape(section.title)}</h{section.level}>"] if section.title else []
        parts += [_paragraph(part) if isinstance(part, str) else _table(part) for part in section.parts]
    return "\n".join(parts) + "\n"


def _row(cells: Sequence[Cell]) -> str:
    wholes = [cell.whole if isinstance(cell, Folded) else cell for cell in cells]
    texts = [_link(cell) if isinstance(cell, Link) else _plain(cell) or " " for cell in wholes]
    columns = " | ".join(text.replace("|", r"\|") for text in texts)
    return f"| {columns} |"


def _link(link: Link) -> str:
    return f"[{_plain(link.text)}]({quote(link.target, safe='/.#?&=%')})"


def _plain(text: str) -> str:
    """Text for Markdown on one line: it can open no tag, link or entity; what stands in backticks stays code."""
    parts = " ".join(text.splitlines()).split("`")
    if len(parts) % 2 == 0:  # an odd backtick is one
        return _escaped("\\`".join(parts))
    return "`".join(part if odd else _escaped(part) for part, odd in zip(parts, (False, True) * len(parts)))


def _escaped(text: str) -> str:
    return re.sub(r"<(?=[A-Za-z/!?])|&(?=[#\w]+;)|\](?=[(\[:])", r"\\\g<0>", text)


def _table(table: Table) -> str:
    heads = "".join(f'<th scope="col">{_cell(head)}</th>' for head in table.heads)
    rows = [
        f'<tr><th scope="row" class="long">{_cell(first)}</th>'
        f"{''.join(f'<td>{_cell(cell)}</td>' for cell in rest)}</tr>"
        for first, *rest in table.rows
    ]
    body = "\n".join(["<table>", f"<thead><tr>{heads}</tr></thead>", "<tbody>", *rows, "</tbody>", "</table>"])
    return "\n".join([f'<div class="box">\n{body}\n</div>', *map(_paragraph, table.notes)])


def _cell(cell: Cell) -> str:
    if isinstance(cell, Folded):
        folded = f"<details><summary>{code(cell.text)}</summary>{code(cell.whole)}</details>"
        return folded if cell.whole != cell.text else code(cell.text)
    if not isinstance(cell, Link):
        return code(cell)
    text = escape(unbroken(cell.text)).replace("_", "_<wbr>")  # a long name of a study breaks there
    return f'<a href="{escape(cell.target)}">{text}</a>'


def _paragraph(text: str) -> str:
    return f"<p>{code(text)}</p>"


def code(text: str) -> str:
    """Return a text as HTML, with what stands in backticks as code."""
    parts = escape(unbroken(text)).split("`")
    if len(parts) % 2 == 0:  # an odd backtick is one
        return "`".join(parts)
    return "".join(f"<code>{part}</code>" if odd else part for part, odd in zip(parts, (False, True) * len(parts)))
