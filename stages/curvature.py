"""Stage curvature: Hessian and Gauss-Newton spectra, trace and the rise within a ball, at a run's weights."""

import argparse
import time
from pathlib import Path

from gapscope.config import load_params
from gapscope.errors import InputError
from gapscope.runtime import describe_device, pick_device, run_stage, set_threads


def main() -> None:
    """Run the stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, required=True, help=".safetensors of the train stage")
    parser.add_argument("--data", type=Path, required=True, help=".npz of the download stage")
    parser.add_argument("--out", type=Path, required=True, help="path without suffix: .csv and .json")
    args = parser.parse_args()

    from gapscope.measures import curvature
    from gapscope.measures.networks import Network
    from gapscope.records.cell import write_cell

    params, start = load_params(), time.perf_counter()
    settings = params.section("curvature", curvature.CurvatureSettings)
    set_threads(settings.threads)
    network = Network.read(params, args.weights, args.data, device := pick_device())
    record, rows = {**network.header, "settings": vars(settings)}, []
    if network.model:
        loss = network.objectives(["train"], settings)["train"]
        record["conditions"] = loss.conditions()
        try:
            found = curvature.measure(loss, loss.weights(), settings, seed=network.header["seed"])
        except ValueError as error:
            raise InputError(f"{args.weights}: {error}") from error
        rows = list(curvature.rows(found))
    kind, threads = describe_device(device), settings.threads
    write_cell(args.out, rows, record, stage="curvature", device=kind, threads=threads, start=start)


if __name__ == "__main__":
    run_stage(main)
