"""Params at their no-op value stay out of params.yaml, however it is composed, and come back when it is read."""

import os
import re
import shutil
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gapscope import noops
from gapscope.cli.compose import composed
from gapscope.config import load_params
from gapscope.errors import InputError
from gapscope.training.settings import TrainSettings

ROOT = Path(__file__).parents[1]
CELLS = {  # stages of which no result can be made anew from records
    "download", "plan", "train", "activations", "spectra", "controls", "sharpness", "curvature", "curvature_radius",
    "noise_scale", "gradient_law", "landscape", "warmstart", "random_matrices", "perturbation",
}  # fmt: skip
NESTED = {"train": {"schedule.patience": None, "off": False, "images": 0}}


@pytest.fixture
def nested(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noops, "NOOPS", NESTED)


@pytest.mark.parametrize(
    ("value", "noop", "same"),
    [
        (None, None, True), (0, 0.0, True), (0.0, 0, True), (False, 0, False), (0, False, False), (False, False, True),
        ((), [], True), ([], [], True), ([1], [], False), ("none", "none", True), ("", None, False), (True, 1, False),
    ],
)  # fmt: skip
def test_values_are_compared_by_number_but_false_is_not_zero(value: object, noop: object, same: bool) -> None:
    assert noops.is_noop(value, noop) == same


@pytest.mark.usefixtures("nested")
def test_a_nested_key_is_left_out_and_put_back() -> None:
    whole = {"train": {"schedule": {"patience": None, "lr": 0.1}, "off": False, "images": 0}, "other": {"off": False}}
    kept = {"train": {"schedule": {"lr": 0.1}}, "other": {"off": False}}
    before = deepcopy(whole)
    assert noops.left_out(whole) == kept
    assert noops.put_back(kept) == whole == before
    assert noops.present(whole) == ["train.schedule.patience", "train.off", "train.images"]


@pytest.mark.usefixtures("nested")
@pytest.mark.parametrize("groups", [{}, {"train": None}, {"train": {"schedule": None}}, {"train": []}])
def test_what_is_no_group_is_left_as_it_is(groups: dict) -> None:
    assert noops.left_out(groups) == groups
    noops.put_back(groups)


@given(st.sampled_from([None, 5]), st.sampled_from([False, True]), st.sampled_from([0, 3]), st.floats(0, 1))
def test_leaving_out_and_putting_back_keeps_every_value(patience: object, off: bool, images: int, lr: float) -> None:
    whole = {"train": {"schedule": {"patience": patience, "lr": lr}, "off": off, "images": images}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(noops, "NOOPS", NESTED)
        kept = noops.left_out(whole)
        assert noops.put_back(kept) == whole
        assert noops.present(kept) == []


def test_a_composition_has_no_no_op_value_and_loses_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    params, text = composed(["study=quick"])
    assert noops.present(yaml.safe_load(text)) == []
    assert params.groups["train"]["schedule"]["patience"] is None
    assert params.groups["train"]["schedule"]["batch_schedule"] == []
    _, changed = composed(["study=quick", "train.schedule.patience=3", "train.augment=true"])
    same = {line for line in text.splitlines() if line}
    assert {line.strip() for line in changed.splitlines() if line and line not in same} == {
        "patience: 3", "augment: true",
    }  # fmt: skip
    for written in (
        "train.schedule.patience=null",
        "train.schedule.warmup_epochs=0",
        "train.schedule.batch_schedule=[]",
    ):
        assert composed(["study=quick", written])[1] == text
    assert "batch_schedule" in composed(["study=table11"])[1]


def test_a_no_op_value_written_by_hand_is_refused(tmp_path: Path) -> None:
    text = (ROOT / "params.yaml").read_text().replace("  schedule:\n", "  schedule:\n    patience: null\n")
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(
        InputError, match=r"train\.schedule\.patience at the value that changes nothing; take the key out"
    ):
        load_params(tmp_path / "params.yaml", ROOT / "conf/config.yaml")


def test_a_checkpoint_s_identity_has_what_is_not_off() -> None:
    params = load_params(ROOT / "params.yaml", ROOT / "conf/config.yaml")
    settings = params.section("train", TrainSettings)
    identity = settings.identity()
    assert noops.present({"train": identity}) == []
    assert identity["schedule"]["lr_start"] == settings.schedule.lr_start
    patient = settings.changed({"schedule.patience": 4}).identity()
    assert patient == identity | {"schedule": identity["schedule"] | {"patience": 4}}


def test_the_list_is_read_without_torch() -> None:
    code = "import sys, gapscope.noops; print({'torch', 'numpy', 'pandas', 'dvc'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


# --- a new param in a copy of the repository --------------------------------------------------------------------------


def run(folder: Path, *command: str) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(folder / "src"), "GAPSCOPE_DEVICE": "cpu"}
    environment |= {f"GIT_{who}_{what}": "t@t" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of the committed files, in which training has one more param, `label_smoothing`, which is off."""
    folder = tmp_path_factory.mktemp("noops") / "gapscope"
    for name in run(ROOT, "git", "ls-files", "--cached", "--others", "--exclude-standard").splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    run(folder, "git", "init", "-q", "-b", "main")
    edit(folder / "conf/config.yaml", "\ntrain:\n", "\ntrain:\n  label_smoothing: 0.0  # [scientific]\n")
    edit(
        folder / "src/gapscope/noops.py",
        '        "observers": [],\n',
        '        "observers": [],\n        "label_smoothing": 0,\n',
    )
    settings = folder / "src/gapscope/training/settings.py"
    edit(settings, "    observers: tuple[str, ...]\n", "    observers: tuple[str, ...]\n    label_smoothing: float\n")
    run(folder, "git", "add", "-A")
    run(folder, "git", "commit", "-qm", "one param more")
    return folder


def not_skipped(output: str) -> list[str]:
    return re.findall(r"Running stage '([^']+)'", output)


@pytest.mark.integration
@pytest.mark.parametrize("study", ["quick", "table05", "table11", "random_matrices", "keskar_warmstart_n5000"])
def test_a_new_param_that_is_off_leaves_every_committed_cell_up_to_date(copy: Path, study: str) -> None:
    run(copy, "gapscope", "compose", f"study={study}")
    output = run(copy, "dvc", "repro", "--allow-missing", "--dry")
    assert {name.partition("@")[0] for name in not_skipped(output)} & CELLS == set()
    assert len(re.findall("didn't change, skipping", output)) >= 4


@pytest.mark.integration
def test_a_new_param_that_is_off_reruns_nothing_in_an_experiment(copy: Path) -> None:
    """In the workspace and in a temporary copy. `batch_size` adds one cell, and no other is trained."""
    smoke = ["study=smoke", "measures=[evaluation]"]
    asked = ["-S", smoke[0], "-S", smoke[1]]
    run(copy, "git", "checkout", "-q", "--", ".")  # other tests composed studies in it
    run(copy, "git", "clean", "-fdq")
    first = not_skipped(run(copy, "dvc", "exp", "run", *asked, "-S", "seeds=[0]"))
    assert {f"train@smoke-lenet5-digits-{size}-0" for size in (128, 1024)} <= set(first)  # no results are committed
    run(copy, "git", "add", "-A")
    run(copy, "git", "commit", "-qm", "smoke")
    assert not_skipped(run(copy, "dvc", "exp", "run", *asked, "-S", "train.label_smoothing=0")) == []
    before = (copy / "params.yaml").read_text()
    assert "label_smoothing" not in before
    new = not_skipped(run(copy, "dvc", "exp", "run", *asked, "-S", "batch_size=2048"))
    assert [name for name in new if name.startswith("train")] == ["train@smoke-lenet5-digits-2048-0"]
    run(copy, "git", "checkout", "-q", "--", ".")
    run(copy, "git", "clean", "-fdq")
    run(copy, "dvc", "exp", "run", "--temp", *asked, "-S", "batch_size=2048", "-n", "apart")
    (apart,) = [name for name in run(copy, "git", "for-each-ref", "--format=%(refname)").split() if "/apart" in name]
    run(copy, "gapscope", "compose", *smoke, "batch_size=2048")
    assert run(copy, "git", "show", f"{apart}:params.yaml") == (copy / "params.yaml").read_text()
    assert "label_smoothing" not in (copy / "params.yaml").read_text()
