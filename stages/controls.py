"""Stage controls: singular values where training at that batch size can have had no part; activations are not kept."""

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

    from gapscope import models, seeds
    from gapscope.data import datasets, images
    from gapscope.measures import controls
    from gapscope.measures.activations import ActivationSettings
    from gapscope.models import unit_layers
    from gapscope.numerics.hosvd.singular_values import SpectraSettings, mode_singular_values
    from gapscope.records.provenance import write_provenance
    from gapscope.records.spectra import write_spectra
    from gapscope.records.weights import read_weights
    from gapscope.training.evaluation import reestimate_batch_norm

    params = load_params()
    settings = params.section("controls", controls.ControlSettings)
    forward, spectra = params.section("activations", ActivationSettings), params.section("spectra", SpectraSettings)
    set_threads(settings.threads)
    device, start = pick_device(), time.perf_counter()
    state, header = read_weights(args.weights)
    kind = describe_device(device)
    header |= {"activations": vars(forward), "spectra": vars(spectra), "device": kind}
    made = partial(write_provenance, args.out, stage="controls", device=kind, threads=settings.threads)
    if header["status"] == "diverged":
        write_spectra(args.out, header, [])
        made(wall_s=time.perf_counter() - start)
        return
    spec = models.ModelSpec.from_header(header["model"])
    with seeds.seeded(header["seed"], "initialisation"):
        untrained = models.build(spec).to(device)
    reference = models.build(spec).to(device)
    reference.load_state_dict(state)
    training = images.split_images(datasets.load(args.data), "train", device)
    reestimate_batch_norm(untrained, training, settings.eval_batch)
    nets, sizes = {"reference": reference, "untrained": untrained}, list(dict.fromkeys(params.batch_sizes))
    todo = controls.controls(nets, training, sizes, header["seed"], forward, folder=args.weights.parent)
    rows = [
        {"sample": c.sample, "batch_size": c.batch_size, "layer": c.layer, "mode": mode, "shape": c.tensor.shape}
        | spectrum.to_row()
        for c in progress(todo, args.out.stem, len(sizes) * (1 + 3 * len(unit_layers(reference))))
        for mode, spectrum in enumerate(mode_singular_values(c.tensor, method=spectra.method, device=device))
    ]
    write_spectra(args.out, header, rows)
    made(wall_s=time.perf_counter() - start)


if __name__ == "__main__":
    run_stage(main)
