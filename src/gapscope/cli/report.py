"""`gapscope report`: a study's results as one page."""

from pathlib import Path
from typing import Any

from gapscope import runner
from gapscope.artifacts.files import write_text
from gapscope.cli.compose import compose
from gapscope.config import load_params
from gapscope.errors import InputError

PAGES = Path("reports")
OVERVIEW = PAGES / "README.md"


def add(commands: Any) -> None:
    """Add the command to the parser."""
    purpose = "write a study's results as one HTML page"
    parser = commands.add_parser("report", help=purpose, description=purpose)
    parser.add_argument("study", nargs="?", help="compose this one first; default: as params.yaml stands")
    parser.set_defaults(run=lambda args: report(args.study))


def report(study: str | None) -> None:
    """Run the stage `report` alone, from the results that are there; say where the page lies, and that of all studies.

    Raises:
        InputError: a study without results, or the stage failed.
        StoppedError: a signal came.
    """
    name = study or load_params().study
    if not (Path("metrics") / name).is_dir():
        raise InputError(
            f"metrics/{name} is missing: no such study, or it has not been run; gapscope studies lists them"
        )
    if study:
        compose([f"study={study}"])
    stage, page = f"report@{name}", PAGES / f"{name}.html"
    print(f"$ {runner.command(stage)}", flush=True)
    runner.check(runner.run({stage: set()}, runner.start_stage(gpus=0), jobs=1))
    if not page.is_file():
        raise InputError(f"stage {stage} is done and {page} is missing; see {runner.log_of(stage)}")
    print(page)
    overview()


def overview() -> None:
    """Write the page of all studies anew from what is in metrics/, and say where it lies."""
    from gapscope.report import overview as made

    write_text(OVERVIEW, made.page(Path("metrics"), Path("plots")))
    print(OVERVIEW)
