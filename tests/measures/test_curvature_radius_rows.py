"""The rows of a network's curvature radii: frozen layers, dead units, zero weights; and the stage with its figures."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from dvc.utils.hydra import compose_and_dump
from scripts import run
from torch import nn

from gapscope import measures, models, seeds
from gapscope.config import load_params
from gapscope.data.images import Images
from gapscope.drawing import figure
from gapscope.errors import InputError
from gapscope.measures import evaluation
from gapscope.measures.curvature_radius import QUANTITIES, CurvatureRadiusSettings, measure
from gapscope.measures.curvature_radius_rows import from_fewest_to_most, over_tensors
from gapscope.measures.study import Study
from gapscope.records.long import read_long, write_long
from gapscope.records.tables import write_record
from gapscope.records.weights import write_weights

ROOT = Path(__file__).parents[2]
SETTINGS = CurvatureRadiusSettings(
    states=("initial", "trained"), images=20, gradient_images=None, fewest_images=4, method="exact", probes=10,
    damping=0.01, batch_norm_statistics="running", eval_batch=40, micro_batch=10, precision="float64", threads=1,
)  # fmt: skip
COUNT = 45


def images() -> Images:
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (COUNT, 1, 3, 3), generator=draw, dtype=torch.uint8)
    return Images(pixels, torch.randint(3, (COUNT,), generator=draw), torch.tensor([0.4]), torch.tensor([0.3]))


def network() -> nn.Sequential:
    with seeds.seeded(0, "test"):
        return nn.Sequential(nn.Flatten(), nn.Linear(9, 8), nn.ReLU(), nn.Linear(8, 3))


def rows(model: nn.Module, settings: CurvatureRadiusSettings = SETTINGS) -> pd.DataFrame:
    return pd.DataFrame(measure(model, images(), settings, seed=0)[1])


def value(table: pd.DataFrame, quantity: str, layer: str, estimate: str | None = None) -> float:
    here = table[(table["quantity"] == quantity) & (table["layer"] == layer)]
    return (here if estimate is None else here[here["estimate"] == estimate])["value"].item()


def test_each_tensor_has_its_rows_and_the_network_its_own() -> None:
    model = network()
    table = rows(model)
    names = [name for name, _ in model.named_parameters()]
    assert set(table["quantity"]) == set(QUANTITIES) - {"diagonal_error_pct"}
    assert list(table["layer"].dropna().unique()) == names
    assert set(table.loc[table["layer"].isna(), "kind"]) == {"all", "weights", "vectors"}
    assert set(table.loc[table["layer"] == "1.bias", "kind"]) == {"vectors"}
    by_n = table[table["quantity"] == "radius_by_n"]
    assert sorted(by_n.loc[by_n["estimate"] == "hessian", "images"].unique()) == [4, 8, 16, 20]
    assert sorted(by_n.loc[by_n["estimate"] == "eq17", "images"].unique()) == [4, 8, 16, 32, 44]  # batches of 4
    for name in names:
        at = by_n[(by_n["layer"] == name) & (by_n["estimate"] == "eq17")].set_index("images")["value"]
        assert value(table, "radius", name, "eq17") == at[44]
        assert value(table, "radius_growth", name, "eq17") == pytest.approx(at[44] / at[4], rel=1e-9)


def test_the_gradient_is_over_the_first_images_in_the_order_of_the_diagonal_s() -> None:
    model = network()
    at_20 = rows(model, replace(SETTINGS, gradient_images=20))
    order = torch.randperm(COUNT, generator=seeds.generator("objective", "subset"))[:20]
    double = network().double()
    inputs = images().inputs(order, torch.float64)
    nn.functional.cross_entropy(double(inputs), images().labels[order]).backward()
    ratio = (double[1].weight.norm() / double[1].weight.grad.norm()).item()
    assert value(at_20, "radius", "1.weight", "lars") == pytest.approx(ratio, rel=1e-9)


def test_a_frozen_layer_is_left_out_and_the_others_are_measured_as_before() -> None:
    frozen = network()
    frozen[1].requires_grad_(False)
    found, whole = rows(frozen), rows(network())
    assert {name for name in whole["layer"].dropna() if name not in set(found["layer"])} == {"1.weight", "1.bias"}
    of_others = whole[whole["layer"].isin(found["layer"].dropna())]
    of_layers = found[found["layer"].notna()]
    np.testing.assert_allclose(of_layers["value"], of_others["value"], rtol=1e-8)  # written to 10 digits


def test_micro_batches_do_not_matter() -> None:
    one, other = rows(network()), rows(network(), replace(SETTINGS, micro_batch=3))
    np.testing.assert_allclose(one["value"], other["value"], rtol=1e-8)  # written to 10 digits


def test_dead_units_are_left_out_and_counted() -> None:
    model = network()
    with torch.no_grad():
        model[1].bias[:6] = -1e3
    table = rows(model)
    assert value(table, "live_pct", "1.weight") == pytest.approx(100 * 2 / 8)
    assert value(table, "live_pct", "1.bias") == pytest.approx(100 * 2 / 8)
    assert value(table, "zero_gradient_pct", "1.bias") == pytest.approx(100 * 6 / 8)
    assert 0 < value(table, "radius", "1.weight", "hessian") < math.inf
    assert value(table, "radius", "1.weight", "eq20") < math.inf
    assert value(table, "radius", "1.weight", "eq20_signed") == math.inf  # as published: the median gradient is 0


def test_a_network_without_a_live_entry_has_rows_that_say_so() -> None:
    model = network()
    with torch.no_grad():
        model[1].bias[:] = -1e3
    table = rows(model)
    assert value(table, "live_pct", "1.weight") == 0
    assert "1.weight" not in set(table.loc[table["estimate"] == "hessian", "layer"])
    assert not table["value"].isna().any()


def test_zero_weights_have_radii_of_zero_by_the_paper_s_rule() -> None:
    model = network()
    with torch.no_grad():
        model[3].bias.zero_()
    table = rows(model)
    assert value(table, "radius", "3.bias", "eq17") == 0
    assert value(table, "radius", "3.bias", "hessian") > 0
    assert "3.bias" not in set(table.loc[table["estimate"] == "percent_delta", "layer"])


def test_a_smooth_network_says_how_sure_its_diagonal_is() -> None:
    model = network()
    model[2] = nn.Tanh()
    table = rows(model)
    assert (value(table, "is_gauss_newton", "1.weight"), value(table, "is_gauss_newton", "3.weight")) == (0, 1)
    assert value(table, "diagonal_error_pct", "1.weight") > 0


def test_a_network_that_is_not_a_number_is_refused() -> None:
    model = network()
    with torch.no_grad():
        model[1].weight[0, 0] = torch.nan
    with pytest.raises(ValueError, match="nan: no curvature there"):
        rows(model)


@pytest.mark.parametrize("many", [3, COUNT + 1])
def test_images_that_there_are_not_are_refused(many: int) -> None:
    with pytest.raises(InputError, match=rf"curvature_radius.gradient_images must be in 4..{COUNT}, got {many}"):
        rows(network(), replace(SETTINGS, gradient_images=many))


@pytest.mark.parametrize(
    "wrong",
    [
        {"states": ()}, {"states": ("last",)}, {"method": "dense"}, {"precision": "float16"}, {"probes": 1},
        {"damping": -1.0}, {"damping": math.nan}, {"micro_batch": 1}, {"fewest_images": 1}, {"eval_batch": 1},
    ],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"curvature_radius.{next(iter(wrong))} must"):
        replace(SETTINGS, **wrong)


# --- over images and over tensors, from made-up rows ---


def row(quantity: str, layer: str, value: float, estimate: str = "hessian", n: int | None = None) -> dict[str, Any]:
    kind = "vectors" if layer.endswith("bias") else "weights"
    return {"quantity": quantity, "layer": layer, "kind": kind, "estimate": estimate, "images": n, "value": value}


def test_growth_is_from_the_fewest_images_to_the_most() -> None:
    made = [row("distance_by_n", "a", value, "damped", n) for n, value in ((64, 8.0), (16, 2.0), (32, 5.0))]
    made.append(row("radius_by_n", "a", 3.0, "hessian", 16))  # at one number of images alone
    found = {of["quantity"]: of["value"] for of in from_fewest_to_most([*made, row("radius", "a", 1.0)])}
    assert found == {"distance": 8.0, "distance_growth": 4.0}


def test_tensors_are_ordered_and_spread_by_kind() -> None:
    radii = {"a.weight": (1.0, 10.0), "b.weight": (10.0, 30.0), "c.weight": (100.0, 20.0), "a.bias": (1e4, 5.0)}
    made = [row("radius", name, h) for name, (h, _) in radii.items()]
    made += [row("radius", name, ratio, "eq17") for name, (_, ratio) in radii.items()]
    found = {(of["quantity"], of["kind"], of["estimate"]): of["value"] for of in over_tensors(made)}
    assert found["radius_spread", "weights", "hessian"] == pytest.approx(100)
    assert found["radius_spread", "all", "hessian"] == pytest.approx(1e4)
    assert found["layer_rank_correlation", "weights", "eq17"] == pytest.approx(0.5)
    assert found["layer_rank_correlation", "all", "eq17"] == pytest.approx(-0.4)
    assert math.isnan(found["radius_spread", "vectors", "hessian"])


# --- the stage ---

TINY = [
    "study=quick", "measures=[evaluation,curvature_radius]", "models=[lenet5_w0.5]", "datasets=[digits]",
    "batch_sizes=[16,50]", "seeds=[0]", "curvature_radius.images=40", "curvature_radius.fewest_images=16",
    "curvature_radius.eval_batch=60",
]  # fmt: skip
SPEC = models.ModelSpec("lenet5_w0.5", (1, 24, 24), 10, batch_norm=True)
CELL = "lenet5_w0.5-digits-b{}-s0"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records of two cells, of which the second diverged, their tables and figures."""
    made = tmp_path_factory.mktemp("radius")
    compose_and_dump(str(made / "params.yaml"), str(ROOT / "conf"), None, "config", str(ROOT), TINY)
    (made / "conf").symlink_to(ROOT / "conf")
    draw = np.random.default_rng(0)
    x, y = draw.integers(0, 256, (120, 24, 24), np.uint8), draw.integers(0, 10, 120)
    np.savez(made / "digits.npz", x_train=x[:90], y_train=y[:90], x_test=x[90:], y_test=y[90:])
    final = dict.fromkeys(("train_error_pct", "test_error_pct", "train_cross_entropy", "penalty", "updates"), 1.0)
    with seeds.seeded(1, "initialisation"):
        trained = models.build(SPEC).state_dict()
    for size, status in ((16, "ok"), (50, "diverged")):
        about = {"status": status, "model": SPEC.to_header(), "dataset": "digits", "seed": 0, "batch_size": size}
        write_weights(made / f"{size}.safetensors", trained, {}, about | {"epochs": 1})
        place = f"metrics/quick/curvature_radius/{CELL.format(size)}"
        run(made, "curvature_radius", "--weights", f"{size}.safetensors", "--data", "digits.npz", "--out", place)
        record = made / f"metrics/quick/train/{CELL.format(size)}"
        write_long(Path(f"{record}.csv"), evaluation.rows([{"epoch": 1, "updates": 8}], final))
        write_record(Path(f"{record}.json"), about | {"device": "cpu (test)"})
    run(made, "tables", "--out", "metrics/quick")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made)
        figure.save(measures.figures("curvature_radius"), Study(load_params()), made / "plots/quick")
    return made


def test_the_record_has_both_states_and_says_of_which_images(folder: Path) -> None:
    place = folder / f"metrics/quick/curvature_radius/{CELL.format(16)}"
    table, record = read_long(place.with_name(f"{place.name}.csv")), json.loads(Path(f"{place}.json").read_text())
    assert list(table["state"].unique()) == ["initial", "trained"]
    assert record["conditions"]["diagonal"] == {"images": 40, "batch_norm": "running", "precision": "float64"}
    assert record["conditions"]["gradient"]["images"] == 80  # whole batches of 16
    radii = table[(table["quantity"] == "radius") & (table["estimate"] == "hessian")]
    initial, trained = (of.set_index("layer")["value"] for _, of in radii.groupby("state"))
    assert list(initial.index) == [name for name, _ in models.build(SPEC).named_parameters()]
    assert not np.isclose(initial, trained).any()


def test_the_study_s_table_has_all_but_what_only_a_figure_needs(folder: Path) -> None:
    runs = pd.read_csv(folder / "metrics/quick/runs.csv")
    own = runs[runs["quantity"].isin(QUANTITIES)]
    assert set(own["batch_size"]) == {16}
    assert set(own["quantity"]) == {name for name in QUANTITIES if not name.endswith("_by_n")} - {"diagonal_error_pct"}
    assert "images" not in runs


def test_every_figure_is_there_as_table_and_drawing(folder: Path) -> None:
    for name in ("curvature_radius", "radius_by_n", "radius_spread"):
        assert len(pd.read_csv(folder / f"plots/quick/{name}.csv"))
        assert (folder / f"plots/quick/{name}.svg").read_text().startswith("<svg")
