"""The parts of records that are no numbers of a result: provenance, seconds and settings.

Records of version 0.1 hold them beside the numbers; later versions keep them in files of their own. `numbers.py` leaves
them out in both, so that two versions of the code can be compared.
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
    """Return a record's provenance: from `provenance/STUDY/STAGE/CELL.json`, or from within a record of version 0.1.

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
    seconds = {"wall_s": within["wall_s"]} if within.get("wall_s") else {}  # they include those before a stop
    return {**within.get("provenance", {}), **seconds}
