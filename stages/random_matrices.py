"""Stage random_matrices: extreme singular values of matrices of one law, and histograms of whole spectra."""

import argparse
import time
from functools import partial
from importlib.metadata import version
from pathlib import Path

from gapscope.config import load_params, revision
from gapscope.runtime import describe_device, progress, run_stage


def main() -> None:
    """Run the stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--law", required=True, help="gaussian, uniform or lognormal")
    parser.add_argument(
        "--log", type=Path, required=True, help="finished repetitions, to resume from; removed at the end"
    )
    parser.add_argument("--out", type=Path, required=True, help="path without suffix: .csv, .histogram.csv and .json")
    args = parser.parse_args()

    from gapscope.numerics import random_matrices
    from gapscope.records.provenance import write_provenance
    from gapscope.records.resumable import finish
    from gapscope.records.tables import write_record, write_table

    settings, start = (
        load_params().section("random_matrices", random_matrices.RandomMatrixSettings),
        time.perf_counter(),
    )
    law, about = random_matrices.law(args.law), settings.of_law(args.law)
    work = partial(random_matrices.repetition, settings=about)
    pieces = [(m, n, index) for m, n in settings.shapes for index in range(settings.repetitions)]
    own = {"revision": revision("random_matrices"), "torch": version("torch")}
    finished = finish(work, pieces, args.log, about | own, settings.workers)
    rows = {(row["m"], row["n"], row["repetition"]): row for row in progress(finished, args.law, len(pieces))}
    ordered = [rows[piece] for piece in pieces]
    columns = ("m", "n", "repetition", "sigma_min", "sigma_max")
    write_table(args.out.with_suffix(".csv"), [{name: row[name] for name in columns} for row in ordered])
    histograms = random_matrices.histogram_rows(ordered, args.law, settings.bins)
    write_table(args.out.with_suffix(".histogram.csv"), histograms)
    kind, record = describe_device("cpu"), {"law": args.law, "entry_mean": law.mean, "entry_std": law.std}
    write_record(args.out.with_suffix(".json"), {**record, "settings": vars(settings), "device": kind})
    write_provenance(
        args.out, stage="random_matrices", device=kind, threads=1, wall_s=time.perf_counter() - start,
        cpu_s=sum(row["cpu_s"] for row in ordered),
    )  # fmt: skip
    args.log.unlink()


if __name__ == "__main__":
    run_stage(main)
