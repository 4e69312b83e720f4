"""Stage claims: what the study's runs say of each of the papers' claims."""

import argparse
from pathlib import Path

from gapscope.claims import verdicts
from gapscope.config import load_params
from gapscope.records.tables import read_table, write_table
from gapscope.runtime import run_stage

RUN = ["model", "dataset", "batch_size", "seed"]


def main() -> None:
    """Run the stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", type=Path, required=True, help="folder of the study's tables")
    parser.add_argument("--reference", type=Path, required=True, help="table of runs of the study to compare with")
    parser.add_argument("--out", type=Path, required=True, help=".csv to write")
    args = parser.parse_args()
    paths = [args.tables / f"{name}.csv" for name in ("runs", "warmstart")]
    found = {path.stem: read_table(path) for path in paths if path.exists()}
    curvature = args.tables / "curvature.csv"
    if curvature.exists() and "runs" in found:
        more = read_table(curvature)
        new = more.columns.difference(found["runs"].columns)
        found["runs"] = found["runs"].merge(more[[*RUN, *new]], how="left", on=RUN, validate="one_to_one")
    params = load_params()
    settings = params.section("claims", verdicts.ClaimSettings)
    settings.check(params.study)
    write_table(args.out, verdicts.evaluate(found, read_table(args.reference), settings))


if __name__ == "__main__":
    run_stage(main)
