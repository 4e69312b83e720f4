"""The `gapscope` command: thin over DVC and the library. A command that runs DVC prints what it runs."""

import argparse
import os
import sys
from importlib.metadata import version

from gapscope.cli import (
    cancel,
    compare,
    completion,
    compose,
    export,
    gpu,
    init,
    mend,
    new,
    report,
    run,
    site,
    spectra,
    studies,
    verify,
)
from gapscope.errors import InputError
from gapscope.runtime import run_command

# in the order of --help
COMMANDS = (
    init, studies, new, run, cancel, report, site, export, compare, compose, mend, verify, gpu, spectra, completion,
)  # fmt: skip
# in the extra of that name
PIPELINE = ("dvc", "hydra", "jinja2", "matplotlib", "shtab", "sklearn", "tensorly", "torchvision")


def parser() -> argparse.ArgumentParser:
    """Return the parser; what it returns has `run`, which takes it."""
    whole = argparse.ArgumentParser(prog="gapscope", description=__doc__)
    whole.add_argument("--version", action="version", version=f"gapscope {version('gapscope')}")
    commands = whole.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    return whole


def _main() -> None:
    args = parser().parse_args()
    try:
        args.run(args)
        sys.stdout.flush()
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in PIPELINE:
            raise
        raise InputError(f"{error.name} is not installed; pip install 'gapscope[pipeline]'") from error
    except BrokenPipeError:  # the reader, such as head, has seen enough; what is still to be flushed goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


def main() -> None:
    """Entry point of the console script."""
    try:
        run_command(_main)
    except KeyboardInterrupt:
        print("gapscope: stopped", file=sys.stderr)
        sys.exit(130)
