"""Work that survives a kill: the same rows with any number of processes, interrupted or not."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from gapscope.errors import InputError
from gapscope.measures import random_matrices
from gapscope.records import resumable

ABOUT = {"law": "lognormal", "seed": 0, "spectrum_values": 100, "bins": 10}
PIECES = [(m, n, index) for m, n in ((40, 20), (210, 205)) for index in range(4)]


def finished(log: Path, workers: int = 1, **about: object) -> dict:
    work = partial(random_matrices.repetition, settings=ABOUT | about)
    rows = resumable.finish(work, PIECES, log, ABOUT | about, workers)
    return {(row["m"], row["n"], row["repetition"]): without_time(row) for row in rows}


def without_time(row: dict) -> dict:
    return {name: value for name, value in row.items() if name != "cpu_s"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    log = tmp_path_factory.mktemp("whole") / "folder" / "log.jsonl"
    return log, finished(log)


def test_every_piece_is_done_as_in_this_process(whole: tuple[Path, dict]) -> None:
    _, rows = whole
    assert sorted(rows) == PIECES
    assert rows[40, 20, 3] == without_time(random_matrices.repetition((40, 20, 3), ABOUT))


def test_two_processes_give_the_same_bits(whole: tuple[Path, dict], tmp_path: Path) -> None:
    assert finished(tmp_path / "log.jsonl", workers=2) == whole[1]


@pytest.mark.parametrize("cut", [1, 40])
def test_what_is_in_the_log_is_not_done_again_and_a_cut_line_is(
    whole: tuple[Path, dict], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: int
) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text(whole[0].read_text()[:-cut])
    kept = json.loads(log.read_text().splitlines()[1][resumable.DIGITS :])[1]
    assert without_time(kept) == whole[1][kept["m"], kept["n"], kept["repetition"]]
    submitted = []
    submit = resumable.ProcessPoolExecutor.submit
    watched = lambda pool, work, piece: submitted.append(piece) or submit(pool, work, piece)  # noqa: E731
    monkeypatch.setattr(resumable.ProcessPoolExecutor, "submit", watched)
    assert finished(log) == whole[1]
    assert len(submitted) == 1
    assert finished(log) == whole[1]
    assert len(submitted) == 1  # nothing is left to do


def test_a_damaged_line_is_done_again(
    whole: tuple[Path, dict], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, lines = tmp_path / "log.jsonl", whole[0].read_bytes().splitlines(keepends=True)
    for place in (0, 20, lines[2].index(b"sigma_min") + 13, len(lines[2]) - 1):  # checksum, text, a digit, end of line
        damaged = bytearray(lines[2])
        damaged[place] ^= 1
        log.write_bytes(b"".join([*lines[:2], damaged, *lines[3:]]))
        assert finished(log) == whole[1]
        assert "done again" in capsys.readouterr().out
        assert log.read_bytes().count(b"\n") == len(lines)


def test_a_log_of_other_settings_is_begun_anew(whole: tuple[Path, dict], tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text(whole[0].read_text())
    rows = finished(log, seed=1)
    assert sorted(rows) == PIECES
    assert not [piece for piece in PIECES if rows[piece]["sigma_min"] == whole[1][piece]["sigma_min"]]


def test_a_failing_piece_is_not_swallowed_and_the_finished_ones_stay(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    pieces = [(40, 20, 0), (20, 40, 0)]  # the second is wider than tall
    work = partial(random_matrices.repetition, settings=ABOUT)
    with pytest.raises(ValueError, match=r"\(20, 40\)|20 x 40"):
        list(resumable.finish(work, pieces, log, ABOUT, 1))
    assert len(log.read_text().splitlines()) == 2  # the head and the first


def ended(_: object) -> dict:
    os.kill(os.getpid(), signal.SIGKILL)  # as a system does that runs out of memory
    return {}


def test_a_process_that_the_system_ends_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="lack of memory"):
        list(resumable.finish(ended, PIECES, tmp_path / "log.jsonl", ABOUT, 1))


KILLED = """
from functools import partial
from pathlib import Path
from gapscope.records import resumable
from gapscope.measures import random_matrices

if __name__ == "__main__":
    about = {about}
    work = partial(random_matrices.repetition, settings=about)
    for row in resumable.finish(work, {pieces}, Path("log.jsonl"), about, 2):
        print(row["repetition"], flush=True)
"""


def test_a_kill_loses_no_finished_piece_and_leaves_no_process(tmp_path: Path) -> None:
    pieces = [(40, 20, index) for index in range(4)] + [(700, 700, index) for index in range(1000)]
    (tmp_path / "script.py").write_text(KILLED.format(about=ABOUT, pieces=pieces))
    environment = os.environ | {"PYTHONPATH": str(Path(resumable.__file__).parents[2])}
    running = subprocess.Popen(
        [sys.executable, "script.py"], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
    )
    for _ in range(6):
        running.stdout.readline()
    children = children_of(running.pid)
    running.send_signal(signal.SIGKILL)
    running.wait()
    running.stdout.close()
    log = (tmp_path / "log.jsonl").read_text()
    assert 6 <= log.count("\n") - 1 < 100
    assert len(children) >= 2
    deadline = time.monotonic() + 20
    while any(map(is_running, children)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not [child for child in children if is_running(child)]


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_running(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"
