"""Stage random_matrices: extreme singular values of matrices of one law, and histograms of whole spectra."""

import argparse
import hashlib
import time
from functools import partial
from importlib.metadata import version
from pathlib import Path

from gapscope.config import load_params
from gapscope.runtime import RuntimeSettings, describe_device, progress, run_stage


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
    from gapscope.records.resumable import finish
    from gapscope.records.tables import provenance, write_record, write_table

    params, start = load_params(), time.perf_counter()
    settings = params.section("random_matrices", random_matrices.RandomMatrixSettings)
    workers = params.section("runtime", RuntimeSettings).workers
    law, about = random_matrices.law(args.law), settings.of_law(args.law)
    work = partial(random_matrices.repetition, settings=about)
    pieces = [(m, n, index) for m, n in settings.shapes for index in range(settings.repetitions)]
    code = hashlib.sha256(Path("digests/random_matrices.txt").read_bytes()).hexdigest()
    finished = finish(work, pieces, args.log, about | {"code": code, "torch": version("torch")}, workers)
    rows = {(row["m"], row["n"], row["repetition"]): row for row in progress(finished, args.law, len(pieces))}
    ordered = [rows[piece] for piece in pieces]
    columns = ("m", "n", "repetition", "sigma_min", "sigma_max")
    write_table(args.out.with_suffix(".csv"), [{name: row[name] for name in columns} for row in ordered])
    histograms = random_matrices.histogram_rows(ordered, args.law, settings.bins)
    write_table(args.out.with_suffix(".histogram.csv"), histograms)
    made = provenance(describe_device("cpu"), 1, time.perf_counter() - start)
    record = {"law": args.law, "entry_mean": law.mean, "entry_std": law.std, "cpu_s": sum(r["cpu_s"] for r in ordered)}
    write_record(args.out.with_suffix(".json"), {**record, "settings": vars(settings), "provenance": made})
    args.log.unlink()


if __name__ == "__main__":
    run_stage(main)
