"""`gapscope init`: a folder in which studies run, from the files that an installed package brings along."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from gapscope.config import REVISIONS, read_yaml
from gapscope.errors import InputError
from gapscope.git import git
from gapscope.records.files import write_text

PROJECT = Path(__file__).parents[1] / "project"  # in a wheel only: pyproject.toml says which files of a clone it holds
OF_PACKAGE = "      - src/gapscope/"  # a dependency of dvc.yaml that only a clone has as a file of its own
NO_GIT = "[core]\n    no_scm = true\n"

EXAMPLE = "example: gapscope init demo"


def add(commands: Any) -> None:
    """Add the command to the parser."""
    purpose = "make a folder in which studies run, from an installed gapscope; a clone of the repository is one already"
    parser = commands.add_parser("init", help=purpose, description=purpose, epilog=EXAMPLE)
    parser.add_argument("folder", type=Path, metavar="DIR", help="to be made; it may be there if it is empty")
    parser.set_defaults(run=lambda args: init(args.folder))


def init(folder: Path) -> None:
    """Fill a new folder with the pipeline, its params and all studies, and make it a git repository if it can be one.

    Raises:
        InputError: the folder holds something, or this package is a clone's.
    """
    if not PROJECT.is_dir():
        raise InputError("this gapscope belongs to a clone of its repository, where studies run already; work there")
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise InputError(f"{folder} is there already, and not an empty folder; name another one")
    shutil.copytree(PROJECT, folder, dirs_exist_ok=True)
    pipeline = folder / "dvc.yaml"
    write_text(pipeline, without_package_files(pipeline.read_text(encoding="utf-8")))
    tracked = _in_git(folder)
    if not tracked:
        write_text(folder / ".dvc/config.local", NO_GIT)
    print(
        f"{folder}: a git repository, nothing committed yet" if tracked else f"{folder}: without git, which is missing"
    )
    print(f"next: cd {folder} && gapscope run quick")


def without_package_files(pipeline: str) -> str:
    """Return the text of dvc.yaml without the dependencies on files that lie in the package."""
    return "".join(line for line in pipeline.splitlines(keepends=True) if not line.startswith(OF_PACKAGE))


def warn_of_other_revisions() -> None:
    """Say in one line on stderr which revisions of this folder differ from those of the installed package.

    DVC goes by the folder's `revisions.yaml`. It takes results for up to date that the package would compute otherwise.
    """
    packed = PROJECT / REVISIONS
    if not (packed.is_file() and REVISIONS.is_file()):  # a clone runs its own code
        return
    folder, package = (
        {name: stage["revision"] for name, stage in read_yaml(path).items()} for path in (REVISIONS, packed)
    )
    if others := sorted(name for name in folder | package if folder.get(name) != package.get(name)):
        print(
            f"warning: another version of gapscope made this folder: {REVISIONS} differs from the installed package in "
            f"{', '.join(others)}; make a new folder with gapscope init, and copy your studies (conf/study/) into it",
            file=sys.stderr,
        )


def _in_git(folder: Path) -> bool:
    """Make a folder a git repository, unless it lies in one; say whether it is."""
    if not git("-C", str(folder), "rev-parse", "--show-toplevel") and shutil.which("git"):
        subprocess.run(["git", "init", "-q", str(folder)], check=True)
    return bool(git("-C", str(folder), "rev-parse", "--show-toplevel"))
