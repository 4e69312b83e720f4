"""`gapscope cancel`: end what runs of a study on a cluster."""

from typing import Any

from gapscope.cli.study_files import add_study

EXAMPLE = "example: gapscope cancel table06"


def add(commands: Any) -> None:
    """Add the command to the parser."""
    purpose = "end a run of a study on a cluster; its unfinished training keeps its state"
    parser = commands.add_parser("cancel", help=purpose, description=purpose, epilog=EXAMPLE)
    add_study(parser, help="name of the study")
    parser.set_defaults(run=lambda args: _cancel(args.study))


def _cancel(study: str) -> None:
    from gapscope.engine.cluster.runs import cancel

    print(cancel(study))
