"""A new measure with one quantity goes through the smoke study to table, page and claims, by touching few files."""

import json
from pathlib import Path

import pandas as pd
import pytest
from test_pipeline import edit, ran, run, tracked_copy

MODULE = '''"""Share of positive weights: a toy measure."""

from gapscope.measures.quantity import Quantity

RUNS_ON = "cell"
QUANTITIES = {"positive_pct": Quantity("positive weights", "%", (), None)}


def measure(model):
    """Return the share of positive weights, in per cent."""
    weights = [p.detach().reshape(-1) for p in model.parameters()]
    return 100 * sum(int((w > 0).sum()) for w in weights) / sum(len(w) for w in weights)
'''
SCRIPT = '''"""Stage sign_share: the share of positive weights."""

import argparse
import time
from pathlib import Path

from gapscope.config import load_params
from gapscope.runtime import describe_device, pick_device, run_stage


def main() -> None:
    """Run the stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()

    from gapscope.measures import sign_share
    from gapscope.measures.networks import Network
    from gapscope.records.cell import write_cell

    start = time.perf_counter()
    network = Network.read(load_params(), args.weights, args.data, pick_device())
    rows = [{"quantity": "positive_pct", "value": sign_share.measure(network.model)}] if network.model else []
    kind = describe_device(network.device)
    write_cell(args.out, rows, network.header, stage="sign_share", device=kind, threads=1, start=start)


if __name__ == "__main__":
    run_stage(main)
'''
CELL = "${item.model}-${item.dataset}-b${item.batch_size}-s${item.seed}"
STAGE = f"""  sign_share:
    matrix:
      study: ${{pipelines.sign_share}}
      model: ${{models}}
      dataset: ${{datasets}}
      batch_size: ${{batch_sizes}}
      seed: ${{seeds}}
    cmd: >-
      python stages/sign_share.py --weights "data/runs/${{item.study}}/train/{CELL}.safetensors"
      --data "data/datasets/${{item.dataset}}.npz" --out "metrics/${{item.study}}/sign_share/{CELL}"
    params: [{{checked.yaml: [names]}}, {{revisions.yaml: [sign_share.revision]}}]
    deps:
      - data/datasets/${{item.dataset}}.npz
      - data/runs/${{item.study}}/train/{CELL}.safetensors
    outs:
      - metrics/${{item.study}}/sign_share/{CELL}.csv: {{cache: false}}
      - metrics/${{item.study}}/sign_share/{CELL}.json: {{cache: false}}
      - provenance/${{item.study}}/sign_share/{CELL}.json: {{cache: false}}

  landscape:
"""
CLAIM = """
- name: positive_weights_rise
  statement: "The share of positive weights rises with batch size"
  source: "a toy"
  test: rises
  quantity: positive_pct
  unit: points
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with the measure, whose study takes it beside evaluation, and nothing else."""
    folder = tracked_copy(tmp_path_factory.mktemp("toy") / "gapscope")
    (folder / "src/gapscope/measures/sign_share.py").write_text(MODULE)
    (folder / "stages/sign_share.py").write_text(SCRIPT)
    edit(folder / "dvc.yaml", "  landscape:\n", STAGE)
    known = "      - metrics/${item.study}/${records.sharpness}\n"
    edit(folder / "dvc.yaml", known, f"{known}      - metrics/${{item.study}}/${{records.sign_share}}\n")
    edit(folder / "conf/config.yaml", "\npipelines:\n", '\npipelines:\n  sign_share: "${gapscope.asked:sign_share}"\n')
    measured = 'records:\n  sign_share: "${gapscope.measured:sign_share,sign_share}"\n'
    edit(folder / "conf/config.yaml", "records:\n", measured)
    with (folder / "revisions.yaml").open("a") as file:
        file.write("sign_share: {revision: 1, date: 2026-11-30, changed: first}\n")
    with (folder / "src/gapscope/papers/own/claims.yaml").open("a") as file:
        file.write(CLAIM)
    run(folder, "gapscope", "compose", "study=smoke", "measures=[evaluation,sign_share]")
    return folder


def test_it_reaches_table_page_and_claims_and_training_alone_is_a_study(study: Path) -> None:
    first = ran(run(study, "dvc", "repro"))
    assert sorted({name.partition("@")[0] for name in first} - {"check"}) == [
        "claims", "download", "plan", "plots", "report", "settings", "sign_share", "tables", "train",
    ]  # fmt: skip
    runs = pd.read_csv(study / "metrics/smoke/runs.csv")
    found = runs[runs["quantity"] == "positive_pct"]
    assert found["batch_size"].tolist() == [128, 1024]
    assert found["value"].between(0, 100).all()
    record = json.loads((study / "metrics/smoke/sign_share/lenet5-digits-b128-s0.json").read_text())
    assert (record["status"], record["model"]["name"]) == ("ok", "lenet5")
    page = (study / "reports/smoke.html").read_text()
    assert "positive weights (%)" in page
    assert f"{found['value'].iloc[0]:.4g}</td>" in page
    claims = pd.read_csv(study / "metrics/claims/smoke.csv").set_index("claim")
    assert claims.loc["positive_weights_rise", "quantity"] == "positive_pct"
    assert claims.loc["sharpness_rises", "verdict"] == "not testable"  # it was not measured


def test_a_measure_that_needs_another_is_refused_before_anything_runs(study: Path) -> None:
    run(study, "gapscope", "compose", "study=smoke", "measures=[evaluation,near_rank]")
    assert "near_rank needs spectra" in run(study, "dvc", "repro", fails=True)
    run(study, "gapscope", "compose", "study=smoke", "measures=[evaluation,sharpnes]")
    assert "did you mean 'sharpness'" in run(study, "dvc", "repro", fails=True)
