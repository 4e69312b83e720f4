"""The loss around and between solutions: lines, planes, and how steep random directions are beside eigenvectors.

Here `evaluate` maps a flat vector (n,) to one or more numbers, e.g. `Objective.loss_and_error`; what it returns is kept
as it is, infinities too. Every function walks over fixed points: nothing is drawn but directions.

*Batch norm*: a path in weight space does not say what the running statistics are in between; those of either end are
wrong at the other. Give an Objective with `batch_norm_statistics="batch"`, which has no such state: statistics then
belong to the weights at every point. Keskar et al.'s published plotting code takes the batch's statistics too. (With
"running" the whole path has one model's statistics: right near that model, wrong for the line to another.)
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gapscope import seeds
from gapscope.errors import InputError
from gapscope.numerics.loss_surface.curvature import Loss, hessian_eigenvalues
from gapscope.numerics.loss_surface.sharpness import PRECISIONS

Evaluate = Callable[[Tensor], Tensor | float | Sequence[float]]

ALPHAS = tuple(-1 + i / 8 for i in range(25))  # Keskar et al. 2017, Figure 3: [-1, 2]; 25 points in their code
FIGURES = ("train_loss", "train_error_pct", "test_loss", "test_error_pct")
COLUMNS = ("kind", "end", "direction", "a", "b", *FIGURES)


@dataclass(frozen=True)
class LandscapeSettings:
    """Params of the landscape stage; `conf/config.yaml` says what each is."""

    small: int | None
    large: int | None
    alphas: int
    images: int | None
    batch_norm_statistics: str
    micro_batch: int
    precision: str
    reach: float
    points: int
    plane_points: int
    directions: int
    eigenvectors: int
    radius: float
    threads: int

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise InputError(f"landscape.precision must be {' or '.join(PRECISIONS)}, got {self.precision!r}")
        if self.alphas < 4 or self.alphas % 3 != 1:
            raise InputError(
                f"landscape.alphas must be 4, 7, 10, ..., so that 0 and 1 are among them; got {self.alphas}"
            )
        for name in ("points", "plane_points"):
            if (count := getattr(self, name)) < 3 or count % 2 == 0:
                raise InputError(f"landscape.{name} must be 3, 5, 7, ..., so that 0 is among them; got {count}")
        for name in ("micro_batch", "directions", "eigenvectors"):
            if getattr(self, name) < 1:
                raise InputError(f"landscape.{name} must be >= 1, got {getattr(self, name)}")
        for name in ("reach", "radius"):
            if not getattr(self, name) > 0:
                raise InputError(f"landscape.{name} must be > 0, got {getattr(self, name)}")

    @property
    def dtype(self) -> torch.dtype:
        """The precision as torch names it."""
        return PRECISIONS[self.precision]

    @property
    def evaluations(self) -> int:
        """How many rows `walk` yields."""
        around = (self.directions + self.eigenvectors) * self.points + self.plane_points**2
        return self.alphas + 2 * around


def between(evaluate: Evaluate, small: Tensor, large: Tensor, alphas: Sequence[float] = ALPHAS) -> Tensor:
    """Return the values at alpha large + (1 - alpha) small, Keskar et al. 2017, Figure 3: (points, numbers).

    Args:
        evaluate: flat vector (n,) -> numbers.
        small: the small-batch solution (n,), alpha = 0.
        large: the large-batch solution (n,), alpha = 1.
        alphas: places on the line.
    """
    return torch.stack([_values(evaluate, alpha * large + (1 - alpha) * small) for alpha in alphas])


def along(evaluate: Evaluate, x: Tensor, direction: Tensor, steps: Sequence[float]) -> Tensor:
    """Return the values at x + step direction: (points, numbers). The direction (n,) is taken as long as it is."""
    return torch.stack([_values(evaluate, x + step * direction) for step in steps])


def plane(
    evaluate: Evaluate, x: Tensor, directions: tuple[Tensor, Tensor], first: Sequence[float], second: Sequence[float]
) -> Tensor:
    """Return the values at x + a directions[0] + b directions[1], for contours: (a's, b's, numbers)."""
    return torch.stack([along(evaluate, x + a * directions[0], directions[1], second) for a in first])


def filter_normalised(direction: Tensor, x: Tensor, shapes: Sequence[torch.Size]) -> Tensor:
    """Return the direction with each filter scaled to the norm of that filter in x, Li et al. 2018, section 4.

    A filter is what makes one output channel (or unit): a row of a parameter's first axis. Parameters of one axis
    (biases, batch norm) get zero, as in the paper's published code; so do filters that are zero in x.

    Args:
        direction: (n,), usually N(0, 1).
        x: (n,).
        shapes: of the parameters, in the order in which x holds them: `Objective.shapes`.

    Raises:
        ValueError: the shapes do not make n entries.
    """
    sizes = [shape.numel() for shape in shapes]
    if not sum(sizes) == len(x) == len(direction):
        raise ValueError(f"shapes of {sum(sizes)} entries for {len(x)} weights and a direction of {len(direction)}")
    pieces = []
    for shape, drawn, weights in zip(shapes, direction.split(sizes), x.split(sizes), strict=True):
        if len(shape) < 2:
            pieces.append(torch.zeros_like(drawn))
            continue
        filters, target = drawn.view(shape[0], -1), weights.view(shape[0], -1).norm(dim=1, keepdim=True)
        # a filter of no length keeps it: 0 / 1
        length = filters.norm(dim=1, keepdim=True)
        pieces.append((filters * target / length.where(length > 0, 1)).reshape(-1))
    return torch.cat(pieces)


def random_direction(x: Tensor, shapes: Sequence[torch.Size] | None = None, *, generator: torch.Generator) -> Tensor:
    """Return a random direction (n,): filter-normalised where shapes are given, else of unit length."""
    drawn = torch.randn(len(x), generator=generator, dtype=torch.float64).to(x)
    return drawn / drawn.norm() if shapes is None else filter_normalised(drawn, x, shapes)


@dataclass(frozen=True)
class Rises:
    """How far the loss rises at distance `radius` from x, f(x +- radius v) - f(x), the mean of both signs.

    Attributes:
        radius: the distance, for every direction alike.
        eigenvectors: (k,), along each given vector.
        random: (directions,), along random directions of unit length.
    """

    radius: float
    eigenvectors: Tensor
    random: Tensor


def rises(
    loss: Callable[[Tensor], Tensor],
    x: Tensor,
    eigenvectors: Tensor,
    radius: float,
    *,
    directions: int,
    generator: torch.Generator,
) -> Rises:
    """Measure whether the loss is steep in a small subspace only, as Keskar et al. 2017 observed.

    They sampled a neighbourhood of sharp minimisers, found the loss hardly raised, and concluded that it rises steeply
    in a small subspace alone. For a quadratic the rise is radius^2 lambda / 2 along an eigenvector, and radius^2
    trace / (2 n) on average along a random direction. Both signs are averaged, so that a gradient at x cancels.

    Args:
        loss: flat vector (n,) -> scalar.
        x: (n,).
        eigenvectors: (n, k), e.g. of `hessian_eigenvalues`.
        radius: distance from x, > 0.
        directions: how many random ones.
        generator: CPU generator of them.

    Raises:
        ValueError: radius <= 0; eigenvectors that are not (n, k).
    """
    if not radius > 0:
        raise ValueError(f"radius must be > 0, got {radius}")
    if eigenvectors.ndim != 2 or len(eigenvectors) != len(x):
        raise ValueError(f"eigenvectors must be ({len(x)}, k), got {tuple(eigenvectors.shape)}")
    base = _values(loss, x)

    def rise(v: Tensor) -> Tensor:
        return (along(loss, x, v / v.norm(), (-radius, radius)).mean(dim=0) - base)[0]

    drawn = (random_direction(x, generator=generator) for _ in range(directions))
    return Rises(radius, torch.stack([rise(v) for v in eigenvectors.T]), torch.stack([rise(v) for v in drawn]))


@dataclass(frozen=True)
class End:
    """A solution, and what is measured around it.

    Attributes:
        x: its weights (n,).
        shapes: of the parameters, in the order in which x holds them.
        loss: flat vector (n,) -> training loss.
        evaluate: flat vector (n,) -> the numbers of `FIGURES`.
    """

    x: Tensor
    shapes: Sequence[torch.Size]
    loss: Loss
    evaluate: Evaluate


def loss_and_error(train: Any, test: Any, x: Tensor) -> tuple[float, ...]:
    """Return the numbers of `FIGURES` at x (n,), of two Objectives."""
    return (*train.loss_and_error(x), *test.loss_and_error(x))


def steepness(end: End, settings: LandscapeSettings, *, seed: int) -> tuple[dict[str, Any], Tensor]:
    """Return curvature and rises at one end, for its record, and its top eigenvectors (n, k).

    The random directions and the start of the eigenvalue solver are those of the seed, the same for both ends.
    """
    top = hessian_eigenvalues(
        end.loss, end.x, settings.eigenvectors, generator=seeds.generator(seed, "landscape", "eigenvalues")
    )
    draw = seeds.generator(seed, "landscape", "rises")
    found = rises(end.loss, end.x, top.vectors, settings.radius, directions=settings.directions, generator=draw)
    record = {
        "weight_norm": end.x.norm().item(),
        "eigenvalues": top.values.tolist(),
        "residuals": top.residuals.tolist(),
        "products": top.products,
        "rises": {
            "radius": found.radius,
            "eigenvectors": found.eigenvectors.tolist(),
            "random": found.random.tolist(),
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


def _values(evaluate: Evaluate, x: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.as_tensor(evaluate(x), dtype=torch.float64).detach().cpu().reshape(-1)
