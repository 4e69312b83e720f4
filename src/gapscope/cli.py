"""The `gapscope` command: thin over DVC and the library."""

import argparse
from pathlib import Path

from gapscope import locks, runner
from gapscope.config import DECLARED, PARAMS, declared_names, load_params
from gapscope.errors import InputError, did_you_mean
from gapscope.runtime import pick_device, run_stage


def compose(overrides: list[str]) -> None:
    """Compose params.yaml from conf/ exactly as `dvc exp run` does, check it, and put its study's lock in place.

    Raises:
        InputError: an override of a param that is not declared, or that Hydra cannot read.
    """
    from dvc.utils.hydra import compose_and_dump
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    folder = str(DECLARED.parent.resolve())
    try:
        compose_and_dump(str(PARAMS), folder, None, DECLARED.stem, ".dvc/hydra_plugins", overrides)
    except (HydraException, OmegaConfBaseException) as error:
        known = declared_names()
        names = [override.partition("=")[0].lstrip("+~") for override in overrides]
        unknown = [f"unknown param {name!r}; {did_you_mean(name, known)}" for name in names if name not in known]
        raise InputError(" ".join(unknown) or str(error)) from error
    study = load_params().study
    locks.swap(study)
    print(f"{PARAMS}: study {study}")


def spectra(file: Path, thresholds: list[float], relative: list[float], method: str) -> None:
    """Print the near-rank table of every tensor in a file.

    A count is followed by the interval that the error bounds leave, where that is wider than the count, and by a
    question mark where it is too wide for use.

    Raises:
        InputError: no tensor to be measured, or a value that no spectrum has.
    """
    import numpy as np
    import pandas as pd

    from gapscope.artifacts.tensors import read_tensors
    from gapscope.measure.companions import companions
    from gapscope.measure.near_rank import NearRank, near_rank_count
    from gapscope.measure.spectra import mode_singular_values

    def counted(found: NearRank) -> str:
        interval = "" if found.certain == found.possible else f" [{found.certain}, {found.possible}]"
        return f"{found.economy}{interval}{' ?' if found.undecidable else ''}"

    rows, left_out = [], []
    for name, tensor in read_tensors(file):
        if len(tensor.shape) < 2:
            left_out.append(name)
            continue
        try:
            modes = mode_singular_values(tensor, method=method, device=pick_device())
            counts = {f"<= {t:g}": near_rank_count(modes, t) for t in thresholds}
            counts |= {f"<= {t:g} of largest": near_rank_count(modes, t, relative=True) for t in relative}
        except ValueError as error:
            raise InputError(f"{name}: {error}") from error
        for mode, (spectrum, companion) in enumerate(zip(modes, companions(modes), strict=True)):
            bound = np.max(spectrum.error_bound)
            rows.append(
                {"tensor": name, "mode": mode, "size": spectrum.size, "structural": spectrum.structural}
                | {"values": len(spectrum.values)}
                | {label: counted(found[mode]) for label, found in counts.items()}
                | {"largest": spectrum.values[0], "smallest": spectrum.values[-1], "error": bound}
                | {"stable rank": companion.stable_rank, "effective rank": companion.effective_rank}
                | {"condition": companion.condition_number, "method": spectrum.method}
            )
    if left_out:
        print(f"left out, of fewer than two axes: {', '.join(left_out)}")
    if not rows:
        raise InputError(f"{file} holds no tensor of two or more axes")
    print(pd.DataFrame(rows).to_string(index=False, float_format="%.4g"))


def run(study: str | None, jobs: int) -> None:
    """Bring a study up to date, several stages at once.

    Raises:
        InputError: a stage failed.
        StoppedError: a signal came.
    """
    if study:
        compose([f"study={study}"])
    import torch

    gpus = torch.cuda.device_count() if pick_device() == "cuda" else 0  # GAPSCOPE_DEVICE=cuda:1 holds for every stage
    graph = runner.changed()
    print(f"{len(graph)} stages to run, {jobs} at once; their output goes to {runner.LOGS}/")
    progress = runner.run(graph, runner.start_stage(gpus), jobs)
    if progress.failed:
        left_out = f"; {len(progress.left_out)} that depend on them were left out" if progress.left_out else ""
        raise InputError(f"failed: {', '.join(progress.failed)}{left_out}; see {runner.LOGS}/")


def _main() -> None:
    parser = argparse.ArgumentParser(prog="gapscope", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    purpose = f"write {PARAMS} from {DECLARED.parent}/"
    composer = commands.add_parser("compose", help=purpose, description=purpose)
    composer.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="e.g. study=table05 epochs=30")
    composer.set_defaults(run=lambda args: compose(args.overrides))
    purpose = "count near-zero singular values of every unfolding of any tensor"
    counter = commands.add_parser("spectra", help=purpose, description=purpose)
    counter.add_argument("file", type=Path, metavar="FILE", help=".npy, .npz or .safetensors")
    counter.add_argument("--threshold", type=float, nargs="+", default=[1e-4, 1e-5], help="default: 1e-4 1e-5")
    counter.add_argument("--relative", type=float, nargs="+", default=[], help="parts of each mode's largest value")
    counter.add_argument("--method", default="certified", help="certified (default), qr, tensorly")
    counter.set_defaults(run=lambda args: spectra(args.file, args.threshold, args.relative, args.method))
    purpose = "bring a study up to date, several stages at once"
    starter = commands.add_parser("run", help=purpose, description=purpose)
    starter.add_argument("study", nargs="?", help="compose this one first; default: as params.yaml stands")
    starter.add_argument("-j", "--jobs", type=int, default=2, metavar="N", help="stages at once, default 2")
    starter.set_defaults(run=lambda args: run(args.study, args.jobs))
    args = parser.parse_args()
    args.run(args)


def main() -> None:
    """Entry point of the console script."""
    run_stage(_main)
