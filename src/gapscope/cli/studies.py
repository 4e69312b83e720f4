"""`gapscope studies`: what there is to run, what has been run, and what it costs on this machine.

The cost is of training and its evaluations, and of disk for activations and weights, after a probe of a second or so
for each network. Not in it: activations, spectra, controls, sharpness, curvature, noise scale, landscape.
"""

import csv
import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gapscope.cli.compose import composed
from gapscope.cli.study_files import STUDIES
from gapscope.config import DECLARED, Params
from gapscope.drawing.names import counted
from gapscope.engine.time_left import duration, rounded
from gapscope.errors import InputError
from gapscope.records.cells import cells
from gapscope.records.proofs import standing
from gapscope.report import question
from gapscope.runtime import describe_device, pick_device

WIDTH, WIDTHS, INDENT = 100, (28, 30, 0), " " * 6  # of a line; of name, state and cost; before what belongs to a study
GROUPS = {  # heading -> the names of its studies
    "Start here: gapscope run quick, then gapscope new for your own network and data": "quick|example",
    "Oyedotun et al. 2022": "table.*|width|random_matrices",
    "Keskar et al. 2017": "keskar_.*",
    "Gao & Zhong": "gao_.*",
    "The worked example: what closes the gap? (docs/own_model.md)": "example_.*",
    "Tables, regression and other losses": "regression.*|tabular|one_logit|multilabel",
    "Language models": "lm_.*",
    "For tests of gapscope itself": "smoke",
}
OTHERS = "Your own studies"
COVERED = """The times: all runs of a study one after the other on {device} with nothing beside them, training
and its evaluations, each with the threads that the study sets (1 by default); on disk, activations and weights. Not in
it: activations, spectra, controls, sharpness, curvature, noise scale, landscape."""

EXAMPLE = "example: gapscope studies --no-probe"


def add(commands: Any) -> None:
    """Add the command to the parser."""
    purpose = "list the studies, whether each has been run, and what its training costs on this machine"
    parser = commands.add_parser("studies", help=purpose, description=__doc__.partition("\n\n")[2], epilog=EXAMPLE)
    parser.add_argument("--no-probe", action="store_true", help="no cost: nothing is trained, the answer comes at once")
    parser.add_argument("--proofs", action="store_true", help="also say what is proved of each study's results")
    parser.set_defaults(run=lambda args: studies(probe=not args.no_probe, proofs=args.proofs))


def studies(*, probe: bool, proofs: bool = False) -> None:
    """Print the studies by group: each with its state, cost, extent and purpose, as soon as these are known.

    Raises:
        InputError: no folder of studies.
    """
    paths = sorted(STUDIES.glob("*.yaml"))
    if not paths:
        raise InputError(f"{STUDIES} holds no study; run from the folder that holds {DECLARED.parent}/")
    cost = cost_in_words() if probe else lambda _params: ""
    for title in (*GROUPS, OTHERS):
        if own := [path for path in paths if group(path.stem) == title]:
            print(title)
            for path in own:  # composing takes a fifth of a second, and probing a new network a second
                print(_entry(path, cost, proofs=proofs), flush=True)
            print()
    if probe:
        print(COVERED.format(device=describe_device(pick_device())))


def group(study: str) -> str:
    """Return the heading that a study stands under."""
    return next((title for title, pattern in GROUPS.items() if re.fullmatch(pattern, study)), OTHERS)


def _entry(path: Path, cost: Callable[[Params], str], *, proofs: bool) -> str:
    """Return a study's lines: name, state and cost; what it is for; its runs; what is proved of it."""
    try:
        params, _ = composed([f"study={path.stem}"], path)  # what is wrong with it is in the study's file
        head = "  ".join(text.ljust(width) for text, width in zip((path.stem, state(params), cost(params)), WIDTHS))
        lines = [described(path), "; ".join(filter(None, (span(params), length(params))))]
    except InputError as error:  # one study that cannot be read hides no other
        head, lines = path.stem, [f"cannot be run: {' '.join(str(error).split())}"]
    if proofs and (Path("metrics") / path.stem).is_dir():
        lines += standing(path.stem)
    wrapped = (textwrap.fill(line, WIDTH, initial_indent=INDENT, subsequent_indent=INDENT) for line in lines)
    return "\n".join([f"  {head}".rstrip(), *wrapped])


def described(path: Path) -> str:
    """Return the first sentence of a study's comment."""
    lines = path.read_text(encoding="utf-8").splitlines()
    comment = " ".join(line[1:].strip() for line in lines if line.startswith("#") and "@package" not in line)
    return re.split(r"(?<=\.)\s+(?=[A-Z])", comment)[0]


def span(params: Params) -> str:
    """Return what a study spans, e.g. `6 runs: lenet5 x mnist x b 128-8192 (6) x 1 seed`."""
    listed, warm = params.groups["measures"], params.groups["warmstart"]
    seeds = dict.fromkeys(params.seeds)
    networks = [" ".join(params.models), " ".join(params.datasets)]
    if "evaluation" in listed:
        sizes = sorted(dict.fromkeys(params.batch_sizes))
        shown = f"b {sizes[0]}-{sizes[-1]} ({len(sizes)})" if len(sizes) > 1 else f"b {sizes[0]}"
        count = len(cells(params))
    elif "warm_start" in listed:
        shown = f"{counted(len(warm['starts']), 'start')}"
        count = len(params.models) * len(params.datasets) * len(seeds) * (len(warm["starts"]) + 1)
    else:
        return "no network is trained"
    return f"{counted(count, 'run')}: {' x '.join([*networks, shown, counted(len(seeds), 'seed')])}"


def length(params: Params) -> str:
    """Return the length of each run."""
    warm = params.groups["warmstart"]
    if "warm_start" in params.groups["measures"]:
        return f"{warm['small_epochs']}, then {warm['large_epochs']} epochs"
    if "evaluation" not in params.groups["measures"]:
        return ""
    return question.length({**params.groups, "epochs": params.epochs})


def state(params: Params) -> str:
    """Return whether a study's results are here, and how many seeds they have."""
    folder, trains = Path("metrics") / params.study, "evaluation" in params.groups["measures"]
    todo = cells(params) if trains else []
    if runs := _rows(folder / "cells.csv"):
        # a batch size that was added with -S is none of the study's own
        there = {tuple(run.get(name) for name in ("model", "dataset", "batch_size", "seed")) for run in runs}
        missing = {tuple(str(value) for value in cell.columns().values()) for cell in todo} - there
        seeds = counted(len({run.get("seed") for run in runs}), "seed")
        return f"run, {seeds}" + (f", {counted(len(missing), 'cell')} missing" if missing else "")
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
        disk = f", {rounded(found.disk_bytes / 1e9, least=0.1)} GB" if found.disk_bytes else ""
        return f"about {duration(found.seconds)}{disk}"

    return said
