"""`gapscope run`: a study brought up to date, several stages at once."""

import os
import sys
from pathlib import Path
from typing import Any

from gapscope.cli.compose import compose, with_study
from gapscope.cli.init import warn_of_other_revisions
from gapscope.cli.study_files import add_study
from gapscope.config import Params, load_params
from gapscope.engine import kept_weights, locks, runner
from gapscope.engine.cluster import runs
from gapscope.engine.cluster.settings import ClusterSettings, read_cluster
from gapscope.engine.time_left import TimeLeft, expected, training_seconds
from gapscope.errors import InputError
from gapscope.runtime import pick_device

EXAMPLE = "example: gapscope run table06 -j 2 -S 'seeds=[0,1]'"


def add(commands: Any) -> None:
    """Add the command to the parser."""
    purpose = "bring a study up to date, several stages at once"
    parser = commands.add_parser("run", help=purpose, description=purpose, epilog=EXAMPLE)
    add_study(parser, nargs="?", help="compose this one first; default: as params.yaml stands")
    parser.add_argument("-j", "--jobs", type=int, default=2, metavar="N", help="stages at once, default 2")
    parser.add_argument(
        "-S", "--set-param", action="append", default=[], dest="overrides", metavar="KEY=VALUE",
        help="compose with this param, as dvc exp run -S does; repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--cluster", metavar="NAME", help="run the stages on other machines, as conf/cluster/NAME.yaml says"
    )
    parser.add_argument("--yes", action="store_true", help="submit more jobs than the cluster's file allows unasked")
    parser.set_defaults(run=lambda args: run(args.study, args.overrides, args.jobs, args.cluster, sure=args.yes))


def run(study: str | None, overrides: list[str], jobs: int, cluster: str | None = None, *, sure: bool = False) -> None:
    """Compose if asked to, and run all stages that are not up to date.

    Raises:
        InputError: fewer than one job, an override that cannot be composed, an unknown cluster, a run that is under
            way, or a stage failed.
        StoppedError: a signal came.
    """
    if jobs < 1:
        raise InputError(f"-j must be at least 1, got {jobs}")
    # `python` in dvc.yaml is the one that runs this, also where its environment is not activated
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    settings = read_cluster(cluster) if cluster else None
    runs.bring_back()  # before params.yaml changes: a run may be under way
    if study or overrides:
        compose(with_study(study, overrides))
    else:
        warn_of_other_revisions()
        locks.mend()
    params = load_params()
    kept_weights.fetch()
    graph, unsure = runner.changed()
    if not graph:
        print(f"study {params.study} is up to date")
        conclude(params.study)
        return
    if settings:
        _run_on_cluster(settings, params, graph, unsure, jobs, sure=sure)
    else:
        _run_here(params, graph, unsure, jobs)
    conclude(params.study)


def _run_here(params: Params, graph: runner.Graph, unsure: set[str], jobs: int) -> None:
    import torch

    gpus = torch.cuda.device_count() if pick_device() == "cuda" else 0  # GAPSCOPE_DEVICE=cuda:1 holds for every stage
    training = training_seconds() if any(stage.startswith("train@") for stage in graph) else {}
    left = TimeLeft(expected(params.study, graph, training))
    time = left.words(graph, {}, jobs) if jobs > 0 else ""
    print(f"{len(graph)} stages, {jobs} at once, {time}; their output goes to {runner.LOGS}/", flush=True)
    runner.check(runner.run(graph, runner.start_stage(gpus, unsure), jobs, left))


def _run_on_cluster(
    settings: ClusterSettings, params: Params, graph: runner.Graph, unsure: set[str], jobs: int, *, sure: bool
) -> None:
    runs.announce(settings, params, graph, jobs, sure=sure)
    with runs.running(settings, params, graph, jobs) as environment:
        print(f"{len(graph)} stages, {jobs} at once; their output goes to {runner.LOGS}/", flush=True)
        left = TimeLeft(expected(params.study, graph, {}))  # this machine's speed says nothing of the others'
        runner.check(runner.run(graph, runner.start_stage(0, unsure, environment), jobs, left))


def conclude(study: str) -> None:
    """Print what the study found, how it compares with the committed results, and its page, if that is there."""
    page = Path("reports") / f"{study}.html"
    if page.exists():
        from gapscope.engine.conclusion import conclusion

        print("\n".join(conclusion(study, Path("metrics") / study, Path("metrics/claims") / f"{study}.csv", page)))
