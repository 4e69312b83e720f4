"""The files of one cell's record: its numbers as a long table, and what was measured and how as a JSON object."""

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from gapscope.records.long import write_long
from gapscope.records.provenance import write_provenance
from gapscope.records.tables import write_record


def write_cell(
    place: Path,
    rows: Iterable[Mapping[str, Any]],
    record: Mapping[str, Any],
    *,
    stage: str,
    device: str,
    threads: int,
    start: float,
    **made: Any,
) -> None:
    """Write PLACE.csv and PLACE.json, and how they were made to its own place.

    Args:
        place: path without suffix; names of models may have dots.
        rows: long rows.
        record: status, model, settings, conditions.
        stage: its name in dvc.yaml.
        device: kind of the device, as `describe_device` gives it.
        threads: of the processor.
        start: when the stage began, by `time.perf_counter`.
        made: what else is known of how the record was made, such as the number of ranks.
    """
    write_long(Path(f"{place}.csv"), rows)
    write_record(Path(f"{place}.json"), {**record, "device": device})
    spent = time.perf_counter() - start
    write_provenance(place, stage=stage, device=device, threads=threads, wall_s=spent, **made)
