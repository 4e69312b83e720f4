"""Curvature: the training loss at each run's weights, which operators, balls and precision, and the records of it.

Keskar et al. 2017 say that large-batch minimisers have "a significant number of large positive eigenvalues" in the
Hessian. Here these are counted, beside the Hessian's trace and density, the Gauss-Newton matrix and the rise of the
loss within a ball. All of them belong to one objective: its images, batch-norm mode and precision are in the record.

A layer's Hessian is a diagonal block of the whole one: the second derivatives in the layer's own parameters. Its
extreme eigenvalues and trace are measured for the layers that a study names, as in PyHessian (Yao et al. 2020).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Annotated, Any

from gapscope.config import AtLeastZero, Count, Threads, Within
from gapscope.errors import InputError
from gapscope.measures.quantity import Quantity
from gapscope.measures.sharpness import PRECISIONS

if TYPE_CHECKING:  # a page is drawn without torch
    import pandas as pd
    from torch import Generator, Tensor

    from gapscope.measures.networks import Network
    from gapscope.measures.study import Study
    from gapscope.numerics.loss_surface.hessian_products import Loss, Product
    from gapscope.training.objective import Objective

RUNS_ON = "cell"
OPERATORS = ("hessian", "gauss_newton")
BALLS = ("plain", "adaptive")
ENDS = (("largest", -1), ("smallest", 0))  # of a spectrum, and their places among ascending values
NAMES = {"hessian": "the Hessian", "gauss_newton": "the Gauss-Newton matrix"}
QUANTITIES = {
    **{
        quantity: Quantity(f"{label} {NAMES[operator]}", unit, axes, None)
        for operator in OPERATORS
        for quantity, label, unit, axes in (
            (f"{operator}_largest", "largest eigenvalue of", "", ()),
            (f"{operator}_largest_residual", "residual of the largest eigenvalue of", "", ()),
            (f"{operator}_smallest", "smallest eigenvalue of", "", ()),
            (f"{operator}_smallest_residual", "residual of the smallest eigenvalue of", "", ()),
            (f"{operator}_trace", "trace of", "", ()),
            (f"{operator}_trace_standard_error", "standard error of the trace of", "", ()),
            (f"{operator}_above_level", "large eigenvalues, at least, of", "eigenvalues", ("level",)),
        )
    },
    "layer_hessian_largest": Quantity("largest eigenvalue of the Hessian's block", "", ("layer",), None),
    "layer_hessian_largest_residual": Quantity("residual of a block's largest eigenvalue", "", ("layer",), None),
    "layer_hessian_smallest": Quantity("smallest eigenvalue of the Hessian's block", "", ("layer",), None),
    "layer_hessian_smallest_residual": Quantity("residual of a block's smallest eigenvalue", "", ("layer",), None),
    "layer_hessian_trace": Quantity("trace of the Hessian's block", "", ("layer",), None),
    "layer_hessian_trace_standard_error": Quantity("standard error of a block's trace", "", ("layer",), None),
    "layer_parameters": Quantity("parameters of a layer", "", ("layer",), None),
    "ball_plain_rise": Quantity("rise of the loss within an L2 ball (SAM)", "nats", ("radius",), "lower"),
    "ball_adaptive_rise": Quantity("rise of the loss within an adaptive ball (ASAM)", "nats", ("radius",), "lower"),
    "gradient_norm": Quantity("norm of the gradient", "", (), None),
    "parameters": Quantity("parameters", "", (), None),
}
SHOWN: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for operator in OPERATORS for name in (f"{operator}_largest", f"{operator}_trace")),
    *((f"{operator}_above_level", {}) for operator in OPERATORS),
    ("ball_plain_rise", {}),
    ("ball_adaptive_rise", {}),
    ("layer_hessian_largest", {}),
    ("layer_hessian_smallest", {}),
    ("layer_hessian_trace", {}),
]


@dataclass(frozen=True)
class CurvatureReportSettings:
    """Params of the count of large eigenvalues; `conf/config.yaml` says what each is."""

    level: AtLeastZero


@dataclass(frozen=True)
class CurvatureSettings:
    """Params of the curvature stage; `conf/config.yaml` says what each is."""

    images: Count | None
    batch_norm_statistics: str
    micro_batch: int
    precision: str
    trace_probes: Annotated[int, Within(2, 1_000_000)]
    steps: Annotated[int, Within(1, 10_000)]
    radius: float
    adaptive_radius: float
    layers: tuple[str, ...]
    threads: Threads

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise InputError(f"curvature.precision must be one of {', '.join(PRECISIONS)}, got {self.precision!r}")
        least = {"micro_batch": 1, "steps": 1, "trace_probes": 2}
        for name, value in least.items():
            if getattr(self, name) < value:
                raise InputError(f"curvature.{name} must be at least {value}, got {getattr(self, name)}")
        for name in ("radius", "adaptive_radius"):
            if not getattr(self, name) > 0:
                raise InputError(f"curvature.{name} must be > 0, got {getattr(self, name)}")


def of_network(network: "Network", settings: CurvatureSettings) -> tuple[Iterator[dict[str, Any]], dict[str, Any]]:
    """Return the long rows of a trained network's record, and the conditions of its loss.

    Raises:
        ValueError: as `measure`.
    """
    loss = network.objectives(["train"], settings, settings.batch_norm_statistics)["train"]
    found = measure(loss, loss.weights(), settings, seed=network.header["seed"])
    of_layers = layer_rows(loss, settings, seed=network.header["seed"])
    return chain(rows(found), of_layers), {"conditions": loss.conditions()}


def measure(loss: "Loss", x: "Tensor", settings: CurvatureSettings, *, seed: int) -> dict[str, Any]:
    """Return the record of a loss that has `hvp` and `gnvp`, at x (n,).

    Returns:
        `hessian` and `gauss_newton`: Lanczos's nodes (ascending; the outermost are extreme eigenvalues, each to about
        its residual) and weights, and the trace with its standard error. `ball`: the rise within an L2 ball and within
        the adaptive one. `gradient_norm` tells how far from stationary x is.

    Raises:
        ValueError: the loss is not finite, or not twice differentiable to finite numbers, at x.
    """
    import torch

    from gapscope import seeds
    from gapscope.numerics.loss_surface.hessian_products import gauss_newton, hessian
    from gapscope.numerics.loss_surface.sam_sharpness import ball_sharpness

    def draw(name: str) -> torch.Generator:
        return seeds.generator(seed, "curvature", name)

    record: dict[str, Any] = {}
    for name, operator in (("hessian", hessian), ("gauss_newton", gauss_newton)):
        record[name] = _spectrum(loss, x, operator, settings, draw)
    for name, radius, adaptive in (("plain", settings.radius, False), ("adaptive", settings.adaptive_radius, True)):
        found = ball_sharpness(loss, x, rho=radius, adaptive=adaptive, generator=draw("ball"))
        record.setdefault("ball", {})[name] = {"radius": radius, "rise": found.rise, "base": found.base}
    (gradient,) = torch.autograd.grad(loss(point := x.detach().clone().requires_grad_()), point)
    return record | {"gradient_norm": float(gradient.norm()), "weight_norm": float(x.norm()), "parameters": len(x)}


def _spectrum(
    loss: "Loss",
    x: "Tensor",
    operator: "Callable[[Loss, Tensor], Product]",
    settings: CurvatureSettings,
    draw: "Callable[[str], Generator]",
) -> dict[str, Any]:
    from gapscope.numerics.loss_surface.curvature import hessian_trace, spectral_density

    density = spectral_density(loss, x, operator=operator, steps=settings.steps, generator=draw("density"))
    trace = hessian_trace(loss, x, operator=operator, probes=settings.trace_probes, generator=draw("trace"))
    return {
        "nodes": density.nodes.tolist(),
        "weights": density.weights.tolist(),
        "residuals": density.residuals.tolist(),
        "trace": trace.value,
        "trace_standard_error": trace.standard_error,
    }


def layer_rows(loss: "Objective", settings: CurvatureSettings, *, seed: int) -> Iterator[dict[str, Any]]:
    """Yield the long rows of each layer that the settings name, at the model's own weights.

    Args:
        loss: of all trainable weights.
        settings: `layers`, and the steps and probes of each layer.
        seed: of starts and probes.

    Raises:
        InputError: an unknown layer.
        ValueError: as `measure`.
    """
    from gapscope import seeds
    from gapscope.models.layers import blocks
    from gapscope.numerics.loss_surface.hessian_products import hessian

    for layer, parameters in blocks(loss.model, settings.layers, "curvature.layers").items():
        of_layer = loss.of_parameters(parameters)
        x, draw = of_layer.weights(), partial(seeds.generator, seed, "curvature", layer)
        of = _spectrum(of_layer, x, hessian, settings, draw)
        for end, place in ENDS:
            yield {"layer": layer, "quantity": f"layer_hessian_{end}", "value": of["nodes"][place]}
            yield {"layer": layer, "quantity": f"layer_hessian_{end}_residual", "value": of["residuals"][place]}
        for part in ("trace", "trace_standard_error"):
            yield {"layer": layer, "quantity": f"layer_hessian_{part}", "value": of[part]}
        yield {"layer": layer, "quantity": "layer_parameters", "value": len(x)}


def rows(found: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the long rows of a record, from what `measure` returns."""
    for operator in OPERATORS:
        of = found[operator]
        for part in ("nodes", "weights", "residuals"):
            for index, value in enumerate(of[part]):
                yield {"operator": operator, "index": index, "quantity": part, "value": value}
        for part in ("trace", "trace_standard_error"):
            yield {"operator": operator, "quantity": part, "value": of[part]}
    for name, ball in found["ball"].items():
        for part in ("rise", "base"):
            yield {"radius": ball["radius"], "quantity": f"ball_{name}_{part}", "value": ball[part]}
    for name in ("gradient_norm", "weight_norm", "parameters"):
        yield {"quantity": name, "value": found[name]}


def run_rows(study: "Study") -> "pd.DataFrame":
    """Return each run's extreme eigenvalues, traces, counts and rises as long rows.

    `*_above_level`: at least so many eigenvalues lie above the level, because Lanczos's nodes interlace with them. It
    cannot exceed the number of steps, and eigenvalues that stand apart are found first.
    """
    import pandas as pd

    level = study.params.section("curvature_report", CurvatureReportSettings).level
    made: list[dict[str, Any]] = []
    for run, record, table in study.records("curvature"):
        if record["status"] == "ok":
            made += [{**run, **row} for row in _run_rows(table, level)]
    return pd.DataFrame(made)


def _run_rows(table: "pd.DataFrame", level: float) -> Iterator[dict[str, Any]]:
    for operator in OPERATORS:
        here = table[table["operator"] == operator]
        nodes, residuals = (here.loc[here["quantity"] == part, "value"] for part in ("nodes", "residuals"))
        for end, place in ENDS:
            yield {"quantity": f"{operator}_{end}", "value": nodes.iloc[place]}
            yield {"quantity": f"{operator}_{end}_residual", "value": residuals.iloc[place]}
        for part in ("trace", "trace_standard_error"):
            value = here.loc[here["quantity"] == part, "value"].iloc[0]
            yield {"quantity": f"{operator}_{part}", "value": value}
        count = int((nodes > level).sum())
        yield {"quantity": f"{operator}_above_level", "level": level, "value": count}
    kept = [*(f"ball_{name}_rise" for name in BALLS), "gradient_norm", "parameters"]
    for row in table[table["quantity"].isin(kept)].to_dict("records"):
        radius = row["radius"] if row["quantity"].startswith("ball") else None
        yield {"quantity": row["quantity"], "radius": radius, "value": row["value"]}
    if "layer" in table:
        for row in table[table["layer"].notna()].to_dict("records"):
            yield {name: row[name] for name in ("layer", "quantity", "value")}
