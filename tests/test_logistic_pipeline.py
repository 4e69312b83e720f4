"""One logit for two classes, and several labels, through the whole pipeline: studies so short that they mean nothing."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_pipeline import ran, run, tracked_copy

SHORT = (
    "seeds=[0]", "epochs=1", "controls.seeds=[0]", "train.evaluation.history_images=40", "activations.probe_images=16",
    "sharpness.images=32", "sharpness.manifold_dimension=5", "curvature.images=32", "curvature.steps=4",
    "curvature.trace_probes=2", "noise_scale.epochs=1", "noise_scale.images=64", "noise_scale.gradient_batch=8",
    "gradient_law.epochs=[0,1]", "gradient_law.images=64",
)  # fmt: skip
OF_LABELS = {"label_error_pct", "label_cross_entropy", "exact_match_pct"}
OF_CLASSES = {"error_pct", "cross_entropy"}
STUDIES = {  # study -> what makes it short, its model, its data set, its quantities, those of the other task, its layers
    "one_logit": (["batch_sizes=[8,32]"], "mlp", "breast_cancer", OF_CLASSES, OF_LABELS, ["hidden1", "hidden2", "head"]),
    "multilabel": (
        ["datasets=[digits_segments_n128]", "models=[lenet5_w0.25]", "batch_sizes=[32,64]", "gradient_law.batch_size=32"],
        "lenet5_w0.25", "digits_segments_n128", OF_LABELS, OF_CLASSES, ["conv1", "head"],
    ),
}  # fmt: skip


@pytest.mark.integration
@pytest.mark.parametrize("study", STUDIES)
def test_a_shortened_study_runs_from_the_data_to_the_page(study: str, tmp_path: Path) -> None:
    short, model, dataset, quantities, others, layers = STUDIES[study]
    folder = tracked_copy(tmp_path / "gapscope")
    run(folder, "gapscope", "compose", f"study={study}", *SHORT, *short)
    run(folder, "git", "add", "-A")
    run(folder, "git", "commit", "-qm", "code")
    assert ran(run(folder, "dvc", "repro"))[-1] == f"report@{study}"
    runs = pd.read_csv(folder / f"metrics/{study}/runs.csv")
    measured = {"near_rank_excess", "sharpness_pct", "hessian_largest", "gauss_newton_trace", "ball_plain_rise"}
    assert quantities | measured <= set(runs["quantity"])
    assert not others & set(runs["quantity"])
    found = runs[runs["quantity"] == "layer_hessian_largest"]
    assert set(layers) <= set(found["layer"])
    assert np.isfinite(found["value"]).all()
    record = json.loads((folder / f"metrics/{study}/train/{model}-{dataset}-b{short_size(study)}-s0.json").read_text())
    assert 0 < next(iter(record["guessing"].values())) <= math.log(2)
    for name in ("noise_scale.csv", "gradient_law.csv", "claims.csv", "batch_sizes.csv"):
        place = "metrics/claims" if name == "claims.csv" else f"metrics/{study}"
        table = pd.read_csv(folder / place / (f"{study}.csv" if name == "claims.csv" else name))
        assert len(table) > 0, name
    page = (folder / f"reports/{study}.html").read_text()
    assert "Curvature by layer" in page


def short_size(study: str) -> int:
    return {"one_logit": 8, "multilabel": 32}[study]
