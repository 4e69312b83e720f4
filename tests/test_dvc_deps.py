"""What each stage depends on: data, params and a revision, never code; and the files that stand for the three."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from gapscope import noops
from gapscope.config import declared_names, revision
from gapscope.errors import InputError
from gapscope.names import CHECKS

ROOT = Path(__file__).parents[1]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


def files_of(stage: dict[str, Any]) -> dict[str, list[str]]:
    """Return the params that a stage depends on, by file."""
    found: dict[str, list[str]] = {}
    for param in stage["params"]:
        for file, names in (param if isinstance(param, dict) else {"params.yaml": [param]}).items():
            found.setdefault(file, []).extend(names or [])
    return found


def test_every_script_is_a_stage() -> None:
    assert {path.stem for path in (ROOT / "stages").glob("*.py")} == set(STAGES)


def test_every_stage_has_a_whole_number_for_its_revision_and_no_other_has() -> None:
    """DVC deletes the outputs of a stage without one, and takes everything as up to date without the file."""
    revisions = yaml.safe_load((ROOT / "revisions.yaml").read_text())
    assert set(revisions) == set(STAGES)
    for stage, entry in revisions.items():
        assert type(entry["revision"]) is int
        assert entry["date"]
        assert entry["changed"]
        assert revision(stage, ROOT / "revisions.yaml") == entry["revision"]


@pytest.mark.parametrize("text", ["train: {}", "train: {revision: '1'}", "train: {revision: true}", "other: 1"])
def test_a_stage_without_a_whole_number_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "revisions.yaml").write_text(text)
    with pytest.raises(InputError, match=r"no whole number train\.revision"):
        revision("train", tmp_path / "revisions.yaml")


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_depends_on_its_revision_and_on_no_code(name: str) -> None:
    assert files_of(STAGES[name])["revisions.yaml"] == [f"{name}.revision"]
    code = [dep for dep in STAGES[name].get("deps", []) if dep.startswith(("src", "stages", "revisions"))]
    assert not [dep for dep in code if not dep.endswith((".csv", ".yaml"))]  # the papers' data are no code


@pytest.mark.parametrize("name", sorted(set(STAGES) - {"check"}))
def test_every_stage_waits_for_the_check_of_names(name: str) -> None:
    assert files_of(STAGES[name])["checked.yaml"] == ["names"]


def interpolated() -> set[str]:
    """Return the params that dvc.yaml puts into paths and commands."""
    text = re.sub(r"(?m)(^|\s)#.*$", "", (ROOT / "dvc.yaml").read_text())
    return {
        re.sub(r"\[\d+\]$", "", name) for name in re.findall(r"\$\{([^}]+)\}", text) if not name.startswith("item.")
    }


def covered(name: str, by: set[str]) -> bool:
    parts = name.split(".")
    return any(".".join(parts[:end]) in by for end in range(1, len(parts) + 1))


def test_check_depends_on_all_that_is_interpolated_and_interpolates_nothing() -> None:
    assert "${" not in str(STAGES["check"])
    depends = set(files_of(STAGES["check"])["params.yaml"])
    assert [name for name in interpolated() if not covered(name, depends)] == []
    assert [name for name in interpolated() if not covered(name, set(CHECKS))] == []


def test_no_param_that_is_interpolated_can_be_left_out() -> None:
    assert not [name for name in noops.names() if covered(name, interpolated())]


def test_every_param_with_a_no_op_value_is_declared() -> None:
    text = yaml.safe_load((ROOT / "conf/config.yaml").read_text())
    for name in noops.names():
        value: Any = text
        for part in name.split("."):
            assert part in value, name
            value = value[part]
    assert "noops" in declared_names(ROOT / "conf/config.yaml")


def test_no_op_values_are_pinned() -> None:
    """They never change: old results are read by them. A new param adds a line here."""
    assert noops.NOOPS == {
        "train": {
            "task": "classification", "linear_units": False, "average_pooling": False, "augment": False,
            "optimizer.settings": {},
            "schedule.lr_scaling": "none", "schedule.warmup_epochs": 0.0, "schedule.updates": None,
            "schedule.batch_schedule": [], "schedule.patience": None, "tuning.lr_candidates": [],
            "tuning.validation_images": 0, "batch.drop_last": False, "batch.micro_batch": None,
            "discard": None, "precision.channels_last": False, "observers": [],
        },
        "claims": {"seen_seeds": []},
        "data": {"shapes": {}, "ranges": {}, "lengths": {}},
        "sharpness": {"converged_starts": 0},
        "curvature": {"layers": []},
    }  # fmt: skip


def outs_of(stage: dict[str, Any]) -> list[str]:
    return [next(iter(out)) if isinstance(out, dict) else out for out in stage["outs"] + stage.get("plots", [])]


def test_no_stage_depends_on_provenance_and_each_record_of_a_cell_has_one() -> None:
    made = {name for name, stage in STAGES.items() if any(out.startswith("provenance/") for out in outs_of(stage))}
    assert made == {
        "train", "spectra", "controls", "sharpness", "curvature", "curvature_radius", "noise_scale", "gradient_law",
        "landscape",
        "warmstart",
        "random_matrices",
    }  # fmt: skip
    assert not [dep for stage in STAGES.values() for dep in stage.get("deps", []) if dep.startswith("provenance")]


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_script_is_short(name: str) -> None:
    code = [line for line in (ROOT / "stages" / f"{name}.py").read_text().splitlines() if line.strip()]
    assert len(code) <= 45
