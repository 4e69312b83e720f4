"""Stage spectra: singular values of every unfolding of every layer's activations."""

import argparse
import time
from pathlib import Path

from gapscope.config import load_params
from gapscope.runtime import (
    describe_device,
    pick_device,
    progress,
    run_stage,
    set_threads,
)


def main() -> None:
    """Run the stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--activations",
        type=Path,
        required=True,
        help="folder of the activations stage",
    )
    parser.add_argument("--out", type=Path, required=True, help=".jsonl to write")
    args = parser.parse_args()

    from gapscope.numerics.hosvd.exact_zeros import exact_zeros
    from gapscope.numerics.hosvd.singular_values import SpectraSettings, mode_singular_values
    from gapscope.records.activations import read_activations
    from gapscope.records.provenance import write_provenance
    from gapscope.records.spectra import write_spectra

    settings = load_params().section("spectra", SpectraSettings)
    set_threads(settings.threads)
    device, start = pick_device(), time.perf_counter()
    header, layers = read_activations(args.activations)
    header["forward_device"] = header.pop("device")
    off = header.get("forward_error", {})  # of activations from a float32 forward pass
    zeros = [{"sample": s, "layer": layer, **exact_zeros(tensor).to_row()} for s, layer, tensor in layers]
    rows = [
        {
            "sample": sample,
            "layer": layer,
            "mode": mode,
            "shape": tensor.shape,
            **spectrum.widened(off.get(sample, {}).get(layer, 0.0)).to_row(),
        }
        for sample, layer, tensor in progress(layers, args.activations.name)
        for mode, spectrum in enumerate(mode_singular_values(tensor, method=settings.method, device=device))
    ]
    kind, spent = describe_device(device), time.perf_counter() - start
    write_spectra(args.out, header | {"spectra": vars(settings), "exact_zeros": zeros, "device": kind}, rows)
    write_provenance(args.out, stage="spectra", device=kind, threads=settings.threads, wall_s=spent)


if __name__ == "__main__":
    run_stage(main)
