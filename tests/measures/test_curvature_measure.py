"""A network's curvature record, against dense matrices."""

from dataclasses import dataclass

import numpy as np
import oracles
import pytest
import torch
from torch import Tensor, nn

from gapscope import seeds
from gapscope.data.datasets import Dataset
from gapscope.data.images import split_images
from gapscope.errors import InputError
from gapscope.measures.curvature import CurvatureSettings, layer_rows, measure, of_network
from gapscope.measures.networks import Network
from gapscope.tasks.classification import CLASSIFICATION
from gapscope.training.objective import Objective

SETTINGS = {
    "images": None, "batch_norm_statistics": "running", "micro_batch": 20, "precision": "float64",
    "trace_probes": 100, "steps": 60, "radius": 0.05, "adaptive_radius": 0.5, "layers": (),
    "threads": 1,
}  # fmt: skip
STANDARD_ERRORS = 4  # of an estimate at a fixed seed


@dataclass(frozen=True)
class Vectors:
    """Examples that are float64 as they are."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def inputs(self, index: slice, *_: object) -> Tensor:
        return self.images[index]


@pytest.fixture(scope="module")
def objective() -> Objective:
    with seeds.seeded(0, "test"):
        model = nn.Sequential(nn.Flatten(), nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3)).double()
        images = torch.randn(20, 1, 2, 3, dtype=torch.float64)
        labels = torch.randint(3, (20,))
    return Objective(model, Vectors(images, labels), micro_batch=20)


@pytest.fixture(scope="module")
def dense(objective: Objective) -> dict[str, np.ndarray]:
    x = objective.weights()
    products = {"hessian": objective.hvp, "gauss_newton": objective.gnvp}
    rows = {
        name: torch.stack([product(x, v) for v in torch.eye(len(x), dtype=x.dtype)])
        for name, product in products.items()
    }
    return {name: np.linalg.eigvalsh(matrix.numpy()) for name, matrix in rows.items()}


def test_the_record_is_that_of_the_dense_matrices(objective: Objective, dense: dict[str, np.ndarray]) -> None:
    x = objective.weights()
    record = measure(objective, x, CurvatureSettings(**SETTINGS), seed=0)
    for name, values in dense.items():
        found = record[name]
        np.testing.assert_allclose([found["nodes"][0], found["nodes"][-1]], values[[0, -1]], atol=1e-9)
        assert max(found["residuals"][0], found["residuals"][-1]) < 1e-9
        assert abs(found["trace"] - values.sum()) < STANDARD_ERRORS * found["trace_standard_error"]
    assert record["hessian"]["nodes"] != record["gauss_newton"]["nodes"]
    assert record["parameters"] == len(x) == 43
    assert record["weight_norm"] == pytest.approx(float(x.norm()))
    assert record["ball"]["plain"]["rise"] > 0.05 * record["gradient_norm"]  # at least what the gradient gives


def test_few_steps_bound_the_count_from_below_and_say_how_sure_each_value_is(
    objective: Objective, dense: dict[str, np.ndarray]
) -> None:
    record = measure(
        objective, objective.weights(), CurvatureSettings(**{**SETTINGS, "steps": 5, "trace_probes": 2}), seed=0
    )
    for name, values in dense.items():
        nodes, residuals = np.array(record[name]["nodes"]), np.array(record[name]["residuals"])
        assert len(nodes) == 5
        for level in values:  # nodes interlace with eigenvalues
            assert (nodes > level + 1e-9).sum() <= (values > level).sum()
        nearest = np.abs(values[:, None] - nodes).min(axis=0)
        assert (nearest <= residuals * (1 + 1e-9)).all()
        assert (nearest > 1e-3 * residuals).any()  # and not by a bound that says nothing


@pytest.mark.parametrize("variant", ["right", "another layer", "all weights"])
def test_a_layer_s_values_are_those_of_its_block_of_the_dense_hessian(variant: str) -> None:
    draw = np.random.default_rng(0)
    x, y = draw.integers(0, 256, (30, 1, 2, 3), np.uint8), draw.integers(0, 3, 30)
    with seeds.seeded(0, "test"):
        model = nn.Sequential(nn.Flatten(), nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    network = Network({"seed": 0}, model, Dataset("some", 3, x[:20], y[:20], x[20:], y[20:]), CLASSIFICATION, "cpu")
    settings = CurvatureSettings(**{**SETTINGS, "layers": ("1", "3"), "micro_batch": 7})
    rows = [row for row in of_network(network, settings)[0] if "layer" in row]
    assert len(rows) == 2 * 7
    images = split_images(network.dataset, "train", "cpu")
    dense = oracles.dense_hessian(model, images.inputs(slice(None), torch.float64), images.labels).numpy()
    first, second = slice(0, 28), slice(28, 43)
    for layer, own, other in (("1", first, second), ("3", second, first)):
        at = {"right": own, "another layer": other, "all weights": slice(None)}[variant]
        block = dense[at, at]
        known = np.linalg.eigvalsh(block)
        found = {row["quantity"]: row["value"] for row in rows if row["layer"] == layer}
        ends = [found[f"layer_hessian_{end}"] for end in ("smallest", "largest")]
        assert np.allclose(ends, known[[0, -1]], rtol=0, atol=1e-9) == (variant == "right")
        off = abs(found["layer_hessian_trace"] - block.trace()) / found["layer_hessian_trace_standard_error"]
        assert (off < STANDARD_ERRORS) == (variant == "right")
        assert (found["layer_parameters"] == len(block)) == (variant == "right")


def test_a_layer_that_is_not_used_has_no_curvature(objective: Objective) -> None:
    model = nn.Sequential(*objective.model, nn.Linear(3, 2))
    model.forward = objective.model.forward
    settings = CurvatureSettings(**{**SETTINGS, "layers": ("4",)})
    loss = Objective(model, objective.examples, micro_batch=20)
    found = {row["quantity"]: row["value"] for row in layer_rows(loss, settings, seed=0)}
    assert found.pop("layer_parameters") == 8
    assert set(found.values()) == {0}


@pytest.mark.parametrize(
    "wrong", [{"steps": 0}, {"trace_probes": 1}, {"micro_batch": 0}, {"radius": 0.0}, {"precision": "float16"}]
)
def test_settings_that_cannot_be_raise(wrong: dict) -> None:
    with pytest.raises(InputError, match=f"curvature.{next(iter(wrong))}"):
        CurvatureSettings(**{**SETTINGS, **wrong})


def test_a_loss_that_is_not_finite_raises(objective: Objective) -> None:
    bad: Tensor = torch.full_like(objective.weights(), torch.nan)
    with pytest.raises(ValueError, match="not finite"):
        measure(objective, bad, CurvatureSettings(**SETTINGS), seed=0)
