"""What a study has measured: its cells, their records as long tables, and the tables that are made of them."""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gapscope.config import Params
from gapscope.drawing import names
from gapscope.errors import InputError
from gapscope.records.cells import cells, seed_records
from gapscope.records.long import AXES, RUN, VALUES, read_long
from gapscope.records.tables import AGAIN, Record, read_record, read_table
from gapscope.tasks.words import Words, words_of

if TYPE_CHECKING:  # pandas takes a second to import
    import pandas as pd

RECORD = ("quantity", "value")  # columns of every record of a stage
Run = dict[str, Any]


@dataclass(frozen=True)
class Study:
    """A study's results in a folder `metrics`.

    Attributes:
        params: the study's.
        printed: long table of the values that a paper prints for this study, where there is one: batch_size, quantity,
            axes, value.
    """

    params: Params
    printed: "pd.DataFrame | None" = None

    @property
    def folder(self) -> Path:
        """The folder of its tables."""
        return Path("metrics") / self.params.study

    @cached_property
    def notes(self) -> list[Run]:
        """One row per run: what identifies it, its status, and what its measures say beside their numbers."""
        import pandas as pd

        from gapscope import measures

        frames = [pd.DataFrame(listed) for listed in measures.notes(self) if listed]
        table = frames[0]
        for frame in frames[1:]:
            table = table.merge(frame, how="left", on=["model", "dataset", "batch_size", "seed"])
        return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]

    @cached_property
    def runs(self) -> "pd.DataFrame":
        """Every quantity of every run, long: `runs.csv`, with a column for every axis."""
        return read_long(self.folder / "runs.csv").reindex(columns=[*RUN, "quantity", *AXES, *VALUES])

    @cached_property
    def good_runs(self) -> "pd.DataFrame":
        """`runs`, without those that diverged or learned nothing."""
        import pandas as pd

        run = ["model", "dataset", "batch_size", "seed"]
        known = read_table(self.folder / "cells.csv")
        good = pd.MultiIndex.from_frame(known.loc[known["status"] == "ok", run])
        return self.runs[pd.MultiIndex.from_frame(self.runs[run]).isin(good)]

    @cached_property
    def words(self) -> Words:
        """The words of the study's task, by what its runs or warm starts have."""
        if (self.folder / "runs.csv").exists():
            return words_of_records(self.folder, set(self.runs["quantity"]))
        starts = self.table("warmstart")  # there are none where no network is trained
        return words_of_records(self.folder, set(starts["quantity"]) if len(starts) else ())

    def said(self, text: str) -> str:
        """Return what a figure says in the words of the study's task, with what training changes of its networks."""
        text, train = self.words.said(text), self.params.groups.get("train") or {}
        for network in {names.network(model) for model in self.params.models}:
            text = re.sub(rf"\b{re.escape(network)} on ", f"{names.varied(network, train)} on ", text)
        return text

    def table(self, name: str) -> "pd.DataFrame":
        """Return one of its tables; an empty one where it has none of that name."""
        import pandas as pd

        path = self.folder / f"{name}.csv"
        return read_long(path) if path.exists() else pd.DataFrame()

    def headers(self, stage: str) -> Iterator[tuple[Run, Record]]:
        """Yield what identifies each run, and its record of a stage."""
        for cell in cells(self.params):
            yield (about := dict(cell.columns())), _record(cell.record(stage, ".json"), about)

    def records(self, stage: str) -> Iterator[tuple[Run, Record, "pd.DataFrame"]]:
        """Yield what identifies each run, and its record and long table of a stage."""
        for cell in cells(self.params):
            record, table = (cell.record(stage, suffix) for suffix in (".json", ".csv"))
            yield (about := dict(cell.columns())), _record(record, about), read_long(table, needed=RECORD)

    def seed_records(
        self, stage: str, seeds: Sequence[int] | None = None
    ) -> Iterator[tuple[Run, Record, "pd.DataFrame"]]:
        """Yield identity, record and table of a stage that has one record per model, data set and seed."""
        for about, path in seed_records(self.params, stage, self.params.seeds if seeds is None else seeds):
            yield about, _record(Path(f"{path}.json"), about), read_long(Path(f"{path}.csv"), needed=RECORD)

    def long(self, stage: str) -> "pd.DataFrame":
        """Return the long tables of all runs as one, with what identifies each run."""
        import pandas as pd

        frames = [table.assign(**run) for run, _, table in self.records(stage)]
        return pd.concat([frame for frame in frames if len(frame)] or frames, ignore_index=True)


def words_of_records(folder: Path, quantities: Collection[str]) -> Words:
    """Return the words of a study's task, for images or for the rows of a table.

    Args:
        folder: metrics/STUDY, whose records say what the networks see.
        quantities: that the study has.
    """
    words, record = words_of(quantities), next(iter(sorted((folder / "train").glob("*.json"))), None)
    rows = record is not None and len((read_record(record).get("model") or {}).get("image_shape", ())) == 1
    return words.of_rows() if rows else words


def _record(path: Path, about: Run) -> Record:
    """Return a record, which must be of the run that its file name says."""
    record = read_record(path)
    for name in ("dataset", "batch_size", "seed"):
        if name in about and record.get(name, about[name]) != about[name]:
            raise InputError(f"{path} says {name} {record[name]!r}, and by its name it is {about[name]!r}; {AGAIN}")
    return record
