"""`gapscope export`: the tables of `gapscope.load`, read back from what was written."""

import re
import sys
from pathlib import Path

import pandas as pd
import pytest
from test_cli import ROOT, call

import gapscope
from gapscope.cli import export

READ_BACK = 1e-14  # pandas may read the last bit of a number wrongly


@pytest.fixture(autouse=True)
def repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def test_csv_holds_every_run_and_claim_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert call(monkeypatch, "export", "quick", "--out", str(tmp_path)) == 0
    study = gapscope.load("quick")
    for name, table in (("runs", study.runs), ("verdicts", study.verdicts)):
        read = pd.read_csv(tmp_path / f"{name}.csv")
        pd.testing.assert_frame_equal(read, table, check_dtype=False, rtol=READ_BACK, atol=0)
    assert len(study.runs) == 12


def test_latex_is_escaped_and_has_booktabs_rules() -> None:
    table = pd.DataFrame(
        {"claim": ["a_b", "50 % & more"], "p": [1.25e-7, None], "n": [3.0, 12_345.0], "not_printed": 1}
    )
    text = export.latex(table, {"claim": "claim", "p": "p_x", "n": "n", "absent": "absent"})
    rules = re.findall(r"\\(\w+rule)", text)
    assert rules == ["toprule", "midrule", "bottomrule"]
    rows = [line.removesuffix(r" \\") for line in text.splitlines() if line.endswith(r"\\")]
    assert [re.split(r"(?<!\\)&", row.replace(" ", "")) for row in rows] == [
        ["claim", r"p\_x", "n"], [r"a\_b", "1.25e-07", "3"], [r"50\%\&more", "", "12345"],
    ]  # fmt: skip


def test_parquet_without_its_package_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("pyarrow", "fastparquet"):
        monkeypatch.setitem(sys.modules, name, None)
    assert call(monkeypatch, "export", "quick", "--format", "parquet", "--out", str(tmp_path)) == 2
    assert re.fullmatch("gapscope: .*pyarrow.*\n", capsys.readouterr().err)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("study", "said"), [("quik", "'quick'"), ("random_matrices", "metrics/random_matrices")])
def test_what_cannot_be_exported_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], study: str, said: str
) -> None:
    assert call(monkeypatch, "export", study) == 2
    assert re.fullmatch(f"gapscope: .*{said}.*\n", capsys.readouterr().err)
