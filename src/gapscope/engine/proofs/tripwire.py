"""The tripwire: whether each stage's present code is the code that its revision was last proved with."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from gapscope.engine.proofs.cases import Case
from gapscope.engine.proofs.code_proof import NO_NUMBERS
from gapscope.records import closure, proofs
from gapscope.records.proofs import CodeProof


def unproved(
    cases: Iterable[Case], root: Path = Path(), rows: Sequence[CodeProof] | None = None
) -> dict[str, list[str]]:
    """Return each stage whose present code is not proved -> the cases that are missing; no case at all: an empty list.

    Args:
        cases: all of `verified/cases.yaml`.
        root: folder of the project.
        rows: of `verified/code.csv`; None: as it is there.
    """
    there = proofs.read_rows(root / proofs.CODE, CodeProof) if rows is None else rows
    by_stage: dict[str, list[str]] = {}
    for case in cases:
        for stage in case.stages:
            by_stage.setdefault(stage, []).append(case.name)
    found: dict[str, list[str]] = {}
    for stage in closure.stages(root):
        if stage in NO_NUMBERS:
            continue
        names = by_stage.get(stage, [])
        code, at = closure.closure_hash(stage, root), proofs.stage_revision(stage, root)
        missing = proofs.unproved_cases(stage, names, there, code=code, at=at)
        if missing or not names:
            found[stage] = missing
    return found


def message(found: dict[str, list[str]]) -> str:
    """Return what is wrong and what to do; "" where all is proved."""
    if not found:
        return ""
    stages = sorted(found)
    lines = [f"the code of {', '.join(stages)} is not the code that its revision was proved with."]
    if without := [stage for stage in stages if not found[stage]]:
        lines.append(f"{', '.join(without)}: no case of verified/cases.yaml has it; add one.")
    options = " ".join(f"--stage {stage}" for stage in stages)
    lines += [
        "If the change moves numbers, raise these stages' revisions in revisions.yaml: their results become stale.",
        f"In either case run: gapscope verify --against COMMIT {options}",
        "with the last commit whose code was proved, and commit what it writes to verified/code.csv.",
    ]
    return "\n".join(lines)
