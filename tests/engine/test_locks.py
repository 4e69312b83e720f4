"""Each study's part of dvc.lock, put away and brought back."""

from pathlib import Path

import pytest
import yaml
from dvc.utils.serialize import dump_yaml, load_yaml

from gapscope.engine import locks


def entry(command: str, md5: str = "a") -> dict:
    return {"cmd": command, "deps": [{"path": "x", "md5": md5}], "params": {"params.yaml": {"lr": 1e-4, "off": None}}}


COMMON = {
    "download@quick": entry('python stages/download.py --dataset "quick" --out "data/datasets/quick.npz"'),
}
QUICK = {
    "plan@quick-digits": entry('python stages/plan.py --out "data/runs/quick/plan/digits.txt"'),
    "train@quick-net-digits-8-0": entry('python stages/train.py --weights "data/runs/quick/train/n.safetensors"'),
    "tables@quick": entry("python stages/tables.py --near-rank metrics/quick/near_rank.csv --out metrics/quick"),
}
OTHER = {"plots@quick-b": entry("python stages/plots.py --tables metrics/quick-b --out plots/quick-b")}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def lock(entries: dict) -> None:
    dump_yaml("dvc.lock", {"schema": "2.0", "stages": entries, "datasets": []})


def held(path: str = "dvc.lock") -> dict:
    return load_yaml(path)["stages"]


def test_a_study_s_entries_wait_while_another_runs_and_come_back_unchanged() -> None:
    lock(COMMON | QUICK)
    locks.swap("quick-b")
    assert held() == COMMON
    assert held("locks/quick.lock") == QUICK
    lock(COMMON | OTHER)
    before = Path("dvc.lock").read_bytes()
    locks.swap("quick")
    assert held() == COMMON | QUICK
    assert [path.name for path in Path("locks").iterdir()] == ["quick-b.lock"]
    locks.swap("quick-b")
    assert Path("dvc.lock").read_bytes() == before


def test_what_an_experiment_added_takes_the_place_of_what_waited() -> None:
    newer = {"plan@quick-digits": entry(QUICK["plan@quick-digits"]["cmd"], md5="b")}
    lock(COMMON | QUICK)
    locks.swap("other")
    lock(COMMON | OTHER | newer)  # `dvc exp run -S study=quick`, which composes by itself
    locks.swap("quick-b")
    assert held("locks/quick.lock") == QUICK | newer
    lock(COMMON | newer)
    locks.swap("quick")
    assert held() == COMMON | QUICK | newer


def test_the_study_in_place_is_left_as_it_is() -> None:
    Path("dvc.lock").write_text(f"# as DVC wrote it\n{yaml.safe_dump({'stages': COMMON | QUICK})}")
    before = Path("dvc.lock").read_bytes()
    locks.swap("quick")
    assert Path("dvc.lock").read_bytes() == before
    assert not Path("locks").exists()


def test_a_folder_that_has_run_nothing_gets_no_file() -> None:
    locks.swap("quick")
    assert not list(Path().iterdir())


def test_every_stage_of_a_study_is_known_by_its_command() -> None:
    stages = yaml.safe_load((Path(__file__).parents[2] / "dvc.yaml").read_text())["stages"]
    of_no_study = {name for name, stage in stages.items() if "study" not in stage.get("matrix", "")}
    commands = {name: {"cmd": stage["cmd"]} for name, stage in stages.items()}
    by_param = {"plots"}  # its command names no such folder
    assert all("study" in stages[name]["params"] for name in by_param)
    assert {name for name, stage in commands.items() if locks.study_of(stage) is None} == of_no_study | by_param
    assert of_no_study == {"check", "download"}


def test_the_check_of_names_is_of_the_study_that_its_params_name() -> None:
    of_check = {
        "cmd": "python stages/check.py --out checked.yaml",
        "params": {"params.yaml": {"study": "a"}, "revisions.yaml": {"check.revision": 1}},
    }
    assert locks.study_of(of_check) == "a"


@pytest.mark.parametrize(("note", "stays"), [("", False), ('{"read": {', False), ('{"read": {}, "write": {}}', True)])
def test_dvc_s_note_of_paths_in_use_is_removed_if_it_was_cut_off(note: str, stays: bool) -> None:
    locks.PATHS_IN_USE.parent.mkdir(parents=True)
    locks.PATHS_IN_USE.write_text(note)
    locks.mend()
    assert locks.PATHS_IN_USE.exists() == stays
