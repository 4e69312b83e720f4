"""The migration from 0.1: nothing gets more standing than it had, and no value changes."""

import hashlib
import json
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from dvc.utils.serialize import dump_yaml

from gapscope.records.provenance import read_provenance
from migrations import migrate, v0_2

ROOT = Path(__file__).parents[1]

PROVENANCE = {"device": "cpu (x86_64)", "threads": 1, "wall_s": 1.5, "commit": "abc1234", "gapscope": "0.1.0"}
TRAINED = {"schema": 1, "status": "ok", "test_error_pct": 2.5, "wall_s": 9.25, "provenance": PROVENANCE}
HISTORY = "epoch,test_error_pct,wall_s\n1,3.5,0.446080775\n2,2.5,9.25\n"
RECORD = "metrics/quick/train/net-digits-b8-s0"


def md5(content: str) -> str:
    return hashlib.md5(content.encode()).hexdigest()


def git(*arguments: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@t"]
    subprocess.run(["git", *identity, *arguments], check=True, capture_output=True)


class Old:
    """A commit of the old form with one trained cell; `entry` and `files` may be changed before `commit`."""

    def __init__(self) -> None:
        self.files = {
            f"{RECORD}.json": json.dumps(TRAINED, indent=2) + "\n", f"{RECORD}.csv": HISTORY,
            "digests/train.txt": "0123 src/gapscope/x.py\n",
        }  # fmt: skip
        outs = [{"path": path, "md5": md5(text)} for path, text in self.files.items() if path.startswith("metrics")]
        self.entry: dict[str, Any] = {
            "cmd": "python stages/train.py",
            "deps": [{"path": "digests/train.txt", "md5": md5(self.files["digests/train.txt"])}],
            "params": {"params.yaml": {"epochs": 3, "train": {"lr_start": 0.1, "patience": None, "updates": 5}}},
            "outs": [*outs, {"path": "data/runs/quick/train/net-digits-b8-s0.safetensors", "md5": "cached"}],
        }

    def commit(self) -> migrate.Tree:
        for path, text in self.files.items():
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).write_text(text)
        dump_yaml("dvc.lock", {"schema": "2.0", "stages": {"train@quick-net-digits-8-0": self.entry}})
        git("init", "-q")
        git("add", "-A")
        git("commit", "-qm", "old")
        self.tree = migrate.Tree("HEAD")
        return self.tree


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Old]:
    monkeypatch.chdir(tmp_path)
    made = Old()
    yield made
    made.tree.close()


def converted(tree: migrate.Tree, **changes: Any) -> tuple[dict[str, Any], migrate.Report]:
    report = migrate.Report()
    wanted, _ = migrate._convert(tree, replace(v0_2.MIGRATION, **changes), report)
    return wanted, report


def test_a_cell_s_records_are_numbers_and_provenance_apart(old: Old) -> None:
    wanted, report = converted(old.commit())
    assert list(wanted) == ["train@quick-net-digits-8-0"]
    assert report.stale == {}
    new = {path: content.decode() for path, content in report.files.items()}
    assert new[f"{RECORD}.csv"].splitlines() == [
        "quantity,split,statistics,epoch,value",
        *(f"error_pct,test,reestimated,{epoch},{value}" for epoch, value in (("1", 3.5), ("2", 2.5), ("", 2.5))),
    ]
    assert json.loads(new[f"{RECORD}.json"]) == {
        "schema": 1, "status": "ok", "device": "cpu (x86_64)",
    }  # fmt: skip
    made = json.loads(new["provenance/quick/train/net-digits-b8-s0.json"])
    assert PROVENANCE.items() <= made.items()
    assert (made["training_s"], made["epochs_s"], made["revision"]) == (9.25, [0.446080775, 9.25], 1)
    assert made["processor"] is None  # it was not recorded


def test_an_entry_whose_digest_is_not_the_committed_one_is_left_out(old: Old) -> None:
    old.entry["deps"][0]["md5"] = md5("other code")
    wanted, report = converted(old.commit())
    assert wanted == {}
    assert report.files == {}
    assert report.stale["train@quick-net-digits-8-0"].startswith("digests/train.txt is ")


def test_an_entry_without_a_digest_is_left_out(old: Old) -> None:
    old.entry["deps"] = []
    assert converted(old.commit())[0] == {}


def test_an_entry_whose_input_in_git_changed_is_left_out(old: Old) -> None:
    old.files["examples/nets.py"] = "net = 1\n"
    old.entry["deps"].append({"path": "examples/nets.py", "md5": md5("net = 2\n")})
    assert "examples/nets.py" in converted(old.commit())[1].stale["train@quick-net-digits-8-0"]


def test_a_record_that_is_not_the_one_in_the_lock_is_refused(old: Old) -> None:
    old.files[f"{RECORD}.csv"] = HISTORY.replace("3.5", "3.4")
    with pytest.raises(migrate.MigrationError, match=r"b8-s0\.csv is "):
        converted(old.commit())


@pytest.mark.parametrize("suffix", [".csv", ".json"])
def test_a_value_that_a_conversion_changes_is_refused(old: Old, suffix: str) -> None:
    def plant(stage: str, files: migrate.Files) -> migrate.Files:
        new = v0_2.split_provenance(stage, files)
        new[f"{RECORD}{suffix}"] = new[f"{RECORD}{suffix}"].replace(b"2.5", b"2.4")
        return new

    tree = old.commit()
    with pytest.raises(migrate.MigrationError, match=f"{suffix}.* test_error_pct"):
        converted(tree, steps={"train": [migrate.Step(plant, v0_2.joined_provenance)]})


def test_seconds_that_a_conversion_loses_are_refused(old: Old) -> None:
    def plant(stage: str, files: migrate.Files) -> migrate.Files:
        new = v0_2.split_provenance(stage, files)
        return {path: content.replace(b"9.25", b"9.5") for path, content in new.items()}

    tree = old.commit()
    with pytest.raises(migrate.MigrationError, match="wall_s"):
        converted(tree, steps={"train": [migrate.Step(plant, v0_2.joined_provenance)]})


def test_params_are_renamed_dropped_and_added_and_no_op_values_left_out() -> None:
    migration = replace(
        v0_2.MIGRATION,
        renamed={
            "train.lr_start": "train.lr.start",
            "train.linear": lambda value: {"train.units": str(value)},
            "train.patience": "train.schedule.patience",
            "train.updates": "train.schedule.updates",
        },
        dropped=frozenset({"train.threads"}),
        added={"train": {"train.new": 7}},
    )
    old = {"epochs": 3, "train": {"lr_start": 0.1, "linear": True, "threads": 1, "patience": None, "updates": 5}}
    assert migrate.params(migration, "train", old) == {
        "epochs": 3, "train": {"lr": {"start": 0.1}, "units": "True", "schedule": {"updates": 5}, "new": 7},
    }  # fmt: skip


def test_a_param_that_nobody_says_what_became_of_is_refused() -> None:
    with pytest.raises(migrate.MigrationError, match="has no lr"):
        migrate._declared(["lr"], {"rate": 1}, "train")
    with pytest.raises(migrate.MigrationError, match="no longer depends on rate"):
        migrate._declared(["lr"], {"lr": 1, "rate": 1}, "train")
    assert migrate._declared(["train", "a.b"], {"train": {"x": 1}, "a": {"b": 2}}, "") == {"train": {"x": 1}, "a.b": 2}


def test_a_folder_s_hash_is_dvc_s(old: Old) -> None:
    from dvc.repo import Repo

    tree = old.commit()
    Path("dvc.yaml").write_text(
        "stages: {count: {cmd: ls, deps: [metrics/quick/train], outs: [count: {cache: false}]}}\n"
    )
    with Repo.init(no_scm=True) as repo:
        (stage,) = repo.index.stages
        _, found = stage.deps[0]._get_hash_meta()
    assert tree.md5("metrics/quick/train") == found.value


@pytest.mark.integration
def test_the_committed_records_are_what_the_migration_makes() -> None:
    """But for cells that ran since, which know their processor, and for `quick`, which has other cells now."""
    tree, report = migrate.Tree(v0_2.OLD), migrate.Report()
    try:
        migrate._convert(tree, v0_2.MIGRATION, report)
    finally:
        tree.close()
    assert report.stale == {}
    kept = {Path(path): content for path, content in report.files.items() if "quick" not in Path(path).parts}
    different = [path for path, content in kept.items() if (ROOT / path).read_bytes() != content]
    since = {path for path in different if read_provenance(ROOT / path).get("processor")}
    assert [path for path in different if path not in since and path.parts[0] != "provenance"] == []
