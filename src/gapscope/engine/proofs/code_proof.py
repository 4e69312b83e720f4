"""Code proofs: old and present code run every stage on this machine, and must give the same bits from the same inputs.

In each case both versions run their own pipeline from the data on, stage by stage, and the outputs of each stage are
compared before the next one reads them. If they differ, the present code continues with the old weights and
activations, so that a later stage is judged by itself.
"""

import datetime
import os
import tempfile
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

import numpy as np

from gapscope.engine.proofs.cases import IMAGES, Case, write_images
from gapscope.engine.proofs.migrations import Migration, migration_from
from gapscope.engine.proofs.numbers import Difference, absent, compare, read_numbers
from gapscope.engine.proofs.processor import processor
from gapscope.engine.proofs.versions import Stage, Version, Worker, present, unpacked
from gapscope.errors import InputError
from gapscope.records import proofs
from gapscope.records.closure import closure_hash
from gapscope.records.integrity import note_written
from gapscope.records.proofs import CodeProof

# stages whose outputs hold no numbers, so that there is nothing to compare
NO_NUMBERS = {
    "check": "refuses unsafe names, and writes one constant line",
    "code": "wrote hashes of files in version 0.1",
    "plan": "checks settings, and writes one constant line",
    "report": "makes a page of tables that are compared",
    "settings": "a copy of params.yaml",
}
Outs = Sequence[Sequence[str]]  # for each cell, the paths of a stage's outputs


@dataclass(frozen=True)
class Compared:
    """The outcome for one stage of one case."""

    stage: str
    verdict: str
    difference: Difference


def prove(
    against: str, cases: Iterable[Case], wanted: Mapping[str, Sequence[str]], *, jobs: int, say: Callable[[str], None]
) -> Generator[list[CodeProof]]:
    """Run cases with a commit's code and the present code, and yield the proofs of each case when it ends.

    Args:
        against: a commit.
        cases: to run.
        wanted: case -> stages to compare there.
        jobs: cases at once, each in a process of its own of one thread.
        say: called with a line for each stage and each failure. A case that fails has no proof.

    Raises:
        InputError: no such commit.
    """
    with tempfile.TemporaryDirectory(prefix="gapscope-verify-") as temporary:
        folder = Path(temporary)
        old, new = unpacked(against, folder / "old"), present(folder / "new")
        workers: SimpleQueue[Worker] = SimpleQueue()
        started = [Worker() for _ in range(jobs)]
        for worker in started:
            workers.put(worker)

        def one(case: Case) -> list[Compared]:
            worker = workers.get()
            try:
                with tempfile.TemporaryDirectory(dir=folder, prefix=f"{case.name}-") as own:
                    return prove_case(case, wanted[case.name], (old, new), worker, Path(own), say)
            finally:
                workers.put(worker)

        with ThreadPoolExecutor(jobs) as pool:
            try:
                running = {pool.submit(one, case): case for case in cases}
                for future in as_completed(running):
                    case = running[future]
                    try:
                        yield [proof_of(compared, case.name, old, new) for compared in future.result()]
                    except InputError as error:
                        say(f"{case.name}: FAILED: {error}")
            finally:  # the pool waits for its threads, and these wait for their workers
                pool.shutdown(wait=False, cancel_futures=True)
                for worker in started:
                    worker.close()


def what_to_prove(
    against: str, cases: Sequence[Case], stages: Sequence[str], *, everything: bool, root: Path = Path()
) -> tuple[list[CodeProof], dict[str, list[str]], list[str]]:
    """Return the proofs that need no run, for each case the stages to compare in it, and what cannot be proved so.

    A stage whose revision is higher than at the commit changed its numbers on purpose, so its code needs no run.
    Neither does a stage that the commit lacks, the first time: there is nothing to compare it with. If its code has
    changed since, it cannot be proved against that commit.

    Args:
        against: a commit.
        cases: to choose from.
        stages: to prove.
        everything: also stages whose present code is proved already.
        root: folder of the project.

    Raises:
        InputError: no such commit, or the commit's code of a stage was never proved itself.
    """
    rows = proofs.read_rows(root / proofs.CODE, CodeProof)
    raised, todo, lacking = list[CodeProof](), {case.name: list[str]() for case in cases}, list[str]()
    with tempfile.TemporaryDirectory(prefix="gapscope-verify-") as temporary:
        old = unpacked(against, Path(temporary))
        for stage in stages:
            code, at = closure_hash(stage, root), proofs.stage_revision(stage, root)
            if not has_stage(old, stage):
                before = {row.code for row in rows if row.stage == stage and row.revision == at}
                raised += [] if before else [_taken(stage, at, code, old, proofs.NEW_STAGE)]
                lacking += [stage] if before - {code} else []
                continue
            if at > proofs.stage_revision(stage, old.folder):
                raised.append(_taken(stage, at, code, old, proofs.NEW_REVISION))
                continue
            names = [case.name for case in cases if stage in case.stages]
            for name in names if everything else proofs.unproved_cases(stage, names, rows, code=code, at=at):
                todo[name].append(stage)
            if any(stage in wanted for wanted in todo.values()):
                check_chain(stage, closure_hash(stage, old.folder), [r for r in rows if r.stage == stage], at, old.name)
    return raised, todo, lacking


def check_chain(stage: str, old_code: str, rows: Sequence[CodeProof], at: int, commit: str) -> None:
    """Raise InputError if no earlier proof connects a commit's code of a stage with the stage's results."""
    proved = [row for row in rows if row.revision == at and row.verdict in proofs.PROVED]
    known = {row.code for row in proved} | {row.against_code for row in proved}
    if proved and old_code not in known:
        commits = ", ".join(sorted({row.against for row in proved}))
        raise InputError(
            f"the code of {stage} at {commit} was never proved itself; name {commits}, or a commit with proved code"
        )


def _taken(stage: str, at: int, code: str, old: Version, why: str) -> CodeProof:
    """Return the row of a stage whose code is taken as it is."""
    before = closure_hash(stage, old.folder) if has_stage(old, stage) else ""
    return CodeProof(stage, "", at, code, old.name, before, why, 0, 0.0, processor=processor(), date=today())


def proof_of(compared: Compared, case: str, old: Version, new: Version) -> CodeProof:
    """Return a comparison as a row of `verified/code.csv`."""
    stage, difference = compared.stage, compared.difference
    return CodeProof(
        stage=stage,
        case=case,
        revision=proofs.stage_revision(stage, new.folder),
        code=closure_hash(stage, new.folder),
        against=old.name,
        against_code=closure_hash(stage, old.folder) if has_stage(old, stage) else "",
        verdict=compared.verdict,
        numbers=difference.numbers,
        largest_difference=difference.largest,
        processor=processor(),
        date=today(),
    )


def today() -> str:
    """Return today's date in UTC, as in a proof."""
    return datetime.datetime.now(datetime.UTC).date().isoformat()


def has_stage(version: Version, stage: str) -> bool:
    """Whether a version has a stage of that name."""
    return (version.folder / "stages" / f"{stage}.py").exists()


def prove_case(  # noqa: PLR0917
    case: Case,
    wanted: Sequence[str],
    versions: tuple[Version, Version],
    using: Worker,
    folder: Path,
    say: Callable[[str], None],
    *,
    files: Mapping[str, Path] | None = None,
) -> list[Compared]:
    """Run a case with both versions and compare the stages that are wanted.

    Args:
        case: what to compose.
        wanted: names of stages to compare; the stages that they read from run too.
        versions: old and present.
        using: runs the stages.
        folder: to work in.
        say: called with a line for each stage.
        files: path in a version's folder -> file to copy there, such as a user's data set.

    Raises:
        InputError: a version cannot compose the case, a stage failed, or a wanted stage is in neither pipeline.
    """
    old, new = (
        _prepared(case, version, folder / name, using, files or {})
        for name, version in zip(("old", "new"), versions, strict=True)
    )
    todo = [needed(pipeline, wanted) for _, pipeline in (old, new)]
    if unknown := set(wanted) - {stage.name for stages in todo for stage in stages}:
        raise InputError(f"no stage {', '.join(sorted(unknown))} in case {case.name}")
    for stage in todo[0]:
        old[0].run(stage, using)
    outcomes, migration = [], migration_from(old[0].name)
    for name in dict.fromkeys(stage.name for stage in todo[1]):
        for stage in (stage for stage in todo[1] if stage.name == name):
            new[0].run(stage, using)
        outs = [[stage.outs for stage in stages if stage.name == name] for stages in todo]
        if not outs[0]:
            verdict, difference = proofs.NEW_STAGE, Difference()
        else:
            sides = (old[0].folder, outs[0]), (new[0].folder, outs[1])
            verdict, difference = compare_outputs(name, *sides, migration)
        if verdict == proofs.DIFFERENT:
            hand_over(old[0].folder, new[0].folder, [out for cell in outs[0] for out in cell])
        if name in wanted:
            outcomes.append(Compared(name, verdict, difference))
            say(f"{case.name}: {name}: {verdict}; {difference.in_words()}")
    return outcomes


def _prepared(
    case: Case, version: Version, folder: Path, using: Worker, files: Mapping[str, Path]
) -> tuple[Version, list[Stage]]:
    own = version.copy(folder)
    write_images(own.folder / IMAGES)
    for place, file in files.items():
        (own.folder / place).parent.mkdir(parents=True, exist_ok=True)
        os.symlink(file.resolve(), own.folder / place)
    own.compose(case.overrides_for(version.declared), using)
    return own, own.stages(using)


def needed(pipeline: Sequence[Stage], wanted: Iterable[str]) -> list[Stage]:
    """Return the stages with these names and those that they read from, in order, without stages in NO_NUMBERS."""
    by_address = {stage.addressing: stage for stage in pipeline}
    todo = [stage for stage in pipeline if stage.name in set(wanted)]
    needed_ones = {stage.addressing for stage in todo}
    while todo:
        for other in (by_address[name] for name in todo.pop().after):
            if other.name not in NO_NUMBERS and other.addressing not in needed_ones:
                needed_ones.add(other.addressing)
                todo.append(other)
    return [stage for stage in pipeline if stage.addressing in needed_ones]


def compare_outputs(
    stage: str, old: tuple[Path, Outs], new: tuple[Path, Outs], migration: Migration | None = None
) -> tuple[str, Difference]:
    """Return the verdict on a stage's outputs, and how they differ.

    If the present code writes another form, the migration of committed records first converts the old outputs. For a
    stage without a migration, each number of the old output must be somewhere in the new one, under any name.
    """
    after = read_numbers([out for cell in new[1] for out in cell], new[0])
    before = read_numbers([out for cell in old[1] for out in cell], old[0])
    difference = compare(before, after)
    if not difference.same_bits and migration is not None:
        with tempfile.TemporaryDirectory(prefix="gapscope-convert-") as folder:
            outs = [out for cell in old[1] for out in migration.convert(stage, old[0], cell, Path(folder))]
            before = read_numbers(outs, Path(folder))
        difference = compare(before, after)
    if difference.same_bits:
        return proofs.SAME_BITS, difference
    if difference.missing and not (left := absent(before, after)):
        return proofs.SAME_VALUES, Difference(numbers=len(before))
    if difference.missing:
        difference.missing = left
    return proofs.DIFFERENT, difference


def hand_over(old: Path, new: Path, outs: Iterable[str]) -> None:
    """Replace the present code's weights and activations by those of the old code; the headers stay."""
    for out in outs:
        for source in sorted((old / out).rglob("*")) if (old / out).is_dir() else [old / out]:
            target = new / source.relative_to(old)
            if source.suffix == ".npy" and target.exists():
                np.save(target, np.load(source))
            elif source.suffix == ".safetensors" and target.exists():
                from safetensors import safe_open
                from safetensors.numpy import load_file, save_file

                with safe_open(target, framework="np") as file:
                    header = file.metadata()
                save_file(load_file(source), target, metadata=header)
        note_written(new / out, new / out)
