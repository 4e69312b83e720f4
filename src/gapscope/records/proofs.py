"""What has been proved: `verified/code.csv`, code proofs of every stage, and `verified/STUDY.csv`, those of a study.

`verified/same_code.csv` keeps which versions of a stage's code gave the same numbers in all cases. A chain of its rows
ties the code that a study was proved with to the present code.

A *code proof* ran an old and the present code of a stage on one machine on the same inputs and got the same bits. A
*result proof* computed a committed cell again and says how far it lies from the record. Only a code proof says that the
code is right; a result proof also depends on the processor, and "within seed spread" would pass wrong code.
"""

import csv
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from gapscope.config import REVISIONS, revision
from gapscope.records.closure import closure_hash
from gapscope.records.files import write_text

VERIFIED = Path("verified")
CODE = VERIFIED / "code.csv"
SAME_CODE = VERIFIED / "same_code.csv"

SAME_BITS = "same bits"
SAME_VALUES = "same values"  # the form has changed: every number of the old output stands in the new one
DIFFERENT = "different"
NEW_REVISION = "new revision"  # the stage's numbers were changed on purpose
NEW_STAGE = "new stage"  # the old version has no such stage
SAME = frozenset({SAME_BITS, SAME_VALUES})
PROVED = SAME | {NEW_REVISION, NEW_STAGE}

CODE_KIND, RESULT_KIND = "code", "result"
ROUNDING, WITHIN_SPREAD = "same up to rounding", "within seed spread"


@dataclass(frozen=True)
class CodeProof:
    """One stage in one case: a row of `verified/code.csv`."""

    stage: str
    case: str
    revision: int
    code: str  # hash of the present code of the stage
    against: str  # commit of the old code
    against_code: str  # its hash, by the present way of hashing
    verdict: str
    numbers: int
    largest_difference: float
    processor: str
    date: str


@dataclass(frozen=True)
class StudyProof:
    """One stage of one committed cell: a row of `verified/STUDY.csv`; an empty field does not apply."""

    cell: str
    stage: str
    revision: int
    code: str
    kind: str  # code or result
    against: str  # the commit of the old code, and why that one; for a result the commit that its record names
    processor: str
    conditions: str  # such as how many epochs
    first_rounding: str  # difference at the first evaluated epoch, in units of rounding
    end_rounding: str  # at the last one that was compared
    end_spread: str  # at the end, in standard deviations over seeds
    largest_difference: str  # relative to the value
    verdict: str
    date: str


@dataclass(frozen=True)
class SameCode:
    """Two versions of a stage's code that gave the same numbers in all cases: a row of `verified/same_code.csv`."""

    stage: str
    code: str  # hash of the newer code
    same_as: str  # hash of the older code
    cases: int
    date: str


Row = TypeVar("Row", bound=CodeProof | StudyProof | SameCode)


def read_rows(path: Path, kind: type[Row]) -> list[Row]:
    """Read a table of proofs; none where there is no file."""
    if not path.exists():
        return []
    types: dict[str, Any] = {field.name: field.type for field in fields(kind)}
    with path.open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    return [kind(**{name: _typed(text, types[name]) for name, text in row.items()}) for row in table]


def _typed(text: str, kind: object) -> Any:
    return int(text) if kind is int else float(text) if kind is float else text


def write_rows(path: Path, rows: Sequence[Row], kind: type[Row], *, key: Sequence[str]) -> None:
    """Add proofs to a table; a new one takes the place of an old one of the same key."""
    if not rows:
        return
    found: dict[tuple[str, ...], Row] = {}
    for row in [*read_rows(path, kind), *rows]:
        found[tuple(str(getattr(row, name)) for name in key)] = row
    names = [field.name for field in fields(kind)]
    lines = [_line(names), *(_line(asdict(found[place]).values()) for place in sorted(found))]
    write_text(path, "\n".join(lines) + "\n")


def _line(values: Iterable[object]) -> str:
    texts = [f"{value:.4g}" if isinstance(value, float) else str(value) for value in values]
    return ",".join(f'"{text.replace(chr(34), chr(39))}"' if "," in text or '"' in text else text for text in texts)


def write_code_proofs(rows: Sequence[CodeProof], path: Path = CODE) -> None:
    """Add code proofs to `verified/code.csv`."""
    write_rows(path, rows, CodeProof, key=("stage", "revision", "case"))


def same_code(rows: Iterable[CodeProof], cases: Mapping[str, Collection[str]]) -> list[SameCode]:
    """Return the pairs of code that these proofs show to be the same: in all cases of the stage.

    Args:
        rows: of `verified/code.csv`.
        cases: stage -> names of the cases that have it.
    """
    found: dict[tuple[str, str, str], list[CodeProof]] = {}
    for row in rows:
        found.setdefault((row.stage, row.code, row.against_code), []).append(row)
    return [
        SameCode(stage, code, old, len(proved), max(row.date for row in proved))
        for (stage, code, old), proved in found.items()
        if all(row.verdict in SAME for row in proved)
        and {row.case for row in proved} >= set(cases.get(stage, [""]))
        and old not in ("", code)
    ]


def write_same_code(rows: Sequence[SameCode], path: Path = SAME_CODE) -> None:
    """Add rows to `verified/same_code.csv`."""
    write_rows(path, rows, SameCode, key=("stage", "code", "same_as"))


def write_study_proofs(study: str, rows: Sequence[StudyProof]) -> None:
    """Add proofs to a study's table."""
    write_rows(VERIFIED / f"{study}.csv", rows, StudyProof, key=("kind", "stage", "cell", "against"))


def unproved_cases(stage: str, cases: Iterable[str], rows: Iterable[CodeProof], *, code: str, at: int) -> list[str]:
    """Return those of a stage's cases that the stage's present code has not been proved in.

    Args:
        stage: its name.
        cases: names of the cases that have it.
        rows: of `verified/code.csv`.
        code: hash of its present code.
        at: its revision.
    """
    own = [row for row in rows if row.stage == stage and row.revision == at and row.code == code]
    if any(not row.case for row in own):  # taken as it is
        return []
    proved = {row.case for row in own if row.verdict in PROVED}
    return [case for case in cases if case not in proved]


def standing(study: str, root: Path = Path()) -> list[str]:
    """Return what has been proved of a study, in sentences: of its code, then of its results."""
    rows = read_rows(root / VERIFIED / f"{study}.csv", StudyProof)
    code = [row for row in rows if row.kind == CODE_KIND]
    results = [row for row in rows if row.kind == RESULT_KIND]
    return [*(_code_standing(code, root) or ["Code not proved against the commit that made the results."]),
            *(_result_standing(results) or ["No cell was computed again."])]  # fmt: skip


def _code_standing(rows: Sequence[StudyProof], root: Path) -> list[str]:
    same = read_rows(root / SAME_CODE, SameCode)
    said = []
    for (verdict, against, date, conditions, cell), stages in _grouped(
        rows, "verdict", "against", "date", "conditions", "cell"
    ).items():
        names = ", ".join(stages)
        if verdict == SAME_BITS:
            said.append(f"Code proved on {date}: {names} as in {against} gave the same bits ({cell}, {conditions}).")
        else:
            said.append(f"Code not proved: {names} differed on {date} from {against} ({cell}, {conditions}).")
    changed = sorted({row.stage for row in rows if not _holds(row, root, same)})
    if changed:
        said.append(f"Since then the code of {', '.join(changed)} has changed, and is not proved.")
    return said


def _tied(stage: str, code: str, rows: Iterable[SameCode]) -> set[str]:
    """Return the hashes of all code of a stage that a chain of proofs ties to one hash, and that hash."""
    pairs = [{row.code, row.same_as} for row in rows if row.stage == stage]
    found, before = {code}, set[str]()
    while found != before:
        before = found
        found = found.union(*(pair for pair in pairs if pair & before))
    return found


def _holds(row: StudyProof, root: Path, same: Iterable[SameCode]) -> bool:
    """Whether the stage's present code is the one that was proved, or is tied to it by proofs."""
    present = root / "stages" / f"{row.stage}.py"
    return present.exists() and row.code in _tied(row.stage, closure_hash(row.stage, root), same)


def _result_standing(rows: Sequence[StudyProof]) -> list[str]:
    said = []
    for (verdict, stage, processor, date), cells in _grouped(
        rows, "verdict", "stage", "processor", "date", of="cell"
    ).items():
        count = "1 cell" if len(cells) == 1 else f"{len(cells)} cells"
        said.append(f"Computed again on {date} on {processor}: {stage}, {count}: {verdict} ({', '.join(cells)}).")
    return said


def _grouped(rows: Iterable[StudyProof], *names: str, of: str = "stage") -> dict[tuple[str, ...], list[str]]:
    found: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        found.setdefault(tuple(getattr(row, name) for name in names), []).append(getattr(row, of))
    return found


def stage_revision(stage: str, root: Path = Path()) -> int:
    """Return a stage's revision, as `revisions.yaml` has it; 1 in versions that have no such file."""
    path = root / REVISIONS
    return revision(stage, path) if path.exists() else 1
