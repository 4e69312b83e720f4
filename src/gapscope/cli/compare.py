"""`gapscope compare`: what changed between two revisions, in words, and DVC's params, metrics and plots of both."""

import subprocess
import sys
from pathlib import Path
from typing import Any

from gapscope.errors import InputError
from gapscope.git import git

WORKSPACE = "workspace"  # DVC's name of the files as they are

EXAMPLE = "example: gapscope compare HEAD workspace"


def add(commands: Any) -> None:
    """Add the command to the parser."""
    purpose = "say what changed between two revisions, and compare params, metrics and plots of two revisions"
    parser = commands.add_parser("compare", help=purpose, description=purpose, epilog=EXAMPLE)
    revisions = f"a commit, branch, tag or experiment; {WORKSPACE}: the files as they are"
    parser.add_argument("old", metavar="REV", help=revisions)
    parser.add_argument("new", metavar="REV", help="the one to compare with it")
    parser.set_defaults(run=lambda args: compare(args.old, args.new))


def compare(old: str, new: str) -> None:
    """Say which results differ, print which params and metrics do, and draw both revisions' plots on one page.

    Raises:
        InputError: an unknown revision, or DVC failed.
    """
    commits = resolved(old, new)
    print("\n".join(in_words(*commits)))
    for kind in ("params", "metrics"):
        print(dvc(kind, "diff", old, new) or f"no {kind} differ")
    print(dvc("plots", "diff", old, new))


def in_words(old: str | None, new: str | None) -> list[str]:
    """Return what changed in every study whose results differ between two commits; None stands for the files."""
    from gapscope.engine.differences import Difference, results

    found = []
    for study in changed_studies(old, new):
        before, after = results(study, old), results(study, new)
        found.append(f"study {study}")
        if before and after:
            found += [f"  {line}" for line in Difference(before, after).lines()]
        else:
            found.append(
                "  no runs to compare" if before is after else f"  only in the {'new' if after else 'old'} one"
            )
    return found or ["no study's results differ"]


def changed_studies(old: str | None, new: str | None) -> list[str]:
    """Return the studies of which a file in metrics/ differs between two commits; None stands for the files."""
    paths = git("diff", "--name-only", "--relative", *filter(None, (old, new)), "--", "metrics").split("\n")
    if None in (old, new):
        paths += git("ls-files", "--others", "--exclude-standard", "--", "metrics").split("\n")
    inside = [Path(path).parts[1:] for path in paths if path]
    return sorted({Path(parts[1]).stem if parts[0] == "claims" else parts[0] for parts in inside if len(parts) > 1})


def resolved(*revisions: str) -> list[str | None]:
    """Return the commits of revisions that git knows or DVC has as experiments; None for the workspace.

    Raises:
        InputError: an unknown one.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc.scm import resolve_rev

    try:
        with Repo() as repo:
            return [None if revision == WORKSPACE else resolve_rev(repo.scm, revision) for revision in revisions]
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
