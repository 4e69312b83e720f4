"""How a study's results differ between two revisions, or from the committed ones, in words."""

import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from gapscope.claims.wording import evidence
from gapscope.drawing.numbers import number
from gapscope.git import git
from gapscope.records.long import RUN, VALUES, axis_text

DERIVED = ("pipelines.", "records.", "runtime.", "noops")  # params that follow from others, or change no number
TABLES = ("runs.csv", "warmstart.csv")  # of a folder metrics/STUDY; the first that is there has the runs
TRAINING = ("train", "warmstart")  # stages whose rounding all else follows
WIDEST = 80  # characters of a param with its old and new value
LARGEST = "largest difference of a test error"
LISTED = 5  # verdicts or params that a line names; the others are counted
# Two single runs with different seeds differ by root 2 times the spread of one; three such deviations are the limit of
# `gapscope verify` too.
SPREADS = 3 * math.sqrt(2)
MADE_WITH = ("processor", "instructions", "device", "torch")  # of a provenance: rounding depends on them


@dataclass(frozen=True)
class Results:
    """A study's results at one revision.

    Attributes:
        runs: long table of every number of every run; empty where the study has none.
        claims: table of verdicts; empty likewise.
        params: name -> value, of every param.
    """

    runs: pd.DataFrame
    claims: pd.DataFrame
    params: dict[str, Any]


def results(study: str, revision: str | None) -> Results | None:
    """Return a study's results at a commit, or as the files are; None where there are none.

    Args:
        study: its name.
        revision: a commit that git knows; None: the files.
    """
    texts = (_text(f"metrics/{study}/{name}", revision) for name in TABLES)
    runs = next(filter(None, texts), "")
    claims = _text(f"metrics/claims/{study}.csv", revision)
    if not runs and not claims:
        return None
    params = yaml.safe_load(_text(f"metrics/{study}/params.yaml", revision) or "{}")
    return Results(_table(runs), _table(claims), dict(_flat(params)))


def _text(path: str, revision: str | None) -> str:
    """Return a file's text; empty where it does not exist."""
    if revision is None:
        return Path(path).read_text(encoding="utf-8") if Path(path).is_file() else ""
    return git("show", f"{revision}:./{path}")


def _table(text: str) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(text)) if text.strip() else pd.DataFrame()


def _flat(values: dict[str, Any], within: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        name = f"{within}{key}"
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{name}.")
        else:
            yield name, value


@dataclass(frozen=True)
class Difference:
    """What differs between two results of one study."""

    old: Results
    new: Results

    @property
    def params(self) -> list[str]:
        """The params with different values; a param that one version of the project does not have is none of them."""
        names = [name for name in self.new.params if name in self.old.params]
        return [
            name for name in names if self.old.params[name] != self.new.params[name] and not name.startswith(DERIVED)
        ]

    @property
    def runs(self) -> tuple[int, int, int]:
        """How many runs both have, how many are new, and how many are gone."""
        old, new = (_identities(side.runs) for side in (self.old, self.new))
        return len(old & new), len(new - old), len(old - new)

    @cached_property
    def numbers(self) -> pd.DataFrame:
        """The numbers that both have: their axes, `value` (new) and `value_old`."""
        if self.old.runs.empty or self.new.runs.empty:
            return pd.DataFrame(columns=["quantity", "value", "value_old"])
        old, new = (side.runs.drop(columns=list(VALUES[1:]), errors="ignore") for side in (self.old, self.new))
        axes = [name for name in dict.fromkeys([*old, *new]) if name != VALUES[0]]
        old, new = (side.reindex(columns=[*axes, VALUES[0]]) for side in (old, new))
        old, new = (side.assign(**{name: side[name].astype("string") for name in axes}) for side in (old, new))
        return new.merge(old, on=axes, suffixes=("", "_old"))

    @cached_property
    def changed_numbers(self) -> pd.DataFrame:
        """Those of `numbers` that differ."""
        both = self.numbers
        same = (both["value"] == both["value_old"]) | (both["value"].isna() & both["value_old"].isna())
        return both[~same]

    @cached_property
    def verdicts(self) -> pd.DataFrame:
        """The claims that both have: the new table, with `verdict_old`."""
        if self.old.claims.empty or self.new.claims.empty:
            return pd.DataFrame(columns=["verdict", "verdict_old"])
        key = ["claim", "model", "dataset"]  # a claim at several thresholds is paired in their order
        old, new = (
            side.claims.assign(place=side.claims.groupby(key, dropna=False).cumcount()) for side in (self.old, self.new)
        )
        return new.merge(old[[*key, "place", "verdict"]], on=[*key, "place"], suffixes=("", "_old"))

    @property
    def changed_verdicts(self) -> pd.DataFrame:
        """Those of `verdicts` that differ."""
        return self.verdicts[self.verdicts["verdict"] != self.verdicts["verdict_old"]]

    @property
    def test_error(self) -> float | None:
        """The largest difference of a test error in points; None where there is none to compare."""
        errors = _test_errors(self.numbers)
        return None if errors.empty else float((errors["value"] - errors["value_old"]).abs().max())

    def lines(self) -> list[str]:
        """Return what changed, in words: params, runs, numbers, thresholds and verdicts."""
        found = []
        if self.params:
            named = [_shortly(f"{name} {self.old.params[name]} -> {self.new.params[name]}") for name in self.params]
            found.append(f"params: {_listed(named)}")
        both, added, gone = self.runs
        if both or added or gone:
            changes = [f"{count} {what}" for count, what in ((added, "new"), (gone, "gone")) if count]
            found.append(f"runs: {', '.join([f'{both} in both', *changes]) if changes else 'same'}")
        if both:
            changed, total = len(self.changed_numbers), len(self.numbers)
            same = "same" if total else "not compared, the tables have different columns"
            error = "" if self.test_error is None else f"; {LARGEST} {self.points()}"
            found.append(f"numbers: {f'{changed:,} of {total:,} differ{error}' if changed else same}")
        old, new = (thresholds(side.runs) for side in (self.old, self.new))
        if old and new and old != new:
            found.append(f"near-rank counts: recounted at {_and(new)} (before: {_and(old)})")
        return [*found, *self.verdict_lines()]

    def verdict_lines(self) -> list[str]:
        """Return which verdicts changed, in words."""
        total = len(self.verdicts)
        found = []
        if changed := len(self.changed_verdicts):
            found.append(f"verdicts: {changed} of {total} changed")
            found += [f"  {_changed(row)}" for row in self.changed_verdicts.head(LISTED).to_dict("records")]
            found += [f"  and {changed - LISTED} more"] if changed > LISTED else []
        elif total:
            found.append(f"verdicts: all {total} same")
        one_sided = len(self.new.claims) - total, len(self.old.claims) - total
        if any(one_sided):
            found.append(f"claims: {one_sided[0]} new, {one_sided[1]} gone")
        return found

    def points(self) -> str:
        """Return the largest difference of a test error in words, with the images that it is, if that is known."""
        errors = _test_errors(self.numbers)
        largest = (errors["value"] - errors["value_old"]).abs()
        images = _test_images(str(errors["dataset"].tolist()[int(largest.argmax())])) if len(errors) else None
        counted = round(largest.max() * images / 100) if images else 0
        told = f" ({counted} image{'' if counted == 1 else 's'})" if images else ""
        return f"{number(largest.max(), 2)} points{told}"

    @property
    def beyond_spread(self) -> bool:
        """Whether a test error differs by more than two runs with different seeds may, and by more than one image."""
        errors = _test_errors(self.numbers)
        if errors.empty:
            return False
        groups = errors.groupby(["model", "dataset", "batch_size"])["value_old"]
        spread = math.sqrt(groups.var().mean()) if groups.size().max() > 1 else 0.0
        images = _test_images(str(errors["dataset"].iloc[0]))
        return (self.test_error or 0) > max(SPREADS * spread, 100 / images * (1 + 1e-9) if images else 0)


def with_committed(study: str) -> list[str]:
    """Return in words how the files of a study compare with those of the last commit; nothing without git."""
    if not git("rev-parse", "--verify", "--quiet", "HEAD^{commit}"):
        return []
    old, new = results(study, "HEAD"), results(study, None)
    if new is None:
        return []
    if old is None:
        return ["no results of this study are committed yet, so there is nothing to compare with"]
    return compared(study, Difference(old, new))


def compared(study: str, difference: Difference) -> list[str]:
    """Return how new results compare with committed ones: equal, in agreement, near, or different."""
    both, added, gone = difference.runs
    if difference.params or added or gone or not both:
        return ["compared with the committed results:", *(f"  {line}" for line in difference.lines())]
    total, changed = len(difference.verdicts), len(difference.changed_verdicts)
    verdicts = f"{total - changed} of {total} verdicts equal"
    if difference.changed_numbers.empty and not changed:
        return [f"equal to the committed results: {verdicts}, all {len(difference.numbers):,} numbers the same"]
    facts = verdicts if difference.test_error is None else f"{verdicts}, {LARGEST} {difference.points()}"
    if difference.beyond_spread:
        return [
            f"DIFFERS from the committed results: {facts}, which is more than other seeds would change; "
            f"gapscope verify {study} looks into it"
        ]
    how = (
        "near the committed results, but not all verdicts are equal" if changed else "agrees with the committed results"
    )
    return [f"{how}: {facts}; {_why(study)}", *(difference.verdict_lines() if changed else [])]


def _changed(row: Mapping[Any, Any]) -> str:
    """Return a verdict that changed, with the evidence for the new one; a table of an early version has none."""
    change = f"{row['claim']}: {row['verdict_old']} -> {row['verdict']}"
    return f"{change}, {evidence(row)}" if {"effect", "family", "p_slope", "p_none", "n"} <= row.keys() else change


def _why(study: str) -> str:
    """Return why numbers that should equal the committed ones are not, as far as provenance can tell."""
    for path in (path for stage in TRAINING for path in Path("provenance", study, stage).glob("*.json")):
        old, new = (json.loads(_text(path.as_posix(), revision) or "{}") for revision in ("HEAD", None))
        if old and any(old.get(name) != new.get(name) for name in MADE_WITH):
            return "your processor or torch rounds differently, which is normal"
    return f"processor and torch are the same, so look into it: gapscope verify {study}"


def _identities(runs: pd.DataFrame) -> set[tuple[Any, ...]]:
    columns = [name for name in RUN if name in runs]
    return set(runs[columns].drop_duplicates().itertuples(index=False, name=None)) if columns else set()


def _test_errors(numbers: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the final test error, with re-estimated batch norm where a run has both statistics."""
    if not {"split", "statistics", "dataset"} <= set(numbers):
        return numbers.iloc[:0]
    chosen = (numbers["quantity"] == "error_pct") & (numbers["split"] == "test")
    return numbers[chosen & (numbers["statistics"] == "reestimated")].dropna(subset=["value", "value_old"])


def _test_images(dataset: str) -> int | None:
    text = _text(f"data/datasets/{dataset}.json", None)
    return json.loads(text).get("test_images") if text else None


def thresholds(runs: pd.DataFrame) -> list[float]:
    """Return the thresholds of the near-rank counts in a long table of runs."""
    if "threshold" not in runs:
        return []
    relative = runs["relative"].astype("string").isin(["True", "true", "1", "1.0"]) if "relative" in runs else False
    counts = runs[runs["quantity"].str.startswith("near_rank") & ~relative]
    return sorted(counts["threshold"].dropna().unique(), reverse=True)


def _and(values: Iterable[float]) -> str:
    return ", ".join(map(axis_text, values)) or "none"


def _shortly(text: str) -> str:
    return text if len(text) <= WIDEST else f"{text.partition(' ')[0]} changed"


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return f"{', '.join(names[:LISTED])}{more}"
