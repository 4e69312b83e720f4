"""The stages landscape and landscape_report, on two LeNet-5 of half the width, trained for a moment on a few digits."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import oracles
import pandas as pd
import pytest
import torch
import yaml
from scripts import run
from sklearn.datasets import load_digits
from torch import Tensor, nn

from gapscope import models, seeds
from gapscope.config import load_params
from gapscope.data import datasets, images
from gapscope.drawing import figure
from gapscope.measures import landscape_figures
from gapscope.measures.landscape import FIGURES_OF
from gapscope.measures.study import Study
from gapscope.records.long import read_long
from gapscope.records.weights import read_weights, write_weights

ROOT = Path(__file__).parents[1]
DIRECT = 1e-9  # float64, sums in another order
# linear: ReLU and max pooling put kinks into the loss: no quadratic even 1e-5 from where its Hessian is taken
SPEC = models.ModelSpec("lenet5_w0.5", (1, 24, 24), 10, batch_norm=True, linear_units=True, average_pooling=True)
NAME = "lenet5_w0.5-digits-s3"
RECORDS = "metrics/quick/landscape"
TRAINED = {"small": (20, 30), "large": (100, 15)}  # batch size, updates
LANDSCAPE = {
    "small": 20, "large": 100, "alphas": 7, "images": None, "batch_norm_statistics": "batch", "micro_batch": 100,
    "precision": "float64", "reach": 0.5, "points": 3, "plane_points": 3, "directions": 2, "eigenvectors": 2,
    "radius": 1e-3, "threads": 1,
}  # fmt: skip


def network(dataset: datasets.Dataset, batch_size: int, updates: int) -> nn.Module:
    with seeds.seeded(3, "test"):
        model = models.build(SPEC)
        optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
        training = images.split_images(dataset, "train", "cpu")
        for _ in range(updates):
            batch = torch.randperm(len(training))[:batch_size]
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(training.inputs(batch)), training.labels[batch]).backward()
            optimizer.step()
    return model


def header(end: str, **changes: Any) -> dict[str, Any]:
    about = {"status": "ok", "model": SPEC.to_header(), "dataset": "digits", "batch_size": TRAINED[end][0]}
    return {**about, "epochs": 1, "seed": 3, **changes}


def arguments(folder: Path, out: str, **files: str) -> list[str]:
    named = {"small": "small.safetensors", "large": "large.safetensors"} | files
    return ["--small", named["small"], "--large", named["large"], "--data", "digits.npz", "--out", str(folder / out)]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with params, data, both weights, and the records that the stage made of them in a process of its own."""
    folder = tmp_path_factory.mktemp("landscape")
    shutil.copytree(ROOT / "conf", folder / "conf")
    shutil.copy(ROOT / "revisions.yaml", folder)
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params |= {"models": [SPEC.name], "datasets": ["digits"], "seeds": [3], "landscape": LANDSCAPE}
    params |= {"measures": ["evaluation", "landscape"]}
    params["train"] |= {"linear_units": True, "average_pooling": True}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    digits = load_digits()
    x, y = np.kron(digits.images[:200] * 15, np.ones((3, 3))).astype(np.uint8), digits.target[:200]
    np.savez(folder / "digits.npz", x_train=x[:100], y_train=y[:100], x_test=x[100:], y_test=y[100:])
    dataset = datasets.load(folder / "digits.npz")
    for end, (batch_size, updates) in TRAINED.items():
        state = network(dataset, batch_size, updates).state_dict()
        write_weights(folder / f"{end}.safetensors", state, {}, header(end))
        write_weights(folder / f"{end}-diverged.safetensors", state, {}, header(end, status="diverged"))
        write_weights(folder / f"{end}-seed4.safetensors", state, {}, header(end, seed=4))
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "GAPSCOPE_DEVICE": "cpu"}
    command = [sys.executable, str(ROOT / "stages/landscape.py"), *arguments(folder / RECORDS, NAME)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def read(folder: Path, name: str = NAME) -> tuple[dict[str, Any], pd.DataFrame]:
    return json.loads((folder / f"{name}.json").read_text()), read_long(folder / f"{name}.csv")


def points(table: pd.DataFrame) -> pd.DataFrame:
    """One row per point of the walk."""
    return landscape_figures._points(table, "line", "random", "eigenvector", "plane")


def of_end(table: pd.DataFrame, end: str, quantity: str, direction: str | None = None) -> list[float]:
    here = table[(table["end"] == end) & (table["quantity"] == quantity)]
    return (here if direction is None else here[here["direction"] == direction])["value"].tolist()


def plain(study: Path, alpha: float, *, batch_norm: str = "batch") -> list[float]:
    """The four figures at one place on the line, of a whole model whose batch norms are in training mode."""
    found: list[float] = []
    dataset = datasets.load(study / "digits.npz")
    ends = [models.build(SPEC).double() for _ in TRAINED]
    for end, model in zip(TRAINED, ends):
        model.load_state_dict(read_weights(study / f"{end}.safetensors")[0])
    model = ends[0].train(batch_norm == "batch")
    mixed: list[Tensor] = [
        (1 - alpha) * a.detach() + alpha * b.detach() for a, b in zip(*(m.parameters() for m in ends))
    ]
    for parameter, value in zip(model.parameters(), mixed):
        parameter.data = value
    for split in ("train", "test"):
        part = images.split_images(dataset, split, "cpu")
        with torch.no_grad():
            logits = model(part.inputs(slice(None), torch.float64)).numpy()
        error, entropy = oracles.error_and_cross_entropy(logits, part.labels.numpy(), 1)
        found += [entropy, error]
    return found


@pytest.mark.parametrize("alpha", [-1.0, 0.0, 0.5, 1.0])
def test_the_line_is_that_of_whole_models_with_the_batch_s_statistics(study: Path, alpha: float) -> None:
    rows = points(read(study / RECORDS)[1])
    line = rows[rows["kind"] == "line"].set_index("a")
    found = line.loc[alpha, list(FIGURES_OF)].tolist()
    assert found == pytest.approx(plain(study, alpha), rel=DIRECT)
    assert found != pytest.approx(plain(study, alpha, batch_norm="running"), rel=1e-3)
    assert found != pytest.approx(plain(study, 1 - alpha), rel=1e-3) or alpha == 0.5


def test_the_record_says_how_and_its_eigenvalues_are_the_curvature_of_the_rows(study: Path) -> None:
    record, table = read(study / RECORDS)
    rows = points(table)
    assert (record["status"], record["dataset"], record["seed"]) == ("ok", "digits", 3)
    assert record["model"]["name"] == SPEC.name
    assert record["batch_sizes"] == {"small": 20, "large": 100}
    how = {"images": 100, "batch_norm": "statistics of batches of 100", "precision": "float64"}
    assert record["conditions"] == {"train": how, "test": how}
    assert record["settings"] == LANDSCAPE
    assert record["device"].startswith("cpu")
    made = json.loads((study / f"provenance/quick/landscape/{NAME}.json").read_text())
    assert set(made) >= {"device", "commit", "revision", "processor", "instructions", "wall_s", "torch"}
    assert not {"commit", "wall_s", "provenance"} & set(record)
    steepest = {}
    for name in ("small", "large"):
        values, residuals = (of_end(table, name, part) for part in ("eigenvalue", "eigenvalue_residual"))
        assert max(residuals) < 0.01 * values[0]
        rises = {kind: of_end(table, name, "rise", kind) for kind in ("eigenvector", "random")}
        assert [len(rises["eigenvector"]), len(rises["random"])] == [2, 2]
        assert set(table.loc[table["quantity"] == "rise", "radius"]) == {1e-3}
        for index, value in enumerate(values):
            profile = rows[(rows["kind"] == "eigenvector") & (rows["end"] == name) & (rows["direction"] == index)]
            low, middle, high = profile["train_loss"]
            assert profile["a"].tolist() == [-1e-3, 0, 1e-3]
            assert rises["eigenvector"][index] == pytest.approx((low + high) / 2 - middle, rel=1e-4)
            # a quadratic, but for its fourth derivative
            assert rises["eigenvector"][index] == pytest.approx(1e-3**2 * value / 2, rel=1e-3)
        assert max(rises["random"]) < rises["eigenvector"][1] / 10
        steepest[name] = values[0]
    assert abs(steepest["small"] / steepest["large"] - 1) > 0.05  # else either end would pass for the other
    assert len(rows) == 7 + 2 * (4 * 3 + 9)


def test_a_diverged_end_is_recorded_without_rows(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(study, "landscape", *arguments(tmp_path, NAME, large="large-diverged.safetensors"))
    record, rows = read(tmp_path)
    assert record["status"] == "diverged"
    assert record["batch_sizes"] == {"small": 20, "large": 100}
    assert rows.empty


def test_ends_of_two_seeds_are_refused(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        run(study, "landscape", *arguments(tmp_path, NAME, large="large-seed4.safetensors"))
    assert stopped.value.code == 2
    assert "the seed of the small-batch run is 3, of the other 4" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("diverged", [False, True])
def test_the_report_writes_its_table_and_every_figure(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, diverged: bool
) -> None:
    copy = tmp_path / "study"
    shutil.copytree(study, copy)
    if diverged:
        run(copy, "landscape", *arguments(copy / RECORDS, NAME, small="small-diverged.safetensors"))
    run(copy, "landscape_report", "--out", "metrics/quick/landscape.csv")
    table = read_long(copy / "metrics/quick/landscape.csv")
    assert table.empty == diverged
    if not diverged:
        assert table["batch_size"].unique().tolist() == [20, 100]
    monkeypatch.chdir(copy)
    figure.save(landscape_figures.FIGURES, Study(load_params()), copy / "plots")
    for name in ("line", "directions", "plane", "rises"):
        assert (copy / f"plots/landscape_{name}.svg").read_text().startswith("<svg")
        assert pd.read_csv(copy / f"plots/landscape_{name}.csv").empty == diverged
