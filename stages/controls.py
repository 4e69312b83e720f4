"""Stage controls: singular values of activations that training at that batch size did not shape; they are not kept."""

import argparse
import time
from functools import partial
from pathlib import Path

from gapscope.config import load_params
from gapscope.runtime import describe_device, pick_device, progress, run_stage, set_threads


def main() -> None:
    """Run the stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, required=True, help=".safetensors trained at the first batch size")
    parser.add_argument("--data", type=Path, required=True, help=".npz of the download stage")
    parser.add_argument("--out", type=Path, required=True, help=".jsonl to write")
    args = parser.parse_args()

    from gapscope.data import datasets, images
    from gapscope.measures import controls
    from gapscope.measures.activations import ActivationSettings
    from gapscope.measures.spectra import SpectraSettings, layer_spectra
    from gapscope.records.provenance import write_provenance
    from gapscope.records.spectra import write_spectra
    from gapscope.records.weights import read_weights
    from gapscope.training.networks import checked_spec

    params = load_params()
    settings = params.section("controls", controls.ControlSettings)
    forward, spectra = params.section("activations", ActivationSettings), params.section("spectra", SpectraSettings)
    set_threads(settings.threads)
    device, start = pick_device(), time.perf_counter()
    state, header = read_weights(args.weights)
    kind = describe_device(device)
    header |= {"activations": vars(forward), "spectra": vars(spectra), "cut": spectra.cut, "device": kind}
    made = partial(write_provenance, args.out, stage="controls", device=kind, threads=settings.threads)
    if header["status"] == "diverged":
        write_spectra(args.out, header, [])
        made(wall_s=time.perf_counter() - start)
        return
    dataset = datasets.load(args.data)
    spec = checked_spec(params, header, dataset, args.weights)
    training = images.split_images(dataset, "train", device)
    nets = controls.networks(spec, state, training, settings, seed=header["seed"], device=device)
    sizes = list(dict.fromkeys(params.batch_sizes))
    todo = controls.controls(nets, training, sizes, header["seed"], forward, folder=args.weights.parent)
    layers = [
        layer_spectra(c.tensor, spectra, device=device, sample=c.sample, layer=c.layer, batch_size=c.batch_size)
        for c in progress(todo, args.out.stem, controls.number_of_tensors(nets, sizes))
    ]
    write_spectra(args.out, header, layers)
    made(wall_s=time.perf_counter() - start)


if __name__ == "__main__":
    run_stage(main)
