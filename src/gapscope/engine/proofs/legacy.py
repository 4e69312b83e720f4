"""What is left out of a record's numbers: how it was made, how long it took, with which settings.

Records of 0.1.0 hold provenance and settings beside the numbers; later versions have files of their own for them.
`numbers.py` reads the numbers of either, so that two versions of the code can be compared.
"""

import json
from pathlib import Path
from typing import Any

# keys of JSON objects and columns of tables, at any depth
PROVENANCE = frozenset(
    {"provenance", "schema", "commit", "device", "wall_s", "train_wall_s", "cpu_s", "seconds", "end", "spectra_device"}
)
SETTINGS = frozenset({"settings", "model", "conditions", "activations", "spectra", "train", "threads"})


def made_by(record: Path) -> dict[str, Any]:
    """Return how a record was made: from `provenance/STUDY/STAGE/CELL.json`, or from within a record of 0.1.0.

    Args:
        record: metrics/STUDY/STAGE/CELL.SUFFIX.
    """
    *parents, metrics, study, stage, name = record.parts
    beside = Path(*parents, "provenance", study, stage, f"{name.removesuffix(record.suffix)}.json")
    if metrics == "metrics" and beside.exists():
        return dict(json.loads(beside.read_text(encoding="utf-8")))
    if record.suffix not in (".json", ".jsonl"):
        return {}
    with record.open(encoding="utf-8") as file:
        within = json.loads(next(file, "{}") if record.suffix == ".jsonl" else file.read())
    seconds = {"wall_s": within["wall_s"]} if within.get("wall_s") else {}  # the seconds before a stop among them
    return {**within.get("provenance", {}), **seconds}
