"""A byte that is flipped in a file between stages is refused by the stage that reads it, wherever it lies."""

import json
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from dvc.repo import Repo
from test_artifacts import FORMATS, refusal

import gapscope
from gapscope import lock_copy
from gapscope.data.datasets import read_arrays
from gapscope.errors import InputError
from gapscope.records import integrity

pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep:DeprecationWarning")  # DVC's
ROOT = Path(__file__).parents[2]
COMMITTED = ("metrics/", "plots/", "provenance/")  # the folders of results that are in git
FLIPS = 12
MAKE = """
import sys
from pathlib import Path
import numpy as np
sys.path[:0] = {path!r}
from test_artifacts import FORMATS
for name, kind in FORMATS.items():
    kind.write(Path("data/runs/made_up") / name, 1)
np.savez("data/datasets/noise.npz", x=np.arange(100))
"""
OUTS = [*(f"data/runs/made_up/{name}" for name in FORMATS), "data/datasets/noise.npz"]


@dataclass(frozen=True)
class Output:
    """One output of a stage: its path, and its reader."""

    path: Path
    read: Callable[[Path], object]

    @property
    def files(self) -> list[Path]:
        return sorted(self.path.iterdir()) if self.path.is_dir() else [self.path]


OUTPUTS = {name: Output(Path("data/runs/made_up", name), kind.read) for name, kind in FORMATS.items()}
OUTPUTS["data set"] = Output(Path("data/datasets/noise.npz"), read_arrays)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository in which DVC has run a stage that writes an output of each kind."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[2] / "src"))
        Path("data/datasets").mkdir(parents=True)
        Path("make.py").write_text(MAKE.format(path=[str(Path(__file__).parent), str(Path(__file__).parents[1])]))
        listed = "".join(f"    - {out}\n" for out in OUTS)
        Path("dvc.yaml").write_text(f"stages:\n  make:\n    cmd: python make.py\n    outs:\n{listed}")
        with Repo.init(no_scm=True) as repo:
            repo.config["cache"]["type"] = ["copy"]
            repo.reproduce()
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(made, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "copy"


def flip(path: Path, place: int) -> None:
    """Flip one bit, and leave the time and the size as they were, as a failing disk does."""
    about, content = path.stat(), bytearray(path.read_bytes())
    content[place] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))


@pytest.mark.parametrize("kind", OUTPUTS)
def test_a_flipped_byte_is_refused_anywhere(folder: Path, kind: str) -> None:
    output, draw = OUTPUTS[kind], random.Random(0)
    output.read(output.path)
    for file in output.files:
        for place in {0, file.stat().st_size - 1, *(draw.randrange(file.stat().st_size) for _ in range(FLIPS))}:
            flip(file, place)
            said = refusal(output.read, output.path)
            assert str(output.path) in said
            assert "not what its stage wrote" in said
            assert "dvc repro" in said
            flip(file, place)
    output.read(output.path)


def test_a_file_more_or_less_in_a_folder_is_refused(folder: Path) -> None:
    output = OUTPUTS["activations"]
    (output.path / "more.npy").write_bytes(b"")
    assert "not what its stage wrote" in refusal(output.read, output.path)
    (output.path / "more.npy").unlink()
    (output.path / ".half.1.tmp").write_bytes(b"")  # left by a kill; DVC ignores it
    output.read(output.path)
    output.files[-1].unlink()
    assert "not what its stage wrote" in refusal(output.read, output.path)


@pytest.mark.parametrize("kind", ["weights", "activations"])
def test_a_damaged_copy_in_the_cache_is_named(folder: Path, kind: str) -> None:
    output = OUTPUTS[kind]
    known = integrity.md5(output.files[-1])
    copy = integrity.CACHE / known[:2] / known[2:]
    flip(output.files[-1], -1)
    assert str(copy) not in refusal(output.read, output.path)
    flip(copy, -1)
    assert str(copy) in refusal(output.read, output.path)


@pytest.mark.parametrize("kind", FORMATS)
def test_what_was_written_by_hand_is_read_and_a_flipped_byte_in_it_is_not(folder: Path, kind: str) -> None:
    """The lock has what DVC's run wrote; a note has what is written here, and the lock is not asked alone."""
    output = OUTPUTS[kind]
    FORMATS[kind].write(output.path, 2)
    output.read(output.path)
    flip(output.files[0], -1)
    assert f"dvc commit {output.path}" in refusal(output.read, output.path)


def test_notes_alone_refuse_a_flipped_byte(folder: Path) -> None:
    lock_copy.LOCK.unlink()
    output = OUTPUTS["weights"]
    flip(output.path, -1)
    assert "not what its stage wrote" in refusal(output.read, output.path)
    shutil.rmtree(integrity.NOTES)
    output.read(output.path)


def test_without_a_note_the_lock_decides_and_another_file_is_read(folder: Path) -> None:
    output = OUTPUTS["weights"]
    FORMATS["weights"].write(output.path, 2)
    shutil.copy(output.path, "other")
    shutil.rmtree(integrity.NOTES)
    assert "dvc commit" in refusal(output.read, output.path)
    output.read(Path("other"))


@pytest.mark.parametrize("placed", [True, False])
def test_a_kill_beside_the_moment_in_which_a_file_gets_its_place(
    folder: Path, placed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = OUTPUTS["weights"]
    FORMATS["weights"].write(output.path, 2)
    replace = os.replace

    def killed(source: Path, target: Path) -> None:
        if placed or target != output.path:
            replace(source, target)
        if target == output.path:
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        FORMATS["weights"].write(output.path, 3)
    output.read(output.path)


def test_a_job_of_a_cluster_reads_through_links_and_notes_nothing_in_its_own_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, output = folder / "data/cluster/jobs/a.1/1/work", OUTPUTS["weights"]
    (work / output.path).parent.mkdir(parents=True)
    (work / output.path).symlink_to(folder / output.path)
    flip(folder / output.path, -1)
    monkeypatch.chdir(work)
    assert "not what its stage wrote" in refusal(output.read, output.path)
    FORMATS["weights"].write(output.path.with_name("own"), 1)
    assert not list((folder / integrity.NOTES).rglob("own*"))


def test_while_dvc_writes_its_lock_the_copy_counts(folder: Path) -> None:
    output, lock = OUTPUTS["weights"], lock_copy.LOCK.read_bytes() + b"datasets: []\n"
    lock_copy.LOCK.write_bytes(lock)
    lock_copy.copy_whole()
    flip(output.path, -1)
    for end in (0, 100, len(lock) - 1):
        lock_copy.LOCK.write_bytes(lock[:end])
        assert "not what its stage wrote" in refusal(output.read, output.path)


LOCK = """schema: '2.0'
stages:
  tables@a:
    cmd: python
    deps:
    - path: metrics/a/train.csv
      hash: md5
      md5: 0123456789abcdef0123456789abcdef
      size: 5
    outs:
    - path: NAME
      hash: md5
      md5: MD5
      size: 5
"""


@pytest.mark.parametrize(
    ("lock", "name"),
    [
        ("dvc.lock", "metrics/a/runs.csv"), ("locks/a.lock", "metrics/a/runs.csv"), ("locks/a.lock", "plots/a/gap.csv"),
        ("locks/a.lock", "metrics/claims/a.csv"), ("locks/a.lock", "data/runs/a/train/x.safetensors"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("root", [Path(), Path("elsewhere")])
def test_the_lock_of_the_file_s_study_counts(
    lock: str, name: str, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for path in (root / name, root / lock, root / ".dvc/config"):
        path.parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(b"a,b\n1,2\n")
    (root / lock).write_text(LOCK.replace("NAME", name).replace("MD5", integrity.md5(root / name)))
    integrity.check_written(root / name)
    flip(root / name, 4)
    with pytest.raises(InputError, match=name):
        integrity.check_written(root / name)
    (root / "metrics/a").mkdir(parents=True, exist_ok=True)
    (root / "metrics/a/train.csv").write_bytes(b"of another stage")  # a dependency there, and no output
    integrity.check_written(root / "metrics/a/train.csv")


@pytest.mark.parametrize("name", ["runs.csv", "cells.csv", "train/x.csv", "train/x.json"])
def test_the_library_refuses_a_changed_record(tmp_path: Path, name: str) -> None:
    study = tmp_path / "metrics/a"
    (study / "train").mkdir(parents=True)
    (tmp_path / ".dvc").mkdir()
    long = "model,dataset,batch_size,seed,quantity,value\nlenet5,digits,32,0,loss,0.5\n"
    for table in ("runs.csv", "train/x.csv"):
        (study / table).write_text(long)
    (study / "cells.csv").write_text("model,dataset,batch_size,seed,status\nlenet5,digits,32,0,ok\n")
    (study / "train/x.json").write_text(json.dumps({"schema": 1}))
    (study / "params.yaml").write_text("")
    path = study / name
    (tmp_path / "dvc.lock").write_text(LOCK.replace("NAME", f"metrics/a/{name}").replace("MD5", integrity.md5(path)))
    assert len(gapscope.load("a", tmp_path).runs) == len(gapscope.load("a", tmp_path).records["train"]) == 1
    flip(path, path.read_bytes().index(b"0") if name != "train/x.json" else 11)
    with pytest.raises(InputError, match="not what its stage wrote"):
        gapscope.load("a", tmp_path).runs, gapscope.load("a", tmp_path).records


def test_every_committed_result_is_what_its_lock_says() -> None:
    """Whoever clones the repository could not read it otherwise, and it would count as stale."""
    locks = [ROOT / "dvc.lock", *(ROOT / "locks").glob("*.lock")]
    entries = {entry for lock in locks for entry in integrity.FILE.findall(lock.read_text(encoding="utf-8"))}
    there = [(name, known) for name, known in entries if name.startswith(COMMITTED) and (ROOT / name).exists()]
    assert len(there) > 1000
    assert [name for name, known in there if integrity.md5(ROOT / name) != known] == []
