"""Stages on other machines: one attempt's outputs are taken over, those of an attempt that was given up are not.

The other machines are processes here, started by `Processes`. No test needs DVC: `ask` does what DVC does, which is to
start $SHELL with a stage's command.
"""

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from gapscope.engine.cluster import attempt, controller, heartbeat, runs
from gapscope.engine.cluster.controller import Controller
from gapscope.engine.cluster.heartbeat import Heart, Pulse
from gapscope.engine.cluster.jobs import Job, Spec
from gapscope.engine.cluster.launcher import Ending
from gapscope.engine.cluster.same_code import Code
from gapscope.engine.cluster.settings import FOLDER, ClusterSettings, Needs, Resources, read_cluster
from gapscope.engine.cluster.workfolder import StageFiles, copy_state, make, move_outputs, state_of
from gapscope.errors import InputError

ROOT = Path(__file__).parents[2]
PATIENCE_S = 300
STATE = "data/checkpoints/s/a.safetensors"
# it counts to 5, keeps the count in its state, goes on from there, and notes where it began; slow.N holds up attempt N
COUNTING = f"""
import os, sys, time
from pathlib import Path

out, state = Path("metrics/s/train/a.csv"), Path("{STATE}")
start = count = int(state.read_text()) if state.exists() else 0
number = Path.cwd().parent.name
while count < 5:
    count += 1
    new = state.with_name(".new")
    new.write_text(str(count))
    new.rename(state)
    print(f"count: {{count}}/5", flush=True)
    while count >= 3 and Path(f"slow.{{number}}").exists():
        time.sleep(0.05)
out.write_text(f"attempt {{number}} from {{start}}\\n")
Path("provenance/s/train/a.json").write_text('{{"schema": 1, "stage": "train"}}')
state.unlink()
"""
FILES = {
    "train@a": StageFiles(("data/in.npz", "params.yaml"), ("metrics/s/train/a.csv", "provenance/s/train/a.json")),
    "tables": StageFiles(("metrics/s/train",), ("metrics/s/runs.csv", "plots/s")),
    "download@d": StageFiles((), ("data/d.npz",)),
}
COMMAND = f"python counting.py --checkpoint {STATE}"
SETTINGS = ClusterSettings(
    launcher="sbatch", options={}, stages={"default": Needs(0, 1)}, worker=None, here=("download",),
    environment={"FROM_THE_FILE": "yes"}, python=None, remote=None, confirm_above=9, attempts=3,
)  # fmt: skip


class Processes:
    """A launcher whose machines are processes of this one; `machines` are their numbers."""

    def __init__(self) -> None:
        self.machines: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> "Processes":
        return self

    def __exit__(self, *_: object) -> None:
        for machine in self.machines:
            machine.kill()
            machine.wait()

    def greeting(self) -> str:
        return ""

    def start(self, job: Job, command: list[str], resources: Resources) -> "OneProcess":
        self.machines.append(subprocess.Popen(command))
        return OneProcess(self.machines[-1])


class OneProcess:
    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self.process = process

    def ending(self) -> Ending | None:
        return None if self.process.poll() is None else Ending(f"status {self.process.returncode}", again=True)

    def cancel(self) -> None:
        self.process.kill()


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder like a study's."""
    for folder in ("data", "metrics/s/train", ".git", ".dvc", "metrics/other"):
        (tmp_path / folder).mkdir(parents=True)
    for file in ("data/in.npz", "params.yaml", "metrics/s/train/b.csv", "metrics/other/x.csv", "dvc.lock", "dvc.yaml"):
        (tmp_path / file).write_text(file)
    (tmp_path / "counting.py").write_text(COUNTING)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    monkeypatch.setattr(controller, "LATE_S", 0.5)
    return tmp_path


@contextmanager
def on_processes(settings: ClusterSettings = SETTINGS, beat: bool = True) -> Iterator[Controller]:
    run = Path("data/cluster/s/run")
    run.mkdir(parents=True)
    needs = dict.fromkeys(FILES, Resources(0, 1, 1))
    with (
        Processes() as launcher,
        Controller(launcher, settings, files=FILES, needs=needs, run=run, commit="abc") as found,
    ):
        (run / "alive").write_text("0")
        if beat:
            with Heart(run / "alive", lambda: None):
                yield found
        else:
            yield found


class Asked:
    """A stage that DVC has started, and what it printed."""

    def __init__(self, found: Controller, stage: str, command: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [str(found.shell), "-c", command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env=os.environ | {"DVC_STAGE": stage, "GAPSCOPE_X": "forwarded", "SECRET": "kept"} | environment,
        )  # fmt: skip

    def end(self) -> tuple[int, str]:
        said, _ = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, said


def until(seen: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not seen():
        assert time.monotonic() < end
        time.sleep(0.05)


def attempt_at(number: int) -> Path:
    return Path(f"data/cluster/s/run/jobs/train@a.1/{number}")


def counted(number: int, count: int) -> Callable[[], bool]:
    """Whether an attempt has counted so far; from 3 on it waits while its file slow.NUMBER is there."""

    def seen() -> bool:
        with suppress(OSError):
            return (attempt_at(number) / "work" / STATE).read_text() == str(count)
        return False

    return seen


def test_the_outputs_the_log_and_the_status_come_back(study: Path) -> None:
    with on_processes() as found:
        status, said = Asked(found, "train@a", COMMAND).end()
    assert status == 0, said
    assert Path("metrics/s/train/a.csv").read_text() == "attempt 1 from 0\n"
    assert [f"count: {n}/5" for n in range(1, 6)] == [line for line in said.splitlines() if "count" in line]
    assert json.loads(Path("provenance/s/train/a.json").read_text()) == {
        "schema": 1, "stage": "train", "host": platform.node(),
    }  # fmt: skip
    assert not Path(STATE).exists()
    assert not list(Path("data/cluster/s/run/jobs").iterdir())
    assert Path("metrics/s/train/b.csv").read_text() == "metrics/s/train/b.csv"


def test_a_command_that_fails_says_so(study: Path) -> None:
    with on_processes() as found:
        status, said = Asked(found, "train@a", "echo the cause; exit 7").end()
    assert (status, said.splitlines()[-1]) == (7, "the cause")


def test_a_stage_of_here_runs_here(study: Path) -> None:
    with on_processes() as found:
        assert Asked(found, "download@d", "pwd > data/d.npz; exit 3").end()[0] == 3
    assert Path("data/d.npz").read_text() == f"{study}\n"


def test_what_matters_of_the_environment_is_handed_over(study: Path) -> None:
    shown = "echo $GAPSCOPE_X $SECRET $FROM_THE_FILE $GAPSCOPE_COMMIT; git rev-parse HEAD || echo no repository"
    with on_processes() as found:
        status, said = Asked(found, "train@a", f"unset A; {shown}").end()
    assert status == 0
    assert said.splitlines()[1] == "forwarded yes abc"
    assert said.splitlines()[-1] == "no repository"


def test_an_attempt_that_was_given_up_changes_nothing_however_late_it_ends(study: Path) -> None:
    """The machine of the first attempt dies, but the stage that it had started lives on, as SLURM leaves it."""
    Path("slow.1").touch()
    with on_processes() as found:
        asked = Asked(found, "train@a", COMMAND)
        until(counted(1, 3))
        orphan = pid_in(attempt_at(1) / "work")
        found.launcher.machines[0].kill()
        status, said = asked.end()
        assert (status, Path("metrics/s/train/a.csv").read_text()) == (0, "attempt 2 from 3\n"), said
        before = content(study)
        Path("slow.1").unlink()
        until(lambda: not alive(orphan))
        assert content(study) == {name: text for name, text in before.items() if name != "slow.1"}
    assert "the job was lost (status -9): starting it again" in said


def test_the_newest_attempt_counts_even_if_an_older_one_ends_first(study: Path) -> None:
    Path("slow.1").touch()
    Path("slow.2").touch()
    with on_processes() as found:
        asked = Asked(found, "train@a", COMMAND)
        until(counted(1, 3))
        first = pid_in(attempt_at(1) / "work")
        command = found._command(Job(Path("data/cluster/s/run/jobs/train@a.1").resolve()))
        os.kill(found.launcher.machines[0].pid, signal.SIGSTOP)  # its network is cut; the scheduler starts it again:
        second = subprocess.Popen(command)
        until(counted(2, 4))
        Path("slow.1").unlink()
        until(lambda: not alive(first))
        os.kill(found.launcher.machines[0].pid, signal.SIGCONT)
        until((attempt_at(1) / "done.json").exists)
        time.sleep(3 * controller.POLL_S)
        assert not Path("metrics/s/train/a.csv").exists()
        Path("slow.2").unlink()
        assert asked.end()[0] == 0
        assert second.wait(PATIENCE_S) == 0
    assert Path("metrics/s/train/a.csv").read_text() == "attempt 2 from 3\n"


def test_an_attempt_that_begins_after_another_has_ended_withdraws(study: Path) -> None:
    """As when SLURM starts a job again whose end it has not noticed."""
    run = study / "data/cluster/s/run"
    job = Job.create(run / "jobs", Spec("train@a", "exit 0", str(study), "", {}, FILES["train@a"], Code.imported()))
    job.begin().end(0, "h1")
    subprocess.run([sys.executable, "-m", "gapscope.engine.cluster.attempt", str(job.folder)], check=True)
    assert [each.folder.name for each in job.attempts()] == ["1"]


def test_a_job_that_is_lost_each_time_ends_in_one_line(study: Path) -> None:
    with on_processes() as found:
        status, said = Asked(found, "train@a", "kill -9 $PPID").end()
    assert status == 1
    assert said.count("starting it again") == SETTINGS.attempts - 1
    assert said.splitlines()[-1] == "gapscope: the job ended without a result: status -9"


@pytest.mark.parametrize("by", ["DVC", "the controller"])
def test_a_stop_keeps_the_state(study: Path, by: str) -> None:
    Path("slow.1").touch()
    with on_processes() as found:
        asked = Asked(found, "train@a", COMMAND)
        until(counted(1, 3))
        if by == "DVC":
            asked.process.send_signal(signal.SIGINT)
        else:
            found.stopping.set()
        status, _ = asked.end()
        assert status != 0
        assert all(machine.poll() is not None for machine in found.launcher.machines)
    assert Path(STATE).read_text() == "3"
    assert not Path("metrics/s/train/a.csv").exists()


def test_the_state_of_this_machine_is_gone_on_from(study: Path) -> None:
    Path(STATE).parent.mkdir(parents=True)
    Path(STATE).write_text("4")
    with on_processes() as found:
        assert Asked(found, "train@a", COMMAND).end()[0] == 0
    assert Path("metrics/s/train/a.csv").read_text() == "attempt 1 from 4\n"
    assert not Path(STATE).exists()


def test_an_attempt_ends_when_its_controller_has_ended(study: Path) -> None:
    """The next run takes over the state."""
    Path("slow.1").touch()
    run = study / "data/cluster/s/run"
    run.mkdir(parents=True)
    (run / "alive").write_text("0")
    files = StageFiles((), FILES["train@a"].outs, state_of(COMMAND))
    job = Job.create(run / "jobs", Spec("train@a", COMMAND, str(study), str(run / "alive"), {}, files, Code.imported()))
    machine = subprocess.Popen([sys.executable, "-m", "gapscope.engine.cluster.attempt", str(job.folder)])
    until(counted(1, 3))
    orphan = pid_in(attempt_at(1) / "work")
    (run / "alive").unlink()
    assert machine.wait(PATIENCE_S) != 0
    assert not alive(orphan)
    (job.begin().folder / "work").mkdir()  # of an attempt that never was ready
    runs.bring_back("s")
    assert Path(STATE).read_text() == "3"
    assert not list(Path("data/cluster/s").iterdir())


def test_a_second_run_is_refused_while_one_is_under_way(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with on_processes(), pytest.raises(InputError, match="study s runs on a cluster, from run; `gapscope cancel s`"):
        runs.bring_back()


def test_a_run_that_is_cancelled_ends(study: Path) -> None:
    run = study / "data/cluster/s/run"
    run.mkdir(parents=True)
    with ThreadPoolExecutor(1) as pool:
        with Heart(run / "alive", lambda: None):
            said = pool.submit(runs.cancel, "s")
            until((run / "stop").exists)
            time.sleep(2 * heartbeat.BEAT_S)  # it sees the heart beat, and waits for the controller's end
            assert not said.done()
        shutil.rmtree(run)
        assert "the next `gapscope run s` goes on" in said.result(PATIENCE_S)
    with pytest.raises(InputError, match="no run of study s on a cluster"):
        runs.cancel("s")


def test_a_worker_with_another_gapscope_says_so(study: Path) -> None:
    other = study / "elsewhere/gapscope"
    shutil.copytree(ROOT / "src/gapscope", other, ignore=shutil.ignore_patterns("__pycache__"))
    edit = other / "errors.py"
    edit.write_text(f"{edit.read_text()}\nEDITED = 1\n")
    with on_processes() as found:
        status, said = Asked(found, "train@a", COMMAND, PYTHONPATH=str(other.parent)).end()
        assert (status, "has other code of gapscope" in said.splitlines()[-1]) == (2, True)
        init = other / "__init__.py"
        init.write_text(init.read_text().replace('__version__ = "', '__version__ = "9.'))
        status, said = Asked(found, "train@a", COMMAND, PYTHONPATH=str(other.parent)).end()
        assert (status, "has gapscope 9." in said.splitlines()[-1]) == (2, True)
    assert not Path("metrics/s/train/a.csv").exists()


def test_a_worker_without_gapscope_says_so(study: Path) -> None:
    bare = study / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(bare)], check=True)
    with on_processes(replace(SETTINGS, python=str(bare / "bin/python"))) as found:
        status, said = Asked(found, "train@a", COMMAND, PYTHONPATH="").end()
    assert status == 1
    assert "No module named 'gapscope'" in said.splitlines()[-1]


def test_a_folder_that_the_worker_does_not_see_is_one_line(study: Path) -> None:
    class Elsewhere(Processes):
        def start(self, job: Job, command: list[str], resources: Resources) -> OneProcess:
            return super().start(job, [word.replace(str(study), "/no/such/folder") for word in command], resources)

    with on_processes() as found:
        found.launcher = Elsewhere()
        status, said = Asked(found, "train@a", COMMAND).end()
    assert status == 1
    assert "all machines must share the study's folder" in said.splitlines()[-1]


# --- the folder of an attempt -----------------------------------------------------------------------------------------


def test_an_attempt_sees_what_it_reads_and_writes_nowhere_else(study: Path) -> None:
    work = study / "data/cluster/s/run/1/work"
    make(study, work, FILES["train@a"])
    assert (work / "data/in.npz").read_text() == "data/in.npz"
    assert (work / "metrics/other/x.csv").exists()
    assert not (work / "metrics/s/train/b.csv").exists()  # beside the output: no dependency
    for name in (".git", ".dvc", "dvc.lock", "dvc.yaml", "data/cluster"):
        assert not (work / name).exists()
    for folder in ("metrics/s/train", "metrics/s", "metrics"):
        assert not (work / folder).is_symlink()


def test_a_folder_that_is_read_may_hold_outputs(study: Path) -> None:
    work = study / "data/cluster/s/run/1/work"
    make(study, work, StageFiles(("metrics/s",), ("metrics/s/runs.csv",)))
    assert (work / "metrics/s/train/b.csv").exists()
    (work / "metrics/s/runs.csv").write_text("new")
    assert not Path("metrics/s/runs.csv").exists()


def test_outputs_replace_what_is_there_as_a_whole(study: Path) -> None:
    work = study / "work"
    (work / "plots/s").mkdir(parents=True)
    (work / "plots/s/new.svg").write_text("new")
    Path("plots/s").mkdir(parents=True)
    Path("plots/s/old.svg").write_text("old")
    move_outputs(work, study, FILES["tables"])
    assert os.listdir("plots/s") == ["new.svg"]
    assert not (work / "plots/s").exists()


def test_the_state_is_copied_and_removed_with_its_source(study: Path) -> None:
    files = StageFiles((), (), state_of(f"x --checkpoint {STATE} --log data/unfinished/s/law"))
    assert files.state == (STATE, "data/unfinished/s/law", STATE.replace(".safe", ".sweep.safe"))
    source, target = study / "source", study / "target"
    (source / "data/unfinished/s/law").mkdir(parents=True)
    (source / "data/unfinished/s/law/part").write_text("1")
    (source / "data/unfinished/s/law/.half.12.tmp").write_text("2")
    (target / STATE).parent.mkdir(parents=True)
    (target / STATE).write_text("old")
    copy_state(source, target, files)
    assert [path.name for path in (target / "data/unfinished/s/law").iterdir()] == ["part"]
    assert not (target / STATE).exists()


# --- heartbeat, settings ----------------------------------------------------------------------------------------------


def test_a_pulse_is_lost_by_the_reader_s_clock(tmp_path: Path) -> None:
    alive = tmp_path / "alive"
    alive.write_text("0")
    pulse = Pulse(alive)
    assert not pulse.lost(0.2)
    time.sleep(0.3)
    assert pulse.lost(0.2)
    alive.write_text("1")
    assert not pulse.lost(0.2)
    alive.unlink()
    assert pulse.lost(0.2)
    assert attempt.SAVING_S + heartbeat.DEAD_S + heartbeat.BEAT_S < 60  # what docs/cluster.md promises


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / FOLDER).glob("*.yaml")))
def test_the_clusters_files_can_be_read(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(ROOT)
    assert read_cluster(name).launcher == name


BAD = {
    "a launcher": ("launcher: sbatch", "launcher: kubernetes", "launcher must be one of sbatch, local"),
    "a worker": ("worker: null", "worker: {gpus: 0, memory_gb: 1.0, threads: 1}", "worker must be null"),
    "an entry": ("attempts: 3", "attemps: 3", "unknown param 'attemps'"),
    "no default": ("default:", "train:", "stages must have the entry default"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_wrong_file_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    old, new, said = BAD[case]
    text = (ROOT / FOLDER / "sbatch.yaml").read_text()
    assert old in text
    monkeypatch.chdir(tmp_path)
    FOLDER.mkdir(parents=True)
    (FOLDER / "mine.yaml").write_text(text.replace(old, new))
    with pytest.raises(InputError, match=said) as raised:
        read_cluster("mine")
    assert "conf/cluster/mine.yaml" in str(raised.value)


def test_an_unknown_cluster_gets_the_nearest_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(InputError, match=r"no cluster 'slrum'.*did you mean 'slurm'"):
        read_cluster("slrum")


PARAMS = SimpleNamespace(groups={"train": {"threads": 2}, "runtime": {"launcher": None}})


def test_a_large_number_of_jobs_needs_a_yes(capsys: pytest.CaptureFixture[str]) -> None:
    stages = ["download@d", "tables", *(f"train@{number}" for number in range(9))]
    with pytest.raises(InputError, match="10 jobs are more than confirm_above: 9; add --yes"):
        runs.announce(SETTINGS, PARAMS, stages, 4, sure=False)
    runs.announce(SETTINGS, PARAMS, stages, 4, sure=True)
    runs.announce(SETTINGS, PARAMS, stages[:-1], 4, sure=False)
    said = capsys.readouterr().out.splitlines()[1]
    assert "submits 10 jobs, 4 of them at once; 9 of 2 threads, 1 GB, 0 GPUs; 1 of 1 threads" in said
    with pytest.raises(InputError, match="-j must be at least 1, got 0"):
        runs.announce(SETTINGS, PARAMS, stages, 0, sure=True)


def test_a_stage_that_fits_nowhere_is_refused() -> None:
    dask = replace(SETTINGS, launcher="slurm", worker=Resources(0, 4.0, 1))
    assert dask.needs("tables", PARAMS) == Resources(0, 1, 1)
    with pytest.raises(InputError, match="stage train needs threads 2, and a worker has 1"):
        dask.needs("train@a", PARAMS)
    with pytest.raises(InputError, match=r"gpus must be a whole number with launcher sbatch, got 0.5"):
        replace(SETTINGS, stages={"default": Needs(0.5, 1)}).needs("train@a", PARAMS)


def pid_in(folder: Path, script: bytes = b"counting.py") -> int:
    """Return the process that runs a script in a folder."""
    found = [
        int(path.name)
        for path in Path("/proc").iterdir()
        if path.name.isdecimal() and _cwd(path) == folder.resolve() and script in _words(path)[1:2]
    ]
    (pid,) = found
    return pid


def _cwd(process: Path) -> Path | None:
    try:
        return (process / "cwd").readlink()
    except OSError:
        return None


def _words(process: Path) -> list[bytes]:
    try:
        return (process / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return []


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def content(folder: Path) -> dict[str, bytes]:
    """Return every file outside the jobs, by its path."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "cluster" not in path.parts
    }
