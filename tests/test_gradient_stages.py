"""The study gao_quick in a shortened form: its stages, from training to tables and figures, in this process."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from dvc.utils.hydra import compose_and_dump
from scripts import run

from gapscope import measures
from gapscope.config import load_params
from gapscope.drawing import figure
from gapscope.measures import gradient_law, loss_curves, strides
from gapscope.measures.study import Study
from gapscope.records.long import read_long

ROOT = Path(__file__).parents[1]
TINY = [
    "study=gao_quick", "models=[lenet5_w0.5]", "batch_sizes=[16,60]", "batch_size=16", "seeds=[0]", "epochs=10",
    "train.evaluation.history_images=50", "gradient_law.epochs=[0,1]", "gradient_law.gradient_batch=4",
    "gradient_law.discard_batch=100",
]  # fmt: skip
CELL = "lenet5_w0.5-digits-b{}-s0"
COMMON = ["--model", "lenet5_w0.5", "--data", "digits.npz", "--seed", "0"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("gao")
    shutil.copytree(ROOT / "conf", made / "conf")
    compose_and_dump(str(made / "params.yaml"), str(ROOT / "conf"), None, "config", str(ROOT), TINY)
    draw = np.random.default_rng(0)
    y = draw.integers(0, 10, 150)
    x = draw.integers(0, 100, (150, 24, 24), np.uint8) + (15 * y[:, None, None]).astype(np.uint8)
    np.savez(made / "digits.npz", x_train=x[:120], y_train=y[:120], x_test=x[120:], y_test=y[120:])
    for size in (16, 60):
        record = f"metrics/gao_quick/train/{CELL.format(size)}"
        files = ["--weights", "w.safetensors", "--record", record, "--checkpoint", "checkpoint"]
        run(made, "train", *COMMON, "--batch-size", f"{size}", *files)
    run(made, "gradient_law", *COMMON, "--out", "metrics/gao_quick/gradient_law/lenet5_w0.5-digits-s0")
    run(made, "tables", "--out", "metrics/gao_quick")
    return made


def test_every_quantity_is_in_a_record_and_those_of_runs_in_the_table(folder: Path) -> None:
    law = read_long(folder / "metrics/gao_quick/gradient_law/lenet5_w0.5-digits-s0.csv")
    assert set(law["quantity"]) == set(gradient_law.QUANTITIES)
    runs = read_long(folder / "metrics/gao_quick/runs.csv")
    for module in (strides, loss_curves):
        for quantity, about in module.QUANTITIES.items():
            of = runs[runs["quantity"] == quantity]
            assert set(of["batch_size"]) == {16, 60}
            assert of[[*about.axes]].notna().all().all()


def test_the_record_says_what_was_measured(folder: Path) -> None:
    found = json.loads((folder / "metrics/gao_quick/gradient_law/lenet5_w0.5-digits-s0.json").read_text())
    assert found["status"] == "ok"
    assert found["conditions"] == {"images": 120, "batch_norm": "none", "precision": "float32"}
    assert found["settings"]["epochs"] == [0, 1]
    made = json.loads((folder / "provenance/gao_quick/gradient_law/lenet5_w0.5-digits-s0.json").read_text())
    assert made["wall_s"] > 0


def test_without_momentum_the_first_stride_is_the_rate_times_the_gradient(folder: Path) -> None:
    """(mean |g|)^2 is at most the mean of g^2, and not far below it: Jensen, with the two recorded apart."""
    runs = read_long(folder / "metrics/gao_quick/runs.csv")
    first = runs[(runs["quantity"] == "first_epoch_stride_per_lr") & (runs["batch_size"] == 60)].set_index("layer")
    squares = runs[(runs["quantity"] == "first_epoch_loss_stride") & (runs["batch_size"] == 60)].set_index("layer")
    share = first["value"] ** 2 / squares["value"]
    assert (share <= 1 + 1e-5).all()  # float32: w - lr g is rounded
    assert (share > 0.01).all()  # an lr of 0.1 that is not divided out would make it 100 times smaller


def test_every_figure_is_there_as_table_and_drawing(folder: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for measure in ("gradient_law", "strides", "loss_curves"):
            figures = measures.figures(measure)
            figure.save(figures, Study(load_params()), folder / "plots")
            for one in figures:
                assert len(pd.read_csv(folder / f"plots/{one.name}.csv")) == len(one.table(Study(load_params()))) > 0
                assert (folder / f"plots/{one.name}.svg").read_text().startswith("<svg")
    assert len(pd.read_csv(folder / "plots/gradient_law.csv"))
    assert len(pd.read_csv(folder / "plots/loss_curves.csv"))
