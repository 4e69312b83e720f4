"""What a launcher is: it starts jobs on a cluster. There are two, `sbatch` and Dask."""

from dataclasses import dataclass
from typing import Protocol

from gapscope.engine.cluster.jobs import Job
from gapscope.engine.cluster.settings import Resources


@dataclass(frozen=True)
class Ending:
    """How a job's process ended, as the launcher knows it. Whether the stage is done is said by its attempt.

    Attributes:
        how: in one line.
        again: whether another try may help.
    """

    how: str
    again: bool


class Started(Protocol):
    """A job that a launcher has started."""

    def ending(self) -> Ending | None:
        """Return how it ended; None while it waits or runs."""

    def cancel(self) -> None:
        """End it, also if it is still waiting. It does not wait for the end."""


class Launcher(Protocol):
    """Starts jobs; used as a context, at whose end nothing of it runs any longer."""

    def __enter__(self) -> "Launcher":
        """Prepare."""

    def __exit__(self, *_: object) -> None:
        """End what is left."""

    def greeting(self) -> str:
        """Return what a user should know of it when it is ready, in one line."""

    def start(self, job: Job, command: list[str], resources: Resources) -> Started:
        """Start a command on a machine with these resources; the machine's launcher may start it more than once."""
