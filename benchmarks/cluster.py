"""What a cluster costs: a small study on two hosts, 32 stages that wait, and a study of many cells with empty stages.

Usage: python benchmarks/cluster.py [smoke] [waiting] [cells], from the root of a clone. The hosts are Dask workers
of one core each on this machine.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from hashlib import md5
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage

import yaml
from dvc.repo import Repo

ROOT = Path(__file__).parents[1]
REPETITIONS = 2
WAITING, LOOK_S = 32, 60.0
CELLS, SAMPLE = (10, 100, 1000), 8  # cells of a study; stages that are run in it, each beside all others
TICKS = os.sysconf("SC_CLK_TCK")
ENVIRONMENT = os.environ | {
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "GAPSCOPE_DEVICE": "cpu",
    "DVC_NO_ANALYTICS": "1", "PYTHONPATH": str(ROOT / "src"),
}  # fmt: skip
CLUSTER = """
launcher: address
options: {{address: "{address}"}}
stages: {{default: {{gpus: 0, memory_gb: 1.0}}}}
worker: {{gpus: 0, memory_gb: 1.0, threads: 1}}
here: [download]
environment: {{}}
python: null
remote: null
confirm_above: 50
attempts: 3
"""
PIPELINE = """
stages:
  check: {cmd: cp revisions.yaml digest, deps: [revisions.yaml], outs: [digest: {cache: false}]}
  cell:
    matrix: {n: "${cells}"}
    cmd: COMMAND && echo ${item.n} > metrics/s/${item.n}.csv && cp record.json provenance/s/${item.n}.json
    params: [train]
    deps: [digest]
    outs:
      - metrics/s/${item.n}.csv: {cache: false}
      - provenance/s/${item.n}.json: {cache: false}
"""
RUN = """
import sys, time
from types import SimpleNamespace
from gapscope.engine import runner
from gapscope.engine.cluster import runs
from gapscope.engine.cluster.settings import read_cluster

begin = time.perf_counter()
graph, unsure = runner.changed()
print("asked", time.perf_counter() - begin)
begin, jobs = time.perf_counter(), int(sys.argv[2])
if sys.argv[1] == "here":
    runner.check(runner.run(graph, runner.start_stage(0, unsure), jobs))
else:
    params = SimpleNamespace(study="s", groups={"runtime": {"launcher": None}})
    with runs.running(read_cluster("hosts"), params, graph, jobs) as environment:
        runner.check(runner.run(graph, runner.start_stage(0, unsure, environment), jobs))
print("ran", time.perf_counter() - begin)
"""


@contextmanager
def hosts(folder: Path, count: int = 2) -> Iterator[None]:
    """Run Dask's scheduler and workers, each on a core of its own, and write conf/cluster/hosts.yaml."""
    with tempfile.TemporaryDirectory() as own, ExitStack() as stack:
        place, dask = Path(own) / "scheduler.json", [sys.executable, "-m", "dask"]

        def start(*command: str) -> None:
            process = subprocess.Popen(
                command, cwd=own, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            stack.callback(process.wait)
            stack.callback(process.terminate)

        start(
            *dask, "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(place)
        )
        while not place.exists():
            time.sleep(0.1)
        for core in range(count):
            has = ("--nthreads", "1", "--resources", "CPU=1,GPU=0,GB=1", "--no-nanny", "--no-dashboard")
            start("taskset", "-c", str(core), *dask, "worker", "--scheduler-file", str(place), *has)
        (folder / "conf/cluster").mkdir(parents=True, exist_ok=True)
        address = yaml.safe_load(place.read_text())["address"]
        (folder / "conf/cluster/hosts.yaml").write_text(CLUSTER.format(address=address))
        yield


def run(folder: Path, *command: str) -> str:
    """Run a command and return what it printed."""
    done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def smoke() -> None:
    """Print the wall seconds of the study `smoke`, on this machine and on two hosts, in turn."""
    found: dict[str, list[float]] = {"here": [], "hosts": []}
    for _ in range(REPETITIONS):
        for where, options in (("here", []), ("hosts", ["--cluster", "hosts"])):
            with tempfile.TemporaryDirectory() as top, ExitStack() as stack:
                folder = Path(top) / "gapscope"
                run(Path(top), "git", "clone", "-q", str(ROOT), str(folder))
                run(folder, "gapscope", "compose", "study=smoke")
                if where == "hosts":
                    stack.enter_context(hosts(folder))
                begin = time.perf_counter()
                run(folder, "gapscope", "run", "smoke", "-j", "2", *options)
                found[where].append(time.perf_counter() - begin)
    here, there = (statistics.median(found[where]) for where in ("here", "hosts"))
    print(f"| `smoke`, `-j 2` on this machine | {here:.0f} s |\n| `smoke` on two hosts of one core | {there:.0f} s |")
    print(f"| ratio | {there / here:.2f} |", flush=True)


def study(folder: Path, cells: int, *, command: str = "true", open_cells: int) -> None:
    """Make a study of many cells in a folder, of which all but the last are done."""
    for name in ("metrics/s", "provenance/s"):
        (folder / name).mkdir(parents=True)
    (folder / "revisions.yaml").write_text("check: {revision: 1, date: 2026-11-30, changed: first}\n")
    (folder / "dvc.yaml").write_text(PIPELINE.replace("COMMAND", command))
    (folder / "params.yaml").write_text(yaml.safe_dump({"cells": list(range(cells)), "train": {"epochs": 1}}))
    (folder / "run.py").write_text(RUN)
    (folder / "record.json").write_text('{"schema": 1}')
    with in_folder(folder):
        Repo.init(no_scm=True).close()
    run(folder, "dvc", "repro", "--single-item", "check")
    run(folder, "dvc", "repro", "--single-item", "cell@0")
    lock = yaml.safe_load((folder / "dvc.lock").read_text())
    one = yaml.safe_dump(lock["stages"].pop("cell@0"), sort_keys=False)
    for cell in range(cells - open_cells):
        (folder / f"metrics/s/{cell}.csv").write_text(f"{cell}\n")
        shutil.copy(folder / "record.json", folder / f"provenance/s/{cell}.json")
        entry = yaml.safe_load(one.replace("/0.", f"/{cell}.").replace("echo 0", f"echo {cell}"))
        entry["outs"][0] |= {"md5": md5(f"{cell}\n".encode()).hexdigest(), "size": len(f"{cell}\n")}
        lock["stages"][f"cell@{cell}"] = entry
    (folder / "dvc.lock").write_text(yaml.safe_dump(lock, sort_keys=False) + "datasets: []\n")


@contextmanager
def in_folder(folder: Path) -> Iterator[None]:
    """Work in a folder."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def used() -> float:
    """Return the processor seconds of all processes that have ended."""
    found = getrusage(RUSAGE_CHILDREN)
    return found.ru_utime + found.ru_stime


def cells() -> None:
    """Print what an empty stage costs in studies of several sizes."""
    for count in CELLS:
        sample = min(SAMPLE, count - 2) - 1
        for where in ("here", "there"):
            with tempfile.TemporaryDirectory() as top, ExitStack() as stack:
                folder = Path(top)
                study(folder, count, open_cells=sample + 1)
                if where == "there":
                    stack.enter_context(hosts(folder))
                before = used()
                run(folder, "dvc", "repro", "--single-item", f"cell@{count - 1}")
                alone, before = used() - before, used()
                said = dict(line.split() for line in run(folder, sys.executable, "run.py", where, "2").splitlines()
                            if line.startswith(("asked", "ran")))  # fmt: skip
                spent = (used() - before) / sample
                print(
                    f"| {count} | {where} | {float(said['ran']) / sample:.1f} | {spent:.2f} | {alone:.2f} | "
                    f"{float(said['asked']):.1f} |", flush=True,
                )  # fmt: skip


def waiting() -> None:
    """Print what the controller needs while stages wait for one worker."""
    with tempfile.TemporaryDirectory() as top:
        folder = Path(top)
        study(folder, WAITING, open_cells=WAITING)
        (folder / "dvc.yaml").write_text(PIPELINE.replace("COMMAND", "sleep 600"))
        with hosts(folder, 1):
            process = subprocess.Popen(
                [sys.executable, "run.py", "there", str(WAITING)], cwd=folder, env=ENVIRONMENT,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
            while len(list(folder.glob("data/cluster/s/*/jobs/*"))) < WAITING:
                time.sleep(1)
            time.sleep(5)
            before, begin = processor_s(process.pid), time.perf_counter()
            time.sleep(LOOK_S)
            share = (processor_s(process.pid) - before) / (time.perf_counter() - begin)
            print(f"| {WAITING} waiting stages: memory of the controller | {memory_gb(process.pid):.2f} GB |")
            print(f"| {WAITING} waiting stages: cores | {share:.2f} |", flush=True)
            process.send_signal(2)
            process.wait()


def tree(process: int) -> list[int]:
    """Return a process and all below it."""
    below = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [process, *(each for child in below for each in tree(int(child)))]


def processor_s(process: int) -> float:
    """Return the processor seconds of a process and all below it so far."""
    fields = [Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split() for each in tree(process)]
    return sum(int(each[11]) + int(each[12]) for each in fields) / TICKS


def memory_gb(process: int) -> float:
    """Return the memory of a process and all below it; what several share is counted once."""
    texts = [Path(f"/proc/{each}/smaps_rollup").read_text() for each in tree(process)]
    return sum(int(line.split()[1]) for text in texts for line in text.splitlines() if line.startswith("Pss:")) / 1e6


if __name__ == "__main__":
    for part in sys.argv[1:] or ("smoke", "waiting", "cells"):
        {"smoke": smoke, "waiting": waiting, "cells": cells}[part]()
