"""One logit for two classes, and several labels: shortened studies through the whole pipeline."""

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
    "gradient_law.epochs=[0,1]", "gradient_law.images=64", "gradient_law.gradient_batch=8",
)  # fmt: skip
OF_LABELS = {"label_error_pct", "label_cross_entropy", "exact_match_pct"}
OF_CLASSES = {"error_pct", "cross_entropy"}
MEASURES = (
    "measures=[evaluation,spectra,near_rank,effective_ranks,sharpness,curvature,curvature_radius,noise_scale,"
    "gradient_law,landscape]"
)
LANDSCAPE = (
    "landscape.small=8", "landscape.large=32", "landscape.images=32", "landscape.alphas=4", "landscape.points=3",
    "landscape.plane_points=3", "landscape.directions=2", "landscape.eigenvectors=2",
    "curvature_radius.images=16", "curvature_radius.gradient_images=32", "curvature_radius.fewest_images=4",
    "curvature_radius.probes=3",
)  # fmt: skip
STUDIES = {
    "one_logit": [
        "batch_sizes=[8,32]", "train.schedule.lr_start=0.05",
        MEASURES,
        *LANDSCAPE,
    ],
    "multilabel": [
        "datasets=[digits_segments_n128]", "models=[lenet5_w0.25]", "batch_sizes=[8,32]", "gradient_law.batch_size=32",
        MEASURES, *LANDSCAPE,
    ],
}  # fmt: skip


@pytest.mark.integration
@pytest.mark.parametrize("study", STUDIES)
def test_a_shortened_study_runs_from_the_data_to_the_page(study: str, tmp_path: Path) -> None:
    folder = tracked_copy(tmp_path / "gapscope")
    run(folder, "gapscope", "compose", f"study={study}", *SHORT, *STUDIES[study])
    run(folder, "git", "add", "-A")
    run(folder, "git", "commit", "-qm", "code")
    assert ran(run(folder, "dvc", "repro"))[-1] == f"report@{study}"
    check(folder, study)


def check(folder: Path, study: str) -> None:
    """Assert that a study that has run has its measures, tables and page."""
    quantities, others = (OF_LABELS, OF_CLASSES) if study == "multilabel" else (OF_CLASSES, OF_LABELS)
    runs = pd.read_csv(folder / f"metrics/{study}/runs.csv")
    measured = {
        "near_rank_excess",
        "sharpness_pct",
        "hessian_largest",
        "gauss_newton_trace",
        "ball_plain_rise",
        "radius",
    }
    assert quantities | measured <= set(runs["quantity"])
    assert not others & set(runs["quantity"])
    of_layers = runs[runs["quantity"] == "layer_hessian_largest"]
    assert "head" in set(of_layers["layer"])
    assert of_layers["layer"].nunique() > 2
    assert np.isfinite(of_layers["value"]).all()
    for path in (folder / f"metrics/{study}/train").glob("*.json"):
        assert 0 < next(iter(json.loads(path.read_text())["guessing"].values())) <= math.log(2)
    (law,) = (folder / f"metrics/{study}/gradient_law").glob("*.csv")
    tables = (folder / f"metrics/{table}.csv" for table in (f"{study}/noise_scale", f"claims/{study}", f"{study}/gap"))
    assert all(len(pd.read_csv(table)) > 0 for table in (law, *tables))
    assert "Curvature by layer" in (folder / f"reports/{study}.html").read_text()
