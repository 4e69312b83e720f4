"""The `gapscope` command."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from gapscope import cli
from gapscope.config import load_params

ROOT = Path(__file__).parents[1]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int | str | None:
    monkeypatch.setattr(sys, "argv", ["gapscope", *arguments])
    try:
        cli.main()
    except SystemExit as stopped:
        return stopped.code
    return 0


def test_compose_writes_the_params_of_a_study(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert call(monkeypatch, "compose", "study=smoke", "epochs=7") == 0
    params = load_params(folder / "params.yaml")
    assert (params.study, params.epochs) == ("smoke", 7)


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("bacth_size=3", "unknown param 'bacth_size'; did you mean 'batch_size'?"),
        ("train.lr=0.2", "unknown param 'train.lr'; did you mean 'train."),
        ("batch_size=[1", "no viable alternative"),
        ("batch_size=${nothing}", "Interpolation key 'nothing' not found"),
        ("study=table5", "Could not find 'study/table5'"),
        ("batch_size=0", "a batch size must be at least 1, got 0"),
    ],
)
def test_a_bad_override_is_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], override: str, hint: str
) -> None:
    assert call(monkeypatch, "compose", override) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert hint in line


def test_spectra_counts_in_any_tensor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    tensor = rng.standard_normal((12, 4, 3))
    tensor[:, 1] = 0
    matrix = np.linalg.qr(rng.standard_normal((9, 5)))[0] * [1, 1, 1e-2, 2e-5, 1e-6]
    np.save(tmp_path / "one.npy", tensor)
    np.savez(tmp_path / "two.npz", tensor=tensor, matrix=matrix, bias=np.ones(4))
    save_file({"matrix": torch.from_numpy(matrix).contiguous()}, tmp_path / "three.safetensors")
    rows = {}
    for file in sorted(tmp_path.iterdir()):
        assert call(monkeypatch, "spectra", str(file), "--threshold", "1e-4", "1e-5", "--relative", "0.1") == 0
        rows[file.name] = [line.split() for line in capsys.readouterr().out.splitlines()]
    # tensor, mode, size, structural, values, <= 1e-4, <= 1e-5, <= 0.1 of the largest
    assert rows["one.npy"][2][:8] == ["one", "1", "4", "0", "4", "1", "1", "1"]
    assert rows["three.safetensors"][1][:8] == ["matrix", "0", "9", "4", "5", "2", "1", "3"]
    assert rows["two.npz"][0] == ["left", "out,", "of", "fewer", "than", "two", "axes:", "bias"]
    assert [row[0] for row in rows["two.npz"][2:]] == ["tensor"] * 3 + ["matrix"]


def test_spectra_says_where_a_count_is_undecidable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "zeros.npy", np.outer(np.ones(30), np.full(20, 1e3)).astype(np.float32))
    assert call(monkeypatch, "spectra", str(tmp_path / "zeros.npy"), "--method", "tensorly") == 0
    assert "[0, 19] ?" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ("missing.npy", "missing.npy is missing"),
        ("text.npy", "text.npy cannot be read"),
        ("text.txt", "text.txt must end in .npy, .npz or .safetensors"),
        ("row.npy", "row.npy holds no tensor of two or more axes"),
        ("nan.npy", "nan: the tensor holds NaN or infinity"),
        ("good.npy --method svd", "method must be one of certified, qr, tensorly"),
        ("good.npy --threshold=-1", "threshold must be a finite number >= 0"),
    ],
)
def test_what_spectra_cannot_measure_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: str,
    hint: str,
) -> None:
    for text in ("text.npy", "text.txt"):
        (tmp_path / text).write_text("no array")
    np.save(tmp_path / "row.npy", np.ones(3))
    np.save(tmp_path / "nan.npy", np.full((2, 2), np.nan))
    np.save(tmp_path / "good.npy", np.eye(3))
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, "spectra", *arguments.split()) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("gapscope: ")]
    assert hint in line
