"""`gapscope verify`: which code made a result, and whether this machine gets it too."""

import signal
import tempfile
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from gapscope.cli.compose import composed
from gapscope.cli.study_files import add_study, study_file
from gapscope.config import Params, load_params
from gapscope.errors import InputError, StoppedError, did_you_mean

RECORDED = "recorded"
DESCRIPTION = """Without --against: train the cheapest committed cells of a study again and compare them with their
records. --against COMMIT: run that commit's code and the present code on the cases of verified/cases.yaml and ask for
the same bits. STUDY --against recorded: the same for the commits that the study's records name, on its own data.
--check: ask whether the present code of every stage is proved, and whether every commit that a record names exists."""

EXAMPLE = "example: gapscope verify quick --cells 3"


def add(commands: Any) -> None:
    """Add the command to the parser."""
    purpose = "prove which code made a result: old and present code side by side, or committed cells computed again"
    parser = commands.add_parser("verify", help=purpose, description=DESCRIPTION, epilog=EXAMPLE)
    add_study(parser, nargs="?", help="default: with --against the cases, else the one in params.yaml")
    parser.add_argument(
        "--against", metavar="COMMIT", help=f"a commit, or {RECORDED}: the one that the study's records name"
    )
    parser.add_argument("--stage", action="append", default=[], dest="stages", help="only this one; repeatable")
    parser.add_argument("--case", action="append", default=[], dest="cases", help="only this one; repeatable")
    parser.add_argument("--all", action="store_true", help="also the stages whose code is proved already")
    parser.add_argument("--cells", type=int, default=1, metavar="N", help="committed cells to compute again, default 1")
    parser.add_argument(
        "--cap", type=float, metavar="S",
        help="a cell that took longer, as recorded, is computed for its first epochs only; default 120 s",
    )  # fmt: skip
    parser.add_argument("-j", "--jobs", type=int, default=2, metavar="N", help="cases at once, default 2")
    parser.add_argument("--check", action="store_true", help="run nothing: is the present code proved?")
    parser.set_defaults(run=verify)


def verify(args: Namespace) -> None:
    """Run the proof that is asked for, and write what was found to `verified/`.

    Raises:
        InputError: what is asked for cannot be run, or a proof failed.
        StoppedError: SIGTERM came.
    """
    if args.jobs < 1 or args.cells < 1:
        raise InputError("-j and --cells must be at least 1")
    with _stopped_by_sigterm():
        _verify(args)


@contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    """Within the block, SIGTERM raises StoppedError, so that workers end and temporary folders are removed."""

    def stop(*_: object) -> None:
        raise StoppedError("stopped; finished proofs are kept")

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _verify(args: Namespace) -> None:
    if args.check:
        check()
    elif args.against and args.study is None:
        if args.against == RECORDED:
            raise InputError(
                f"--against {RECORDED} needs a study whose records name a commit: gapscope verify STUDY ..."
            )
        prove_code(args.against, args.stages, args.cases, everything=args.all, jobs=args.jobs)
    elif args.against:
        prove_study(args.study, args.against, args.stages)
    else:
        compute_again(args.study or load_params().study, args.cells, args.cap)


def check() -> None:
    """Ask whether the present code of each stage is proved, and whether the commits that records name are there.

    Raises:
        InputError: it is not.
    """
    from gapscope.engine.proofs import cases, recorded, tripwire

    wrong = [tripwire.message(tripwire.unproved(cases.read_cases())), *recorded.check_history()]
    if wrong := [line for line in wrong if line]:
        print("\n".join(wrong))
        raise InputError("not proved; what to do stands above")
    print("the code of every stage is proved; every commit that a record names is in the history, or known to be lost")


def prove_code(against: str, stages: Sequence[str], names: Sequence[str], *, everything: bool, jobs: int) -> None:
    """Run the cases with old and present code, those that are missing or all, and write `verified/code.csv`.

    Raises:
        InputError: an unknown stage or case, a case that failed, or other numbers.
    """
    from gapscope.engine.proofs import cases, code_proof
    from gapscope.records import closure, proofs

    known = [stage for stage in closure.stages() if stage not in code_proof.NO_NUMBERS]
    for stage in stages:
        if stage not in known:
            raise InputError(f"no stage {stage!r} whose numbers can be proved; {did_you_mean(stage, known)}")
    chosen = cases.read_cases(names)
    raised, todo, lacking = code_proof.what_to_prove(against, chosen, stages or known, everything=everything)
    proofs.write_code_proofs(raised)
    for row in raised:
        print(f"{row.stage}, revision {row.revision}: {row.verdict}; its code is taken as it is")
    for stage in lacking:
        print(f"{stage}: its code has changed, and {against} has no such stage; name a commit that has it")
    left = {case.name: case for case in chosen if todo[case.name]}
    if not left and not lacking:
        print("nothing to prove: the code of these stages is the code that was proved")
    wrong: list[str] = []
    if left:
        with closing(code_proof.prove(against, list(left.values()), todo, jobs=jobs, say=_say)) as proved:
            for rows in proved:
                proofs.write_code_proofs(rows)
                wrong += [f"{row.stage} in {row.case}" for row in rows if row.verdict == proofs.DIFFERENT]
                if rows:
                    del left[rows[0].case]
    every = cases.by_stage(cases.read_cases())
    proofs.write_same_code(proofs.same_code(proofs.read_rows(proofs.CODE, proofs.CodeProof), every))
    if wrong or left or lacking:
        failed = f"; not proved: {', '.join([*left, *lacking])}" if left or lacking else ""
        raise InputError(f"not the same numbers as {against}: {', '.join(wrong) or 'none'}{failed}")


def prove_study(study: str, against: str, stages: Sequence[str]) -> None:
    """Run the commits that a study's records name, or one commit, and the present code on its cheapest cell.

    Raises:
        InputError: no such study, no records, or other numbers.
    """
    from dataclasses import replace

    from gapscope.engine.proofs import recorded
    from gapscope.engine.proofs.versions import Worker
    from gapscope.records import proofs

    params, wrong = _params(study), list[str]()
    found = recorded.targets(study, params, stages)
    if against != RECORDED:
        found = [replace(target, commit=against, named=against) for target in found]
    with Worker() as worker:
        for target in found:
            with tempfile.TemporaryDirectory(prefix="gapscope-verify-") as folder:
                rows = recorded.prove(target, params, worker, Path(folder), _say)
            proofs.write_study_proofs(study, rows)
            wrong += [f"{row.stage} of {row.cell}" for row in rows if row.verdict not in proofs.PROVED]
    if wrong:
        raise InputError(f"not the same numbers as the code that the records name: {', '.join(wrong)}")


def compute_again(study: str, count: int, cap_s: float | None) -> None:
    """Train a study's cheapest committed cells again and write how far they lie from their records.

    Raises:
        InputError: no such study, or no records.
    """
    from gapscope.engine.proofs import result_proof
    from gapscope.engine.proofs.versions import Worker, present
    from gapscope.records import proofs

    params = _params(study)
    todo = result_proof.cheapest(params, count)
    cap = result_proof.CAP_S if cap_s is None else cap_s
    with Worker() as worker, tempfile.TemporaryDirectory(prefix="gapscope-verify-") as temporary:
        whole = present(Path(temporary) / "present")
        for cell in todo:
            row = result_proof.prove(cell, params, whole.copy(Path(temporary) / cell.name), worker, _say, cap)
            proofs.write_study_proofs(study, [row])
            off = f"{row.first_rounding or '-'} at the first evaluated epoch, {row.end_rounding or '-'} at the last"
            print(f"{cell.name}, in units of rounding per update: {off}; on {row.processor}")
            print(f"{cell.name}, at the end: {row.end_spread or '-'} standard deviations over seeds")


def _params(study: str) -> Params:
    return composed([f"study={study}"], study_file(study))[0]


def _say(line: str) -> None:
    print(line, flush=True)
