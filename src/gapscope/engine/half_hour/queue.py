"""The queue of a half hour, `gpu/queue.yaml`: which studies in which order, and how long each cell should take.

A cell's training time is that of its updates, from one small and one large batch of its network on the GPU, plus its
evaluations, which are taken to cost a third of an update per image. The time of the measures is a guess.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gapscope.config import Params, build, read_yaml
from gapscope.engine import cost
from gapscope.engine.cost import Speed
from gapscope.errors import InputError
from gapscope.records.cells import cells
from gapscope.training.settings import TrainSettings

FILE = Path("gpu/queue.yaml")


@dataclass(frozen=True)
class Network:
    """The speed of a network on the GPU.

    Attributes:
        batch_sizes: a small and a large one.
        update_ms: milliseconds per update at each.
        measured: whether they were measured; else they are a guess.
        measures_s: seconds of all measures of one cell, a guess.
        together: how much faster several runs at once are than one after the other; 1 where it is not known.
    """

    batch_sizes: tuple[int, ...]
    update_ms: tuple[float, ...]
    measured: bool
    measures_s: float
    together: float

    @property
    def speed(self) -> Speed:
        """The model of an update's time, a constant plus a time per image."""
        (small, large), (small_ms, large_ms) = self.batch_sizes, self.update_ms
        image_s = (large_ms - small_ms) / (large - small) / 1000
        return Speed(max(small_ms / 1000 - small * image_s, 0.0), image_s, image_s / 3)


@dataclass(frozen=True)
class Check:
    """A command that runs before all studies, and the seconds that it should take."""

    command: str
    seconds: float


@dataclass(frozen=True)
class Entry:
    """A study, and which of its seeds."""

    study: str
    seeds: tuple[int, ...]

    @property
    def overrides(self) -> list[str]:
        """The arguments of `gapscope compose`."""
        return [f"study={self.study}", f"seeds=[{','.join(map(str, self.seeds))}]"]


@dataclass(frozen=True)
class Queue:
    """What is to run, in order."""

    checks: tuple[Check, ...]
    entries: tuple[Entry, ...]
    networks: dict[str, Network]

    @classmethod
    def read(cls, path: Path = FILE) -> "Queue":
        """Read the file.

        Raises:
            InputError: no such file, or an unknown or missing key.
        """
        return build(cls, read_yaml(path), "")


@dataclass(frozen=True)
class Estimate:
    """The time of the cells of one study and batch size.

    Attributes:
        study: its name.
        model: its network.
        batch_size: of the runs.
        seeds: number of cells.
        training_s: seconds of training of one cell, alone on the GPU.
        measures_s: seconds of its measures.
        together: as in `Network`.
        measured: as in `Network`.
    """

    study: str
    model: str
    batch_size: int
    seeds: int
    training_s: float
    measures_s: float
    together: float
    measured: bool

    @property
    def seconds(self) -> float:
        """Of all its cells, several at once."""
        return self.seeds * (self.training_s + self.measures_s) / self.together


def estimates(queue: Queue, composed: Callable[[list[str]], Params]) -> list[Estimate]:
    """Return the estimates in the order of the queue.

    Args:
        queue: the queue.
        composed: arguments of `gapscope compose` -> params.

    Raises:
        InputError: a network without a speed, or a data set of unknown size.
    """
    found = []
    for entry in queue.entries:
        params = composed(entry.overrides)
        settings = params.section("train", TrainSettings)
        seeds = len(set(params.seeds))
        for cell in (cell for cell in cells(params) if cell.seed == params.seeds[0]):
            if (network := queue.networks.get(cell.model)) is None:
                raise InputError(f"the queue has no speed of {cell.model}, which {entry.study} trains")
            if (size := cost.size_of(cell.dataset, params)) is None:
                raise InputError(f"the size of {cell.dataset} is not known; run `dvc repro download@{cell.dataset}`")
            training = cost.run_seconds(network.speed, size, settings, cell.batch_size, params.epochs)
            found.append(
                Estimate(entry.study, cell.model, cell.batch_size, seeds, training, network.measures_s,
                         network.together, network.measured)
            )  # fmt: skip
    return found


def table(queue: Queue, rows: list[Estimate], minutes: float) -> list[str]:
    """Return the estimates as lines, and what fits into a time."""
    lines = ["study                         network    b      seeds  s a cell  hours  hours from the start"]
    spent = sum(check.seconds for check in queue.checks)
    lines += [f"{check.seconds / 3600:58.2f}  {check.command}" for check in queue.checks]
    fitting = 0
    for row in rows:
        spent += row.seconds
        fitting += row.seeds if spent <= 60 * minutes else 0
        each = f"{'' if row.measured else '~'}{row.training_s + row.measures_s:.0f}"
        lines.append(
            f"{row.study:<29} {row.model:<10} {row.batch_size:<6} {row.seeds:<5}  {each:>8}  {row.seconds / 3600:5.2f}"
            f"  {spent / 3600:5.2f}{'  fits' if spent <= 60 * minutes else ''}"
        )
    by_study = dict.fromkeys((row.study for row in rows), 0.0)
    for row in rows:
        by_study[row.study] += row.seconds / 3600
    lines += ["", "hours by study"] + [f"{study:<29} {hours:6.2f}" for study, hours in by_study.items()]
    cells_all = sum(row.seeds for row in rows)
    return [*lines, "", f"in {minutes:g} minutes: {fitting} of {cells_all} cells; all: {spent / 3600:.1f} hours"]
