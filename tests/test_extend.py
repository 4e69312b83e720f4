"""The sections of docs/extend.md on networks, optimisers, tasks and observers, followed in a copy of the repository."""

import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest
from extend_page import blocks, changed, commands, examples, follow, sections
from test_pipeline import ROOT, ran, run, tracked_copy

SECTIONS = {  # name -> files touched
    "A network": [
        "src/gapscope/models/one_hidden.py", "src/gapscope/models/__init__.py", "tests/test_models.py",
        "docs/networks.md",
    ],
    "An optimiser": [
        "conf/study/smoke_adamw.yaml", "src/gapscope/optim/signum.py", "src/gapscope/optim/optimizers.py",
        "tests/optim/test_signum.py",
    ],
    "A task": ["examples/square_loss.py"],
    "An observer": ["examples/gradient_norm.py"],
}  # fmt: skip
NETWORK = """
from gapscope.models import ModelSpec, build, unit_layers
for name, units in (("one_hidden", 100), ("one_hidden_w2", 200)):
    model = build(ModelSpec(name, (1, 28, 28), 10, batch_norm=True))
    assert list(unit_layers(model)) == ["fc1"]
    assert model.head.in_features == units
"""
RUN = """
import runs
import torch
whole = runs.run(model := runs.network(0.0), **CHANGES)
again = runs.run(other := runs.network(0.0), **CHANGES)
assert whole.status == "ok"
assert all(map(torch.equal, model.parameters(), other.parameters()))
"""
OBSERVED = """
import torch
plain = runs.network(0.0)
runs.run(plain)
assert all(map(torch.equal, model.parameters(), plain.parameters()))
assert [row["epoch"] for row in whole.observed] == list(range(1, runs.EPOCHS + 1))
assert {row["quantity"] for row in whole.observed} == {"gradient_norm"}
assert all(row["value"] > 0 for row in whole.observed)
"""


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository in which all of these sections have been followed: they do not stand in each other's way."""
    folder = tracked_copy(tmp_path_factory.mktemp("extend") / "gapscope")
    for name, touched in SECTIONS.items():
        assert follow(name, folder) == touched
    return folder


def python(folder: Path, code: str) -> None:
    run(folder, sys.executable, "-c", f"import sys; sys.path.insert(0, 'tests')\n{code}")


@pytest.mark.parametrize(
    "command", [words for name in SECTIONS for words in commands(name) if words[0] == "pytest"], ids=" ".join
)
def test_the_tests_that_the_page_adds_hold(extended: Path, command: list[str]) -> None:
    assert " passed" in run(extended, *command)


def test_a_network_has_its_units_and_takes_a_width(extended: Path) -> None:
    python(extended, NETWORK)


def test_optimisers_of_both_kinds_train(extended: Path) -> None:
    python(extended, RUN.replace("CHANGES", "{'name': 'signum', 'lr_start': 0.001}"))
    study = next(block.content for block in blocks("An optimiser") if block.path.endswith("smoke_adamw.yaml"))
    assert "torch.optim:AdamW" in study
    composed = "from gapscope.config import load_params as p; from gapscope.training.settings import TrainSettings as T"
    run(extended, *commands("An optimiser")[0])
    changes = "{'name': o.name, 'settings': o.settings, 'weight_decay': o.weight_decay, 'lr_start': 0.001}"
    python(extended, f"{composed}\no = p().section('train', T).optimizer\n{RUN.replace('CHANGES', changes)}")


def test_the_loss_of_a_task_has_the_known_curvature(extended: Path) -> None:
    (example,) = examples("A task")
    plain = "outputs = model.double()(inputs)\napart = outputs - torch.nn.functional.one_hot(labels, 4)"
    python(
        extended,
        f"{example}\n{plain}\n"
        "assert abs(squared_error - apart.square().sum(1).mean()) < 1e-12\n"
        "assert abs(error_pct - 100 * (outputs.argmax(1) != labels).double().mean()) < 1e-12",
    )


def test_an_observer_records_and_leaves_the_run_alone(extended: Path) -> None:
    observers = "{'observers': ('examples.gradient_norm:GradientNorm',)}"
    python(extended, RUN.replace("CHANGES", observers) + OBSERVED)


@pytest.mark.integration
@pytest.mark.parametrize("name", ["A network", "An optimiser", "A task", "An observer"])
def test_the_commands_of_a_section_run(extended: Path, name: str) -> None:
    """But for its tests, which another test runs; of an optimiser and an observer measures know nothing."""
    measures = ["measures=[evaluation]"] if name in ("An optimiser", "An observer") else []
    for command in commands(name):
        if command[0] == "pytest":
            continue
        output = run(extended, *command, *(measures if command[0] == "gapscope" else []))
        if command == ["dvc", "repro"]:
            assert [stage for stage in ran(output) if stage.startswith("train@")]
            assert ran(output)[-1].startswith("report@")
    tables = extended / "metrics" / ("smoke_adamw" if name == "An optimiser" else "smoke")
    assert (pd.read_csv(tables / "cells.csv")["status"] != "diverged").all()
    if name == "A network":
        assert set(pd.read_csv(tables / "cells.csv")["model"]) == {"one_hidden", "one_hidden_w2"}
    if name == "A task":
        runs = pd.read_csv(tables / "runs.csv")
        assert {"squared_error", "error_pct"} <= set(runs["quantity"])
        assert "cross_entropy" not in set(runs["quantity"])
        assert pd.read_csv(extended / "metrics/claims/smoke.csv")["verdict"].eq("not testable").any()
    if name == "An observer":
        record = pd.read_csv(tables / "train/lenet5-digits-b128-s0.csv")
        assert (record["quantity"] == "gradient_norm").sum() == 1  # an epoch
        assert "gradient_norm" not in set(pd.read_csv(tables / "runs.csv")["quantity"])


@pytest.mark.integration
def test_the_pages_code_is_held_to_the_projects_rules(extended: Path, tmp_path: Path) -> None:
    folder = tracked_copy(tmp_path / "gapscope")
    if (ROOT / ".mypy_cache").exists():  # what mypy knows of the packages installed, and of files that are the same
        shutil.copytree(ROOT / ".mypy_cache", folder / ".mypy_cache")
    for name in (*SECTIONS, "A measure", "A paper's table"):
        follow(name, folder)
    for command in (["ruff", "format", "--check"], ["ruff", "check"], ["mypy"], ["lint-imports"]):
        run(folder, *command)


def test_every_section_is_followed_by_a_test() -> None:
    assert list(sections()) == ["A measure", *SECTIONS, "A claim", "A paper's table"]


@pytest.mark.parametrize("diff", ["@@\n a\n+new\n", "@@\n-a\n+b\n@@\n-no such line\n+c\n"], ids=["twice", "not there"])
def test_a_change_that_does_not_fit_is_refused(diff: str) -> None:
    with pytest.raises(AssertionError, match="not there once"):
        changed("a\nb\na\n" if "new" in diff else "a\nb\n", diff)
