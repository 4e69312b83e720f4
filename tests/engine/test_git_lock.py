"""git's index.lock, which a killed DVC leaves behind: removed by `gapscope mend` unless somebody may be at work."""

import subprocess
import time
from pathlib import Path

import pytest
from dvc.repo import Repo

from gapscope.engine import locks

LEFT = Path(".git/index.lock")
EDITOR = "#!/bin/sh\nwhile [ ! -e written ]; do sleep 0.05; done\necho message > $1\n"
PATIENCE_S = 60


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(locks, "GIT_STILL_S", 0.1)
    subprocess.run(["git", "init", "-q"], check=True)
    Repo.init().close()
    return tmp_path


def test_it_is_removed_and_git_works_again(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    LEFT.touch()
    assert subprocess.run(["git", "add", ".dvc"], capture_output=True, check=False).returncode
    locks.mend()
    assert str(LEFT) in capsys.readouterr().out
    subprocess.run(["git", "add", ".dvc"], check=True)


def test_it_stays_while_a_commit_waits_for_its_editor(repository: Path) -> None:
    editor = repository / "editor"
    editor.write_text(EDITOR)
    editor.chmod(0o755)
    subprocess.run(["git", "add", ".dvc"], check=True)
    commit = subprocess.Popen(
        ["git", "-c", "user.name=a", "-c", "user.email=a@b.example", "-c", f"core.editor={editor}", "commit", "-qa"]
    )
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not LEFT.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        locks.mend()
        assert LEFT.exists()
    finally:
        (repository / "written").touch()
        assert commit.wait(PATIENCE_S) == 0
    assert not LEFT.exists()


def test_it_stays_while_dvc_works(repository: Path) -> None:
    LEFT.touch()
    with Repo() as repo, repo.lock:
        locks.mend()
    assert LEFT.exists()


def test_it_stays_while_it_changes(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another process has just written is looked at again, and is gone when that process renames it."""
    LEFT.touch()
    monkeypatch.setattr(locks.time, "sleep", lambda _: LEFT.replace(".git/index"))
    locks.mend()
    assert Path(".git/index").exists()
