"""The tripwire: is each stage's present code the code that its revision was last proved with?"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from gapscope.engine.proofs.cases import Case, by_stage
from gapscope.engine.proofs.code_proof import NO_NUMBERS
from gapscope.records import closure, proofs
from gapscope.records.proofs import CodeProof


def unproved(
    cases: Iterable[Case], root: Path = Path(), rows: Sequence[CodeProof] | None = None
) -> dict[str, list[str]]:
    """Return the stages whose present code is not proved: stage -> its unproved cases; an empty list if it has no case.

    Args:
        cases: all cases of `verified/cases.yaml`.
        root: folder of the project.
        rows: proofs; None: those in `verified/code.csv`.
    """
    proved = proofs.read_rows(root / proofs.CODE, CodeProof) if rows is None else rows
    names_of = by_stage(cases)
    unproved_stages: dict[str, list[str]] = {}
    for stage in closure.stages(root):
        if stage in NO_NUMBERS:
            continue
        names = names_of.get(stage, [])
        code, at = closure.closure_hash(stage, root), proofs.stage_revision(stage, root)
        missing = proofs.unproved_cases(stage, names, proved, code=code, at=at)
        if missing or not names:
            unproved_stages[stage] = missing
    return unproved_stages


def message(unproved_stages: dict[str, list[str]]) -> str:
    """Return in words what is wrong and what to do; "" if every stage is proved."""
    if not unproved_stages:
        return ""
    stages = sorted(unproved_stages)
    lines = [f"the code of {', '.join(stages)} is not the code that its revision was proved with."]
    if without := [stage for stage in stages if not unproved_stages[stage]]:
        lines.append(f"{', '.join(without)}: no case in verified/cases.yaml runs it; add one.")
    options = " ".join(f"--stage {stage}" for stage in stages)
    lines += [
        "If the change moves numbers, raise these stages' revisions in revisions.yaml: their results become stale.",
        f"In either case run: gapscope verify --against COMMIT {options}",
        "with the last commit whose code was proved, and commit what it writes to verified/code.csv.",
    ]
    return "\n".join(lines)
