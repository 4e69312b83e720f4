"""`gapscope compare`: params, metrics and plots of two revisions."""

import subprocess
import sys
from typing import Any

from gapscope.errors import InputError

WORKSPACE = "workspace"  # DVC's name of the files as they are

EXAMPLE = "example: gapscope compare HEAD workspace"


def add(commands: Any) -> None:
    """Add the command to the parser."""
    purpose = "compare params, metrics and plots of two revisions"
    parser = commands.add_parser("compare", help=purpose, description=purpose, epilog=EXAMPLE)
    revisions = f"a commit, branch, tag or experiment; {WORKSPACE}: the files as they are"
    parser.add_argument("old", metavar="REV", help=revisions)
    parser.add_argument("new", metavar="REV", help="the one to compare with it")
    parser.set_defaults(run=lambda args: compare(args.old, args.new))


def compare(old: str, new: str) -> None:
    """Print which params and metrics differ, and draw both revisions' plots on one page.

    Raises:
        InputError: an unknown revision, or DVC failed.
    """
    check_revisions(old, new)
    for kind in ("params", "metrics"):
        print(dvc(kind, "diff", old, new) or f"no {kind} differ")
    print(dvc("plots", "diff", old, new))


def check_revisions(*revisions: str) -> None:
    """Raise InputError where DVC knows a revision neither as git's nor as an experiment."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc.scm import resolve_rev

    try:
        with Repo() as repo:
            for revision in revisions:
                if revision != WORKSPACE:
                    resolve_rev(repo.scm, revision)
    except DvcException as error:
        raise InputError(str(error)) from error


def dvc(*arguments: str) -> str:
    """Print a DVC command, run it, and return its output.

    Raises:
        InputError: it failed; with DVC's own line.
    """
    print(f"$ dvc {' '.join(arguments)}", flush=True)
    done = subprocess.run([sys.executable, "-m", "dvc", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [done.stderr]
        raise InputError(f"dvc {arguments[0]} diff failed: {errors[-1]}")
    return done.stdout.rstrip()
