"""Stage near_rank: how many singular values of each layer, mode and run lie at or below each threshold."""

import argparse
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from gapscope.config import load_params
from gapscope.numerics.hosvd.effective_ranks import companions
from gapscope.numerics.hosvd.near_rank import NearRankSettings, near_rank_count
from gapscope.numerics.hosvd.spectrum import ModeSpectrum
from gapscope.records.cells import cells, seed_records
from gapscope.records.spectra import read_spectra
from gapscope.records.tables import write_table
from gapscope.runtime import run_stage

Thresholds = list[tuple[float, bool]]  # a threshold, and whether it is relative to the largest value


def rows_of(about: Mapping[str, Any], spectra: Iterable[Mapping[str, Any]], of: Thresholds) -> Iterator[dict[str, Any]]:
    """Yield one row for each spectrum and threshold."""
    for row in spectra:
        mode = [ModeSpectrum.from_row(row)]
        where = {"sample": row["sample"], "layer": row["layer"], "mode": row["mode"]}
        known = {"values": len(row["values"]), "largest": row["values"][0], "smallest": row["values"][-1]}
        known |= {"method": row["method"], **companions(mode)[0].to_row()}
        for threshold, relative in of:
            counted = near_rank_count(mode, threshold, relative=relative)[0].to_row()
            yield {**about, **where, "threshold": threshold, "relative": relative, **counted, **known}


def main() -> None:
    """Run the stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help=".csv to write, for the study that params.yaml holds")
    args = parser.parse_args()
    params = load_params()
    relative = params.section("near_rank", NearRankSettings).relative_thresholds
    thresholds = [(t, False) for t in params.thresholds] + [(t, True) for t in relative]
    rows: list[dict[str, Any]] = []
    for cell in cells(params):
        header, spectra = read_spectra(cell.record("spectra", ".jsonl"))
        about = {**cell.columns(), "status": header["status"]}
        # a run that diverged has one row, which says so
        nothing = [about | dict.fromkeys(("sample", "layer", "mode", "threshold", "relative"))]
        rows += nothing if header["status"] == "diverged" else rows_of(about, spectra, thresholds)
    for about, path in seed_records(params, "controls", params.groups["controls"]["seeds"]):
        header, spectra = read_spectra(Path(f"{path}.jsonl"))
        for row in spectra:
            rows += rows_of({**about, "batch_size": row["batch_size"], "status": "ok"}, [row], thresholds)
    write_table(args.out, rows)


if __name__ == "__main__":
    run_stage(main)
