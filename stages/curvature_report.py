"""Stage curvature_report: curvature against batch size, spectral densities, noise scale along training."""

import argparse
from pathlib import Path

import pandas as pd

from gapscope.config import load_params
from gapscope.records.cells import cells, seed_records
from gapscope.records.tables import read_record, read_table, write_table
from gapscope.report import curvature, figures
from gapscope.runtime import run_stage


def main() -> None:
    """Run the stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the tables, and of the records")
    parser.add_argument("--plots", type=Path, required=True, help="folder of the figures")
    args = parser.parse_args()
    params = load_params()
    records = [(cell.columns(), read_record(cell.record("curvature", ".json"))) for cell in cells(params)]
    noise = (
        (about, read_record(Path(f"{path}.json")), read_table(Path(f"{path}.csv")))
        for about, path in seed_records(params, "noise_scale", params.seeds)
    )
    settings = params.section("curvature_report", curvature.CurvatureReportSettings)
    rows, scales = curvature.curvature(records, settings.level), curvature.noise_scale(noise, params.batch_sizes)
    write_table(args.out / "curvature.csv", rows)
    write_table(args.out / "noise_scale.csv", scales)
    drawn: dict[str, tuple[pd.DataFrame, figures.Draw]] = {
        "curvature": (curvature.against_size(rows), curvature.draw_curvature),
        "density": (curvature.density(records), curvature.draw_density),
        "noise_scale": (scales, curvature.draw_noise_scale),
    }
    figures.save(drawn, args.plots)


if __name__ == "__main__":
    run_stage(main)
