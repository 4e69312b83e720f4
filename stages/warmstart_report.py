"""Stage warmstart_report: every start of every run in one table, means over seeds, Figure 5 of Keskar et al. 2017."""

import argparse
import json
from itertools import product
from pathlib import Path

from gapscope.artifacts.files import write_text
from gapscope.artifacts.records import read_record, read_table, write_table
from gapscope.config import load_params
from gapscope.report import figures, warmstart
from gapscope.runtime import run_stage


def main() -> None:
    """Run the stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=Path, required=True, help="folder of the warmstart stage")
    parser.add_argument("--out", type=Path, required=True, help="folder of the tables")
    parser.add_argument("--plots", type=Path, required=True, help="folder of the figure")
    args = parser.parse_args()
    params = load_params()  # the runs of this study: those of an earlier one's seeds may lie beside them
    cells = [
        ({"model": model, "dataset": dataset, "seed": seed}, args.records / f"{model}-{dataset}-s{seed}")
        for model, dataset, seed in product(params.models, params.datasets, params.seeds)
    ]
    table = warmstart.runs(
        (cell, read_record(path.with_name(path.name + ".json")), read_table(path.with_name(path.name + ".csv")))
        for cell, path in cells
    )
    write_table(args.out / "warmstart.csv", table)
    write_text(args.out / "summary.json", json.dumps(warmstart.summary(table), indent=2) + "\n")
    figures.save({"warmstart": (warmstart.warmstart(table), warmstart.draw_warmstart)}, args.plots)


if __name__ == "__main__":
    run_stage(main)
