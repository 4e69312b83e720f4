"""What is to run on a bare machine: one JSON file with the stages' commands and params, from DVC at home."""

from dataclasses import asdict, dataclass
from pathlib import Path

from gapscope.config import build
from gapscope.records.tables import read_record, write_record

PLACE = Path("data/gpu")  # of all files of a half hour
FILE = PLACE / "programme.json"


@dataclass(frozen=True)
class Stage:
    """A stage of one cell.

    Attributes:
        addressing: its name for DVC, such as train@table06_gpu-lenet5-mnist-128-3.
        item: index of the item that it belongs to.
        command: from dvc.yaml, with the cell's values.
        outs: the files and folders that it writes.
        after: stages of the programme whose outputs it reads.
        scratch: folders of other stages that nobody needs once it is done.
    """

    addressing: str
    item: int
    command: str
    outs: tuple[str, ...]
    after: tuple[str, ...]
    scratch: tuple[str, ...]


@dataclass(frozen=True)
class Item:
    """A part of a study: its overrides for `gapscope compose`, and the params.yaml that they give."""

    study: str
    overrides: tuple[str, ...]
    params: str


@dataclass(frozen=True)
class Programme:
    """All that is to run, in order.

    Attributes:
        commit: short name of the commit whose code runs.
        checks: commands that run first and alone; only their output is kept.
        items: parts of studies.
        stages: each one after those that it depends on.
        files: data, weights and checkpoints that the stages read, which git does not hold.
    """

    commit: str
    checks: tuple[str, ...]
    items: tuple[Item, ...]
    stages: tuple[Stage, ...]
    files: tuple[str, ...]

    def write(self, path: Path = FILE) -> None:
        """Write it."""
        write_record(path, asdict(self))

    @classmethod
    def read(cls, path: Path = FILE) -> "Programme":
        """Read it.

        Raises:
            InputError: no such file, or a damaged one.
        """
        record = read_record(path)
        del record["schema"]
        return build(cls, record, str(path))
