"""`gapscope studies`: what there is to run, what has been run, and what it costs on this machine.

The cost is of training and its evaluations, and of disk for activations and weights, after a probe of a second or so
for each network. Not in it: activations, spectra, controls, sharpness, curvature, noise scale, landscape.
"""

import csv
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gapscope.cli.compose import composed
from gapscope.cli.study_files import STUDIES
from gapscope.config import DECLARED, Params
from gapscope.errors import InputError
from gapscope.records.cells import cells
from gapscope.records.proofs import standing
from gapscope.runtime import describe_device, pick_device

COVERED = """The estimate: all runs of a study one after the other on {device} with nothing beside them, training
and its evaluations, each with the threads that the study sets (1 by default); on disk, activations and weights. Not in
it: activations, spectra, controls, sharpness, curvature, noise scale, landscape."""
UNITS = ((86_400, "days"), (3600, "h"), (60, "min"), (1, "s"))

EXAMPLE = "example: gapscope studies --no-probe"


def add(commands: Any) -> None:
    """Add the command to the parser."""
    purpose = "list the studies, whether each has been run, and what its training costs on this machine"
    parser = commands.add_parser("studies", help=purpose, description=__doc__.partition("\n\n")[2], epilog=EXAMPLE)
    parser.add_argument("--no-probe", action="store_true", help="no cost: nothing is trained, the answer comes at once")
    parser.set_defaults(run=lambda args: studies(not args.no_probe))


def studies(probe: bool) -> None:
    """Print the table.

    Raises:
        InputError: no folder of studies.
    """
    from tqdm import tqdm

    paths = sorted(STUDIES.glob("*.yaml"))
    if not paths:
        raise InputError(f"{STUDIES} holds no study; run from the folder that holds {DECLARED.parent}/")
    place = ("one core" if pick_device() == "cpu" else "one GPU") if probe else ""
    cost = cost_in_words() if probe else lambda _params: ""
    found = []
    for path in tqdm(paths, desc="probing" if probe else "composing", leave=False, disable=None):
        try:
            params, _ = composed([f"study={path.stem}"], path)  # what is wrong with it is in the study's file
            row = [path.stem, span(params), length(params), state(params), cost(params)]
        except InputError as error:  # one study that cannot be read hides no other
            row = [path.stem, f"cannot be run: {' '.join(str(error).split())}"]
        found.append((row, described(path)))
    heads = ["study", "runs", "length", "state", f"training on {place}, disk" if probe else ""]
    columns = zip(heads, *(row for row, _ in found if len(row) == len(heads)), strict=True)
    widths = [max(map(len, column)) + 2 for column in columns]
    print(_aligned(heads, widths))
    for row, description in found:
        print(f"{_aligned(row, widths)}\n    {description}")
        for line in standing(row[0]) if (Path("metrics") / row[0]).is_dir() else ():
            print(f"    {line}")
    if probe:
        print(COVERED.format(device=describe_device(pick_device())))


def _aligned(row: list[str], widths: list[int]) -> str:
    return "".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip()


def described(path: Path) -> str:
    """Return the first sentence of a study's comment."""
    lines = path.read_text(encoding="utf-8").splitlines()
    comment = " ".join(line[1:].strip() for line in lines if line.startswith("#") and "@package" not in line)
    return re.split(r"(?<=\.)\s+(?=[A-Z])", comment)[0]


def span(params: Params) -> str:
    """Return what a study spans, e.g. `6 = lenet5 x mnist x b 128-8192 (6) x 1 seed`."""
    listed, warm = params.groups["measures"], params.groups["warmstart"]
    seeds = dict.fromkeys(params.seeds)
    networks = [" ".join(params.models), " ".join(params.datasets)]
    if "evaluation" in listed:
        sizes = sorted(dict.fromkeys(params.batch_sizes))
        shown = f"b {sizes[0]}-{sizes[-1]} ({len(sizes)})" if len(sizes) > 1 else f"b {sizes[0]}"
        count = len(cells(params))
    elif "warm_start" in listed:
        shown = f"{_counted(len(warm['starts']), 'start')}"
        count = len(params.models) * len(params.datasets) * len(seeds) * (len(warm["starts"]) + 1)
    else:
        return "no network is trained"
    return f"{count} = {' x '.join([*networks, shown, _counted(len(seeds), 'seed')])}"


def length(params: Params) -> str:
    """Return the length of each run."""
    plan, warm = params.groups["train"]["schedule"], params.groups["warmstart"]
    if "warm_start" in params.groups["measures"]:
        return f"{warm['small_epochs']}, then {warm['large_epochs']} epochs"
    if "evaluation" not in params.groups["measures"]:
        return ""
    most = "at most " if plan["patience"] else ""
    return most + (_counted(plan["updates"], "update") if plan["updates"] else _counted(params.epochs, "epoch"))


def state(params: Params) -> str:
    """Return whether a study's results are here, and how many seeds they have."""
    folder, trains = Path("metrics") / params.study, "evaluation" in params.groups["measures"]
    todo = cells(params) if trains else []
    if runs := _rows(folder / "cells.csv"):
        # a batch size that was added with -S is none of the study's own
        there = {tuple(run.get(name) for name in ("model", "dataset", "batch_size", "seed")) for run in runs}
        missing = {tuple(str(value) for value in cell.columns().values()) for cell in todo} - there
        seeds = _counted(len({run.get("seed") for run in runs}), "seed")
        return f"run, {seeds}" + (f", {_counted(len(missing), 'cell')} missing" if missing else "")
    if trained := sum(cell.record("train", ".json").is_file() for cell in todo):
        return f"{trained} of {len(todo)} trained"
    return "run" if (folder / "summary.json").is_file() else "not run"


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def cost_in_words() -> Callable[[Params], str]:
    """Return a function that probes what a study trains and says what that costs."""
    from gapscope.engine import cost

    probe = cost.Probe(pick_device())

    def said(params: Params) -> str:
        if not cost.runs(params):
            return "no training"
        found = cost.estimate(params, probe)
        if found is None:
            return "unknown until downloaded"
        disk = f", {_rounded(found.disk_bytes / 1e9, least=0.1)} GB" if found.disk_bytes else ""
        return f"about {duration(found.seconds)}{disk}"

    return said


def duration(seconds: float) -> str:
    """Return a length of time in two digits.

    Example:
        >>> [duration(s) for s in (0.4, 95, 5400, 12_345_678)]
        ['1 s', '1.6 min', '1.5 h', '140 days']
    """
    size, unit = next((u for u in UNITS if seconds >= u[0]), UNITS[-1])
    return f"{_rounded(seconds / size, least=1)} {unit}"


def _rounded(value: float, least: float) -> str:
    return f"{float(f'{max(value, least):.2g}'):g}"


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
