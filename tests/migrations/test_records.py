"""Records of version 0.1 in their new form: every value is there, and one that is not is found."""

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
RUNS = "epoch,updates,lr,penalty,train_error_pct_running,test_cross_entropy_running,weight_norm,wall_s\n"
HISTORY = (
    f"{RUNS}1,90,0.07536103991,0.06469356376,2.8,0.1194632091,22.24728396,0.44\n2,180,0.025,0.065,0.6,inf,22.37,0.86\n"
)
MADE = {"device": "cpu (x86_64)", "threads": 1, "wall_s": 1.5}
TRAINED = {
    "schema": 1, "status": "ok", "model": {"name": "lenet5"}, "lr_sweep": [], "updates": 180, "epochs_run": 2,
    "test_cross_entropy": None, "train_error_pct": 0.20876826722338204, "wall_s": 1.25, "provenance": MADE,
}  # fmt: skip
SHARP = [
    {"split": "train", "space": space, "epsilon": 1e-3, "sharpness": 24.53464403514778, "base": 0.01, "largest": 0.25}
    | {"evaluations": 13, "iterations": 10, "converged": space == "full", "start": -1}
    for space in ("full", "random100")
]
START = "start_epoch,small_test_error_pct,small_sharpness_test_full_0.0005_pct,large_test_error_pct,status\n"
WALK = "kind,end,direction,a,b,train_loss,train_error_pct,test_loss,test_error_pct\nline,,0,-1,,0.007,0.2,0.12,2.15\n"
ENDS = {
    end: {"weight_norm": 7.5, "eigenvalues": [2.5, 1.0], "residuals": [1e-6, 2e-6], "products": 9}
    | {"rises": {"radius": 0.5, "eigenvectors": [0.3, 0.2], "random": [1e-7]}}
    for end in ("small", "large")
}
DENSITY = {"nodes": [-1.0, 2.0], "weights": [0.25, 0.75], "residuals": [0.5, 1e-6], "trace": 4.5}
DENSITY |= {"trace_standard_error": 0.1}
BALL = {"plain": {"radius": 0.05, "rise": 1e-3, "base": 0.1}, "adaptive": {"radius": 0.5, "rise": 2e-3, "base": 0.1}}
NOISE = "epoch,loss,noise_scale,low,high,trace,squared_gradient,batches,gradient_batch,images,batch_norm,precision\n"
OLD: dict[str, dict[str, str]] = {
    "train": {".csv": HISTORY, ".json": json.dumps(TRAINED)},
    "sharpness": {".json": json.dumps({"status": "ok", "sharpness": SHARP, "provenance": MADE})},
    "curvature": {
        ".json": json.dumps(
            {"status": "ok", "hessian": DENSITY, "gauss_newton": DENSITY, "ball": BALL, "gradient_norm": 0.5}
            | {"weight_norm": 3.5, "parameters": 9, "provenance": MADE}
        )
    },
    "noise_scale": {
        ".csv": f"{NOISE}0,2.3,501.6,489.2,inf,4156.7,8.28,156,64,10000,statistics of batches of 64,float32\n",
        ".json": json.dumps({"status": "ok", "provenance": MADE}),
    },
    "landscape": {".csv": WALK, ".json": json.dumps({"status": "ok", "ends": ENDS, "distance": 1.5})},
    "warmstart": {
        ".csv": f"{START}0,89.64,2644.639596,4.37,ok\n20,5.2,47.0,,large diverged\n",
        ".json": json.dumps({"seed": 0, "settings": {"small": 25}, "provenance": MADE}),
    },
    "random_matrices": {
        ".csv": "m,n,repetition,sigma_min,sigma_max\n1000,10,0,29.07941501,34.17464184\n",
        ".histogram.csv": "m,n,repetitions,low,high,count,expected\n1000,10,100,26.87,27.66,1,2.45176692e-21\n",
        ".json": json.dumps({"law": "gaussian", "cpu_s": 3.5, "provenance": MADE}),
    },
    "perturbation": {
        ".csv": "units,samples,repetition,estimate,smallest,worst_estimate,worst_smallest,bound,tight\n"
        "60,10,0,0.97,1.019195622e-07,0.975,1.9e-07,1.38e-06,1.96e-06\n"
    },
}


@pytest.fixture(scope="module")
def records() -> ModuleType:
    """The script: migrations/ is no package, and its files have common names."""
    spec = importlib.util.spec_from_file_location("migrated_records", ROOT / "migrations/records.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def old(stage: str) -> dict[str, bytes]:
    return {suffix: text.encode() for suffix, text in OLD[stage].items()}


def test_every_stage_is_tried(records: ModuleType) -> None:
    assert set(OLD) == set(records.STAGES)


@pytest.mark.parametrize("stage", OLD)
def test_every_value_is_in_the_new_files(records: ModuleType, stage: str) -> None:
    new = records.convert(stage, old(stage))
    assert set(new) == {".csv"} if stage == "perturbation" else set(new) == {".csv", ".json"}
    assert records.differences(stage, old(stage), new) == []
    head = new[".csv"].decode().splitlines()[0].split(",")
    assert {"quantity", "value"} <= set(head)
    if ".json" in new and "provenance" in json.loads(OLD[stage][".json"]):
        assert json.loads(new[".json"])["device"] == "cpu (x86_64)"


CHANGES: dict[str, Callable[[str], str]] = {
    "a digit": lambda text: text.replace("5", "6", 1) if "5" in text else text.replace("9", "8", 1),
    "a row lost": lambda text: text.rstrip("\n").rpartition("\n")[0] + "\n",
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("stage", OLD)
def test_a_value_that_is_changed_or_lost_is_found(records: ModuleType, stage: str, change: str) -> None:
    new = records.convert(stage, old(stage))
    head, _, body = new[".csv"].decode().partition("\n")
    changed = CHANGES[change](body)
    assert changed != body
    try:
        found = records.differences(stage, old(stage), new | {".csv": f"{head}\n{changed}".encode()})
    except KeyError:  # an axis that no old column has
        found = ["unknown axis"]
    assert found


def test_files_of_other_stages_stay_as_they_are(records: ModuleType) -> None:
    assert records.convert("spectra", {".jsonl": b"{}\n"}) == {".jsonl": b"{}\n"}


def test_without_provenance_nothing_is_added(records: ModuleType) -> None:
    record = {name: value for name, value in TRAINED.items() if name not in ("provenance", "wall_s")}
    history = "\n".join(line.rpartition(",")[0] for line in HISTORY.splitlines()) + "\n"
    new = records.convert("train", {".csv": history.encode(), ".json": json.dumps(record).encode()})
    assert set(json.loads(new[".json"])) == {"schema", "status", "model", "lr_sweep"}
