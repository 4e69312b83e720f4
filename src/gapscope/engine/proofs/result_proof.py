"""Result proofs: committed cells computed again with the present code on this machine, and how far they lie off.

Other processors sum in other orders, so a network trained elsewhere is seldom the same to the last bit, and training
multiplies such differences. A cell is sorted into the first of these classes that it fits:

- *same bits*: all numbers of the record, to the ten digits that it keeps.
- *same up to rounding*: at each evaluated epoch every cross-entropy, penalty and norm differs, relative to its value,
  by at most `ROUNDINGS` times the unit of rounding for each update so far. Errors that merely add up grow no faster. A
  chaotic run leaves this bound early, a wrong formula at once.
- *within seed spread*: at the end each of these, and each error, differs by at most `SPREADS` standard deviations over
  the seeds of the same cell. Two runs of other seeds would pass, so this says little about the code.
- *different*: all else; also where there is only one seed.
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
CAP_S = 120.0  # a cell that took longer is computed for its first epochs only
FIRST_ROWS = 3  # evaluated epochs of such a cell
POLL_S = 0.5
CONTINUOUS = ("cross_entropy", "penalty", "weight_norm", "distance_from_initial")
DISCRETE = ("error_pct",)

History = Mapping[int, Mapping[str, float]]  # updates so far -> quantity -> value


@dataclass(frozen=True)
class Verdict:
    """Where a cell belongs, and how far it lies off.

    Attributes:
        kind: the class.
        first: difference at the first evaluated epoch, in units of rounding per update; None: not known.
        end: the same at the last one that was compared.
        spread: difference at the end in standard deviations over seeds; None: the end was not reached, or one seed.
        largest: largest relative difference of all.
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
    """Sort a cell into its class.

    Args:
        recorded: of the record.
        computed: of this machine, as many rows as were computed.
        unit: of rounding, of the precision of training.
        ends: recorded and computed final numbers; None: the end was not reached.
        deviations: standard deviation over seeds of each final number; those with none are not judged by spread.

    Raises:
        InputError: no row in common.
    """
    shared = [updates for updates in recorded if updates in computed]
    if not shared and ends is None:
        raise InputError("the record and what was computed have no evaluated epoch in common")
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
        raise InputError(f"what was computed has no {absent[0]}")
    return {name: relative_difference(value, new[name]) for name, value in old.items()}


def _beyond_digits(difference: float) -> float:
    return difference if difference > DIGITS else 0.0


def _is(name: str, quantities: Sequence[str]) -> bool:
    return any(quantity in name for quantity in quantities)


def _in_deviations(
    ends: tuple[Mapping[str, float], Mapping[str, float]], deviations: Mapping[str, float]
) -> float | None:
    found = [
        abs(value - ends[1][name]) / deviations[name]
        for name, value in ends[0].items()
        if deviations.get(name) and _is(name, (*CONTINUOUS, *DISCRETE))
    ]
    return max(found, default=None)


def history(numbers: Numbers) -> dict[int, dict[str, float]]:
    """Return a training record's evaluated epochs: updates so far -> quantity -> value.

    Of a table with a row per epoch, or a long one with the epoch as an axis.
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
    """Return a training record's numbers of the end: of a JSON record, or of the long table's rows without an epoch."""
    found: dict[str, float] = {}
    for name, value in numbers.items():
        if not isinstance(value, float):
            continue
        if ".json/" in name:
            found[name.partition(".json/")[2]] = value
        elif "quantity=" in name and "epoch=" not in name and name.endswith("/value"):
            parts = dict(part.partition("=")[::2] for part in name.partition(".csv/")[2].rpartition("/")[0].split(","))
            found[_of_axes(parts)] = value
    return {name: value for name, value in found.items() if not name.startswith(("lr", "decayed"))}


def _of_axes(parts: Mapping[str, str]) -> str:
    """Return a quantity with its axes as one name."""
    own = [value for name, value in parts.items() if name not in ("quantity", "model", "dataset", "batch_size", "seed")]
    return "/".join([parts["quantity"], *own]) if own else parts["quantity"]


def deviations(cell: Cell, params: Params) -> dict[str, float]:
    """Return the standard deviation of each final number over the recorded seeds of a cell; nothing for one seed."""
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
    """Return the cells with a record that took least to train, as recorded.

    Raises:
        InputError: the study has no record of training.
    """
    if "evaluation" not in params.groups["measures"]:
        raise InputError(f"{params.study} trains no cells; take gapscope verify {params.study} --against recorded")
    there = [cell for cell in cells(params) if cell.record("train", ".json").exists()]
    if not there:
        raise InputError(f"metrics/{params.study}/train has no record of the study's cells")
    return sorted(there, key=seconds)[:count]


def seconds(cell: Cell) -> float:
    """Return how long a cell took to train, as recorded."""
    return float(made_by(cell.record("train", ".json")).get("wall_s") or 0)


def prove(  # noqa: PLR0917
    cell: Cell, params: Params, version: Version, using: Worker, say: Callable[[str], None], cap_s: float = CAP_S
) -> StudyProof:
    """Train a committed cell again, a dear one for its first evaluated epochs, and compare it with its record.

    Raises:
        InputError: it cannot be trained here.
    """
    dear = seconds(cell) > cap_s
    overrides = [f"study={params.study}", f"batch_sizes=[{cell.batch_size}]", f"batch_size={cell.batch_size}"]
    overrides += [f"seeds=[{cell.seed}]", f"controls.seeds=[{cell.seed}]"]
    if dear:
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
    if dear:
        computed, ends = first_rows(version, own, FIRST_ROWS), None
    else:
        version.run(own, using)
        numbers = read_numbers([out for out in own.outs if not out.endswith(".safetensors")], version.folder)
        computed, ends = history(numbers), (final(recorded), final(numbers))
    precision = leaf(params.groups["train"], "precision")
    unit = UNITS[precision["compute"] if isinstance(precision, dict) else precision or "float32"]
    found = classify(history(recorded), computed, unit=unit, ends=ends, deviations=deviations(cell, params))
    say(f"{cell.name}: {found.kind}; {time.perf_counter() - start:.0f} s")
    return StudyProof(
        cell=cell.name,
        stage="train",
        revision=proofs.stage_revision("train", version.folder),
        code=closure_hash("train", version.folder),
        kind=proofs.RESULT_KIND,
        against=commit_of(made_by(cell.record("train", ".json"))),
        processor=processor(),
        conditions=f"first {len(computed)} evaluated epochs" if dear else "whole run",
        first_rounding=_shown(found.first),
        end_rounding=_shown(found.end),
        end_spread=_shown(found.spread),
        largest_difference=_shown(found.largest),
        verdict=found.kind,
        date=code_proof.today(),
    )


def first_rows(version: Version, stage: Stage, count: int) -> dict[int, dict[str, float]]:
    """Train until so many epochs have been evaluated, and return them; its checkpoints, one per epoch, hold them.

    Raises:
        InputError: it ended without.
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
                continue  # none yet
    if not rows:
        raise InputError(f"{stage.addressing} ended before its first evaluated epoch was kept; see above")
    return {int(row["updates"]): {k: v for k, v in row.items() if k != "wall_s"} for row in rows[:count]}


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
