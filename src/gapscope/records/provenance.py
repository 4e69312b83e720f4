"""Provenance: how a record was made, in a JSON file of its own, `provenance/STUDY/STAGE/CELL.json`.

No stage depends on these files. So a rerun that gives the same numbers, at another commit or in another time, leaves
all later stages up to date.
"""

import math
import os
import platform
import sys
import time
import tomllib
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from gapscope.config import revision
from gapscope.git import git
from gapscope.records.closure import closure_hash
from gapscope.records.tables import read_record, write_record

RECORDS, FOLDER = "metrics", "provenance"
SUFFIXES = (".jsonl", ".json", ".csv")
CPUINFO = Path("/proc/cpuinfo")
PROJECT = Path("pyproject.toml")
INSTRUCTION_SETS = {"avx512f": "avx512", "avx2": "avx2"}  # flag -> name, best first


@dataclass(frozen=True)
class Start:
    """A stage at its start, before anybody can edit the code that it has loaded.

    Attributes:
        stage: its name in dvc.yaml.
        revision: of the stage.
        commit: short name of HEAD, with "-dirty" where tracked code differs from it; None outside a repository. In a
            copy without a repository, the environment variable GAPSCOPE_COMMIT names it.
        code: hash of the stage's code; None where the folder has no script of the stage.
        clock: `time.perf_counter` at the start.
    """

    stage: str
    revision: int
    commit: str | None
    code: str | None
    clock: float = field(default_factory=time.perf_counter)

    @classmethod
    def of(cls, stage: str) -> "Start":
        """Return the start of a stage: now."""
        script = Path("stages") / f"{stage}.py"
        return cls(stage, revision(stage), _commit(), closure_hash(stage) if script.exists() else None)


def write_provenance(record: Path, start: Start, *, device: str, threads: int, **more: Any) -> None:
    """Write how a record was made to its place.

    Args:
        record: the record, metrics/STUDY/STAGE/CELL with any suffix or none.
        start: of the stage; the seconds since then are recorded.
        device: kind of the device, as `gapscope.runtime.describe_device` gives it.
        threads: number of CPU threads.
        more: further facts about the run, such as `ranks` or `training_s`.
    """
    seconds_spent = time.perf_counter() - start.clock
    facts = {
        "stage": start.stage,
        "revision": start.revision,
        "commit": start.commit,
        "code": start.code,
        "device": device,
        **processor(),
        "threads": threads,
        "ranks": 1,
        "wall_s": round(seconds_spent, 3),
        "gapscope": _own_version(),
        "torch": version("torch"),
        "numpy": version("numpy"),
        "python": platform.python_version(),
    }
    write_record(path_of(record), facts | more)


def read_provenance(record: Path) -> dict[str, Any]:
    """Return a record's provenance; an empty mapping if it is not known.

    Raises:
        InputError: the file is damaged.
    """
    path = path_of(record)
    return read_record(path) if path.exists() else {}


def path_of(record: Path) -> Path:
    """Return the path of a record's provenance; for a record outside metrics/, a path beside it.

    Example:
        >>> path_of(Path("metrics/quick/train/lenet5_w0.5-digits-b32-s0.json")).as_posix()
        'provenance/quick/train/lenet5_w0.5-digits-b32-s0.json'
    """
    suffix = next((suffix for suffix in SUFFIXES if record.name.endswith(suffix)), "")
    name = record.name.removesuffix(suffix)
    *parents, _ = record.parts
    if RECORDS not in parents:
        return record.with_name(f"{name}.{FOLDER}.json")
    place = len(parents) - 1 - parents[::-1].index(RECORDS)
    return Path(*parents[:place], FOLDER, *parents[place + 1 :], f"{name}.json")


def seconds(provenance: dict[str, Any]) -> float:
    """Return the seconds that a record took, for a resumed training with those before the stop; NaN if unknown."""
    if provenance.get("wall_s") is None:
        return math.nan
    return float(max(provenance["wall_s"], provenance.get("training_s") or 0))


def processor() -> dict[str, str]:
    """Return the processor's model, and the instruction set that numbers are computed with.

    If torch is loaded, it is the set that torch's kernels use; else the best one that the processor has.
    """
    lines = CPUINFO.read_text(encoding="utf-8").splitlines() if CPUINFO.exists() else []
    known = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = known.get("flags", "").split()
    best = next((name for flag, name in INSTRUCTION_SETS.items() if flag in flags), "default")
    if torch := sys.modules.get("torch"):
        best = torch.backends.cpu.get_cpu_capability().lower()
    return {"processor": known.get("model name") or platform.processor() or platform.machine(), "instructions": best}


def _own_version() -> str:
    try:
        return version("gapscope")
    except PackageNotFoundError:  # a copy of the repository that was not installed
        return str(tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]["version"])


def _commit() -> str | None:
    commit = git("rev-parse", "--short", "HEAD").strip()
    if not commit:
        return os.environ.get("GAPSCOPE_COMMIT")  # never beside a history, which knows better
    # results and dvc.lock change while a study runs, so only edits of code and settings count
    edited = git("status", "--porcelain", "--untracked-files=no", "--", "src", "stages", "conf", "dvc.yaml")
    return f"{commit}-dirty" if edited else commit
