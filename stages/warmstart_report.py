"""Stage warmstart_report: every start of every run in one table, means over seeds, Figure 5 of Keskar et al. 2017."""

import argparse
import json
from pathlib import Path

from gapscope.config import load_params
from gapscope.records.cells import seed_records
from gapscope.records.files import write_text
from gapscope.records.tables import read_record, read_table, write_table
from gapscope.report import figures, warmstart
from gapscope.runtime import run_stage


def main() -> None:
    """Run the stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the tables")
    parser.add_argument("--plots", type=Path, required=True, help="folder of the figure")
    args = parser.parse_args()
    params = load_params()
    table = warmstart.runs(
        (about, read_record(Path(f"{path}.json")), read_table(Path(f"{path}.csv")))
        for about, path in seed_records(params, "warmstart", params.seeds)
    )
    write_table(args.out / "warmstart.csv", table)
    write_text(args.out / "summary.json", json.dumps(warmstart.summary(table), indent=2) + "\n")
    figures.save({"warmstart": (warmstart.warmstart(table), warmstart.draw_warmstart)}, args.plots)


if __name__ == "__main__":
    run_stage(main)
