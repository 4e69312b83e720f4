"""Stage tables: every quantity by run and by batch size, the gap, the means that DVC shows, and a paper's table."""

import argparse
import json
from pathlib import Path

from gapscope import papers
from gapscope.config import load_params
from gapscope.measures.study import Study
from gapscope.records.files import write_text
from gapscope.records.tables import write_table
from gapscope.report import gap, tables
from gapscope.runtime import run_stage


def main() -> None:
    """Run the stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder to write into")
    out, params = parser.parse_args().out, load_params()
    study = Study(params)
    runs, cells = tables.runs(study), tables.cells(study)
    batches = tables.batch_sizes(runs, cells)
    table, text = papers.beside(params.study, batches, cells)
    tolerance = params.section("tables", gap.TableSettings).tolerance_points
    made = {"runs": runs, "cells": cells, "batch_sizes": batches, "layers": tables.layers(study), "paper": table}
    for name, rows in (made | {"gap": gap.gap_table(runs, cells, tolerance)}).items():
        write_table(out / f"{name}.csv", rows)
    write_text(out / "summary.json", json.dumps(tables.summary(batches), indent=2) + "\n")
    write_text(out / "paper.md", text or "This study repeats no printed table.\n")


if __name__ == "__main__":
    run_stage(main)
