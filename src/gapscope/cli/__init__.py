"""The `gapscope` command: thin over DVC and the library. A command that runs DVC prints what it runs."""

import argparse
import sys

from gapscope.cli import compare, compose, report, run, spectra, studies
from gapscope.runtime import run_stage

COMMANDS = (studies, run, report, compare, compose, spectra)  # in the order of --help


def parser() -> argparse.ArgumentParser:
    """Return the parser; what it returns has `run`, which takes it."""
    whole = argparse.ArgumentParser(prog="gapscope", description=__doc__)
    commands = whole.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    return whole


def _main() -> None:
    args = parser().parse_args()
    args.run(args)


def main() -> None:
    """Entry point of the console script."""
    try:
        run_stage(_main)
    except KeyboardInterrupt:
        print("gapscope: stopped", file=sys.stderr)
        sys.exit(130)
