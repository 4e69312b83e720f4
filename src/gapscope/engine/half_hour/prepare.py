"""Making a programme, where git and DVC are: what of the queue is still to run, with the commands that DVC resolves."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gapscope import lock_copy
from gapscope.config import PARAMS, load_params
from gapscope.engine import locks, runner
from gapscope.engine.half_hour.marks import check_name, mark_of
from gapscope.engine.half_hour.programme import Item, Programme, Stage
from gapscope.engine.half_hour.queue import Queue
from gapscope.errors import InputError
from gapscope.git import git
from gapscope.records.files import write_text

CODE = ("src", "stages", "conf", "dvc.yaml", "revisions.yaml", "gpu")
HERE = re.compile(r"download@|plan@")  # quick, and the others need their outputs
THERE = re.compile(r"provenance/|data/runs/[^/]+/(train|activations)/")  # outputs of stages that a GPU is for
SCRATCH = re.compile(r"data/runs/[^/]+/activations/")
Compose = Callable[[list[str]], None]


def prepare(queue: Queue, compose: Compose) -> Programme:
    """Return the programme of a queue; download and check what it needs, and leave params.yaml as it was.

    Args:
        queue: the queue.
        compose: `gapscope compose`.

    Raises:
        InputError: the code differs from HEAD, or a study cannot run.
    """
    commit = _commit()
    items, stages, files = list[Item](), dict[str, Stage](), dict[str, None]()
    with params_kept():
        for entry in queue.entries:
            compose(entry.overrides)
            make_data()
            params = PARAMS.read_text(encoding="utf-8")
            items.append(Item(entry.study, tuple(entry.overrides), params))
            for stage, reads in _remaining(len(items) - 1):
                if stage.addressing not in stages:
                    stages[stage.addressing] = stage
                    files |= dict.fromkeys(reads)
    checks = [check.command for check in queue.checks if not mark_of(check_name(check.command)).exists()]
    return Programme(commit, tuple(checks), tuple(items), tuple(stages.values()), tuple(files))


@contextmanager
def params_kept() -> Iterator[None]:
    """Put params.yaml and the locks back when the block ends."""
    text, study = PARAMS.read_text(encoding="utf-8"), load_params().study
    try:
        yield
    finally:
        write_text(PARAMS, text)
        locks.swap(study)


def make_data() -> None:
    """Run the stages check, download and plan of the study in params.yaml.

    Raises:
        InputError: one of them failed.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    graph, _ = runner.changed()
    try:
        with Repo() as repo:
            for name in sorted(filter(HERE.match, graph)):  # download before plan
                repo.reproduce(name, single_item=True)
    except DvcException as error:
        raise InputError(f"{error}") from error
    lock_copy.copy_whole()


def _remaining(item: int) -> list[tuple[Stage, list[str]]]:
    """Return the stages that are out of date and run there, in order, each with the untracked files that it reads."""
    from dvc.repo import Repo

    graph, _ = runner.changed()
    with Repo() as repo:
        resolved = {stage.addressing: stage for stage in repo.index.stages}
        outs = {name: [_relative(out, repo) for out in resolved[name].outs] for name in resolved}
        todo = [name for name in resolved if name in graph and any(map(THERE.match, outs[name]))]  # as in dvc.yaml
        ordered = _cell_by_cell(todo, {name: graph[name] & set(todo) for name in todo})
        found = []
        for name in ordered:
            after = sorted(graph[name] & set(todo))
            made = {out for other in after for out in outs[other]}
            reads = [_relative(dep, repo) for dep in resolved[name].deps]
            files = [read for read in reads if read.startswith("data/") and read not in made and "/plan/" not in read]
            files += [read.removesuffix(".npz") + ".json" for read in reads if read.startswith("data/datasets/")]
            files += [str(path) for path in _checkpoints(resolved[name].cmd)]
            scratch = [out for other in after for out in outs[other] if SCRATCH.match(out)]
            stage = Stage(name, item, resolved[name].cmd, tuple(outs[name]), tuple(after), tuple(scratch))
            found.append((stage, files))
    return found


def _cell_by_cell(names: Sequence[str], after: dict[str, set[str]]) -> list[str]:
    """Order stages so that a cell's measures come right after its training; those without training come last."""
    ordered: list[str] = []

    def place(name: str) -> None:
        ordered.append(name)
        for other in names:
            if other not in ordered and after[other] and after[other] <= set(ordered):
                place(other)

    for name in sorted((name for name in names if not after[name]), key=lambda name: not name.startswith("train@")):
        if name not in ordered:
            place(name)
    return ordered


def _checkpoints(command: str) -> list[Path]:
    place = re.search(r'--checkpoint "([^"]+)"', command)
    if place is None:
        return []
    path = Path(place[1])
    return sorted(file for file in path.parent.glob(f"{path.stem}.*") if file.is_file() and file.suffix != ".tmp")


def _relative(output: Any, repo: Any) -> str:
    return Path(output.fs_path).relative_to(repo.root_dir).as_posix()


def _commit() -> str:
    if edited := git("status", "--porcelain", "--", *CODE):
        raise InputError(f"commit the code first, so that the results can name it; changed: {edited.split()[1]}, ...")
    commit = git("rev-parse", "--short", "HEAD").strip()
    if not commit:
        raise InputError("this folder has no git history, so the results could name no commit")
    return commit
