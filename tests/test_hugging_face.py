"""The adapters of the guides for models of Hugging Face: one in the pipeline, one for the library."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from dvc.utils.hydra import compose_and_dump
from scripts import ROOT, run

import gapscope

STEP, DIFFERENCES = 1e-6, 1e-5  # central differences in float64; relative, where initial weights are a few hundredths
STUDY = [
    "study=lm_tiny", "measures=[evaluation,spectra,near_rank,sharpness,curvature]", "datasets=[mine]",
    "+data.files.mine=mine.npz", "+data.lengths.mine=8", "models=[gpt2]", "code.model=gpt2.py",
    "+code.models.gpt2='gpt2:GPT2'", "batch_sizes=[4]", "batch_size=4", "seeds=[3]", "epochs=1",
    "activations.probe_images=4", "train.evaluation.history_images=8", "sharpness.images=8",
    "sharpness.manifold_dimension=3", "sharpness.restarts=1", "sharpness.converged_starts=0", "curvature.images=8",
    "curvature.steps=3", "curvature.trace_probes=2",
]  # fmt: skip


def adapters(page: str) -> str:
    """Return the page's block that imports transformers."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL)
    (found,) = [block for block in blocks if "from transformers import" in block]
    return found


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "gpt2.py").write_text(adapters("own_model.md"))
    tokens = np.frombuffer(b"to be or not to be, that is the question. " * 6, np.uint8)
    np.savez(tmp_path / "mine.npz", train=tokens[:-70], test=tokens[-70:])
    (tmp_path / "conf").symlink_to(ROOT / "conf")
    compose_and_dump(str(tmp_path / "params.yaml"), str(ROOT / "conf"), None, "config", str(ROOT), STUDY)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_a_study_trains_and_measures_one(folder: Path) -> None:
    run(folder, "download", "--dataset", "mine", "--out", "d/mine.npz")
    run(folder, "plan", "--found", "d/mine.json", "--out", "plan.txt")
    arguments = ["--batch-size", "4", "--seed", "0", "--weights", "w.safetensors", "--record", "r", "--checkpoint", "c"]
    run(folder, "train", "--model", "gpt2", "--data", "d/mine.npz", *arguments)
    assert json.loads((folder / "r.json").read_text())["status"] == "ok"
    for stage in ("sharpness", "curvature"):
        run(folder, stage, "--weights", "w.safetensors", "--data", "d/mine.npz", "--out", stage)
        assert pd.read_csv(folder / f"{stage}.csv")["value"].notna().all()
    table = pd.read_csv(folder / "curvature.csv").set_index("quantity")["value"]
    # per block 2 norms, attention and perceptron; one norm more; the tied embedding once
    classes = json.loads((folder / "d/mine.json").read_text())["classes"]
    block = 2 * 2 * 32 + (32 * 96 + 96) + (32 * 32 + 32) + (32 * 128 + 128) + (128 * 32 + 32)
    assert table["parameters"] == 2 * block + 2 * 32 + 32 * 8 + 32 * classes
    run(folder, "activations", "--weights", "w.safetensors", "--data", "d/mine.npz", "--out", "a")


def test_the_objective_of_one_is_its_own_loss_and_its_products_are_differences() -> None:
    found: dict[str, Any] = {"torch": torch, "gapscope": gapscope}
    torch.manual_seed(0)
    exec(compile(adapters("library.md").replace("print(", "str("), "docs", "exec"), found)
    objective, model, batch = found["of_tokens"], found["reader"], found["batch"]
    x = objective.weights()
    with torch.no_grad():
        own = model.double().eval()(**batch).loss
    assert float(objective(x)) == pytest.approx(float(own), rel=1e-6)  # its loss is in float32
    assert len(x) == sum(p.numel() for p in model.parameters())
    v = torch.randn(len(x), generator=torch.Generator().manual_seed(1), dtype=x.dtype)
    ends = [objective.value_and_gradient(x + step * v, with_gradient=True)[1] for step in (STEP, -STEP)]
    right = (ends[0] - ends[1]) / (2 * STEP)
    assert (objective.hvp(x, v) - right).norm() < DIFFERENCES * right.norm()
