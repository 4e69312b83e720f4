"""Stage spectra: singular values of every unfolding of every layer's activations."""

import argparse
import time
from pathlib import Path

from gapscope.config import load_params
from gapscope.runtime import describe_device, pick_device, progress, run_stage, set_threads


def main() -> None:
    """Run the stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--activations", type=Path, required=True, help="folder of the activations stage")
    parser.add_argument("--out", type=Path, required=True, help=".jsonl to write")
    args = parser.parse_args()

    from gapscope.measures import spectra
    from gapscope.records.activations import read_activations
    from gapscope.records.provenance import write_provenance
    from gapscope.records.spectra import write_spectra

    settings = load_params().section("spectra", spectra.SpectraSettings)
    set_threads(settings.threads)
    device, start = pick_device(), time.perf_counter()
    header, tensors = read_activations(args.activations)
    header["forward_device"] = header.pop("device")
    todo = progress(tensors, args.activations.name)
    layers = list(spectra.spectra(todo, settings, device=device, errors=header.get("forward_error", {})))
    kind, spent = describe_device(device), time.perf_counter() - start
    write_spectra(args.out, header | {"spectra": vars(settings), "cut": settings.cut, "device": kind}, layers)
    write_provenance(args.out, stage="spectra", device=kind, threads=settings.threads, wall_s=spent)


if __name__ == "__main__":
    run_stage(main)
