"""Stage landscape_report: a row a solution, and the figures of the line, the directions, the planes and the rises."""

import argparse
from pathlib import Path

from gapscope.config import load_params
from gapscope.records.cells import seed_records
from gapscope.records.tables import read_record, read_table, write_table
from gapscope.report import figures, landscape
from gapscope.runtime import run_stage


def main() -> None:
    """Run the stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the table")
    parser.add_argument("--plots", type=Path, required=True, help="folder of the figures")
    args = parser.parse_args()
    params = load_params()
    records = [
        (read_record(Path(f"{path}.json")), read_table(Path(f"{path}.csv")))
        for _, path in seed_records(params, "landscape", params.seeds)
    ]
    write_table(args.out / "landscape.csv", landscape.summary(records))
    drawn = {
        "landscape_line": (landscape.line(records), landscape.draw_line),
        "landscape_directions": (landscape.directions(records), landscape.draw_directions),
        "landscape_plane": (landscape.plane(records), landscape.draw_plane),
        "landscape_rises": (landscape.rises(records), landscape.draw_rises),
    }
    figures.save(drawn, args.plots)


if __name__ == "__main__":
    run_stage(main)
