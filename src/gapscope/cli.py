"""The `gapscope` command: thin over DVC and the library."""

import argparse

from gapscope.config import DECLARED, PARAMS, declared_names, load_params
from gapscope.errors import InputError, did_you_mean
from gapscope.runtime import run_stage


def compose(overrides: list[str]) -> None:
    """Compose params.yaml from conf/ exactly as `dvc exp run` does, and check it.

    Raises:
        InputError: an override of a param that is not declared, or that Hydra cannot read.
    """
    from dvc.utils.hydra import compose_and_dump
    from hydra.errors import HydraException

    folder = str(DECLARED.parent.resolve())
    try:
        compose_and_dump(str(PARAMS), folder, None, DECLARED.stem, ".dvc/hydra_plugins", overrides)
    except HydraException as error:
        known = declared_names()
        names = [override.partition("=")[0].lstrip("+~") for override in overrides]
        unknown = [f"unknown param {name!r}; {did_you_mean(name, known)}" for name in names if name not in known]
        raise InputError(" ".join(unknown) or str(error)) from error
    print(f"{PARAMS}: study {load_params().study}")


def _main() -> None:
    parser = argparse.ArgumentParser(prog="gapscope", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    purpose = f"write {PARAMS} from {DECLARED.parent}/"
    composer = commands.add_parser("compose", help=purpose, description=purpose)
    composer.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="e.g. study=table05 epochs=30")
    composer.set_defaults(run=lambda args: compose(args.overrides))
    args = parser.parse_args()
    args.run(args)


def main() -> None:
    """Entry point of the console script."""
    run_stage(_main)
