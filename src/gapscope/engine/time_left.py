"""How long a run of several stages still takes: a probe of the training, earlier records, and the stages that ended."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from statistics import mean

from gapscope.config import Params, load_params
from gapscope.records.tables import read_record

STARTUP_S = 5.0  # a stage's process, DVC and the import of torch; the guess for a stage of which nothing else is known
UNITS = ((86_400, "days"), (3600, "h"), (60, "min"), (1, "s"))


class TimeLeft:
    """Estimates the seconds that are left.

    A stage takes what was expected of it, times the factor by which ended stages of its kind missed their expectation;
    without an expectation, the mean of those stages.
    """

    def __init__(self, expected: Mapping[str, float]) -> None:
        self._expected = dict(expected)
        self._ended: dict[str, list[tuple[float | None, float]]] = {}

    def note(self, stage: str, seconds: float) -> None:
        """Note that a stage has ended, and how long it took."""
        self._ended.setdefault(_kind(stage), []).append((self._expected.get(stage), seconds))

    def _whole(self, stage: str) -> float:
        expected, ended = self._expected.get(stage), self._ended.get(_kind(stage), [])
        known = [(before, after) for before, after in ended if before]
        if expected is not None and known:
            return expected * sum(after for _, after in known) / sum(before for before, _ in known)
        if expected is not None or not ended:
            return STARTUP_S if expected is None else expected
        return mean(after for _, after in ended)

    def seconds(self, waiting: Collection[str], running: Mapping[str, float], jobs: int) -> float:
        """Return the seconds that are left if no stage has to wait for another.

        Args:
            waiting: stages that have not begun.
            running: stage -> seconds since its start.
            jobs: stages at once.
        """
        left = [self._whole(stage) for stage in waiting]
        left += [max(self._whole(stage) - since, 0.0) for stage, since in running.items()]
        return max(sum(left) / jobs, max(left, default=0.0))

    def words(self, waiting: Collection[str], running: Mapping[str, float], jobs: int) -> str:
        """Return them in words; "at least" where nothing is known of stages that run once for each cell."""
        kinds = Counter(_kind(stage) for stage in (*waiting, *running) if stage not in self._expected)
        unknown = any(count > 1 and kind not in self._ended for kind, count in kinds.items())
        return f"{'at least' if unknown else 'about'} {duration(self.seconds(waiting, running, jobs))}"


def expected(study: str, stages: Collection[str], training: Mapping[str, float]) -> dict[str, float]:
    """Return the seconds to expect of stages: of training as given, of other stages by their earlier records."""
    found = {stage: seconds + STARTUP_S for stage, seconds in training.items() if stage in stages}
    for kind in {_kind(stage) for stage in stages} - {"train"}:
        records = [read_record(path) for path in Path("provenance", study, kind).glob("*.json")]
        if seconds := [record["wall_s"] for record in records if record.get("wall_s")]:
            found |= {stage: mean(seconds) + STARTUP_S for stage in stages if _kind(stage) == kind}
    return found


def training_seconds() -> dict[str, float]:
    """Return the seconds of each stage `train` of the study in params.yaml, by a probe of this machine.

    The probe is a process of its own: it runs the user's network, which may fail in any way, and may need a GPU's
    memory. If it fails the answer is empty, and the stage itself will say what is wrong.
    """
    command = [sys.executable, "-m", "gapscope.engine.time_left"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else {}
    return found


def probe(params: Params) -> dict[str, float]:
    """Return what `training_seconds` does, of any study and within this process.

    Raises:
        InputError: a network that cannot be built, or a batch size that its data set does not allow.
    """
    from gapscope.engine import cost
    from gapscope.records.cells import cells
    from gapscope.runtime import pick_device
    from gapscope.training.networks import study_spec
    from gapscope.training.settings import TrainSettings

    found, speed, settings = {}, cost.Probe(pick_device()), params.section("train", TrainSettings)
    for cell in cells(params):
        if size := cost.size_of(cell.dataset, params):
            spec = study_spec(params, cell.model, size.image_shape, size.classes)
            seconds = cost.run_seconds(speed(spec, settings), size, settings, cell.batch_size, params.epochs)
            found[f"train@{cell.study}-{cell.model}-{cell.dataset}-{cell.batch_size}-{cell.seed}"] = seconds
    return found


def _kind(stage: str) -> str:
    return stage.partition("@")[0]


def duration(seconds: float) -> str:
    """Return a length of time in two digits.

    Example:
        >>> [duration(s) for s in (0.4, 95, 5400, 12_345_678)]
        ['1 s', '1.6 min', '1.5 h', '140 days']
    """
    size, unit = next((u for u in UNITS if seconds >= u[0]), UNITS[-1])
    return f"{rounded(seconds / size, least=1)} {unit}"


def rounded(value: float, least: float) -> str:
    """Return a number in two digits, or the least one that is shown."""
    return f"{float(f'{max(value, least):.2g}'):g}"


if __name__ == "__main__":
    print(json.dumps(probe(load_params())))
