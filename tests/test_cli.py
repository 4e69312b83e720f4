"""The `gapscope` command."""

import shutil
import sys
from pathlib import Path

import pytest

from gapscope import cli

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


def test_compose_writes_the_committed_params(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert call(monkeypatch, "compose") == 0
    assert (folder / "params.yaml").read_text() == (ROOT / "params.yaml").read_text()


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("bacth_size=3", "unknown param 'bacth_size'; did you mean 'batch_size'?"),
        ("train.lr=0.2", "unknown param 'train.lr'; did you mean 'train."),
        ("batch_size=[1", "no viable alternative"),
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
