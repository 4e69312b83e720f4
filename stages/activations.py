"""Stage activations: every unit layer's output over b images drawn by the run's seed, and over one fixed probe."""

import argparse
import copy
from functools import partial
from pathlib import Path

from gapscope.config import load_params
from gapscope.runtime import describe_device, pick_device, run_stage, set_threads


def main() -> None:
    """Run the stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, required=True, help=".safetensors of the train stage")
    parser.add_argument("--data", type=Path, required=True, help=".npz of the download stage")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    args = parser.parse_args()

    import torch

    from gapscope.data import datasets, images
    from gapscope.measures import activations
    from gapscope.records.activations import write_activations
    from gapscope.records.weights import read_weights
    from gapscope.training.networks import restored

    params = load_params()
    settings = params.section("activations", activations.ActivationSettings)
    set_threads(settings.threads)
    device, dtype = pick_device(), getattr(torch, settings.precision)
    state, header = read_weights(args.weights)
    header |= {"activations": vars(settings), "device": describe_device(device)}
    with write_activations(args.out, header) as open_layer:
        if header["status"] == "diverged":
            print("this run diverged: there is nothing to measure")
            return
        dataset = datasets.load(args.data)
        model = restored(params, state, header, dataset, args.weights).to(device, dtype)
        training = images.split_images(dataset, "train", device)
        sizes = header["batch_size"], header["seed"], settings.probe_images
        header["forward_error"] = {}
        for sample, index in activations.sample_indices(len(training), *sizes).items():
            inputs = training.subset(index.to(device)).inputs
            written = activations.extract(
                model, partial(inputs, dtype=dtype), len(index), partial(open_layer, sample), settings
            )
            if settings.precision == "float32":
                exact, inputs = copy.deepcopy(model).double(), partial(inputs, dtype=torch.float64)
                header["forward_error"][sample] = activations.forward_errors(exact, inputs, written, settings)


if __name__ == "__main__":
    run_stage(main)
