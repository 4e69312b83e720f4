"""Conversions of records of 0.1: spectra keep every count, names of models lose their import path, faults are found."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from gapscope.names import NAME
from migrations.plain_names import plain, plain_files, plain_models, sources, unlike
from migrations.spectra_tails import convert, differences

ROOT = Path(__file__).parents[2]

OLD = "54c90e6"
RECORDS = {  # a run with dead units, a control, and relative bounds that deflation gives
    "run": "metrics/quick/spectra/lenet5-digits-b512-s0.jsonl",
    "control": "metrics/quick/controls/lenet5-digits-s0.jsonl",
    "linear": "metrics/table10_linear/spectra/lenet5-mnist-b128-s0.jsonl",
}


def show(path: str) -> bytes:
    return subprocess.run(["git", "show", f"{OLD}:{path}"], cwd=ROOT, capture_output=True, check=True).stdout


@pytest.mark.parametrize("path", RECORDS.values(), ids=RECORDS)
def test_a_converted_record_says_the_same_and_is_small(path: str) -> None:
    old = show(path)
    new = convert(old)
    assert differences(old, new) == []
    assert len(new) < len(old) / 2
    assert convert(new) == new


def replaced(old: str, new: str) -> Callable[[str], str]:
    def plant(text: str) -> str:
        assert old in text
        return text.replace(old, new, 1)

    return plant


def without_a_layer(text: str) -> str:
    lines = text.splitlines()
    starts = [place for place, line in enumerate(lines) if line.startswith('{"sample"')]
    kept = lines[: starts[0]] + lines[starts[1] : -1]
    return "\n".join([*kept, f'{{"end":{len(kept)}}}']) + "\n"


def one_up(field: int) -> Callable[[str], str]:
    """Raise the last digit of a number or of a text's last word in the first line that has a tail."""

    def plant(text: str) -> str:
        import json

        lines = text.splitlines()
        for place, line in enumerate(lines):
            row = json.loads(line)
            if isinstance(row, list) and row[7] and row[8]:
                row[field] = row[field] + " 1" if isinstance(row[field], str) else row[field] * (1 + 1e-9)
                if isinstance(row[field], str):
                    words = row[field].split()[:-1]
                    words[-1] = words[-1][:-1] + ("1" if words[-1][-1] != "1" else "2")
                    row[field] = " ".join(words)
                lines[place] = json.dumps(row)
                return "\n".join(lines) + "\n"
        raise AssertionError("no row with a tail and quantiles")

    return plant


FAULTS = {
    "another status": replaced('"status":"ok"', '"status":"diverged"'),
    "a layer less": without_a_layer,
    "another largest value": one_up(1),
    "another smallest value": one_up(2),
    "another stable rank": one_up(3),
    "another effective rank": one_up(4),
    "another participation ratio": one_up(5),
    "another value in a tail": one_up(7),
    "another method": replaced('["gram",', '["qr",'),
}


@pytest.mark.parametrize("plant", FAULTS.values(), ids=FAULTS)
def test_a_planted_fault_is_found(plant: Callable[[str], str]) -> None:
    old = show(RECORDS["linear"])
    new = convert(old).decode()
    assert differences(old, plant(new).encode()) != []


def test_a_cut_that_leaves_out_values_that_count_is_found() -> None:
    old = show(RECORDS["linear"])
    narrow = convert(old, cut=1e-6).decode()
    assert differences(old, narrow.replace('"cut":1e-06', '"cut":0.01').encode()) != []


def test_names_change_in_paths_and_headers_and_nothing_else_does() -> None:
    path = "metrics/example_wide/train/examples.nets:Net_w0.5-noisy_digits-b16-s0.json"
    assert plain(path) == "metrics/example_wide/train/net_w0.5-noisy_digits-b16-s0.json"
    before = {path: show(path)}
    after = plain_files("train", before)
    assert b'"name": "net_w0.5"' in after[path]
    assert unlike("train", before, after) == []
    assert unlike("train", before, {path: after[path].replace(b'"seed": 0', b'"seed": 1')}) == [
        f"{path}: more than names of models"
    ]


def test_the_params_of_old_entries_get_the_new_names() -> None:
    assert plain_models(["examples.nets:Net_w2", "lenet5"]) == {"models": ["net_w2", "lenet5"]}
    assert sources({"cmd": "python stages/train.py --model examples.nets:Net"}) == {"net": "examples.nets:Net"}
    assert sources({"cmd": "python stages/train.py --model lenet5"}) == {}


def test_no_path_of_0_1_holds_a_colon_afterwards() -> None:
    listed = subprocess.run(
        ["git", "ls-tree", "-r", "-z", "--name-only", OLD], cwd=ROOT, capture_output=True, check=True
    )
    paths = listed.stdout.decode().rstrip("\0").split("\0")
    assert sum(":" in path for path in paths) == 333
    assert not [path for path in paths if ":" in plain(path)]
    assert len({plain(path) for path in paths}) == len(paths)


def test_no_name_that_enters_a_path_can_hold_a_colon() -> None:
    assert not NAME.fullmatch("a:b")  # of every name that dvc.yaml interpolates: tests of gapscope.names
