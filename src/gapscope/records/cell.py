"""The files of one cell's record: its numbers as a long table, and what was measured and how as a JSON object."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from gapscope.records.long import write_long
from gapscope.records.provenance import Start, write_provenance
from gapscope.records.tables import write_record


def write_cell(
    place: Path,
    rows: Iterable[Mapping[str, Any]],
    record: Mapping[str, Any],
    start: Start,
    *,
    device: str,
    threads: int,
    **more: Any,
) -> None:
    """Write PLACE.csv and PLACE.json, and the provenance to its own folder.

    Args:
        place: path without suffix; names of models may have dots.
        rows: long rows.
        record: status, model, settings, conditions.
        start: of the stage.
        device: kind of the device, as `describe_device` gives it.
        threads: number of CPU threads.
        more: further facts for the provenance, such as the number of ranks.
    """
    write_long(Path(f"{place}.csv"), rows)
    write_record(Path(f"{place}.json"), {**record, "device": device})
    write_provenance(place, start, device=device, threads=threads, **more)
