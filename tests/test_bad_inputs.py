"""Every bad input ends in one line, with status 2, and in seconds."""

import time
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet
from bad_inputs import ROOT, Case, cases
from scripts import run

CASES = cases()
LONGEST_S = 20
EVERY = 4  # of the values of params, in the quick tests; all are put through with -m integration
SLOW = [case.stage == "check" and number % EVERY > 0 for number, case in enumerate(CASES)]


def params_of(case: Case, *, slow: bool) -> ParameterSet:
    return pytest.param(case, id=case.name, marks=pytest.mark.integration if slow else ())


def test_there_are_as_many_as_are_claimed() -> None:
    assert len(CASES) >= 200
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", [params_of(case, slow=slow) for case, slow in zip(CASES, SLOW, strict=True)])
def test_a_bad_input_is_answered_in_one_line(case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "conf").symlink_to(ROOT / "conf")
    case.arrange(tmp_path)
    begin = time.monotonic()
    with pytest.raises(SystemExit) as ended:
        run(tmp_path, case.stage, *case.arguments)
    seconds = time.monotonic() - begin
    said = capsys.readouterr().err
    assert ended.value.code == 2, said
    assert len(said.splitlines()) == 1, said
    assert said.startswith(f"{case.stage}: ")
    assert case.said in said
    assert "allow_pickle" not in said
    assert seconds < LONGEST_S
    made = {
        "checked.yaml",
        "d",
        "plan.txt",
        "sharp.json",
        "acts",
        "controls.jsonl",
        "spectra.jsonl",
        "near_rank.csv",
        "tables",
        "claims.csv",
    }
    assert not {path.name for path in tmp_path.iterdir()} & made
