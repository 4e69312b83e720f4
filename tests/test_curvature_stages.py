"""The stages curvature and noise_scale, and what reads their records, on LeNet-5 of half the width."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from dvc.utils.hydra import compose_and_dump
from scripts import run

from gapscope import measures, models, seeds
from gapscope.config import load_params
from gapscope.data import datasets
from gapscope.data.images import split_images
from gapscope.drawing import figure
from gapscope.measures import evaluation
from gapscope.measures.study import Study
from gapscope.records.long import read_long, write_long
from gapscope.records.tables import write_record
from gapscope.records.weights import write_weights
from gapscope.report import measure_tables
from gapscope.training.objective import Objective

ROOT = Path(__file__).parents[1]
TINY = [
    "study=quick", "measures=[evaluation,curvature,noise_scale]",
    "models=[lenet5_w0.5]", "datasets=[digits]", "batch_sizes=[16,50]", "seeds=[0]",
    "curvature.images=60", "curvature.micro_batch=60", "curvature.steps=4", "curvature.trace_probes=2",
    "curvature.precision=float64", "curvature.layers=[conv1,head]",
    "train.schedule.batch_schedule=[{epoch: 3, batch_size: 10, lr: null}]",
    "noise_scale.epochs=1", "noise_scale.batch_size=40", "noise_scale.images=120", "noise_scale.gradient_batch=30",
]  # fmt: skip
SPEC = models.ModelSpec("lenet5_w0.5", (1, 24, 24), 10, batch_norm=True)
CELL = "lenet5_w0.5-digits-b{}-s0"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Params, data and the weights of two cells, of which the second diverged; and what the stages made of them."""
    made = tmp_path_factory.mktemp("curvature")
    shutil.copy(ROOT / "revisions.yaml", made)
    shutil.copytree(ROOT / "conf", made / "conf")
    compose_and_dump(str(made / "params.yaml"), str(ROOT / "conf"), None, "config", str(ROOT), TINY)
    draw = np.random.default_rng(0)
    y = draw.integers(0, 10, 150)
    x = draw.integers(0, 100, (150, 24, 24), np.uint8) + (15 * y[:, None, None]).astype(np.uint8)
    np.savez(made / "digits.npz", x_train=x[:120], y_train=y[:120], x_test=x[120:], y_test=y[120:])
    for size, status in ((16, "ok"), (50, "diverged")):
        about = {"status": status, "model": SPEC.to_header(), "dataset": "digits", "seed": 0}
        about |= {"batch_size": size, "epochs": 1}
        write_weights(made / f"{size}.safetensors", network().state_dict(), {}, about)
        weights = ["--weights", f"{size}.safetensors", "--data", "digits.npz"]
        run(made, "curvature", *weights, "--out", f"metrics/quick/curvature/{CELL.format(size)}")
        final = {
            "train_error_pct": 1.0,
            "test_error_pct": 2.0,
            "train_cross_entropy": 0.5,
            "penalty": 0.0,
            "updates": 8,
        }
        trained = Path(f"metrics/quick/train/{CELL.format(size)}")
        write_long(made / f"{trained}.csv", evaluation.rows([{"epoch": 1, "updates": 8}], final))
        write_record(made / f"{trained}.json", about | {"device": "cpu (test)"})
    trained = ["--model", "lenet5_w0.5", "--data", "digits.npz", "--seed", "0"]
    run(made, "noise_scale", *trained, "--out", "metrics/quick/noise_scale/lenet5_w0.5-digits-s0")
    run(made, "noise_scale_report", "--out", "metrics/quick/noise_scale.csv")
    run(made, "tables", "--out", "metrics/quick")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made)
        for measure in ("curvature", "noise_scale"):
            figure.save(measures.figures(measure), Study(load_params()), made / "plots/quick")
    return made


def network() -> torch.nn.Module:
    with seeds.seeded(0, "initialisation"):
        return models.build(SPEC)


def record(folder: Path, size: int) -> dict[str, Any]:
    return json.loads((folder / f"metrics/quick/curvature/{CELL.format(size)}.json").read_text())


def test_the_record_says_of_which_loss_it_is(folder: Path) -> None:
    found = record(folder, 16)
    assert found["conditions"] == {"images": 60, "batch_norm": "running", "precision": "float64"}
    training = split_images(datasets.load(folder / "digits.npz"), "train", "cpu")
    objective = Objective.of_images(network(), training, 60, 60)
    x = objective.weights()
    _, gradient = objective.value_and_gradient(x, with_gradient=True)
    table = read_long(folder / f"metrics/quick/curvature/{CELL.format(16)}.csv")
    norm = table.loc[table["quantity"] == "gradient_norm", "value"].item()
    assert norm == pytest.approx(float(gradient.norm()), rel=1e-9)
    assert norm != pytest.approx(
        float(Objective.of_images(network(), training, 120, 60).value_and_gradient(x, with_gradient=True)[1].norm())
    )
    assert found["device"].startswith("cpu")
    for operator in ("hessian", "gauss_newton"):
        assert len(values(folder, 16, "nodes", operator)) == 4


def test_a_diverged_run_has_a_record_and_a_row_that_say_so(folder: Path) -> None:
    assert record(folder, 50)["status"] == "diverged"
    assert read_long(folder / f"metrics/quick/curvature/{CELL.format(50)}.csv").empty
    cells = pd.read_csv(folder / "metrics/quick/cells.csv")
    assert cells[["batch_size", "status"]].to_numpy().tolist() == [[16, "ok"], [50, "diverged"]]
    runs = pd.read_csv(folder / "metrics/quick/runs.csv")
    assert runs.loc[runs["quantity"] == "hessian_largest", "batch_size"].tolist() == [16]
    largest = runs.loc[runs["quantity"] == "hessian_largest", "value"].item()
    assert largest == pytest.approx(values(folder, 16, "nodes", "hessian")[-1], rel=1e-9)


def test_layers_have_rows_a_table_and_a_figure(folder: Path) -> None:
    table = read_long(folder / f"metrics/quick/curvature/{CELL.format(16)}.csv")
    of_layers = table[table["layer"].notna()]
    assert of_layers["layer"].drop_duplicates().tolist() == ["conv1", "head"]
    sizes = of_layers[of_layers["quantity"] == "layer_parameters"]["value"].tolist()
    assert sizes == [sum(p.numel() for p in network().get_submodule(name).parameters()) for name in ("conv1", "head")]
    runs = pd.read_csv(folder / "metrics/quick/runs.csv")
    for quantity in ("layer_hessian_largest", "layer_hessian_trace"):
        here = runs[runs["quantity"] == quantity].set_index("layer")["value"]
        recorded = of_layers[of_layers["quantity"] == quantity].set_index("layer")["value"]
        assert here.to_dict() == pytest.approx(recorded.to_dict(), rel=1e-9)
    cells = pd.read_csv(folder / "metrics/quick/cells.csv")
    (shown,) = [
        of
        for of in measure_tables.of_batch_sizes(read_long(folder / "metrics/quick/batch_sizes.csv", needed=()), cells)
        if of.caption.startswith("Curvature")
    ]
    labels = [row[0].text for row in shown.rows]
    assert [label.rpartition(", layer ")[2] for label in labels if ", layer " in label] == ["conv1", "head"] * 3
    assert set(pd.read_csv(folder / "plots/quick/layer_curvature.csv")["series"]) == {"conv1", "head"}


def test_the_noise_scale_is_measured_from_the_initial_weights_on(folder: Path) -> None:
    table = read_long(folder / "metrics/quick/noise_scale.csv")
    assert table.loc[table["quantity"] == "noise_scale", "epoch"].tolist() == [0, 1]
    assert table.loc[table["quantity"] == "batches", "value"].tolist() == [4, 4]
    header = json.loads((folder / "metrics/quick/noise_scale/lenet5_w0.5-digits-s0.json").read_text())
    assert (header["seed"], header["conditions"]["images"]) == (0, 120)


def test_every_figure_is_there_as_table_and_drawing(folder: Path) -> None:
    for name in ("curvature", "density", "layer_curvature", "noise_scale"):
        assert len(pd.read_csv(folder / f"plots/quick/{name}.csv"))
        assert (folder / f"plots/quick/{name}.svg").read_text().startswith("<svg")


def values(folder: Path, size: int, quantity: str, operator: str) -> list[float]:
    table = read_long(folder / f"metrics/quick/curvature/{CELL.format(size)}.csv")
    return table.loc[(table["quantity"] == quantity) & (table["operator"] == operator), "value"].tolist()
