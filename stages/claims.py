"""Stage claims: what the study's runs say of each of the papers' claims."""

import argparse
import sys
from pathlib import Path

import pandas as pd

from gapscope import papers
from gapscope.claims import verdicts
from gapscope.claims.evidence import Evidence
from gapscope.config import load_params
from gapscope.records.tables import write_table
from gapscope.runtime import run_stage

sys.path.append(str(Path(__file__).parents[1]))
from migrations import runs as migrated

VALUES = ("runs", "warmstart", "curvature")  # long tables of a study


def main() -> None:
    """Run the stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", type=Path, required=True, help="folder of the study's tables")
    parser.add_argument("--reference", type=Path, required=True, help="table of runs of the study to compare with")
    parser.add_argument("--out", type=Path, required=True, help=".csv to write")
    args = parser.parse_args()
    params, claims = load_params(), papers.claims()
    settings = params.section("claims", verdicts.ClaimSettings)
    settings.check(params.study, claims)
    found = verdicts.evaluate(claims, evidence(args.tables), evidence(args.reference.parent), settings)
    write_table(args.out, found)


def evidence(folder: Path) -> Evidence:
    """Return a study's values and runs, from its tables."""
    tables = dict(migrated.tables(folder))
    values = [tables[name] for name in VALUES if name in tables]
    return Evidence(pd.concat(values, ignore_index=True), tables["cells"])


if __name__ == "__main__":
    run_stage(main)
