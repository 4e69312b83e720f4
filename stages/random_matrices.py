"""Stage random_matrices: extreme singular values of matrices of one law, and histograms of whole spectra."""

import argparse
import time
from functools import partial
from importlib.metadata import version
from pathlib import Path

from gapscope.config import load_params, revision
from gapscope.runtime import RuntimeSettings, describe_device, progress, run_stage


def main() -> None:
    """Run the stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--law", required=True, help="gaussian, uniform or lognormal")
    parser.add_argument(
        "--log", type=Path, required=True, help="finished repetitions, to resume from; removed at the end"
    )
    parser.add_argument("--out", type=Path, required=True, help="path without suffix: .csv and .json")
    args = parser.parse_args()

    from gapscope.measures import random_matrices as measure
    from gapscope.numerics import random_matrices
    from gapscope.records.cell import write_cell
    from gapscope.records.resumable import finish

    params = load_params()
    settings = params.section("random_matrices", measure.RandomMatrixSettings)
    workers = params.section("runtime", RuntimeSettings).workers
    start, law, about = time.perf_counter(), random_matrices.law(args.law), settings.of_law(args.law)
    work = partial(measure.repetition, settings=about)
    pieces = [(m, n, index) for m, n in settings.shapes for index in range(settings.repetitions)]
    own = {"revision": revision("random_matrices"), "torch": version("torch")}
    finished = finish(work, pieces, args.log, about | own, workers)
    found = {(row["m"], row["n"], row["repetition"]): row for row in progress(finished, args.law, len(pieces))}
    ordered = [found[piece] for piece in pieces]
    rows = measure.rows(ordered, random_matrices.histogram_rows(ordered, args.law, settings.bins))
    record = {"law": args.law, "entry_mean": law.mean, "entry_std": law.std, "settings": vars(settings)}
    cpu_s = sum(row["cpu_s"] for row in ordered)
    write_cell(
        args.out,
        rows,
        record,
        stage="random_matrices",
        device=describe_device("cpu"),
        threads=1,
        start=start,
        cpu_s=cpu_s,
    )
    args.log.unlink()


if __name__ == "__main__":
    run_stage(main)
