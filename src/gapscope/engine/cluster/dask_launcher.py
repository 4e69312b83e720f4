"""The launcher with Dask: jobs are tasks of Dask workers, which Dask starts here, by ssh, or as jobs of a batch system.

A worker's resources are CPU (cores), GPU and GB (memory), and each task takes what its stage needs. Dask starts a task
again whose worker is lost. A worker that does not answer for `TTL` counts as lost: its network may be cut.

Only functions of the standard library are sent to workers, so that a worker with another gapscope can say so itself.
"""

import logging
import signal
import subprocess
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from threading import Event, Thread
from typing import Any

from gapscope.engine.cluster.jobs import Job, job_name
from gapscope.engine.cluster.launcher import Ending
from gapscope.engine.cluster.settings import JOBQUEUE, ClusterSettings, Resources
from gapscope.errors import InputError, reason

TTL = "60s"
CONNECT = "15s"
MEND_S = 15.0
INSTALL = "install gapscope with its extra: pip install 'gapscope[cluster]', or uv sync --extra cluster"


class DaskLauncher:
    """Starts Dask's workers, at most `workers` of them, or joins a scheduler that is there.

    Args:
        settings: of the cluster.
        workers: how many workers to start; with the launchers `address` and `ssh` they are given.
        logs: folder for what the batch system says of the workers.
    """

    def __init__(self, settings: ClusterSettings, workers: int, logs: Path) -> None:
        self._settings, self._workers, self._logs = settings, workers, logs
        self._cluster: Any = None
        self._client: Any = None
        self._ended = Event()

    def __enter__(self) -> "DaskLauncher":
        for package in ("distributed", *(["dask_jobqueue"] if self._settings.launcher in JOBQUEUE else [])):
            if find_spec(package) is None:
                raise InputError(f"launcher {self._settings.launcher} needs the package {package}: {INSTALL}")
        import dask
        from distributed import Client

        dask.config.set({"distributed.scheduler.worker-ttl": TTL, "distributed.comm.timeouts.connect": CONNECT})
        logging.getLogger("distributed").setLevel(logging.ERROR)  # lost workers are told of in a stage's log
        try:
            self._cluster = self._make()
            self._client = Client(self._cluster or self._settings.options["address"], set_as_default=False)
        except Exception as error:  # whatever a batch system, or ssh, says
            self.__exit__()
            raise InputError(f"Dask cannot start the cluster ({type(error).__name__}: {reason(error)})") from error
        if hasattr(self._cluster, "scale") and self._settings.launcher != "local":
            Thread(target=self._keep_workers, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for each in (self._client, self._cluster):
            if each is not None:
                with suppress(Exception):  # the scheduler may have gone
                    each.close(timeout=20)

    def greeting(self) -> str:
        """Return the addresses of scheduler and dashboard."""
        dashboard = f"dashboard {self._client.dashboard_link}" if find_spec("bokeh") else "no dashboard without bokeh"
        return f"Dask scheduler {self._client.scheduler.address}, {dashboard}"

    def start(self, job: Job, command: list[str], resources: Resources) -> "DaskJob":
        """Submit a task."""
        needed = {"CPU": resources.threads, "GB": resources.memory_gb}
        needed |= {"GPU": resources.gpus} if resources.gpus else {}
        future = self._client.submit(
            subprocess.run,
            command,
            capture_output=True,
            text=True,
            key=f"{job_name(job)}-{len(job.attempts())}",
            pure=False,
            resources=needed,
        )
        return DaskJob(future, self._client)

    def _make(self) -> Any:
        settings, worker = self._settings, self._settings.worker
        assert worker is not None
        resources = {"CPU": worker.threads, "GPU": worker.gpus, "GB": worker.memory_gb}
        options = dict(settings.options)
        if settings.launcher == "address":
            return None
        if settings.launcher == "local":
            from distributed import LocalCluster

            return LocalCluster(
                n_workers=self._workers, threads_per_worker=worker.threads, resources=resources, memory_limit=None,
                dashboard_address=options.pop("dashboard_address", "127.0.0.1:0"), **options,
            )  # fmt: skip
        if settings.launcher == "ssh":
            from distributed import SSHCluster

            own = {"nthreads": worker.threads, "resources": resources, "memory_limit": None}
            return SSHCluster(worker_options=own | options.pop("worker_options", {}), **options)
        text = ",".join(f"{name}={value:g}" for name, value in resources.items())
        extra = [*options.pop("worker_extra_args", []), "--resources", text]
        own = {"log_directory": str(self._logs.resolve()), "scheduler_options": {"dashboard_address": "127.0.0.1:0"}}
        options = own | options
        python = {"python": settings.python} if settings.python else {}
        cluster = _of_jobqueue(JOBQUEUE[settings.launcher])(
            cores=worker.threads, memory=f"{worker.memory_gb:g}GB", processes=1, worker_extra_args=extra,
            **python, **options,
        )  # fmt: skip
        cluster.scale(self._workers)
        return cluster

    def _keep_workers(self) -> None:
        while not self._ended.wait(MEND_S):
            self._cluster.scale(self._workers)  # starts a worker in place of one that was lost


class DaskJob:
    """A task of Dask's."""

    def __init__(self, future: Any, client: Any) -> None:
        self._future, self._client = future, client

    def ending(self) -> Ending | None:
        """Return how the task ended; None while it waits or runs."""
        if self._client.status not in ("running", "connecting"):
            return Ending("the Dask scheduler has gone", again=False)
        status = self._future.status
        if status == "pending":
            return None
        if status == "finished":
            done = self._future.result()
            said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
            return Ending(said[-1] if said else f"it ended with status {done.returncode}", again=True)
        if status == "error":
            return Ending(reason(self._future.exception()), again=False)
        return Ending(f"Dask gave it up ({status})", again=True)

    def cancel(self) -> None:
        """Take the task back if it is still waiting; a running one ends by its job's file `stop`."""
        with suppress(Exception):  # the scheduler may have gone
            self._future.cancel(force=True)


def _of_jobqueue(name: str) -> Any:
    """Return a class of dask_jobqueue's; importing that package takes over SIGINT and SIGTERM, which are given back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    import dask_jobqueue

    for number, handler in before.items():
        signal.signal(number, handler)
    return getattr(dask_jobqueue, name)
