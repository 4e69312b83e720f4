"""Several stages at once: in the order of the graph, past a failure, and stopped cleanly."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from dvc.repo import Repo

from gapscope.engine.runner import cause, changed, how_far, log_of, run
from gapscope.errors import InputError, StoppedError

GRAPH = {"data": set(), "a": {"data"}, "b": {"data"}, "a2": {"a"}, "b2": {"b"}, "table": {"a2", "b2"}}


class Stages:
    """Starts a process of Python's for each stage, and notes what ran beside what."""

    def __init__(self, code: Callable[[str], str] = lambda name: "import time; time.sleep(0.3)") -> None:
        self.code, self.started, self.most = code, [], 0
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def __call__(self, name: str, slot: int) -> "subprocess.Popen[bytes]":
        for other in GRAPH[name]:
            assert self.processes[other].returncode == 0
        self.processes[name] = subprocess.Popen([sys.executable, "-c", self.code(name)], start_new_session=True)
        self.started.append((name, slot))
        self.most = max(self.most, sum(process.poll() is None for process in self.processes.values()))
        return self.processes[name]


@pytest.mark.parametrize("jobs", [1, 2, 5])
def test_every_stage_runs_once_after_what_it_depends_on(jobs: int) -> None:
    stages = Stages()
    progress = run(GRAPH, stages, jobs)
    assert sorted(name for name, _ in stages.started) == sorted(GRAPH)
    assert stages.most == min(jobs, 2)
    assert {slot for _, slot in stages.started} == set(range(min(jobs, 2)))
    assert (sorted(progress.done), progress.failed, progress.left_out) == (sorted(GRAPH), [], [])


def test_a_failure_stops_only_what_depends_on_it(capsys: pytest.CaptureFixture[str]) -> None:
    progress = run(GRAPH, Stages(lambda name: f"raise SystemExit({name == 'a'})"), 2)
    assert (sorted(progress.done), progress.failed) == (["b", "b2", "data"], ["a"])
    assert sorted(progress.left_out) == ["a2", "table"]
    assert "a: FAILED" in capsys.readouterr().out


WAITS = """
import pathlib, signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a test runner's processes may ignore it
pathlib.Path("NAME.ready").touch()
try:
    time.sleep(60)
except KeyboardInterrupt:
    pathlib.Path("NAME.stopped").touch()
"""

TWICE = """
import pathlib, signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)
pathlib.Path("FOLDER/ready").touch()
try:
    time.sleep(60)
except KeyboardInterrupt:
    pathlib.Path("FOLDER/once").touch()
    time.sleep(60)
"""

LOG = b"lenet5 digits batch 8 seed 0: 18/60\r\nlenet5 digits batch 8 seed 0: 24/60\nepoch 25 of 60 begins\n"


@pytest.mark.parametrize(
    ("log", "said"),
    [
        (LOG, "train@quick 24/60"),
        (LOG * 200, "train@quick 24/60"),
        (LOG + b"lenet5 digits: 25/60, test error 3.12 %, train cross entropy 0.104\n", "train@quick 25/60"),
        (b"no figure\n", "train@quick"),
        (None, "train@quick"),
    ],
)
def test_a_stage_s_log_says_how_far_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: bytes | None, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if log:
        log_of("train@quick").parent.mkdir(parents=True)
        log_of("train@quick").write_bytes(log)
    assert how_far("train@quick") == said


DVC_FAILED = "ERROR: failed to reproduce 'train@a': failed to run: python stages/train.py, exited with 2\n"


@pytest.mark.parametrize(
    ("log", "said"),
    [
        (
            f"Running stage 'train@a':\n> python x\ntrain: batch_size must be 1\n{DVC_FAILED}",
            "train: batch_size must be 1",
        ),
        (f"Traceback (most recent call last):\n  File\nKeyError: 'a'\n\n{DVC_FAILED}", "KeyError: 'a'"),
        (f"run: 10/60\rtrain: no disk\n{DVC_FAILED}", "train: no disk"),
        ("ERROR: failed to reproduce 'a': missing data 'b'\n", "ERROR: failed to reproduce 'a': missing data 'b'"),
        ("ERROR: unexpected error - x\n\nHaving any troubles? Hit us up at ...\n", "ERROR: unexpected error - x"),
        (f"{DVC_FAILED}", DVC_FAILED.strip()),  # killed: there is no other line
        ("", "it left no message"),
    ],
)
def test_the_cause_of_a_failure_is_the_last_line_that_tells_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    log_of("train@a").parent.mkdir(parents=True)
    log_of("train@a").write_text(log)
    assert cause("train@a") == said


def test_what_runs_is_told_while_nothing_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("gapscope.engine.runner.LOOK_S", {False: 0})
    log_of("a").parent.mkdir(parents=True)
    log_of("a").write_text("a: 3/7\n")
    run(GRAPH, Stages(lambda name: "import time; time.sleep(1)" if name in "ab" else ""), 2)
    lines = capsys.readouterr().out.splitlines()
    assert any(re.search("running: a 3/7, b; about .* left$", line) for line in lines)
    assert len(set(lines)) == len(lines)  # nothing is said twice


def test_a_signal_stops_all_and_leaves_none(tmp_path: Path) -> None:
    stages = Stages(lambda name: "" if name == "data" else WAITS.replace("NAME", str(tmp_path / name)))

    def interrupt() -> None:
        while len(list(tmp_path.glob("*.ready"))) < 2:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(StoppedError, match="1 of 6 stages are done"):
        run(GRAPH, stages, 2)
    thread.join()
    assert {path.name for path in tmp_path.glob("*.stopped")} == {"a.stopped", "b.stopped"}
    assert all(process.poll() is not None for process in stages.processes.values())


PIPELINE = """
stages:
  check: {cmd: cp source digest, deps: [source], outs: [digest: {cache: false}]}
  large: {cmd: echo 1 > large, outs: [large]}
  record: {cmd: cat large digest > record, deps: [large, digest], outs: [record: {cache: false}]}
  other: {cmd: cp large other, deps: [large], outs: [other: {cache: false}]}
"""


@pytest.mark.filterwarnings("ignore:_NoneStep:DeprecationWarning")  # DVC's
def test_the_plan_is_made_after_the_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("dvc.yaml").write_text(PIPELINE)
    Path("source").write_text("a\n")
    with Repo.init(no_scm=True) as repo:
        repo.reproduce()
    Path("large").unlink()  # as in a clone
    assert changed() == ({}, set())
    Path("source").write_text("b\n")
    assert changed() == ({"large": set(), "record": {"large"}, "other": {"large"}}, {"other"})
    assert Path("digest").read_text() == "b\n"


@pytest.mark.filterwarnings("ignore:_NoneStep:DeprecationWarning")  # DVC's
def test_a_check_that_fails_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("dvc.yaml").write_text(PIPELINE)
    Repo.init(no_scm=True).close()
    with pytest.raises(InputError, match="DVC cannot read the pipeline: failed to reproduce 'check'"):
        changed()


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_an_error_stops_all_and_leaves_none(tmp_path: Path, error: type[BaseException]) -> None:
    stages = Stages(lambda name: "" if name == "data" else WAITS.replace("NAME", str(tmp_path / name)))

    def start(name: str, slot: int) -> "subprocess.Popen[bytes]":
        if name == "b":  # while a runs
            while not (tmp_path / "a.ready").exists():
                time.sleep(0.05)
            raise error("no room for a log")
        return stages(name, slot)

    try:
        with pytest.raises(error, match="no room"):
            run(GRAPH, start, 2)
        assert (tmp_path / "a.stopped").exists()
        assert all(process.poll() is not None for process in stages.processes.values())
    finally:
        end(stages)


def test_a_second_ctrl_c_is_passed_on_and_leaves_none(tmp_path: Path) -> None:
    stages = Stages(lambda _: TWICE.replace("FOLDER", str(tmp_path)))

    def interrupt() -> None:
        for sign in ("ready", "once"):
            while not (tmp_path / sign).exists():
                time.sleep(0.05)
            os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            run({"data": set()}, stages, 1)
        assert stages.processes["data"].poll() is not None
    finally:
        end(stages)
    thread.join()


def end(stages: Stages) -> None:
    """Leave no process of a test that failed."""
    for process in stages.processes.values():
        process.kill()
        process.wait()


def test_no_job_raises() -> None:
    with pytest.raises(InputError, match="-j must be at least 1, got 0"):
        run(GRAPH, Stages(), 0)
