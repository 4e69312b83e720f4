"""Whether runs that are compared with each other were made on the same model of processor or GPU."""

import re
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path
from typing import Any

from gapscope.records import provenance

RUN = re.compile(r"(.+)-b\d+-s(\d+)")  # name of a run's record: network and data set, batch size, seed


def mixed(metrics: Path, runs: Collection[str]) -> list[str]:
    """Return a warning for each stage whose runs of one seed come from different models of processor or GPU.

    Claims compare batch sizes within a seed, so it does no harm if each seed has a model of its own. A record that does
    not say where it was made is left out.

    Args:
        metrics: folder metrics/STUDY.
        runs: names of the study's runs; if empty, every record counts.
    """
    found: dict[str, dict[tuple[str, str], set[str]]] = defaultdict(lambda: defaultdict(set))
    for path in sorted(metrics.glob("*/*.json*")):
        run, model = RUN.fullmatch(path.stem), _model(provenance.read_provenance(path))
        if run and model and (not runs or path.stem in runs):
            found[path.parent.name][run.group(1), run.group(2)].add(model)
    return [line for stage, groups in found.items() for line in _warning(stage, groups)]


def _model(made: dict[str, Any]) -> str | None:
    device = str(made.get("device"))
    if device.startswith("cuda"):
        return device
    return f"{made['processor']} ({made['instructions']})" if made.get("processor") else None


def _warning(stage: str, groups: dict[tuple[str, str], set[str]]) -> list[str]:
    several = [models for models in groups.values() if len(models) > 1]
    if not several:
        return []
    models = " and ".join(sorted(set().union(*several)))
    count = len({seed for (_, seed), own in groups.items() if len(own) > 1})
    seeds = f"{count} seed{'s' if count > 1 else ''}"
    return [
        f"With care: in {seeds}, the stage {stage} ran on different processors: {models}. "
        "They round differently. So a difference between batch sizes also contains that of the processors."
    ]
