"""How a record was made, in a file beside the numbers."""

import json
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from gapscope.records import provenance
from gapscope.records.closure import closure_hash
from gapscope.records.provenance import Start, path_of, processor, read_provenance, seconds, write_provenance

CPU = "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\nflags\t\t: fpu sse4_2 {}\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("revisions.yaml").write_text("train: {revision: 7, date: 2026-01-01, changed: text}\n")


@pytest.mark.parametrize(
    "name", ["n_w0.5-d-b1-s0", "n_w0.5-d-b1-s0.json", "n_w0.5-d-b1-s0.csv", "n_w0.5-d-b1-s0.jsonl"]
)
def test_it_lies_where_its_record_lies_but_for_the_first_folder(name: str) -> None:
    assert path_of(Path("metrics/a/train") / name) == Path("provenance/a/train/n_w0.5-d-b1-s0.json")
    assert path_of(Path("/metrics/b/metrics/a/train") / name) == Path(
        "/metrics/b/provenance/a/train/n_w0.5-d-b1-s0.json"
    )
    assert path_of(Path("elsewhere") / name) == Path("elsewhere/n_w0.5-d-b1-s0.provenance.json")


def test_it_says_how_and_by_what() -> None:
    record = Path("metrics/a/train/cell.json")
    start = replace(Start.of("train"), clock=time.perf_counter() - 60)
    write_provenance(record, start, device="cpu (x86_64)", threads=3, ranks=2)
    found = read_provenance(record)
    assert (found["stage"], found["revision"], found["device"], found["threads"]) == ("train", 7, "cpu (x86_64)", 3)
    assert (found["ranks"], found["code"]) == (2, None)
    assert 60 <= found["wall_s"] < 120
    assert {"commit", "processor", "instructions", "gapscope", "torch", "numpy", "python"} <= set(found)


def test_the_code_is_that_of_the_start_whatever_is_edited_while_the_stage_runs() -> None:
    record, script = Path("metrics/a/train/cell.json"), Path("stages/train.py")
    script.parent.mkdir()
    script.write_text("print(1)\n")
    start, code = Start.of("train"), closure_hash("train")
    script.write_text("print(2\n")  # half an edit, which no parser takes
    Path("revisions.yaml").write_text("train: {revision: 8}\n")
    write_provenance(record, start, device="cpu", threads=1)
    assert json.loads(path_of(record).read_text())["code"] == code
    assert read_provenance(record)["revision"] == 7


def test_without_a_file_nothing_is_known() -> None:
    assert read_provenance(Path("metrics/a/train/cell.json")) == {}
    assert seconds({}) != seconds({})  # NaN
    assert (seconds({"wall_s": 2}), seconds({"wall_s": 2, "training_s": 9.5})) == (2, 9.5)


@pytest.mark.parametrize(
    ("flags", "name"), [("avx avx2 avx512f", "avx512"), ("avx avx2", "avx2"), ("avx", "default"), ("", "default")]
)
def test_the_instruction_set_is_read_from_the_processor_s_flags(
    flags: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("cpuinfo").write_text(CPU.format(flags))
    monkeypatch.setattr(provenance, "CPUINFO", Path("cpuinfo"))
    monkeypatch.delitem(provenance.sys.modules, "torch", raising=False)
    assert processor() == {"processor": "Some CPU @ 2 GHz", "instructions": name}


def test_torch_says_which_kernels_it_takes() -> None:
    import torch

    assert processor()["instructions"] == torch.backends.cpu.get_cpu_capability().lower()


def test_a_copy_without_a_history_is_told_its_commit_and_a_history_is_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GAPSCOPE_COMMIT", "abc1234")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert Start.of("train").commit == "abc1234"
    for command in (
        ["init", "-q"],
        ["-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "-q", "--allow-empty", "-m", "x"],
    ):
        subprocess.run(["git", *command], check=True)
    assert Start.of("train").commit not in {None, "abc1234"}
    monkeypatch.setenv("PATH", str(tmp_path))  # a bare machine has no git
    assert Start.of("train").commit == "abc1234"
