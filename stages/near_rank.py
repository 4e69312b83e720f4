"""Stage near_rank: how many singular values of each layer, mode and run lie at or below each threshold."""

import argparse
from pathlib import Path

from gapscope.artifacts.records import write_table
from gapscope.artifacts.spectra import read_spectra
from gapscope.cells import Cell, cells
from gapscope.config import load_params
from gapscope.measure.near_rank import near_rank_count
from gapscope.measure.spectrum import ModeSpectrum
from gapscope.runtime import run_stage


def rows_of(cell: Cell, thresholds: tuple[float, ...]) -> list[dict[str, object]]:
    """Return one row for each spectrum and threshold of a cell, or one row that says it diverged."""
    header, spectra = read_spectra(cell.record("spectra", ".jsonl"))
    about = {**cell.columns(), "status": header["status"]}
    if header["status"] == "diverged":
        return [about | dict.fromkeys(("sample", "layer", "mode", "threshold"))]
    return [
        {**about, "sample": row["sample"], "layer": row["layer"], "mode": row["mode"], "threshold": threshold}
        | near_rank_count([ModeSpectrum.from_row(row)], threshold)[0].to_row()
        | {
            "values": len(row["values"]),
            "largest": row["values"][0],
            "smallest": row["values"][-1],
            "method": row["method"],
        }
        for row in spectra
        for threshold in thresholds
    ]


def main() -> None:
    """Run the stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help=".csv to write, for the study that params.yaml holds")
    args = parser.parse_args()
    params = load_params()
    write_table(args.out, [row for cell in cells(params) for row in rows_of(cell, params.thresholds)])


if __name__ == "__main__":
    run_stage(main)
