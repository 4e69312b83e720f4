"""`gapscope report`: a study's results as one page."""

import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from gapscope.cli.study_files import add_study, study_file
from gapscope.config import load_params
from gapscope.errors import InputError
from gapscope.names import check_names

EXAMPLE = "example: gapscope report table06"


def add(commands: Any) -> None:
    """Add the command to the parser."""
    purpose = "write a study's results as one HTML page"
    parser = commands.add_parser("report", help=purpose, description=purpose, epilog=EXAMPLE)
    add_study(parser, nargs="?", help="default: the one in params.yaml, which stays as it is")
    parser.set_defaults(run=lambda args: report(args.study))


def report(study: str | None) -> None:
    """Make a study's page from the results that are there; the stage says where it lies.

    Raises:
        InputError: a study without results, or the page could not be made.
    """
    name = study or load_params().study
    check_names({"study": name})  # it becomes a part of paths
    if not (Path("metrics") / name).is_dir():
        study_file(name)
        raise InputError(f"metrics/{name} is missing: the study has not been run; gapscope run {name}")
    words = command(name)
    print(f"$ {shlex.join(words)}", flush=True)
    if subprocess.run([sys.executable, *words[1:]], check=False).returncode:  # words[0] is python
        raise InputError(f"the page of {name} could not be made")


def command(study: str) -> list[str]:
    """Return the command of the stage `report` for any study: DVC has it only for the one in params.yaml."""
    stage = yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))["stages"]["report"]
    return [word.replace("${item.study}", study) for word in shlex.split(stage["cmd"])]
