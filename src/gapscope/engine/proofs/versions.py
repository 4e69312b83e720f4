"""Two versions of gapscope side by side: each in a folder of its own, with its own conf/, dvc.yaml, scripts and source.

Both run with this Python environment on this machine. The command of a stage comes from the version's own dvc.yaml, as
DVC resolves it for the version's own params.yaml. So the two versions may have different arguments and files.
"""

import compileall
import json
import os
import shlex
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

import yaml

from gapscope.engine.proofs import worker
from gapscope.errors import InputError
from gapscope.git import git, git_bytes

PARTS = (  # files and folders that stages may need; an old version lacks some of them
    *(".dvc", "conf", "digests", "dvc.yaml", "examples", "hydra_plugins", "migrations", "pyproject.toml"),
    *("revisions.yaml", "src", "stages"),
)
LIMIT_S = 1800.0  # time limit of one stage
PRESENT = "present"
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}


@dataclass(frozen=True)
class Stage:
    """One stage of one cell in one version's pipeline, as DVC resolves it."""

    name: str
    addressing: str
    command: str
    outs: tuple[str, ...]
    after: tuple[str, ...]  # addressings of the stages whose outputs it reads


class Worker:
    """A process with the stages' libraries already imported, which runs one job at a time."""

    def __init__(self) -> None:
        if not hasattr(os, "fork"):
            raise InputError("gapscope verify needs os.fork, which this system lacks; run it on Linux or macOS")
        environment = os.environ | ENVIRONMENT
        environment.setdefault("GAPSCOPE_DEVICE", "cpu")
        self._process = subprocess.Popen(
            [sys.executable, "-P", worker.__file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=environment,
        )  # fmt: skip

    def run(self, kind: str, folder: Path, arguments: list[str], *, limit_s: float = LIMIT_S) -> tuple[int, str]:
        """Run a job; return its exit status and what it printed."""
        log = folder / "log.txt"
        log.unlink(missing_ok=True)
        job = {"kind": kind, "folder": str(folder), "arguments": arguments, "log": str(log), "limit_s": limit_s}
        job["environment"] = {"PYTHONPATH": str(folder / "src")}
        assert self._process.stdin
        assert self._process.stdout
        print(json.dumps(job), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            raise InputError("the process that runs the stages has ended; the machine may be out of memory")
        return int(answer), log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process, and the job that it runs."""
        self._process.terminate()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()  # last, since another thread may wait for the answer


@dataclass(frozen=True)
class Version:
    """One version's files.

    Attributes:
        name: a commit, or `PRESENT`.
        folder: has its files; its stages write there too.
    """

    name: str
    folder: Path

    @cached_property
    def declared(self) -> set[str]:
        """The names of all params that its conf/ declares; those within groups, at any depth, as group.name."""
        declared = dict[str, Any]()
        for path in sorted((self.folder / "conf").rglob("*.yaml")):
            place = path.relative_to(self.folder / "conf").parts
            if place[0] in ("study", "cluster"):  # these set params that are declared elsewhere
                continue
            values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
            packaged = "@package _global_" in path.read_text(encoding="utf-8")
            for part in reversed(place[:-1] if not packaged else ()):
                values = {part: values}
            declared = _merged(declared, values)
        return set(_names(declared))

    def copy(self, folder: Path) -> "Version":
        """Return the same version in another folder, by hard links; files that its stages write are not shared."""
        shutil.copytree(self.folder, folder, copy_function=os.link, dirs_exist_ok=True)
        return Version(self.name, folder)

    def compose(self, overrides: list[str], using: Worker) -> None:
        """Compose its params.yaml.

        Raises:
            InputError: the overrides cannot be composed.
        """
        status, output = using.run("compose", self.folder, ["gapscope", "compose", *overrides])
        if status:
            raise InputError(f"{self.name}: gapscope compose {shlex.join(overrides)} failed: {_last_line(output)}")

    def stages(self, using: Worker) -> list[Stage]:
        """Return the stages of its params.yaml, each after those that it depends on."""
        status, output = using.run("stages", self.folder, ["stages", "stages.json"])
        if status:
            raise InputError(f"{self.name}: DVC cannot read the pipeline: {_last_line(output)}")
        stages = json.loads((self.folder / "stages.json").read_text(encoding="utf-8"))
        return [Stage(**one | {"outs": tuple(one["outs"]), "after": tuple(one["after"])}) for one in stages]

    def run(self, stage: Stage, using: Worker, *, limit_s: float = LIMIT_S) -> str:
        """Run one stage as DVC would, and return what it printed.

        Raises:
            InputError: it failed.
        """
        for out in stage.outs:
            (self.folder / out).parent.mkdir(parents=True, exist_ok=True)
        python, script, *arguments = shlex.split(stage.command)
        if python != "python":
            raise InputError(f"{self.name}: the command of {stage.addressing} is not a Python script: {stage.command}")
        status, output = using.run("script", self.folder, [script, *arguments], limit_s=limit_s)
        if status:
            why = f"took over {limit_s:.0f} s" if status == 124 else _last_line(output)
            raise InputError(f"{self.name}: {stage.addressing} failed: {why}")
        return output

    @contextmanager
    def started(self, stage: Stage) -> Iterator["subprocess.Popen[bytes]"]:
        """Start a stage, yield its process, and kill it when the block ends."""
        _, script, *arguments = shlex.split(stage.command)
        environment = {"GAPSCOPE_DEVICE": "cpu", **os.environ, **ENVIRONMENT, "PYTHONPATH": str(self.folder / "src")}
        with (self.folder / "log.txt").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, script, *arguments], cwd=self.folder, env=environment, stdout=log, stderr=log
            )
            try:
                yield process
            finally:
                process.kill()
                process.wait()


def unpacked(commit: str, folder: Path) -> Version:
    """Unpack the files of a commit that its stages need.

    Raises:
        InputError: the history has no such commit.
    """
    full = git("rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}").strip()
    if not full:
        raise InputError(f"no commit {commit} in this history; in a shallow clone: git fetch --unshallow")
    names = git("ls-tree", "--name-only", "-z", full).split("\0")
    archive = git_bytes("archive", "--format=tar", full, *(part for part in PARTS if part in names))
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=BytesIO(archive)) as tar:
        tar.extractall(folder, filter="data")
    return _ready(Version(short(full), folder))


def present(folder: Path) -> Version:
    """Copy the files that the present code's stages need, from the working tree with its uncommitted edits."""
    listed = git("ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *PARTS).split("\0")
    for name in filter(None, listed):
        if (source := Path(name)).is_file():  # a deleted file is still listed
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, folder / name)
    return _ready(Version(PRESENT, folder))


def short(commit: str) -> str:
    """Return a commit's name of seven digits; "" if the history has no such commit."""
    return git("rev-parse", "--short=7", "--verify", "--quiet", f"{commit}^{{commit}}").strip()


def follows(later: str, commit: str) -> bool:
    """Whether `later` is the commit itself or a descendant of it."""
    ancestor = ["git", "merge-base", "--is-ancestor", commit, later]
    return subprocess.run(ancestor, capture_output=True, check=False).returncode == 0


def in_history(commit: str) -> bool:
    """Whether HEAD is the commit itself or a descendant of it."""
    return follows("HEAD", commit)


def _ready(version: Version) -> Version:
    compileall.compile_dir(version.folder / "src", quiet=1)  # once here, not in every process that imports it
    (version.folder / ".dvc" / "config.local").write_text("[core]\n    no_scm = true\n", encoding="utf-8")
    return version


def _last_line(output: str) -> str:
    return (output.strip().splitlines() or ["it printed nothing"])[-1]


def _merged(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    both = {
        key: _merged(one[key], other[key]) for key in one.keys() & other.keys() if _both_dicts(one[key], other[key])
    }
    return {**one, **other, **both}


def _both_dicts(one: object, other: object) -> bool:
    return isinstance(one, dict) and isinstance(other, dict)


def _names(values: dict[str, Any], prefix: str = "") -> list[str]:
    names: list[str] = []
    for key, value in values.items():
        names += [f"{prefix}{key}", *(_names(value, f"{prefix}{key}.") if isinstance(value, dict) else [])]
    return names
