"""`gapscope mend`: the last whole `dvc.lock` put back after a kill cut it off."""

from typing import Any

from gapscope.engine import locks

EXAMPLE = "example: gapscope mend"


def add(commands: Any) -> None:
    """Add the command to the parser."""
    purpose = f"put the last whole {locks.LOCK} back if a kill cut it off; a whole one is left as it is"
    parser = commands.add_parser("mend", help=purpose, description=purpose, epilog=EXAMPLE)
    parser.set_defaults(run=lambda _: mend())


def mend() -> None:
    """Mend dvc.lock, remove what killed processes left beside it, and say what was done; look at `locks/` too.

    Raises:
        InputError: a file that cannot be mended, with the remedy.
    """
    locks.mend(say_whole=True)
    for path in sorted(locks.OTHERS.glob("*.lock")):
        locks.read(path)
