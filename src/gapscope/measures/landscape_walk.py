"""The walk over the loss landscape of two trained networks: the line between them, then directions around each."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gapscope import seeds
from gapscope.config import load_params
from gapscope.errors import InputError
from gapscope.measures.landscape import COLUMNS, ENDS, LandscapeSettings, header
from gapscope.measures.landscape import rows as landscape_rows
from gapscope.measures.networks import Network
from gapscope.numerics.loss_surface.curvature import hessian_eigenvalues
from gapscope.numerics.loss_surface.hessian_products import Loss
from gapscope.numerics.loss_surface.landscape import Evaluate, along, between, plane, random_direction, rises
from gapscope.records.cell import write_cell
from gapscope.records.provenance import Start
from gapscope.runtime import describe_device, pick_device, progress, set_threads
from gapscope.training.objective import Objective


@dataclass(frozen=True)
class End:
    """A solution, and what is measured around it.

    Attributes:
        x: its weights (n,).
        shapes: of the parameters, in the order in which x holds them.
        loss: flat vector (n,) -> training loss.
        evaluate: flat vector (n,) -> the numbers of `FIGURES_OF`.
    """

    x: Tensor
    shapes: Sequence[torch.Size]
    loss: Loss
    evaluate: Evaluate


def loss_and_error(train: Any, test: Any, x: Tensor) -> tuple[float, ...]:
    """Return the numbers of `FIGURES_OF` at x (n,), of two Objectives."""
    return (*train.loss_and_error(x), *test.loss_and_error(x))


def steepness(end: End, settings: LandscapeSettings, *, seed: int) -> tuple[dict[str, Any], Tensor]:
    """Return curvature and rises at one end, for its record, and its top eigenvectors (n, k).

    The random directions and the start of the eigenvalue solver are those of the seed, the same for both ends.
    """
    top = hessian_eigenvalues(
        end.loss, end.x, settings.eigenvectors, generator=seeds.generator(seed, "landscape", "eigenvalues")
    )
    draw = seeds.generator(seed, "landscape", "rises")
    around = rises(end.loss, end.x, top.vectors, settings.radius, directions=settings.directions, generator=draw)
    record = {
        "weight_norm": end.x.norm().item(),
        "eigenvalues": top.values.tolist(),
        "residuals": top.residuals.tolist(),
        "products": top.products,
        "rises": {
            "radius": around.radius,
            "eigenvectors": around.eigenvectors.tolist(),
            "random": around.random.tolist(),
        },
    }
    return record, top.vectors


def walk(
    ends: Mapping[str, End], vectors: Mapping[str, Tensor], settings: LandscapeSettings, *, seed: int
) -> Iterator[dict[str, Any]]:
    """Yield a row of `COLUMNS` a point: the line between the ends, then around each its directions and its plane.

    On the line `a` is alpha and the small-batch end's `evaluate` counts. Random directions are filter-normalised, `a`
    and `b` from -reach to reach; both ends have the same draws, each normalised to its own weights. Eigenvectors have
    unit length, `a` from -radius to radius, so that the rises are what the ends of these profiles show.

    Args:
        ends: "small" and "large".
        vectors: eigenvectors (n, k) of each end.
        settings: how many points, how far.
        seed: of the draws.
    """
    small, large = ends["small"], ends["large"]
    for alpha in _grid(-1.0, 2.0, settings.alphas):
        yield _row("line", "", 0, between(small.evaluate, small.x, large.x, [alpha])[0], a=alpha)
    steps = _grid(-settings.reach, settings.reach, settings.points)
    near = _grid(-settings.radius, settings.radius, settings.points)
    side = _grid(-settings.reach, settings.reach, settings.plane_points)
    for name, end in ends.items():

        def drawn(*stream: str | int, end: End = end) -> Tensor:
            return random_direction(end.x, end.shapes, generator=seeds.generator(seed, "landscape", *stream))

        for index in range(settings.directions):
            for a, values in zip(steps, along(end.evaluate, end.x, drawn("random", index), steps), strict=True):
                yield _row("random", name, index, values, a=a)
        for index, vector in enumerate(vectors[name].T):
            for a, values in zip(near, along(end.evaluate, end.x, vector, near), strict=True):
                yield _row("eigenvector", name, index, values, a=a)
        directions = (drawn("plane", 0), drawn("plane", 1))
        for a in side:  # a line at a time, so that progress can be shown
            (line,) = plane(end.evaluate, end.x, directions, [a], side)
            for b, values in zip(side, line, strict=True):
                yield _row("plane", name, 0, values, a=a, b=b)


def _grid(first: float, last: float, points: int) -> list[float]:
    return [first + (last - first) * i / (points - 1) for i in range(points)]


def _row(kind: str, end: str, direction: int, values: Tensor, *, a: float, b: float | None = None) -> dict[str, Any]:
    return dict(zip(COLUMNS, (kind, end, direction, a, b, *values.tolist()), strict=True))


def measure_pair(*, small: Path, large: Path, data: Path, out: Path) -> None:
    """Measure two trained networks of a seed and write their record; it has no rows where one of them diverged.

    Args:
        small: .safetensors of the run at the small batch size.
        large: the same at the large one.
        data: .npz of the download stage.
        out: path of the record, without suffix.

    Raises:
        InputError: the files are not of one model, data set and seed, or a loss or its Hessian is not finite.
    """
    params, start = load_params(), Start.of("landscape")
    settings = params.section("landscape", LandscapeSettings)
    set_threads(settings.threads)
    device = pick_device()
    networks = {end: Network.read(params, path, data, device) for end, path in zip(ENDS, (small, large), strict=True)}
    record = header({end: network.header for end, network in networks.items()}, vars(settings))
    rows: list[dict[str, Any]] = []
    if record["status"] == "ok":
        norm = settings.batch_norm_statistics
        losses = {end: network.objectives(("train", "test"), settings, norm) for end, network in networks.items()}
        record["conditions"] = {split: loss.conditions() for split, loss in losses["large"].items()}
        try:
            rows = measure(losses, settings, seed=record["seed"], label=out.name)
        except (ValueError, RuntimeError) as error:
            raise InputError(f"{small}, {large}: {error}") from error
    write_cell(out, rows, record, start, device=describe_device(device), threads=settings.threads)


def measure(
    losses: Mapping[str, Mapping[str, Objective]], settings: LandscapeSettings, *, seed: int, label: str
) -> list[dict[str, Any]]:
    """Return the long rows of a record; says on the way how far it is.

    Args:
        losses: end -> split -> objective.
        settings: how many points, how far.
        seed: of the draws.
        label: names the progress bar.
    """
    ends, vectors, curved = {}, {}, {}
    for name, of in losses.items():
        both = partial(loss_and_error, of["train"], of["test"])
        ends[name] = End(of["train"].weights(), of["train"].shapes, of["train"], both)
        curved[name], vectors[name] = steepness(ends[name], settings, seed=seed)
        print(f"{label} {name}: largest eigenvalue {curved[name]['eigenvalues'][0]:.4g}", flush=True)
    distance = (ends["large"].x - ends["small"].x).norm().item()
    walked = progress(walk(ends, vectors, settings, seed=seed), label, settings.evaluations)
    task = next(iter(losses.values()))["train"].task
    return list(landscape_rows(list(walked), curved, distance, task.error_name))
