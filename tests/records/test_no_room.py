"""A disk that is full or memory that is short, at every writer: one line, nothing half-written, nothing left behind."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from pandas.errors import ParserError
from scripts import file_size_limit

from gapscope import lock_copy, runtime
from gapscope.errors import InputError, reading
from gapscope.records.activations import write_activations
from gapscope.records.checkpoints import Checkpoint
from gapscope.records.files import atomic_path, reserve, write_text
from gapscope.records.tables import write_record, write_table
from gapscope.records.weights import write_weights

LARGEST = 1000  # bytes that a file may have
TENSORS = {"a": torch.zeros(1000)}


def write_layers(path: Path) -> None:
    with write_activations(path, {}) as open_layer:
        open_layer("run", "small", (5, 5))[:] = 1.0
        open_layer("run", "large", (50, 50))  # not filled: the room must be there before


WRITERS: dict[str, Callable[[Path], object]] = {
    "text": lambda path: write_text(path, "x" * 2 * LARGEST),
    "record": lambda path: write_record(path, {"x": "x" * 2 * LARGEST}),
    "table": lambda path: write_table(path, [{"a": 1.5}] * LARGEST),
    "weights": lambda path: write_weights(path, TENSORS, {}, {}),
    "checkpoint": lambda path: Checkpoint(path, {}, 1).save(TENSORS, {}),
    "activations": write_layers,
}


@pytest.fixture(autouse=True)
def _ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "where_raised", lambda _: None)  # this file is as gapscope's code, and no user's


def said_by(work: Callable[[], object], capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one line that a stage says which ends with status 2."""
    with pytest.raises(SystemExit) as ended:
        runtime.run_command(work)
    said = capsys.readouterr().err
    assert ended.value.code == 2, said
    assert len(said.splitlines()) == 1, said
    return said


@pytest.mark.parametrize("old", [True, False])
@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_is_one_line_and_leaves_what_was_there(
    tmp_path: Path, writer: str, old: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "out"
    if old:
        WRITERS[writer](path)
    before = contents(tmp_path)

    def work() -> None:
        with file_size_limit(LARGEST):
            WRITERS[writer](path)

    said = said_by(work, capsys)
    assert "File too large" in said
    assert str(path) in said or str(path.with_name(".out")) in said
    assert "make room" in said
    assert contents(tmp_path) == before


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_is_full_when_a_file_is_flushed(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", full)
    said = said_by(lambda: write_text(tmp_path / "out", "text"), capsys)
    assert f"{tmp_path / 'out'}" in said
    assert "make room" in said
    assert not list(tmp_path.iterdir())


def test_another_error_of_the_system_does_not_ask_for_room(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert "make room" not in said_by(lambda: write_text(tmp_path / "file/out", ""), capsys)


FILL = """
import sys
import numpy as np
from pathlib import Path
from gapscope import runtime
from gapscope.records.activations import write_activations

def main():
    with write_activations(Path(sys.argv[1]), {}) as open_layer:
        for layer in "abcd":
            open_layer("run", layer, (1000, 100))[:] = 1.0

runtime.run_command(main)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_map_on_a_small_disk_ends_in_one_line_and_not_in_a_bus_error(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("this container may not mount")
    try:
        done = subprocess.run(
            [sys.executable, "-c", FILL, str(disk / "out")], capture_output=True, text=True, check=False
        )
        assert done.returncode == 2, done.stderr
        assert "No space left on device" in done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert not list(disk.iterdir())
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_room_is_reserved_and_no_byte_changed(tmp_path: Path) -> None:
    path = tmp_path / "map"
    with path.open("w+b") as file:
        file.write(b"abc")
        file.flush()
        reserve(file.fileno(), 100_000)
        assert os.fstat(file.fileno()).st_blocks * 512 >= 100_000
    assert path.read_bytes() == b"abc" + bytes(99_997)


def test_a_full_disk_leaves_no_half_copy_of_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lock_copy.LOCK.write_bytes(b"schema: '2.0'\n" + b"x" * 2 * LARGEST + lock_copy.END)
    with pytest.raises(OSError, match="File too large"), file_size_limit(LARGEST):
        lock_copy.copy_whole()
    assert not list(lock_copy.COPY.parent.iterdir())


def bad_allocation() -> None:
    raise RuntimeError("std::bad_alloc")


LACKS = {
    "torch": lambda: torch.empty(2**60, dtype=torch.uint8),
    "numpy": lambda: np.ones(2**60, dtype=np.uint8),
    "a library of C++": bad_allocation,
}


@pytest.mark.parametrize("kind", LACKS)
def test_too_little_memory_is_one_line_also_in_a_user_s_own_network(
    kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.undo()  # the functions above are a user's
    assert "not enough memory" in said_by(LACKS[kind], capsys)


@pytest.mark.parametrize("error", [MemoryError(), ParserError("Error tokenizing data. C error: out of memory")])
def test_a_file_for_which_memory_is_short_is_not_said_to_be_damaged(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(InputError, match="does not fit into memory"), reading(tmp_path, "a whole table", "remove it"):
        raise error


def test_a_file_is_not_written_over_a_folder(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/precious").touch()
    with pytest.raises(InputError, match="is a folder"):
        write_text(tmp_path / "out", "text")
    with pytest.raises(InputError, match="no activations"):
        write_layers(tmp_path / "out")
    with pytest.raises(InputError, match="is a folder"), atomic_path(tmp_path / "out"):
        pass
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["precious"]
