"""A process that runs the stage scripts of any version, each in a fork of itself, so that torch is imported only once.

It reads jobs, one JSON object per line, and answers each with its exit status. It does not import gapscope itself: a
job names the folder and the source that it runs with. `Worker` in `versions.py` is the other side. A job ends with this
process, and this process ends with the one that started it.
"""

import importlib
import json
import os
import runpy
import signal
import sys
import time
import traceback
from typing import Any

PRELOADED = (
    "dvc.repo", "hydra", "matplotlib.pyplot", "numpy", "pandas", "scipy.optimize", "scipy.stats", "sklearn.datasets",
    "sklearn.model_selection", "torch", "yaml",
)  # fmt: skip
POLL_S = 0.02
running: list[int] = []  # the process of the present job; in that process itself there is none


def serve() -> None:
    """Run jobs until the input ends."""
    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the job, and then the end of input ends this process
    for name in PRELOADED:
        __import__(name)
    for line in sys.stdin:
        print(run(json.loads(line)), flush=True)


def end(*_: object) -> None:
    """End this process at once, with the present job."""
    for child in running:
        os.kill(child, signal.SIGKILL)
    os._exit(128 + signal.SIGTERM)


def run(job: dict[str, Any]) -> int:
    """Run a job in a fork and return its exit status; it is killed after `limit_s` seconds, with status 124."""
    parent = os.getppid()
    child = os.fork()
    if child == 0:
        _child(job)
    running[:] = [child]
    deadline = time.monotonic() + job["limit_s"]
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            running.clear()
            return os.waitstatus_to_exitcode(status)
        if os.getppid() != parent:  # it was killed
            end()
        if time.monotonic() > deadline:
            running.clear()
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return 124
        time.sleep(POLL_S)


def _child(job: dict[str, Any]) -> None:
    status = 1
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    running.clear()
    try:
        log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.chdir(job["folder"])
        os.environ |= job["environment"]
        sys.argv = job["arguments"]
        sys.path.insert(0, os.path.join(job["folder"], "src"))
        if job["kind"] == "script":
            script = os.path.join(job["folder"], sys.argv[0])  # the path by which spawned processes import it
            sys.path.insert(0, os.path.dirname(script))
            runpy.run_path(script, run_name="__main__")
        else:
            {"compose": compose, "stages": stages}[job["kind"]]()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # the boundary of a process: the log shows every error
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def compose() -> None:
    """Compose params.yaml by the version's own command."""
    importlib.import_module("gapscope.cli").main()  # the job's version of it


def stages() -> None:
    """Write the stages of the version's dvc.yaml, for its params.yaml, in an order in which they can run."""
    import networkx as nx  # type: ignore[import-untyped]  # comes with DVC
    from dvc.repo import Repo

    with Repo() as repo:
        root = repo.root_dir
        graph = repo.index.graph
        stage_list = [
            {
                "name": stage.addressing.partition("@")[0].rpartition(":")[2],
                "addressing": stage.addressing,
                "command": stage.cmd,
                "outs": [os.path.relpath(out.fs_path, root).replace(os.sep, "/") for out in stage.outs],
                "after": sorted(other.addressing for other in graph.successors(stage)),
            }
            for stage in reversed(list(nx.topological_sort(graph)))
        ]
    with open(sys.argv[1], "w", encoding="utf-8") as file:
        json.dump(stage_list, file)


if __name__ == "__main__":
    serve()
