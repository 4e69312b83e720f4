"""Stage near_rank: how many singular values of each layer, mode and run lie at or below each threshold."""

import argparse
from pathlib import Path
from typing import Any

import pandas as pd

from gapscope.config import load_params
from gapscope.measures import effective_ranks, near_rank, spectra
from gapscope.records.spectra import read_spectra
from gapscope.records.tables import write_table
from gapscope.runtime import run_stage


def main() -> None:
    """Run the stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help=".csv to write, for the study that params.yaml holds")
    args = parser.parse_args()
    params = load_params()
    rows: list[dict[str, Any]] = []
    for run, path in spectra.records(params):
        header, layers = read_spectra(path)
        rows += near_rank.rows(run, layers, near_rank.thresholds(params), cut=header["cut"], path=path)
        rows += effective_ranks.rows(run, layers)
    write_table(args.out, rows or pd.DataFrame(columns=near_rank.COLUMNS))  # without rows if every run diverged


if __name__ == "__main__":
    run_stage(main)
