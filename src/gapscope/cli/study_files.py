"""The studies' files, conf/study/NAME.yaml: which there are, and whether one can be composed."""

from pathlib import Path
from typing import Any

from gapscope.config import DECLARED
from gapscope.errors import InputError, did_you_mean

STUDIES = DECLARED.parent / "study"
PACKAGE = "# @package _global_"
COMPLETE = dict.fromkeys(("bash", "zsh"), "_gapscope_studies")  # shell -> a function in `completion`


def add_study(parser: Any, **options: Any) -> None:
    """Add the argument `study` to a command that takes a study's name."""
    parser.add_argument("study", **options).complete = COMPLETE


def study_file(name: str) -> Path:
    """Return the file of a study.

    Raises:
        InputError: there is no such study; with the name that is nearest.
    """
    path = STUDIES / f"{name}.yaml"
    if not path.is_file():
        known = [file.stem for file in STUDIES.glob("*.yaml")]
        raise InputError(f"no study {name!r} in {STUDIES}; {did_you_mean(name, known)} (gapscope studies lists all)")
    return path


def check_package(path: Path) -> None:
    """Raise InputError if a study's file lacks the line that puts its values among the params."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not lines or lines[0].split() != PACKAGE.split():  # Hydra stops at the first other line, even a comment
        raise InputError(
            f"{path} must begin with the line `{PACKAGE}`: it looks like a comment, but without it Hydra does not put "
            "the study's values among the params"
        )
