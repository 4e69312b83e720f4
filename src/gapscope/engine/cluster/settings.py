"""A cluster's file, `conf/cluster/NAME.yaml`: how jobs are started, and what each stage needs.

No result depends on it, so it is no part of params.yaml.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from gapscope.config import OneOf, Params, Positive, Threads, Within, build, read_yaml
from gapscope.errors import InputError, did_you_mean

FOLDER = Path("conf/cluster")
JOBQUEUE = {  # launcher -> class of dask_jobqueue
    "slurm": "SLURMCluster",
    "pbs": "PBSCluster",
    "lsf": "LSFCluster",
    "sge": "SGECluster",
    "oar": "OARCluster",
    "htcondor": "HTCondorCluster",
}
LAUNCHERS = ("sbatch", "local", "ssh", "address", *JOBQUEUE)
GATHER = ("settings", "tables", "plots", "claims", "report")  # and *_report: they read all of a study's records
OTHERS = "default"  # in place of a stage's name: every stage that is not named


@dataclass(frozen=True)
class Resources:
    """What a stage needs, or a Dask worker has.

    Attributes:
        gpus: number of GPUs; with Dask also a part of one.
        memory_gb: in GB.
        threads: cores.
    """

    gpus: Annotated[float, Within(0, 64)]
    memory_gb: Positive
    threads: Threads


@dataclass(frozen=True)
class Needs:
    """What a stage needs besides the threads that params give it."""

    gpus: Annotated[float, Within(0, 64)]
    memory_gb: Positive


@dataclass(frozen=True)
class MeetingPlace:
    """Where controller and workers meet that share no file system.

    Attributes:
        name: of a DVC remote.
        folder: of each worker, for what it fetches and makes; `~` and variables are its own.
    """

    name: str
    folder: str


@dataclass(frozen=True)
class ClusterSettings:
    """A cluster's file; `conf/cluster/slurm.yaml` says what each entry is."""

    launcher: Annotated[str, OneOf(LAUNCHERS)]
    options: dict[str, Any]
    stages: dict[str, Needs]
    worker: Resources | None
    here: tuple[str, ...]
    environment: dict[str, str]
    python: str | None
    remote: MeetingPlace | None
    confirm_above: Annotated[int, Within(0)]
    attempts: Annotated[int, Within(1, 100)]

    def __post_init__(self) -> None:
        if OTHERS not in self.stages:
            raise InputError(f"stages must have the entry {OTHERS}, for the stages that it does not name")
        if (self.worker is None) != (self.launcher == "sbatch"):
            raise InputError(
                "worker must be null with launcher sbatch, which has no workers, and {gpus, memory_gb, threads} of a "
                f"Dask worker with any other; launcher is {self.launcher}"
            )

    def runs_here(self, stage: str) -> bool:
        """Return whether a stage runs on the controller: without a shared file system also those of `GATHER`."""
        kind = stage.partition("@")[0]
        return kind in self.here or (self.remote is not None and (kind in GATHER or kind.endswith("_report")))

    def needs(self, stage: str, params: Params) -> Resources:
        """Return what a stage needs; its threads are those of params.

        Raises:
            InputError: no worker has so much, or sbatch would have to give a part of a GPU.
        """
        kind = stage.partition("@")[0]
        own, threads = self.stages.get(kind, self.stages[OTHERS]), _threads(kind, params)
        if self.launcher == "sbatch" and own.gpus != int(own.gpus):
            raise InputError(f"stage {kind}: gpus must be a whole number with launcher sbatch, got {own.gpus:g}")
        for name, needed in (("gpus", own.gpus), ("memory_gb", own.memory_gb), ("threads", threads)):
            if self.worker is not None and needed > (has := getattr(self.worker, name)):
                raise InputError(
                    f"stage {kind} needs {name} {needed:g}, and a worker has {has:g}: no worker could ever run it; "
                    f"raise worker.{name} in the cluster's file"
                )
        return Resources(own.gpus, own.memory_gb, threads)


def _threads(kind: str, params: Params) -> int:
    settings = params.groups.get(kind)
    threads = settings.get("threads", 1) if isinstance(settings, Mapping) else 1
    if kind == "train" and (launcher := params.groups["runtime"]["launcher"]):
        from gapscope.training.distributed import requested_ranks  # it imports torch

        return int(threads) * requested_ranks(launcher).world
    return int(threads)


def read_cluster(name: str) -> ClusterSettings:
    """Read a cluster's file.

    Raises:
        InputError: no such cluster, an unknown or missing entry, or a value that it cannot have.
    """
    path = FOLDER / f"{name}.yaml"
    known = sorted(other.stem for other in FOLDER.glob("*.yaml"))
    if name not in known:
        raise InputError(f"no cluster {name!r} ({path} is missing); {did_you_mean(name, known)}")
    try:
        return build(ClusterSettings, read_yaml(path), "")
    except InputError as error:
        raise InputError(str(error) if str(path) in str(error) else f"{path}: {error}") from error
