"""The long rows of one network's curvature radii: of each parameter tensor, and over its tensors."""

import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from gapscope.numerics.curvature_radius import (
    distances,
    live,
    median,
    radii,
    rank_correlation,
    spread,
    within_factor_pct,
)
from gapscope.training.hessian_diagonal import Diagonal
from gapscope.training.objective import Objective

Row = dict[str, Any]  # axes, quantity, value
FOLLOWED = ("eq17", "eq20", "lars")  # besides 1/h, the radii that are recorded against the number of images
COMPARED = ("eq17", "eq20", "lars", "percent_delta")  # with 1/h, over tensors


class Tensors:
    """The parameter tensors of one network at its weights, with the latest diagonal of the Hessian."""

    _diagonal: Diagonal
    _live: dict[str, Tensor]

    def __init__(self, loss: Objective, damping: float) -> None:
        self._damping = damping
        self._sizes = [shape.numel() for shape in loss.shapes]
        self._weights = dict(zip(loss.names, loss.weights().split(self._sizes), strict=True))
        shapes = zip(loss.names, loss.shapes, strict=True)
        self.kinds = {name: "weights" if len(shape) > 1 else "vectors" for name, shape in shapes}

    def of_diagonal(self, found: Diagonal) -> list[Row]:
        """Take a diagonal, and return the radii by it over its number of images."""
        self._diagonal, rows = found, list[Row]()
        self._live = {name: live(h, found.standard_errors.get(name)) for name, h in found.values.items()}
        for name, h in found.values.items():
            radius = median(h[self._live[name]].reciprocal())
            rows.append(self._row("radius_by_n", radius, name, "hessian", found.examples))
            rows.append(self._row("radius_by_n", float(1 / h.mean()), name, "hessian_mean", found.examples))
        return rows

    def of_gradient(self, gradient: Tensor, images: int) -> Iterator[Row]:
        """Yield radii and distances by the mean gradient (n,) over a number of images."""
        for name, g in self._split(gradient):
            found = self._radii(name, g)
            for of in FOLLOWED:
                yield self._row("radius_by_n", found[of], name, of, images)
            h, alive = self._diagonal.values[name], self._live[name]
            for of, value in distances(g, h, alive, self._damping).items():
                yield self._row("distance_by_n", value, name, of, images)

    def of_all_images(self, gradient: Tensor) -> Iterator[Row]:
        """Yield what is recorded of each tensor once, by the mean gradient (n,) over all images."""
        for name, g in self._split(gradient):
            for of, value in self._radii(name, g).items():
                yield self._row("radius", value, name, of)
            for of, value in self._correlations(name, g):
                yield self._row("rank_correlation", value, name, of)
            for quantity, value in self._shares(name, g).items():
                yield self._row(quantity, value, name)

    def _correlations(self, name: str, g: Tensor) -> Iterator[tuple[str, float]]:
        """Yield the rank correlation of 1/h with what might stand for it, over live entries."""
        alive = self._live[name]
        radius = self._diagonal.values[name][alive].reciprocal()
        beside = {"eq17": (self._weights[name] / g)[alive].abs(), "inverse_gradient": g[alive].abs().reciprocal()}
        if name in self._diagonal.fisher:
            beside["inverse_fisher"] = self._diagonal.fisher[name][alive].reciprocal()
        for of, values in beside.items():
            known = ~values.isnan()  # 0 / 0 has no rank
            yield of, rank_correlation(radius[known], values[known])

    def _shares(self, name: str, g: Tensor) -> dict[str, float]:
        h, alive = self._diagonal.values[name], self._live[name]
        errors = self._diagonal.standard_errors.get(name)
        ratio = (self._weights[name] / g).abs()[alive]
        return {
            "within_factor_2_pct": within_factor_pct(ratio, h[alive].reciprocal(), 2),
            "live_pct": 100 * float(alive.double().mean()),
            "zero_gradient_pct": 100 * float((g == 0).double().mean()),
            "diagonal_error_pct": math.nan if errors is None else 100 * median((errors / h.abs())[h != 0]),
            "is_gauss_newton": float(errors is None),
            "entries": float(len(h)),
        }

    def _radii(self, name: str, g: Tensor) -> dict[str, float]:
        return radii(self._weights[name], g, self._diagonal.values[name], self._live[name])

    def _split(self, gradient: Tensor) -> Iterator[tuple[str, Tensor]]:
        yield from zip(self._weights, gradient.split(self._sizes), strict=True)

    def _row(
        self, quantity: str, value: float, layer: str, estimate: str | None = None, images: int | None = None
    ) -> Row:
        axes = {"layer": layer, "kind": self.kinds[layer], "estimate": estimate, "images": images}
        return {**axes, "quantity": quantity, "value": value}


def from_fewest_to_most(rows: Iterable[Row]) -> Iterator[Row]:
    """Yield of rows against the number of images the distances at the most, and how radii and distances have grown."""
    series: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        if row["images"] is not None:
            series.setdefault((row["quantity"], row["layer"], row["estimate"]), []).append(row)
    for (quantity, _, _), of in series.items():
        first, last = min(of, key=_images), max(of, key=_images)
        whole, name = {**last, "images": None}, quantity.removesuffix("_by_n")
        if name == "distance":
            yield {**whole, "quantity": name}
        if len(of) > 1:
            growth = last["value"] / first["value"] if first["value"] else math.nan
            yield {**whole, "quantity": f"{name}_growth", "value": growth}


def _images(row: Row) -> int:
    return int(row["images"])


def over_tensors(rows: Iterable[Row]) -> Iterator[Row]:
    """Yield how far a network's radii lie apart, and how those in place of 1/h order its tensors; `radius` is read."""
    found = [row for row in rows if row["quantity"] == "radius"]
    for kind in ("all", "weights", "vectors"):
        radii: dict[str, list[float]] = {}  # by estimate, of each tensor
        for row in found:
            if kind in ("all", row["kind"]):
                radii.setdefault(row["estimate"], []).append(row["value"])
        for estimate, of in ((name, radii[name]) for name in ("hessian", *COMPARED) if name in radii):
            about = {"kind": kind, "estimate": estimate}
            for quantity, value in spread(of).items():
                yield {**about, "quantity": quantity, "value": value}
            if estimate in COMPARED:
                both = torch.tensor([radii["hessian"], of])
                value = rank_correlation(*both[:, ~both.isnan().any(0)])
                yield {**about, "quantity": "layer_rank_correlation", "value": value}
