"""Stage sharpness: Keskar's metric of the training or test cross-entropy, in full space and in a random manifold."""

import argparse
from pathlib import Path

from gapscope.config import load_params
from gapscope.errors import InputError
from gapscope.runtime import describe_device, pick_device, progress, run_stage, set_threads


def main() -> None:
    """Run the stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, required=True, help=".safetensors of the train stage")
    parser.add_argument("--data", type=Path, required=True, help=".npz of the download stage")
    parser.add_argument("--out", type=Path, required=True, help="path without suffix: .csv and .json")
    args = parser.parse_args()

    from gapscope.measures import sharpness
    from gapscope.measures.networks import Network
    from gapscope.records.cell import write_cell
    from gapscope.records.provenance import Start

    params, start = load_params(), Start.of("sharpness")
    settings = params.section("sharpness", sharpness.SharpnessSettings)
    set_threads(settings.threads)
    network = Network.read(params, args.weights, args.data, device := pick_device())
    record, rows = {**network.header, "settings": settings.identity()}, []
    if network.model:
        losses = {
            statistics: network.objectives(settings.splits, settings, statistics) for statistics in settings.statistics
        }
        record["conditions"] = sharpness.conditions(losses)
        found = sharpness.measure_all(losses, settings, seed=network.header["seed"])
        try:
            rows = list(sharpness.rows(progress(found, args.weights.stem, settings.maximisations)))
        except ValueError as error:  # a loss that is not finite in the box
            raise InputError(f"{args.weights}: {error}") from error
    kind, threads = describe_device(device), settings.threads
    write_cell(args.out, rows, record, start, device=kind, threads=threads)


if __name__ == "__main__":
    run_stage(main)
