"""Result proofs: committed cells are computed again on this machine with the present code, and compared.

Other processors sum in another order, so a network that was trained elsewhere seldom has the same last bits, and
training multiplies such differences. A cell belongs to the first of these classes that it fits:

- *same bits*: all numbers of the record agree to the ten digits that it keeps.
- *same up to rounding*: at each evaluated epoch, the relative difference of every cross-entropy, penalty and norm is at
  most `ROUNDINGS` times the unit of rounding, times the number of updates so far. Errors that merely add up grow no
  faster. A chaotic run leaves this bound early, and a wrong formula at once.
- *within seed spread*: at the end, each of these numbers and each error differs by at most `SPREADS` standard
  deviations over the seeds of the same cell. Runs with two seeds would also pass, so this says little about the code.
- *different*: everything else, and every other cell with only one seed.
"""

import json
import math
import shlex
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gapscope.config import Params
from gapscope.engine.proofs import code_proof
from gapscope.engine.proofs.cases import spelled
from gapscope.engine.proofs.legacy import made_by
from gapscope.engine.proofs.numbers import Numbers, read_numbers, relative_difference
from gapscope.engine.proofs.processor import processor
from gapscope.engine.proofs.recorded import commit_of, leaf
from gapscope.engine.proofs.versions import Stage, Version, Worker
from gapscope.errors import InputError
from gapscope.records import proofs
from gapscope.records.cells import Cell, cells
from gapscope.records.closure import closure_hash
from gapscope.records.proofs import StudyProof

UNITS = {"float32": 2.0**-24, "bfloat16": 2.0**-8, "float64": 2.0**-53}  # unit roundoff of a precision
ROUNDINGS = 100.0  # multiples of the unit per update; 100: an update adds up some thousand products of random sign
SPREADS = 3 * math.sqrt(2)  # standard deviations; the difference of two runs has sqrt(2) times one's own
DIGITS = 5e-10  # a record keeps ten significant digits
CAP_S = 120.0  # of a cell that took longer, only the first epochs are computed
FIRST_ROWS = 3  # evaluated epochs of such a cell
POLL_S = 0.5
CONTINUOUS = ("cross_entropy", "penalty", "weight_norm", "distance_from_initial")
DISCRETE = ("error_pct",)

History = Mapping[int, Mapping[str, float]]  # updates so far -> quantity -> value


@dataclass(frozen=True)
class Verdict:
    """The class of a cell, and how far it differs from its record.

    Attributes:
        kind: the class.
        first: difference at the first evaluated epoch, in units of rounding per update; None: not known.
        end: the same at the last evaluated epoch that was compared.
        spread: difference at the end in standard deviations over seeds; None: only the first epochs were computed, or
            there is one seed.
        largest: the largest relative difference.
    """

    kind: str
    first: float | None
    end: float | None
    spread: float | None
    largest: float


def classify(
    recorded: History,
    computed: History,
    *,
    unit: float,
    ends: tuple[Mapping[str, float], Mapping[str, float]] | None = None,
    deviations: Mapping[str, float] | None = None,
) -> Verdict:
    """Return the class of a cell.

    Args:
        recorded: history in the record.
        computed: history on this machine, which may be shorter.
        unit: unit of rounding of the training's precision.
        ends: recorded and computed final numbers; None: only the first epochs were computed.
        deviations: standard deviation over seeds of each final number; numbers without one are not judged by spread.

    Raises:
        InputError: the histories have no epoch in common.
    """
    shared = [updates for updates in recorded if updates in computed]
    if not shared and ends is None:
        raise InputError("the record and the computed run have no evaluated epoch in common")
    rows = [_differences(recorded[updates], computed[updates]) for updates in shared]
    roundings = [
        max(
            (_beyond_digits(value) / (unit * updates) for name, value in row.items() if _is(name, CONTINUOUS)),
            default=0.0,
        )
        for updates, row in zip(shared, rows, strict=True)
    ]
    final = _differences(*ends) if ends else {}
    largest = max((value for row in [*rows, final] for value in row.values()), default=0.0)
    spread = _in_deviations(ends, deviations or {}) if ends else None
    if largest <= DIGITS:
        kind = proofs.SAME_BITS
    elif rows and max(roundings) <= ROUNDINGS:
        kind = proofs.ROUNDING
    elif spread is not None and spread <= SPREADS:
        kind = proofs.WITHIN_SPREAD
    else:
        kind = proofs.DIFFERENT
    return Verdict(kind, roundings[0] if rows else None, roundings[-1] if rows else None, spread, largest)


def _differences(old: Mapping[str, float], new: Mapping[str, float]) -> dict[str, float]:
    if absent := sorted(old.keys() - new.keys()):
        raise InputError(f"the computed run has no {absent[0]}")
    return {name: relative_difference(value, new[name]) for name, value in old.items()}


def _beyond_digits(difference: float) -> float:
    return difference if difference > DIGITS else 0.0


def _is(name: str, quantities: Sequence[str]) -> bool:
    return any(quantity in name for quantity in quantities)


def _in_deviations(
    ends: tuple[Mapping[str, float], Mapping[str, float]], deviations: Mapping[str, float]
) -> float | None:
    in_deviations = [
        abs(value - ends[1][name]) / deviations[name]
        for name, value in ends[0].items()
        if deviations.get(name) and _is(name, (*CONTINUOUS, *DISCRETE))
    ]
    return max(in_deviations, default=None)


def history(numbers: Numbers) -> dict[int, dict[str, float]]:
    """Return a training record's evaluated epochs: updates so far -> quantity -> value.

    The record may be a table with one row per epoch, or a long table with the epoch as an axis.
    """
    rows: dict[str, dict[str, float]] = {}
    for name, value in numbers.items():
        place = name.partition(".csv/")[2]
        if not place or not isinstance(value, float):
            continue
        row, _, column = place.rpartition("/")
        if "quantity=" in row:
            parts = dict(part.partition("=")[::2] for part in row.split(","))
            if "epoch" not in parts or column != "value":
                continue
            epoch = parts.pop("epoch")
            rows.setdefault(epoch, {})[_of_axes(parts)] = value
        else:
            rows.setdefault(row, {})[column] = value
    return {int(row["updates"]): row for row in rows.values() if "updates" in row}


def final(numbers: Numbers) -> dict[str, float]:
    """Return a training record's final numbers: those of its JSON file, and the long table's rows without an epoch."""
    ends: dict[str, float] = {}
    for name, value in numbers.items():
        if not isinstance(value, float):
            continue
        if ".json/" in name:
            ends[name.partition(".json/")[2]] = value
        elif "quantity=" in name and "epoch=" not in name and name.endswith("/value"):
            parts = dict(part.partition("=")[::2] for part in name.partition(".csv/")[2].rpartition("/")[0].split(","))
            ends[_of_axes(parts)] = value
    return {name: value for name, value in ends.items() if not name.startswith(("lr", "decayed"))}


def _of_axes(parts: Mapping[str, str]) -> str:
    """Return a quantity with its axes as one name."""
    own = [value for name, value in parts.items() if name not in ("quantity", "model", "dataset", "batch_size", "seed")]
    return "/".join([parts["quantity"], *own]) if own else parts["quantity"]


def deviations(cell: Cell, params: Params) -> dict[str, float]:
    """Return the standard deviation of each final number over a cell's recorded seeds; empty if there is only one."""
    seeds = [c for c in cells(params) if c.columns() | {"seed": 0} == cell.columns() | {"seed": 0}]
    ends = [final(_recorded(other)) for other in seeds if other.record("train", ".json").exists()]
    if len(ends) < 2:
        return {}
    names = set.intersection(*(set(end) for end in ends))
    return {name: statistics.stdev(end[name] for end in ends) for name in names}


def _recorded(cell: Cell) -> Numbers:
    outs = [cell.record("train", suffix).as_posix() for suffix in (".csv", ".json")]
    return read_numbers([out for out in outs if Path(out).exists()])


def cheapest(params: Params, count: int) -> list[Cell]:
    """Return the recorded cells whose training took the fewest seconds.

    Raises:
        InputError: the study has no record of training.
    """
    if "evaluation" not in params.groups["measures"]:
        raise InputError(f"{params.study} trains no cells; run gapscope verify {params.study} --against recorded")
    recorded = [cell for cell in cells(params) if cell.record("train", ".json").exists()]
    if not recorded:
        raise InputError(f"metrics/{params.study}/train has no record of the study's cells")
    return sorted(recorded, key=seconds)[:count]


def seconds(cell: Cell) -> float:
    """Return the recorded seconds of a cell's training."""
    return float(made_by(cell.record("train", ".json")).get("wall_s") or 0)


def prove(  # noqa: PLR0917
    cell: Cell, params: Params, version: Version, using: Worker, say: Callable[[str], None], cap_s: float = CAP_S
) -> StudyProof:
    """Train a committed cell again and compare it with its record; of a slow cell only the first evaluated epochs.

    Raises:
        InputError: the cell cannot be trained on this machine.
    """
    slow = seconds(cell) > cap_s
    overrides = [f"study={params.study}", f"batch_sizes=[{cell.batch_size}]", f"batch_size={cell.batch_size}"]
    overrides += [f"seeds=[{cell.seed}]", f"controls.seeds=[{cell.seed}]"]
    if slow:
        overrides += spelled(("runtime.checkpoint_epochs=1", "train.checkpoint_epochs=1"), version.declared)
    for place in (Path(name) for name in params.groups["data"]["files"].values()):
        if not place.exists():
            raise InputError(f"{place} is missing; make it first (for examples: python examples/make_data.py)")
        (version.folder / place).parent.mkdir(parents=True, exist_ok=True)
        (version.folder / place).unlink(missing_ok=True)
        (version.folder / place).symlink_to(place.resolve())
    version.compose(overrides, using)
    pipeline = version.stages(using)
    todo = code_proof.needed(pipeline, ["train"])
    own = next(stage for stage in todo if any(Path(out).name == f"{cell.name}.safetensors" for out in stage.outs))
    start = time.perf_counter()
    for stage in todo:
        if stage.name != "train":
            version.run(stage, using)
    recorded = _recorded(cell)
    if slow:
        computed, ends = first_rows(version, own, FIRST_ROWS), None
    else:
        version.run(own, using)
        numbers = read_numbers([out for out in own.outs if not out.endswith(".safetensors")], version.folder)
        computed, ends = history(numbers), (final(recorded), final(numbers))
    precision = leaf(params.groups["train"], "precision")
    unit = UNITS[precision["compute"] if isinstance(precision, dict) else precision or "float32"]
    verdict = classify(history(recorded), computed, unit=unit, ends=ends, deviations=deviations(cell, params))
    say(f"{cell.name}: {verdict.kind}; {time.perf_counter() - start:.0f} s")
    return StudyProof(
        cell=cell.name,
        stage="train",
        revision=proofs.stage_revision("train", version.folder),
        code=closure_hash("train", version.folder),
        kind=proofs.RESULT_KIND,
        against=commit_of(made_by(cell.record("train", ".json"))),
        processor=processor(),
        conditions=f"first {len(computed)} evaluated epochs" if slow else "whole run",
        first_rounding=_shown(verdict.first),
        end_rounding=_shown(verdict.end),
        end_spread=_shown(verdict.spread),
        largest_difference=_shown(verdict.largest),
        verdict=verdict.kind,
        date=code_proof.today(),
    )


def first_rows(version: Version, stage: Stage, count: int) -> dict[int, dict[str, float]]:
    """Train until so many epochs have been evaluated, and return them, as the run's checkpoints hold them.

    Raises:
        InputError: the run ended before its first checkpoint.
    """
    from safetensors import SafetensorError, safe_open

    words = shlex.split(stage.command)
    checkpoint = version.folder / words[words.index("--checkpoint") + 1]
    rows: list[dict[str, float]] = []
    with version.started(stage) as process:
        while len(rows) < count and process.poll() is None:
            time.sleep(POLL_S)
            try:
                with safe_open(checkpoint, framework="np") as file:
                    rows = json.loads((file.metadata() or {})["checkpoint"])["progress"]["history"]
            except (FileNotFoundError, SafetensorError, KeyError):
                continue  # no checkpoint yet
    if not rows:
        raise InputError(f"{stage.addressing} ended before its first checkpoint; see above")
    return {int(row["updates"]): {k: v for k, v in row.items() if k != "wall_s"} for row in rows[:count]}


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
