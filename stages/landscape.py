"""Stage landscape: loss and error between the small-batch and the large-batch solution, and around each of them."""

import argparse
import time
from pathlib import Path

from gapscope.config import load_params
from gapscope.errors import InputError
from gapscope.runtime import describe_device, pick_device, run_stage, set_threads


def main() -> None:
    """Run the stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", type=Path, required=True, help=".safetensors trained at the small batch size")
    parser.add_argument("--large", type=Path, required=True, help=".safetensors trained at the large one")
    parser.add_argument("--data", type=Path, required=True, help=".npz of the download stage")
    parser.add_argument("--out", type=Path, required=True, help="path without suffix: .csv and .json")
    args = parser.parse_args()

    from gapscope.measures import landscape
    from gapscope.measures.networks import Network
    from gapscope.records.cell import write_cell

    params, start = load_params(), time.perf_counter()
    settings = params.section("landscape", landscape.LandscapeSettings)
    set_threads(settings.threads)
    device = pick_device()
    networks = {end: Network.read(params, getattr(args, end), args.data, device) for end in landscape.ENDS}
    record = landscape.header({end: network.header for end, network in networks.items()}, vars(settings))
    rows = []
    if record["status"] == "ok":
        losses = {end: of.objectives(("train", "test"), settings) for end, of in networks.items()}
        record["conditions"] = {split: loss.conditions() for split, loss in losses["large"].items()}
        try:
            rows = landscape.measure(losses, settings, seed=record["seed"], label=args.out.name)
        except (ValueError, RuntimeError) as error:
            raise InputError(f"{args.small}, {args.large}: {error}") from error
    kind, threads = describe_device(device), settings.threads
    write_cell(args.out, rows, record, stage="landscape", device=kind, threads=threads, start=start)


if __name__ == "__main__":
    run_stage(main)
