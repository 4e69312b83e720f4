"""A runner or a proof that is killed leaves no process behind, and the next start goes on."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from dvc.repo import Repo

from gapscope.engine import watchdog
from gapscope.engine.proofs.versions import Worker
from gapscope.engine.runner import changed, run, start_stage
from gapscope.errors import InputError

ROOT = Path(__file__).parents[2]
PATIENCE_S = 300
NOTES = """
import os, signal, sys, time
from pathlib import Path

def note(name):
    Path(f"{name}.new").write_text(str(os.getpid()))
    os.replace(f"{name}.new", f"{name}.pid")
"""
STAGE = f"""{NOTES}
note(sys.argv[1])
try:
    while not Path("go").exists():
        time.sleep(0.1)
except KeyboardInterrupt:
    Path(f"{{sys.argv[1]}}.saved").touch()
    raise
Path(sys.argv[1]).touch()
"""
STUBBORN = f"""{NOTES}
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
note("child" if os.fork() == 0 else "parent")
time.sleep({PATIENCE_S})
"""
RUNNER = """
from gapscope.engine.runner import run, start_stage
run({"a": set(), "b": set(), "c": {"a"}}, start_stage(0), 2)
"""
PARENT = f"""
import os, subprocess, sys, time
alive, _ = os.pipe()
subprocess.Popen(sys.argv[1:], stdin=alive, start_new_session=True)
time.sleep({PATIENCE_S})
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


def until(seen: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not seen():
        assert time.monotonic() < end
        time.sleep(0.05)


def pid_of(name: str) -> int:
    until(Path(f"{name}.pid").exists)
    return int(Path(f"{name}.pid").read_text())


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended but was not yet waited for does not."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(state.strip()) and not state.startswith("Z")


@pytest.mark.filterwarnings("ignore:_NoneStep:DeprecationWarning")  # DVC's
def test_a_killed_runner_leaves_no_stage_and_the_next_start_goes_on(folder: Path) -> None:
    stages = (f"  {name}: {{cmd: python stage.py {name}, outs: [{name}: {{cache: false}}]}}\n" for name in "abc")
    Path("stage.py").write_text(STAGE)
    Path("dvc.yaml").write_text("stages:\n" + "".join(stages) + "  check: {cmd: touch checked, outs: [checked]}\n")
    Repo.init(no_scm=True).close()
    with subprocess.Popen([sys.executable, "-c", RUNNER]) as runner:
        pids = [pid_of("a"), pid_of("b")]
        groups = [os.getpgid(pid) for pid in pids]
        assert all(map(alive, [*pids, *groups]))
        runner.kill()
    until(lambda: not any(map(alive, [*pids, *groups])))
    assert Path("a.saved").exists()
    assert not Path("c.pid").exists()
    Path("go").touch()
    graph, unsure = changed()
    assert run(graph, start_stage(0, unsure), 2).failed == []
    assert all(Path(name).exists() for name in "abc")


def test_a_stage_that_does_not_heed_the_signal_is_killed_with_its_children() -> None:
    command = [sys.executable, watchdog.__file__, "1", sys.executable, "-c", STUBBORN]
    with subprocess.Popen([sys.executable, "-c", PARENT, *command]) as parent:
        pids = [pid_of("parent"), pid_of("child")]
        assert all(map(alive, pids))
        parent.kill()
    until(lambda: not any(map(alive, pids)))


@pytest.mark.parametrize("status", [0, 3])
def test_the_status_is_the_command_s(status: int) -> None:
    with subprocess.Popen(
        [sys.executable, watchdog.__file__, "1", sys.executable, "-c", f"raise SystemExit({status})"],
        stdin=subprocess.PIPE,
    ) as process:
        assert process.wait() == status


def test_a_command_that_a_signal_ended_has_a_status_that_is_not_0() -> None:
    code = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    with subprocess.Popen(
        [sys.executable, watchdog.__file__, "1", sys.executable, "-c", code], stdin=subprocess.PIPE
    ) as process:
        assert process.wait() == 128 + signal.SIGKILL


JOB = f"""{NOTES}
note("job")
time.sleep({PATIENCE_S})
"""
PROOF = """
import sys
from pathlib import Path
from gapscope.cli import main, verify
from gapscope.engine.proofs.versions import Worker

def prove(_args):
    with Worker() as worker:
        Path("worker.new").write_text(str(worker._process.pid))
        Path("worker.new").rename("worker.pid")
        worker.run("script", Path.cwd(), ["job.py"])

verify._verify = prove
sys.argv = ["gapscope", "verify"]
main()
"""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_a_killed_proof_leaves_no_process(number: int, status: int) -> None:
    Path("job.py").write_text(JOB)
    with subprocess.Popen([sys.executable, "-c", PROOF], stderr=subprocess.PIPE, text=True) as proof:
        pids = [pid_of("worker"), pid_of("job")]
        proof.send_signal(number)
        errors = proof.communicate()[1]
    assert proof.returncode == status
    assert "Traceback" not in errors
    until(lambda: not any(map(alive, pids)))


def test_a_worker_that_is_closed_ends_its_job() -> None:
    Path("job.py").write_text(JOB)
    with ThreadPoolExecutor(1) as pool, Worker() as worker:
        answer = pool.submit(worker.run, "script", Path.cwd(), ["job.py"])
        pid = pid_of("job")
        worker.close()
        with pytest.raises(InputError, match="has ended"):
            answer.result(PATIENCE_S)
    until(lambda: not alive(pid))
