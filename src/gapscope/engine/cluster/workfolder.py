"""The folder of its own in which an attempt runs a stage: links to what the stage reads, and room for what it writes.

Every folder on the way to an output is a real folder of the attempt; whatever stands beside it is a link. In the folder
that holds the output, only the stage's dependencies are linked. So a stage that writes only its declared outputs and
its state cannot change a file of the study, whether or not it has been given up.

The state is what a stage keeps for its continuation after a stop: the files below `STATE` that its command names. A new
attempt gets a copy of the state of the attempt before it.
"""

import os
import shlex
import shutil
from collections.abc import Iterable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path

from gapscope.records.files import atomic_path

STATE = ("data/checkpoints/", "data/unfinished/")
CLUSTER = Path("data/cluster")
HIDDEN = {Path(".git"), Path(".dvc"), Path("dvc.lock"), Path("dvc.yaml"), CLUSTER}  # for the controller alone


@dataclass(frozen=True)
class StageFiles:
    """What a stage reads and writes, as paths within the study's folder.

    Attributes:
        deps: files and folders that it reads.
        outs: files and folders that it writes.
        state: files and folders of its unfinished work.
    """

    deps: tuple[str, ...]
    outs: tuple[str, ...]
    state: tuple[str, ...] = ()


def state_of(command: str) -> tuple[str, ...]:
    """Return the paths of a command's state; a checkpoint has one more for the sweep of learning rates.

    Example:
        >>> state_of('python stages/train.py --checkpoint "data/checkpoints/quick/a.safetensors"')
        ('data/checkpoints/quick/a.safetensors', 'data/checkpoints/quick/a.sweep.safetensors')
    """
    paths = [Path(word) for word in shlex.split(command) if word.startswith(STATE)]
    sweeps = [path.with_suffix(f".sweep{path.suffix}") for path in paths if path.suffix == ".safetensors"]
    return tuple(path.as_posix() for path in (*paths, *sweeps))


def make(root: Path, work: Path, files: StageFiles) -> None:
    """Make an attempt's folder.

    Args:
        root: the study's folder, absolute.
        work: to make.
        files: of the stage.
    """
    own = {Path(path) for path in (*files.outs, *files.state)}
    real = {parent for path in (*own, CLUSTER) for parent in path.parents}
    holds_own = {path.parent for path in own} - {Path()}
    for folder in sorted(real):
        (work / folder).mkdir(parents=True, exist_ok=True)
    hidden = own | real | HIDDEN
    for folder in real - holds_own:
        _link(root, work, (folder / name for name in _names(root / folder)), hidden)
    deps = {Path(path) for path in files.deps}
    inner = (dep / name for dep in deps & real for name in _names(root / dep))  # a folder read and written by the stage
    _link(root, work, (*(deps - real), *inner), hidden)


def _link(root: Path, work: Path, paths: Iterable[Path], hidden: set[Path]) -> None:
    for path in paths:
        if path in hidden or any((work / parent).is_symlink() for parent in (path, *path.parents)):
            continue
        (work / path).parent.mkdir(parents=True, exist_ok=True)
        (work / path).symlink_to(root / path)


def _names(folder: Path) -> list[str]:
    return os.listdir(folder) if folder.is_dir() else []


def copy_state(source: Path, target: Path, files: StageFiles) -> None:
    """Give `target` the state that `source` has, and remove what it has not.

    Both are folders like the study's. The source may be in use: each of its files is replaced as a whole, or only gets
    longer, and a stage goes on from any such copy.
    """
    for path in files.state:
        if os.path.lexists(source / path):
            with suppress(FileNotFoundError), _whole(source / path, target / path) as temporary:
                _copy(source / path, temporary)
        elif (target / path).is_dir():
            shutil.rmtree(target / path)
        else:
            (target / path).unlink(missing_ok=True)


def _whole(source: Path, target: Path) -> AbstractContextManager[Path]:
    return atomic_path(target, folder=source.is_dir())


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        target.mkdir()
        for name in os.listdir(source):
            if not name.endswith(".tmp"):
                with suppress(FileNotFoundError):  # replaced meanwhile
                    _copy(source / name, target / name)
    else:
        shutil.copyfile(source, target)


def move_outputs(work: Path, root: Path, files: StageFiles) -> None:
    """Move an attempt's outputs to their place, each as a whole; DVC says which are missing."""
    for path in files.outs:
        if (work / path).exists():
            with _whole(work / path, root / path) as temporary:
                shutil.move(work / path, temporary)
