"""Half an hour of a bare machine: packs of limited size, an end in time, resumed bits, and DVC's own locks at home."""

import hashlib
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from test_pipeline import ENVIRONMENT, ROOT, ran, run, tracked_copy

from gapscope.cli.compose import composed
from gapscope.engine.half_hour import execute, prepare, queue
from gapscope.engine.half_hour.pack import Limits, contents, read_manifest, write_pack
from gapscope.errors import InputError

STUDY = """# @package _global_
# For a test.
study: tiny
models: [lenet5_w0.25]
datasets: [digits]
batch_sizes: [128, 1024, "${batch_size}"]
seeds: [0, 1]
epochs: 20
runtime: {checkpoint_epochs: 1}
measures: [evaluation, spectra, sharpness, strides]
train: {observers: [strides]}
activations: {probe_images: 32}
sharpness: {images: 64, restarts: 1, manifold_dimension: 5, epsilons: [1.0e-3], converged_starts: 0}
"""
QUEUE = """
checks: [{command: "python -c 'print(12345)'", seconds: 1}]
entries: [{study: tiny, seeds: [1]}]
networks: {lenet5_w0.25: {batch_sizes: [128, 8192], update_ms: [0.5, 40.0], measured: true, measures_s: 1, together: 1}}
"""
BARE = """
import importlib.metadata, sys
HIDDEN = {"dvc", "dvc_data", "hydra", "omegaconf", "tensorly", "shtab"}
class Hide:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in HIDDEN:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Hide())
known = importlib.metadata.version
def version(name):
    if name == "gapscope":
        raise importlib.metadata.PackageNotFoundError(name)
    return known(name)
importlib.metadata.version = version
"""
STAGES = ["train", "activations", "spectra", "sharpness"]  # of a cell, in their order
SECOND = "data/checkpoints/tiny/lenet5_w0.25-digits-b1024-s1.safetensors"  # of the run that is interrupted


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Three files of 300,000 bytes that no compression makes smaller, and a small one, in the folder of a pack."""
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    paths = [Path(f"data/runs/s/train/{index}.safetensors") for index in range(3)] + [Path("metrics/s/a.csv")]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(draw.bytes(300_000) if path.suffix != ".csv" else b"a,b\n" * 50_000)
    return paths


def test_a_pack_is_cut_by_size_and_read_back(files: list[Path]) -> None:
    manifest = write_pack(files, Path("pack"), {"commit": "abc"}, Limits(8, 200_000))
    sizes = sorted(path.stat().st_size for path in Path("pack").iterdir())
    assert len(sizes) == len(manifest["parts"]) + 1 == 6  # 900 KB and a little in parts of 200 KB, and the manifest
    assert max(sizes) == 200_000
    assert manifest["left_out"] == []
    again = read_manifest(Path("pack"))
    assert again == manifest
    assert contents(Path("pack"), again) == {path.as_posix(): path.read_bytes() for path in files}


def test_what_does_not_fit_is_listed_and_the_first_files_come_first(files: list[Path]) -> None:
    manifest = write_pack(files, Path("pack"), {}, Limits(4, 220_000))
    assert [member["path"] for member in manifest["members"]] == [str(files[0]), str(files[1]), "metrics/s/a.csv"]
    assert [file["path"] for file in manifest["left_out"]] == [str(files[2])]
    assert len(list(Path("pack").iterdir())) == 4


@pytest.mark.parametrize("name", ["part-0", "part-3", "manifest.json"])
def test_a_flipped_bit_is_refused(files: list[Path], name: str) -> None:
    write_pack(files, Path("pack"), {"commit": "abc"}, Limits(8, 250_000))
    path = Path("pack") / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"{name} is damaged"):
        read_manifest(Path("pack"))


def test_a_missing_part_and_a_path_outside_the_results_are_refused(files: list[Path]) -> None:
    write_pack(files, Path("pack"), {}, Limits(8, 250_000))
    (Path("pack") / "part-1").unlink()
    with pytest.raises(InputError, match="part-1 is missing"):
        read_manifest(Path("pack"))
    Path("src").mkdir()
    Path("src/evil.py").write_text("")
    write_pack([Path("metrics/../src/evil.py")], Path("pack"), {}, Limits())
    with pytest.raises(InputError, match="evil"):
        read_manifest(Path("pack"))


def test_a_cell_is_measured_before_the_next_one_is_trained() -> None:
    after = {
        "train@1": set(), "train@2": set(), "gradient_law@": set(), "spectra@1": {"activations@1"},
        "activations@1": {"train@1"}, "sharpness@2": {"train@2"}, "landscape@": {"train@1", "train@2"},
    }  # fmt: skip
    assert prepare._cell_by_cell(sorted(after), after) == [
        "train@1", "activations@1", "spectra@1", "train@2", "landscape@", "sharpness@2", "gradient_law@",
    ]  # fmt: skip


@pytest.mark.parametrize(("study", "update_s"), [
    ("table01_new_seeds", {64: 1.53e-3, 2048: 16.53e-3}), ("table03_new_seeds", {64: 4.27e-3, 2048: 46.67e-3}),
])  # fmt: skip
def test_an_estimate_is_the_updates_times_their_measured_time(
    study: str, update_s: dict[int, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    whole = queue.Queue.read()
    first = next(entry for entry in whole.entries if entry.study == study)
    rows = queue.estimates(replace(whole, entries=(first,)), lambda overrides: composed(overrides)[0])
    assert [row.batch_size for row in rows] == [64, 128, 512, 1024, 2048]
    for row in rows:
        if row.batch_size in update_s:
            known = 200 * math.ceil(50_000 / row.batch_size) * update_s[row.batch_size]
            # a last batch that is smaller takes less, evaluations take more: a few percent
            assert row.training_s == pytest.approx(known, rel=0.05)


def test_the_service_is_started_and_ended_where_it_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, log = tmp_path / "bin" / execute.MPS, tmp_path / "log"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\n[ "$1" = -d ] && echo start >> {log} || cat >> {log}\n')
    program.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GAPSCOPE_DEVICE", raising=False)
    with execute.multi_process_service() as environment:
        assert environment == {}  # not on the path
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    with execute.multi_process_service() as environment:
        assert Path(environment["CUDA_MPS_PIPE_DIRECTORY"]).is_dir()
        assert log.read_text() == "start\n"
    assert log.read_text() == "start\nquit\n"


def commit(folder: Path) -> None:
    run(folder, "git", "add", "-A")
    run(folder, "git", "commit", "-qm", "state")


def bare(home: Path, folder: Path) -> Path:
    """Make a plain copy of the tracked files and of those that the programme names: no history, no DVC, no git."""
    programme = json.loads((home / "data/gpu/programme.json").read_text())
    tracked = [name for name in run(home, "git", "ls-files").splitlines() if not name.startswith((".dvc", ".git"))]
    for name in [*tracked, "data/gpu/programme.json", *programme["files"]]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(home / name, folder / name)
    (folder / "hidden").mkdir()
    (folder / "hidden/sitecustomize.py").write_text(BARE)
    return folder


def start(folder: Path, *options: str) -> "subprocess.Popen[str]":
    """Start the programme of a bare copy; there is no program on the path but Python."""
    environment = ENVIRONMENT | {"PYTHONPATH": str(folder / "hidden"), "PATH": str(folder / "nothing")}
    command = [sys.executable, "gpu/run.py", "--out", "pack", "--minutes", "5", "-j", "1", *options]
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def end(process: "subprocess.Popen[str]", status: int = 0) -> str:
    output, _ = process.communicate(timeout=300)
    assert process.returncode == status, output
    return output


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tracked_copy(tmp_path_factory.mktemp("half_hour") / "home")
    (folder / "conf/study/tiny.yaml").write_text(STUDY)
    (folder / "gpu/queue.yaml").write_text(QUEUE)
    run(folder, "gapscope", "compose", "study=smoke")
    commit(folder)
    return folder


@pytest.fixture(scope="module")
def interrupted(home: Path) -> Path:
    """A bare copy whose second training run was interrupted after some epochs; the first cell is done."""
    assert "8 stages" in run(home, "gapscope", "gpu", "prepare")
    folder = bare(home, home.parent / "bare")
    process = start(folder)
    while not (folder / SECOND).exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert "stopped: packing" in end(process)
    return folder


@pytest.fixture(scope="module")
def resumed(home: Path, interrupted: Path) -> Path:
    """A second clone that got the first pack, and then that of a second bare copy which went on from it."""
    clone = home.parent / "clone"
    run(home, "git", "clone", "-q", str(home), str(clone))
    shutil.rmtree(home / "data")
    run(clone, "gapscope", "compose", "study=smoke")
    before = (clone / "params.yaml").read_bytes()
    output = run(clone, "gapscope", "gpu", "unpack", str(interrupted / "pack"))
    assert "tiny: 4 finished stages committed" in output
    assert "1 checkpoints" in output
    run(clone, "gapscope", "gpu", "prepare", "--queue", "gpu/queue.yaml")
    programme = json.loads((clone / "data/gpu/programme.json").read_text())
    assert [name.partition("@")[0] for name in (stage["addressing"] for stage in programme["stages"])] == STAGES
    assert programme["checks"] == []  # it passed
    assert SECOND in programme["files"]
    second = bare(clone, home.parent / "second")
    assert "4 of 4 stages" in end(start(second))
    again = end(start(second))  # the checkpoint that came along is gone, and nothing is left to do
    assert "4 of 4 stages" in again
    assert "stages/train.py" not in again
    log = (second / f"data/logs/{programme['stages'][0]['addressing']}.log").read_text()
    assert "afresh" not in log
    assert "going on from update" in log
    assert "4 finished stages committed" in run(clone, "gapscope", "gpu", "unpack", str(second / "pack"))
    assert (clone / "params.yaml").read_bytes() == before
    return clone


@pytest.fixture(scope="module")
def uninterrupted(home: Path, resumed: Path) -> Path:
    """The same study, run by DVC without a stop."""
    folder = home.parent / "uninterrupted"
    run(home, "git", "clone", "-q", str(home), str(folder))
    run(folder, "gapscope", "compose", "study=tiny", "seeds=[1]")
    run(folder, "dvc", "repro")
    return folder


@pytest.mark.integration
def test_an_interrupted_programme_packs_records_and_the_checkpoint(interrupted: Path) -> None:
    manifest = read_manifest(interrupted / "pack")
    packed = [member["path"] for member in manifest["members"]]
    assert packed[-1] == SECOND
    assert "data/gpu/logs/check-python-c-print-12345.log" in packed
    assert (interrupted / "data/gpu/logs/check-python-c-print-12345.log").read_text() == "12345\n"
    assert [name.partition("@")[0] for name in manifest["stages"]] == STAGES
    assert not list((interrupted / "data/runs/tiny/activations").iterdir())  # large, and read by spectra alone
    made = json.loads((interrupted / "provenance/tiny/train/lenet5_w0.25-digits-b128-s1.json").read_text())
    assert made["commit"] == manifest["commit"]


@pytest.mark.integration
def test_a_run_resumed_in_a_second_half_hour_has_the_bits_of_one_without_a_stop(
    resumed: Path, uninterrupted: Path
) -> None:
    names = [
        path.relative_to(uninterrupted)
        for pattern in ("data/runs/tiny/train/*", "metrics/tiny/*/*")
        for path in uninterrupted.glob(pattern)
    ]
    assert len(names) == 2 * (1 + 2 + 1 + 2)  # weights; records of train, spectra, sharpness
    for name in names:
        assert (resumed / name).read_bytes() == (uninterrupted / name).read_bytes(), name


@pytest.mark.integration
def test_dvc_has_the_locks_of_a_run_and_nothing_to_do(resumed: Path, uninterrupted: Path) -> None:
    run(resumed, "gapscope", "compose", "study=tiny", "seeds=[1]")
    # activations are not brought home, so it takes --allow-missing
    todo = ran(run(resumed, "dvc", "repro", "--allow-missing"))
    assert sorted(todo) == ["claims@tiny", "plots@tiny", "report@tiny", "settings@tiny", "tables@tiny"]
    assert ran(run(resumed, "dvc", "repro", "--allow-missing", "--dry")) == []
    locks = [yaml.safe_load((folder / "dvc.lock").read_text())["stages"] for folder in (resumed, uninterrupted)]
    for lock in locks:
        for entry in lock.values():  # provenance has times; pages name the commit and times
            entry["outs"] = [out for out in entry.get("outs", []) if not out["path"].startswith("provenance/")]
    assert set(locks[0]) == set(locks[1])
    cells = [name for name in locks[1] if name.startswith(("train", "activations", "spectra", "sharpness"))]
    assert len(cells) == 8
    for name in cells:
        assert locks[0][name] == locks[1][name], name


@pytest.mark.integration
def test_a_second_unpacking_changes_nothing(resumed: Path, home: Path) -> None:
    before = (resumed / "dvc.lock").read_bytes()
    output = run(resumed, "gapscope", "gpu", "unpack", str(home.parent / "second/pack"))
    assert "tiny: 0 finished stages committed, 4 were up to date already" in output
    assert (resumed / "dvc.lock").read_bytes() == before


@pytest.mark.integration
@pytest.mark.parametrize("kind", ["damaged", "code", "history", "params"])
def test_a_pack_of_another_origin_is_refused_in_one_line_and_changes_nothing(
    kind: str, home: Path, interrupted: Path, resumed: Path, tmp_path: Path
) -> None:
    clone, pack = tmp_path / "clone", tmp_path / "pack"
    run(home, "git", "clone", "-q", str(home), str(clone))
    shutil.copytree(interrupted / "pack", pack)
    manifest = read_manifest(pack)
    stage = manifest["stages"]["train@tiny-lenet5_w0.25-digits-128-1"]
    if kind == "code":
        stage["code"] = "0" * 16
    elif kind == "history":
        manifest["commit"] = "0123456"
    elif kind == "params":
        manifest["items"][0]["params"] = manifest["items"][0]["params"].replace("epochs: 20", "epochs: 21")
    signed(pack, manifest)
    if kind == "damaged":
        content = bytearray((pack / "part-0").read_bytes())
        content[1000] ^= 1
        (pack / "part-0").write_bytes(content)
    why = {"damaged": "part-0 is damaged", "code": "other code", "history": "not in the history", "params": "epochs"}
    output = run(clone, "gapscope", "gpu", "unpack", str(pack), fails=True)
    assert len(output.strip().splitlines()) == 1
    assert why[kind] in output
    assert run(clone, "git", "status", "--porcelain") == ""
    assert not (clone / "data").exists()


def signed(pack: Path, manifest: dict) -> None:
    """Write a manifest with its own checksum, as somebody does who made the pack with other code."""
    checksum = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    (pack / "manifest.json").write_text(json.dumps(manifest | {"sha256": checksum}))


@pytest.mark.integration
def test_an_end_in_time_kills_what_does_not_stop(interrupted: Path, tmp_path: Path) -> None:
    """A check that ignores every signal is killed in the time for packing."""
    deaf = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(600)"
    folder = tmp_path / "deaf"
    shutil.copytree(interrupted, folder, symlinks=True, ignore=shutil.ignore_patterns("folders", "pack", "done"))
    programme = json.loads((folder / "data/gpu/programme.json").read_text())
    programme |= {"checks": [f"python -c '{deaf}'"], "stages": []}
    (folder / "data/gpu/programme.json").write_text(json.dumps(programme))
    begin = time.monotonic()
    assert "stopped: packing" in end(start(folder, "--minutes", "0.4", "--packing", "12"))
    assert time.monotonic() - begin < 0.4 * 60 + 15  # and the seconds that Python and torch take to begin
