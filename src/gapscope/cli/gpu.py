"""`gapscope gpu`: half an hour of a GPU machine without network, git or DVC: what to run there, and its results."""

from pathlib import Path
from typing import Any

from gapscope.cli.compose import compose, composed
from gapscope.config import Params
from gapscope.errors import InputError

EXAMPLE = "example: gapscope gpu plan --minutes 30"
ACTIONS = {
    "plan": "print how long the studies of the queue take, and what fits",
    "prepare": "write what is still to run to data/gpu/programme.json, for gpu/run.py on the GPU machine",
    "unpack": "check a pack of results and have DVC commit them",
}


def add(commands: Any) -> None:
    """Add the command to the parser."""
    purpose = "use half an hour of a GPU machine that has no network (docs/gpu.md)"
    about = "; ".join(f"{name}: {what}" for name, what in ACTIONS.items())
    parser = commands.add_parser("gpu", help=purpose, description=f"{purpose}. {about}.", epilog=EXAMPLE)
    parser.add_argument("action", choices=[*ACTIONS], help="what to do")
    parser.add_argument("folder", nargs="?", type=Path, help="unpack: the folder of the pack")
    parser.add_argument("--queue", type=Path, default=Path("gpu/queue.yaml"), help="default gpu/queue.yaml")
    parser.add_argument("--minutes", type=float, default=30, help="plan: the time on the GPU machine, default 30")
    parser.set_defaults(run=lambda args: globals()[args.action](args))


def plan(args: Any) -> None:
    """Print the estimates of the queue."""
    from gapscope.engine.half_hour import queue

    def params(overrides: list[str]) -> Params:
        return composed(overrides)[0]

    whole = queue.Queue.read(args.queue)
    print("\n".join(queue.table(whole, queue.estimates(whole, params), args.minutes)))


def prepare(args: Any) -> None:
    """Write the programme, and print which files to take along."""
    from gapscope.engine.half_hour import prepare
    from gapscope.engine.half_hour.programme import FILE
    from gapscope.engine.half_hour.queue import Queue

    programme = prepare.prepare(Queue.read(args.queue), compose)
    programme.write()
    print(f"{FILE}: {len(programme.stages)} stages at commit {programme.commit}; take along, with the tracked files:")
    print("\n".join([str(FILE), *programme.files]))


def unpack(args: Any) -> None:
    """Bring a pack home.

    Raises:
        InputError: no folder is given, or the pack is refused.
    """
    from gapscope.engine.half_hour import adopt

    if args.folder is None:
        raise InputError("name the folder of the pack, as in `gapscope gpu unpack packs/1`")
    print("\n".join(adopt.adopt(args.folder, lambda overrides: composed(overrides)[1], compose)))
