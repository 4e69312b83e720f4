"""The `gapscope` command: thin over DVC and the library."""

import argparse
from pathlib import Path

from gapscope.config import DECLARED, PARAMS, load_params
from gapscope.runtime import run_stage


def compose(overrides: list[str]) -> None:
    """Compose params.yaml from conf/ exactly as `dvc exp run` does, and check it."""
    from dvc.utils.hydra import compose_and_dump

    compose_and_dump(
        str(PARAMS),
        str(DECLARED.parent.resolve()),
        None,
        DECLARED.stem,
        ".dvc/hydra_plugins",
        overrides,
    )
    params = load_params()
    print(f"{PARAMS}: study {params.study}")


def _main() -> None:
    parser = argparse.ArgumentParser(prog="gapscope", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    help_compose = f"write {PARAMS} from {Path(DECLARED).parent}/"
    composer = commands.add_parser("compose", help=help_compose, description=help_compose)
    composer.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="e.g. study=table05 epochs=30")
    composer.set_defaults(run=lambda args: compose(args.overrides))
    args = parser.parse_args()
    args.run(args)


def main() -> None:
    """Entry point of the console script."""
    run_stage(_main)
