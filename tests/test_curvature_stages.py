"""The stages curvature, noise_scale and curvature_report, by their scripts, on LeNet-5 of half the width."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from dvc.utils.hydra import compose_and_dump
from scripts import run

from gapscope import models, seeds
from gapscope.data import datasets
from gapscope.data.images import split_images
from gapscope.records.weights import write_weights
from gapscope.training.objective import Objective

ROOT = Path(__file__).parents[1]
TINY = [
    "study=quick", "models=[lenet5_w0.5]", "datasets=[digits]", "batch_sizes=[16,50]", "seeds=[0]",
    "curvature.images=60", "curvature.micro_batch=60", "curvature.steps=4", "curvature.trace_probes=2",
    "curvature.precision=float64", "train.batch_schedule=[{epoch: 3, batch_size: 10, lr: null}]",
    "noise_scale.epochs=1", "noise_scale.batch_size=40", "noise_scale.images=120", "noise_scale.gradient_batch=30",
]  # fmt: skip
SPEC = models.ModelSpec("lenet5_w0.5", (1, 24, 24), 10, batch_norm=True, linear=False)
CELL = "lenet5_w0.5-digits-b{}-s0"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Params, data and the weights of two cells, of which the second diverged; and what the stages made of them."""
    made = tmp_path_factory.mktemp("curvature")
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
        run(made, "curvature", *weights, "--out", f"metrics/quick/curvature/{CELL.format(size)}.json")
    trained = ["--model", "lenet5_w0.5", "--data", "digits.npz", "--seed", "0"]
    run(made, "noise_scale", *trained, "--out", "metrics/quick/noise_scale/lenet5_w0.5-digits-s0")
    run(made, "curvature_report", "--out", "metrics/quick", "--plots", "plots/quick")
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
    assert found["gradient_norm"] == pytest.approx(float(gradient.norm()), rel=1e-9)
    assert found["gradient_norm"] != pytest.approx(
        float(Objective.of_images(network(), training, 120, 60).value_and_gradient(x, with_gradient=True)[1].norm())
    )
    assert len(found["hessian"]["nodes"]) == len(found["gauss_newton"]["nodes"]) == 4
    assert found["device"].startswith("cpu")


def test_a_diverged_run_has_a_record_and_a_row_that_say_so(folder: Path) -> None:
    assert record(folder, 50)["status"] == "diverged"
    assert "hessian" not in record(folder, 50)
    table = pd.read_csv(folder / "metrics/quick/curvature.csv")
    assert table[["batch_size", "status"]].to_numpy().tolist() == [[16, "ok"], [50, "diverged"]]
    assert table["hessian_largest"].notna().tolist() == [True, False]


def test_the_noise_scale_is_measured_from_the_initial_weights_on(folder: Path) -> None:
    table = pd.read_csv(folder / "metrics/quick/noise_scale.csv")
    assert table["epoch"].tolist() == [0, 1]
    assert {"steps_ratio_b16", "examples_ratio_b50"} <= set(table.columns)
    assert table[["batches", "trained_at"]].to_numpy().tolist() == [[4, 40], [4, 40]]
    assert json.loads((folder / "metrics/quick/noise_scale/lenet5_w0.5-digits-s0.json").read_text())["seed"] == 0


def test_every_declared_output_is_there(folder: Path) -> None:
    stage = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["curvature_report"]
    for out in stage["outs"] + stage["plots"]:
        path = folder / next(iter(out)).replace("${item.study}", "quick")
        assert path.stat().st_size > 0
        assert path.suffix != ".png" or path.read_bytes().startswith(b"\x89PNG")
