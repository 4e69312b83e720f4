"""A language model through the whole pipeline: the study lm_tiny, made so short that its numbers mean nothing."""

import json
from pathlib import Path

import pandas as pd
import pytest
from test_pipeline import ran, run, tracked_copy

SHORT = (
    "datasets=[sympy_source_n64]", "models=[gpt_tiny_w0.25]", "batch_sizes=[8,32]", "seeds=[3]", "epochs=1",
    "train.evaluation.history_images=16", "activations.probe_images=8", "sharpness.images=16",
    "sharpness.manifold_dimension=5", "curvature.images=16", "curvature.steps=4", "curvature.trace_probes=2",
    "noise_scale.epochs=1", "noise_scale.images=48",
    "measures=[evaluation,spectra,near_rank,effective_ranks,sharpness,curvature_radius,noise_scale]",
    "curvature_radius.states=[trained]", "curvature_radius.images=16", "curvature_radius.gradient_images=16",
    "curvature_radius.fewest_images=4", "curvature_radius.probes=3",
)  # fmt: skip


@pytest.mark.integration
def test_a_shortened_lm_tiny_runs_from_the_text_to_the_page(tmp_path: Path) -> None:
    folder = tracked_copy(tmp_path / "gapscope")
    run(folder, "gapscope", "compose", "study=lm_tiny", *SHORT)
    run(folder, "git", "add", "-A")
    run(folder, "git", "commit", "-qm", "code")
    assert ran(run(folder, "dvc", "repro"))[-1] == "report@lm_tiny"
    runs = pd.read_csv(folder / "metrics/lm_tiny/runs.csv")
    quantities = set(runs["quantity"])
    assert {"token_error_pct", "token_cross_entropy", "perplexity", "near_rank_excess", "radius"} <= quantities
    assert not {"error_pct", "cross_entropy"} & quantities
    record = json.loads((folder / "metrics/lm_tiny/train/gpt_tiny_w0.25-sympy_source_n64-b8-s3.json").read_text())
    data = json.loads((folder / "data/datasets/sympy_source_n64.json").read_text())
    assert record["baselines"]["bigram"]["token_cross_entropy"] == pytest.approx(data["bigram_cross_entropy"])
    page = (folder / "reports/lm_tiny.html").read_text()
    assert "cross-entropy per token" in page
    assert "on 64 sequences of source text of SymPy" in page
