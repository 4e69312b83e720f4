"""Moves the entries of dvc.lock and locks/, and the records that they name, to a new form, one to one.

The old entries and records are read from git, never from the working tree, so a migration can be repeated at any later
commit. Nothing is written until every entry has been converted and every value compared. No entry gets more standing
than it had: one that was not up to date with its commit's code is left out, and its stage has to run.
"""

import hashlib
import subprocess
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from gapscope import noops
from gapscope.cli.compose import composed
from gapscope.config import DECLARED, PARAMS
from gapscope.engine import locks
from gapscope.records.files import atomic_path

Files = dict[str, bytes]  # path -> content
STUDIES = DECLARED.parent / "study"
Entry = dict[str, Any]  # what DVC's lock says of a stage
Change = str | Callable[[Any], Mapping[str, Any]]  # new dotted name, or function of the value -> new names and values


class MigrationError(Exception):
    """Something that must be equal is not; no file has been changed."""


@dataclass(frozen=True)
class Step:
    """One conversion of the records of an entry.

    Attributes:
        convert: (stage, the entry's files) -> its files afterwards; a file may be added, dropped or renamed.
        differences: (stage, files before, files after) -> the values that are not the same, in words.
    """

    convert: Callable[[str, Files], Files]
    differences: Callable[[str, Files, Files], list[str]]


@dataclass(frozen=True)
class Migration:
    """What changed between two forms.

    Attributes:
        old: the commit to read.
        revisions: stage -> the revision that its migrated entries have.
        left: stages that are not migrated and have to run.
        steps: stage -> what is done to its records, in this order.
        path: old path -> new path, of records and of cached data alike.
        entry: old name of an entry -> new name.
        renamed: old dotted name of a param -> its change.
        dropped: old dotted names of params that no stage depends on any more.
        added: stage -> dotted name of a param that is new -> the value with which the old numbers were made, or a
            function of the old entry that returns it.
        replaced: path of an old dependency -> the file that stands for it now.
        constants: other params file -> what it holds for every stage.
    """

    old: str
    revisions: Mapping[str, int]
    left: frozenset[str]
    steps: Mapping[str, Sequence[Step]] = field(default_factory=dict)
    path: Callable[[str], str] = str
    entry: Callable[[str], str] = str
    renamed: Mapping[str, Change] = field(default_factory=dict)
    dropped: frozenset[str] = frozenset()
    added: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    replaced: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass
class Report:
    """What became of the old entries.

    Attributes:
        migrated: lock file -> new names of its entries.
        stale: old name -> why the entry is left out.
        files: records written.
    """

    migrated: dict[str, list[str]] = field(default_factory=dict)
    stale: dict[str, str] = field(default_factory=dict)
    files: Files = field(default_factory=dict)


class Tree:
    """The files of a commit."""

    def __init__(self, commit: str) -> None:
        self.commit = commit
        listed = subprocess.run(
            ["git", "ls-tree", "-r", "-z", "--name-only", commit], capture_output=True, text=True, check=True
        )
        self.paths = set(listed.stdout.rstrip("\0").split("\0"))
        self._git = subprocess.Popen(["git", "cat-file", "--batch"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._known: dict[str, str | None] = {}

    def read(self, path: str) -> bytes:
        """Return a file's content."""
        assert self._git.stdin is not None
        assert self._git.stdout is not None
        self._git.stdin.write(f"{self.commit}:{path}\n".encode())
        self._git.stdin.flush()
        size = int(self._git.stdout.readline().split()[-1])
        return self._git.stdout.read(size + 1)[:-1]

    def md5(self, path: str) -> str | None:
        """Return the hash of a file or folder, as DVC takes it; None where there is none."""
        if path not in self._known:
            inside = [name for name in self.paths if name.startswith(f"{path}/")]
            if path in self.paths:
                self._known[path] = hashlib.md5(self.read(path)).hexdigest()
            else:
                self._known[path] = self._folder(path, inside) if inside else None
        return self._known[path]

    def _folder(self, path: str, inside: Sequence[str]) -> str | None:
        from dvc_data.hashfile.hash_info import HashInfo
        from dvc_data.hashfile.tree import Tree as Folder

        folder = Folder()
        for name in inside:
            folder.add(tuple(name.removeprefix(f"{path}/").split("/")), None, HashInfo("md5", self.md5(name)))
        folder.digest()
        return str(folder.hash_info.value)

    def close(self) -> None:
        """End git's process."""
        assert self._git.stdin is not None
        assert self._git.stdout is not None
        self._git.stdin.close()
        self._git.wait()
        self._git.stdout.close()

    def locks(self) -> dict[str, dict[str, Entry]]:
        """Return the entries of each lock file."""
        from dvc.utils.serialize import parse_yaml

        names = [str(locks.LOCK), *sorted(path for path in self.paths if path.startswith(f"{locks.OTHERS}/"))]
        return {name: parse_yaml(self.read(name).decode(), name)["stages"] for name in names}


def run(migration: Migration) -> Report:
    """Carry a migration out in the working tree.

    Raises:
        MigrationError: a record is not what its lock entry says, or a value changed.
    """
    tree, report = Tree(migration.old), Report()
    try:
        wanted, gone = _convert(tree, migration, report)
    finally:
        tree.close()
    for path, content in report.files.items():
        with atomic_path(Path(path)) as temporary:
            temporary.write_bytes(content)
    for path in gone - set(report.files):
        Path(path).unlink(missing_ok=True)
    _write_locks(migration, wanted, report)
    return report


def _convert(tree: Tree, migration: Migration, report: Report) -> tuple[dict[str, tuple[str, Entry]], set[str]]:
    """Return new name -> (lock, old entry) of what is migrated, and the old paths of its records; write nothing."""
    wanted: dict[str, tuple[str, Entry]] = {}
    gone: set[str] = set()
    for lock, entries in tree.locks().items():
        report.migrated[lock] = []
        for name, entry in entries.items():
            stage = stage_of(name)
            if stage in migration.left:
                continue
            if why := not_current(tree, migration, stage, entry):
                report.stale[name] = why
                continue
            report.files |= records(tree, migration, stage, entry)
            gone |= {out["path"] for out in entry["outs"]} & tree.paths
            wanted[migration.entry(name)] = (lock, entry)
    return wanted, gone


def stage_of(name: str) -> str:
    """Return the stage of an entry, e.g. `train` of `train@quick-lenet5-digits-32-0`."""
    return name.partition("@")[0]


def not_current(tree: Tree, migration: Migration, stage: str, entry: Entry) -> str | None:
    """Return why an entry was not up to date with its own commit's files; None where it was."""
    known = {dep["path"]: dep["md5"] for dep in entry.get("deps", [])}
    digest = f"digests/{stage}.txt"
    for path in (digest, *known):
        if (found := tree.md5(path) or known.get(path)) != known.get(path):  # what is not in git is in DVC's cache
            return f"{path} is {known.get(path)} in the lock and {found} in the commit"
    return None if digest in known else f"{digest} is not in the lock"


def records(tree: Tree, migration: Migration, stage: str, entry: Entry) -> Files:
    """Return the entry's records in their new form, under their new paths.

    Raises:
        MigrationError: a record is not the one that the lock names, or a value changed.
    """
    files: Files = {}
    for out in entry["outs"]:
        if out["path"] in tree.paths:
            files[out["path"]] = tree.read(out["path"])
            if (found := hashlib.md5(files[out["path"]]).hexdigest()) != out["md5"]:
                raise MigrationError(f"{out['path']} is {found}, and {out['md5']} in its lock entry")
    for step in migration.steps.get(stage, []):
        after = step.convert(stage, files)
        if different := step.differences(stage, files, after):
            raise MigrationError(f"{', '.join(files)}: {'; '.join(different)}")
        files = after
    return {migration.path(path): content for path, content in files.items()}


def params(
    migration: Migration, stage: str, old: Mapping[str, Any], entry: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return an entry's params under their new names, as a nested mapping without no-op values.

    Args:
        migration: what changed.
        stage: of the entry.
        old: the params.
        entry: the whole entry, for the added params that depend on it.
    """
    new: dict[str, Any] = {}
    for name, value in leaves(old):
        if name in migration.dropped:
            continue
        change = migration.renamed.get(name, name)
        for key, item in {change: value}.items() if isinstance(change, str) else change(value).items():
            put(new, key, item)
    for name, value in migration.added.get(stage, {}).items():
        put(new, name, value(entry) if callable(value) else value)
    return noops.left_out(new)


def leaves(values: Mapping[str, Any], where: str = "") -> list[tuple[str, Any]]:
    """Return (dotted name, value) of each value that is no mapping with names in it."""
    found: list[tuple[str, Any]] = []
    for key, value in values.items():
        name = f"{where}.{key}" if where else str(key)
        found += leaves(value, name) if isinstance(value, Mapping) and value else [(name, value)]
    return found


def put(values: dict[str, Any], name: str, value: Any) -> None:
    """Set a value by its dotted name."""
    *path, last = name.split(".")
    for part in path:
        values = values.setdefault(part, {})
    values[last] = value


def _write_locks(migration: Migration, wanted: Mapping[str, tuple[str, Entry]], report: Report) -> None:
    """Write the new locks: commands, paths and names of params are those that DVC makes of the present dvc.yaml."""
    from dvc.repo import Repo

    before = PARAMS.read_bytes()
    made: dict[str, locks.Entries] = {lock: {} for lock in report.migrated}
    try:
        for study in sorted(path.stem for path in STUDIES.glob("*.yaml")):
            _, text = composed([f"study={study}"])
            PARAMS.write_text(text, encoding="utf-8")
            with Repo() as repo:
                for stage in repo.index.stages:
                    lock, entry = wanted.get(stage.addressing, ("", {}))
                    if entry and stage.addressing not in made[lock]:
                        made[lock][stage.addressing] = new_entry(migration, stage, entry, report.files, text)
    finally:
        PARAMS.write_bytes(before)
    for name in wanted.keys() - {name for entries in made.values() for name in entries}:
        report.stale[name] = "no study in conf/ has this stage now"
    for lock, entries in made.items():
        locks.write(Path(lock), entries)
        report.migrated[lock] = sorted(entries)


def new_entry(migration: Migration, stage: Any, entry: Entry, files: Collection[str], composition: str) -> Entry:
    """Return the lock entry of a stage of the present dvc.yaml, with the hashes and params of its old entry.

    Args:
        migration: what changed.
        stage: DVC's own stage object.
        entry: the old entry.
        files: paths of the records that were converted, in the working tree.
        composition: text of the study's params.yaml, for the order of the params.

    Raises:
        MigrationError: the stage depends on something, or makes something, of which the old entry says nothing.
    """
    from dvc.dependency import ParamsDependency
    from dvc.stage.serialize import to_single_stage_lockfile
    from dvc_data.hashfile.hash_info import HashInfo
    from dvc_data.hashfile.meta import Meta

    name = stage_of(stage.addressing)
    old = {migration.path(item["path"]): item for item in (*entry.get("deps", []), *entry["outs"])}
    standing_in = {new for before, new in migration.replaced.items() if before in old}
    values = {"params.yaml": params(migration, name, entry.get("params", {}).get("params.yaml", {}), entry)}
    values["params.yaml"] = _ordered(values["params.yaml"], yaml.safe_load(composition))
    values["revisions.yaml"] = {name: {"revision": migration.revisions[name]}}
    values |= {file: dict(constant) for file, constant in migration.constants.items()}
    for item in (*stage.deps, *stage.outs):
        path = item.def_path
        if isinstance(item, ParamsDependency):
            declared: Any = _declared(item.params, values[path], f"{stage.addressing}: {path}")
            item.hash_info = HashInfo("params", declared)
            continue
        item.hash_name = "md5"  # else DVC takes an item that no lock names yet for one of its version 2
        if path in files or path in standing_in or any(file.startswith(f"{path}/") for file in files):
            item.meta, item.hash_info = item._get_hash_meta()
        elif path in old:
            item.hash_info = HashInfo("md5", old[path]["md5"])
            item.meta = Meta(size=old[path].get("size"), nfiles=old[path].get("nfiles"))
        else:
            raise MigrationError(f"{stage.addressing}: the old entry says nothing of {path}")
    return dict(to_single_stage_lockfile(stage))


def _declared(names: Sequence[str], values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the values that a stage depends on, by their names in dvc.yaml; all of them where it names none."""
    if not names:
        return dict(values)
    found: dict[str, Any] = {}
    for name in names:
        value: Any = values
        for part in name.split("."):
            if not isinstance(value, Mapping) or part not in value:
                raise MigrationError(f"{where}: the old entry has no {name}; list its value among the added params")
            value = value[part]
        found[name] = value
    for name, _ in leaves(values):
        if not any(name == declared or name.startswith(f"{declared}.") for declared in names):
            raise MigrationError(f"{where}: the stage no longer depends on {name}; list it among the dropped params")
    return found


def _ordered(values: Any, like: Any) -> Any:
    """Return a mapping in the order of another, so that DVC's next writing of the lock moves no line."""
    if not isinstance(values, Mapping) or not isinstance(like, Mapping):
        return values
    names = [*(name for name in like if name in values), *(name for name in values if name not in like)]
    return {name: _ordered(values[name], like.get(name)) for name in names}
