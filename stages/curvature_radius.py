"""Stage curvature_radius: curvature radii of each parameter tensor, at a run's weights and at its initial ones."""

import argparse
import time
from pathlib import Path
from typing import Any

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

    from gapscope.measures import curvature_radius
    from gapscope.measures.networks import Network
    from gapscope.records.cell import write_cell
    from gapscope.training.networks import checked_spec

    params, start = load_params(), time.perf_counter()
    settings = params.section("curvature_radius", curvature_radius.CurvatureRadiusSettings)
    set_threads(settings.threads)
    network = Network.read(params, args.weights, args.data, device := pick_device())
    record: dict[str, Any] = {**network.header, "settings": vars(settings)}
    rows: list[dict[str, Any]] = []
    if network.model:
        spec = checked_spec(params, network.header, network.dataset, args.weights)
        try:
            record["conditions"], rows = curvature_radius.of_run(network, spec, settings)
        except ValueError as error:
            raise InputError(f"{args.weights}: {error}") from error
    kind, threads = describe_device(device), settings.threads
    write_cell(args.out, rows, record, stage="curvature_radius", device=kind, threads=threads, start=start)


if __name__ == "__main__":
    run_stage(main)
