"""One paper as its folder holds it: claims, tables and figures with the studies that repeat them, printed values.

A folder has, of these, what the paper has: `claims.yaml` (see `gapscope.claims.claim`), `items.yaml` (see `Item`), and
CSV files of printed tables with a module that puts them beside what a study measured.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from typing import Any

import pandas as pd
import yaml

from gapscope.claims.claim import Claim, read_claims
from gapscope.errors import InputError, did_you_mean
from gapscope.records.long import select

STATUSES = {"n": "ok", "diverged": "diverged", "stuck": "learned nothing"}  # column of counts -> status of a run


@dataclass(frozen=True)
class Item:
    """A table, figure or section of a paper, and the study that repeats it: an entry of `items.yaml`.

    Attributes:
        item: its name in the paper, such as Table 5.
        what: what it shows.
        study: the study that repeats it; empty where there is none yet.
        file: the file of the study that shows it: under metrics/STUDY, or a figure's .svg under plots/STUDY.
        why: what keeps it from having been run; a key of the file's `reasons`, or text.
        printed: key of the printed table that stands beside what the study measured, if there is one.
        as_printed: the study has the size that the paper prints, so that gaps can be compared.
    """

    item: str
    what: str
    study: str = ""
    file: str = ""
    why: str = ""
    printed: int | str | None = None
    as_printed: bool = False


Beside = Callable[[Any, pd.DataFrame, pd.DataFrame], pd.DataFrame]


@dataclass(frozen=True)
class Paper:
    """A paper.

    Attributes:
        folder: name of its folder, below `gapscope/papers`.
        beside: (key of a printed table, `batch_sizes.csv`, `cells.csv`) -> printed values beside measured ones.
        markdown: what `beside` returns -> Markdown.
        printed: key -> the printed values that figures show, as long rows: batch_size, quantity, axes, value.
    """

    folder: str
    beside: Beside | None = None
    markdown: Callable[[pd.DataFrame], str] | None = None
    printed: Callable[[Any], pd.DataFrame] | None = None

    @property
    def title(self) -> str:
        """Authors and year."""
        return str(self._file["title"])

    @cached_property
    def items(self) -> tuple[Item, ...]:
        """Tables and figures, in the order of `items.yaml`."""
        reasons = self._file.get("reasons", {})
        return tuple(_item(entry, reasons, self.folder) for entry in self._file.get("items", []))

    @cached_property
    def claims(self) -> tuple[Claim, ...]:
        """Claims, in the order of `claims.yaml`."""
        return read_claims(_text(self.folder, "claims"), self.folder)

    @property
    def no_evidence(self) -> tuple[str, ...]:
        """Studies whose settings are chosen to be quick: their verdicts are no evidence."""
        return tuple(self._file.get("no_evidence", ()))

    @cached_property
    def _file(self) -> Mapping[str, Any]:
        return yaml.safe_load(_text(self.folder, "items")) or {}


def counts(cells: pd.DataFrame) -> pd.DataFrame:
    """Return how many runs of each network, data set and batch size are good, diverged, or learned nothing.

    Args:
        cells: `cells.csv`, one row per run.
    """
    by = ["model", "dataset", "batch_size"]
    table = cells[by].assign(**{name: cells["status"].eq(status) for name, status in STATUSES.items()})
    return table.groupby(by, sort=False)[list(STATUSES)].sum().reset_index()


def of_pair(table: pd.DataFrame, model: Any, dataset: Any) -> pd.DataFrame:
    """Return the rows of one network and data set."""
    rows: pd.DataFrame = table[(table["model"] == model) & (table["dataset"] == dataset)]
    return rows


def measured(batches: pd.DataFrame, quantity: str, where: Mapping[str, Any]) -> pd.DataFrame:
    """Return mean and standard deviation of a quantity, indexed by batch size.

    Args:
        batches: `batch_sizes.csv` of one network and data set.
        quantity: its name.
        where: its axes.
    """
    rows = select(batches, quantity, where)
    return rows.set_index("batch_size")[["mean", "std"]]


def table_file(folder: str, name: str) -> pd.DataFrame:
    """Return a table of a paper's folder, by the name of its CSV file without suffix."""
    with (files("gapscope.papers") / folder / f"{name}.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file)


def _item(entry: Mapping[str, Any], reasons: Mapping[str, str], folder: str) -> Item:
    for key in entry:
        if key not in Item.__dataclass_fields__:
            raise InputError(
                f"{folder}/items.yaml: unknown key {key!r}; {did_you_mean(key, Item.__dataclass_fields__)}"
            )
    why = entry.get("why", "")
    return Item(**{**entry, "why": reasons.get(why, why)})


def _text(folder: str, name: str) -> str:
    path = files("gapscope.papers") / folder / f"{name}.yaml"
    return path.read_text(encoding="utf-8") if path.is_file() else ""
