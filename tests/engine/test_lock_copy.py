"""dvc.lock after a kill at any moment of its writing: refused by stages, put back by `gapscope mend`, or left alone."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from dvc.repo import Repo

from gapscope import lock_copy
from gapscope.cli import main
from gapscope.engine import locks
from gapscope.errors import InputError

ROOT = Path(__file__).parents[2]
STAGE = """
import sys
from pathlib import Path
from gapscope.runtime import run_stage

def main() -> None:
    with open("ran", "a") as log:
        print(sys.argv[1], file=log)
    Path(f"{sys.argv[1]}.out").write_text(sys.argv[1])

if __name__ == "__main__":
    run_stage(main)
"""
KILLED_WRITING = """
import os, signal, sys
from dvc.utils.serialize import _yaml
from dvc.cli import main

def cut(data, stream):
    text = _yaml.dumps_yaml(data)
    if "stages" not in data:
        return stream.write(text)  # of DVC's run cache
    stream.write(text[: text.index("  two:") + (5 if sys.argv[1] == "in a line" else 0)])
    stream.flush()
    os.kill(os.getpid(), signal.SIGKILL)

dump, _yaml._dump = _yaml._dump, cut
_yaml.dumps_yaml = lambda data: (lambda stream: (dump(data, stream), stream.getvalue())[1])(__import__("io").StringIO())
main(["repro"])
"""


def entry(name: str) -> dict:
    out = {"path": f"{name}.out", "hash": "md5", "md5": "0123456789abcdef0123456789abcdef", "size": 3}
    return {"cmd": f"python stage.py {name}", "outs": [out]}


ENTRIES = {name: entry(name) for name in ("one", "three", "two")}


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Repo.init(no_scm=True).close()
    return tmp_path


def dvc(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return python("-m", "dvc", *arguments)


def python(*arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = os.environ | {
        "PYTHONPATH": str(ROOT / "src"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False)


def gapscope(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["gapscope", *arguments])
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def write(content: bytes) -> None:
    """Write dvc.lock, long ago."""
    locks.LOCK.write_bytes(content)
    os.utime(locks.LOCK, (0, 0))


def whole() -> bytes:
    locks.write(locks.LOCK, ENTRIES)
    return locks.LOCK.read_bytes()


CUTS = {  # where a kill may end a lock; the last three are whole YAML with all keys that DVC asks for
    "nothing": 0,
    "half": 0.5,
    "in a line": b"md5: 01234567",
    "in the last line": b"datasets",
    "after a line": b"hash: md5\n",
    "after an entry": b"size: 3\n",
    "before the last line": b"size: 3\ndatasets"[:8],
}


def cut(content: bytes, where: str) -> bytes:
    at = CUTS[where]
    if isinstance(at, bytes):
        place = content.rindex if where == "before the last line" else content.index
        return content[: place(at) + len(at)]
    return content[: int(at * len(content))]


@pytest.mark.parametrize("where", CUTS)
def test_a_lock_that_was_cut_stops_stages_and_is_put_back(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], where: str
) -> None:
    before = whole()
    lock_copy.keep()
    write(cut(before, where))
    with pytest.raises(InputError, match="gapscope mend"):
        lock_copy.keep()
    assert lock_copy.COPY.read_bytes() == before
    assert gapscope(monkeypatch, "mend") == 0
    assert locks.LOCK.read_bytes() == before
    assert locks.CUT.read_bytes() == cut(before, where)
    assert len(capsys.readouterr().out.splitlines()) == 1


@pytest.mark.parametrize("where", ["half", "in a line", "after an entry"])
def test_a_lock_that_dvc_began_is_put_back_too(repository: Path, where: str) -> None:
    before = whole().removesuffix(b"datasets: []\n")
    write(before)
    lock_copy.keep()
    assert lock_copy.COPY.read_bytes() == before
    write(cut(before, where))
    locks.mend()
    assert locks.LOCK.read_bytes() == before


@pytest.mark.parametrize("ends", [b"datasets: []\n", b""])
def test_a_whole_lock_is_copied_and_never_touched(
    repository: Path, monkeypatch: pytest.MonkeyPatch, ends: bytes
) -> None:
    for entries in (ENTRIES, {"one": entry("one")}, ENTRIES | {"a": entry("a")}):
        locks.write(locks.LOCK, entries)
        write(content := locks.LOCK.read_bytes().removesuffix(b"datasets: []\n") + ends)
        if ends:  # without our last line, a lock that an older one begins with may be cut off
            locks.mend()
        lock_copy.keep()
        assert lock_copy.COPY.read_bytes() == content
        assert gapscope(monkeypatch, "mend") == 0
        assert (locks.LOCK.read_bytes(), locks.LOCK.stat().st_mtime) == (content, 0)


@pytest.mark.parametrize("name", ["dvc.lock", "locks/other.lock"])
def test_conflict_markers_are_one_line_and_left_alone(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    before = whole()
    lock_copy.keep()
    Path("locks").mkdir()
    conflict = b"<<<<<<< HEAD\n" + before + b"=======\n" + before + b">>>>>>> theirs\n" + lock_copy.END
    Path(name).write_bytes(conflict)
    assert gapscope(monkeypatch, "mend") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert name in line
    lock_copy.keep()
    assert (Path(name).read_bytes(), lock_copy.COPY.read_bytes()) == (conflict, before)


def test_without_a_copy_the_committed_lock_is_named(repository: Path) -> None:
    write(b"")
    for act in (lock_copy.keep, locks.mend):
        with pytest.raises(InputError, match="git restore"):
            act()
    assert locks.LOCK.read_bytes() == b""


def test_a_damaged_file_in_locks_is_one_line(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    locks.write(locks.OTHERS / "a.lock", ENTRIES)
    Path("locks/a.lock").write_bytes(Path("locks/a.lock").read_bytes().partition(b"    cmd")[0])
    assert gapscope(monkeypatch, "mend") == 2
    assert "git restore locks/a.lock" in capsys.readouterr().err


@pytest.mark.parametrize(
    "path", [ROOT / locks.LOCK, *sorted((ROOT / locks.OTHERS).glob("*.lock"))], ids=lambda path: path.name
)
def test_a_committed_lock_is_whole(path: Path) -> None:
    """If it is not: `gapscope compose` of its study and of another one writes the last line."""
    assert path.read_bytes().endswith(lock_copy.END)


def test_the_copy_goes_when_somebody_removes_the_lock(repository: Path) -> None:
    whole()
    lock_copy.keep()
    locks.LOCK.unlink()
    lock_copy.keep()
    assert not lock_copy.COPY.exists()


def test_a_kill_while_the_copy_is_written_leaves_the_one_before(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = whole()
    lock_copy.keep()
    locks.write(locks.LOCK, {})
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            lock_copy.keep()
    assert lock_copy.COPY.read_bytes() == before


def test_a_stage_waits_while_dvc_writes(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = whole()
    lock_copy.keep()
    write(before[:40])
    os.utime(locks.LOCK, None)  # now
    monkeypatch.setattr(time, "sleep", lambda _: locks.LOCK.write_bytes(before))
    lock_copy.keep()


def test_another_study_s_lock_is_the_one_that_is_kept(repository: Path) -> None:
    locks.write(locks.LOCK, {"report@a": {"cmd": "--metrics metrics/a"}, "check": {"cmd": "python stages/check.py"}})
    locks.swap("b")
    assert lock_copy.COPY.read_bytes() == locks.LOCK.read_bytes()


@pytest.mark.parametrize("where", ["after an entry", "in a line"])
def test_after_a_kill_only_the_entry_that_was_written_is_lost(repository: Path, where: str) -> None:
    names = ("one", "two", "three")
    before = {name: [f"{names[index - 1]}.out"] if index else [] for index, name in enumerate(names)}
    stages = (
        f"  {name}: {{cmd: python stage.py {name}, deps: {before[name]}, outs: [{name}.out: {{cache: false}}]}}\n"
        for name in names
    )
    Path("stage.py").write_text(STAGE)
    Path("dvc.yaml").write_text("stages:\n" + "".join(stages))
    assert dvc("repro", "two").returncode == 0
    locks.write(locks.LOCK, locks.read(locks.LOCK))
    kept = locks.read(locks.LOCK)
    assert sorted(kept) == ["one", "two"]
    killed = python("-c", KILLED_WRITING, where)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    os.utime(locks.LOCK, (0, 0))
    damaged = locks.LOCK.read_bytes()
    refused = dvc("repro")
    assert refused.returncode
    assert ("gapscope mend" in refused.stderr) == (where == "after an entry"), refused.stderr
    assert locks.LOCK.read_bytes() == damaged
    locks.mend()
    assert locks.read(locks.LOCK) == kept
    assert dvc("repro").returncode == 0
    assert sorted(locks.read(locks.LOCK)) == ["one", "three", "two"]
    assert locks.LOCK.read_bytes().endswith(lock_copy.END)  # DVC keeps it
    again = ["two"] if where == "after an entry" else []  # DVC had removed its output before the script could refuse
    assert Path("ran").read_text().split() == ["one", "two", "three", *again, "three"]
