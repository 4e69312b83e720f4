"""The notebook examples/first_look.py: it runs from the top to the bottom, and shows what it announces."""

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "examples/first_look.py"


def test_the_notebook_runs_and_shows_every_measure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    names = runpy.run_path(str(NOTEBOOK))
    out = capsys.readouterr().out
    assert set(names["networks"]) == {32, 600}
    for shown in ("structural zeros", "sharpness", "noise scale"):
        assert shown in out
    assert not names["verdicts"].empty


def test_its_cells_are_those_of_a_notebook() -> None:
    marks = re.findall(r"^# %%.*$", NOTEBOOK.read_text(), re.MULTILINE)
    assert set(marks) == {"# %%", "# %% [markdown]"}
    assert marks[0] == "# %% [markdown]"
