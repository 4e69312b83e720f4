"""A page warns of runs of one seed that different processors made."""

import json
from pathlib import Path

import pytest
from made_up import study

from gapscope.report.page import page
from gapscope.report.processors import mixed

OLD = {"device": "cpu (x86_64)", "processor": "Old", "instructions": "avx2"}
NEW = {"device": "cpu (x86_64)", "processor": "New", "instructions": "avx512"}
FIRST_GPU, OTHER_GPU = ({"device": f"cuda ({name})", "processor": "Old", "instructions": "avx2"} for name in "AB")
UNKNOWN = {"device": "cpu (x86_64)"}


def records(folder: Path, **made: dict[str, str]) -> Path:
    """Write a record of training per run, b32_s0 for instance, with its provenance."""
    for run, how in made.items():
        for top, content in (("metrics", {}), ("provenance", how)):
            path = folder / top / "s/train" / f"net-digits-{run.replace('_', '-')}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"schema": 1} | content))
    return folder / "metrics/s"


@pytest.mark.parametrize(
    ("made", "seeds"),
    [
        ({"b32_s0": OLD, "b64_s0": NEW}, 1),
        ({"b32_s0": OLD, "b64_s0": NEW, "b32_s1": NEW, "b64_s1": OLD, "b32_s2": OLD, "b64_s2": OLD}, 2),
        ({"b32_s0": FIRST_GPU, "b64_s0": OTHER_GPU}, 1),
        ({"b32_s0": OLD, "b64_s0": OLD, "b32_s1": NEW, "b64_s1": NEW}, 0),  # no comparison crosses them
        ({"b32_s0": FIRST_GPU, "b64_s0": FIRST_GPU | NEW | {"device": FIRST_GPU["device"]}}, 0),  # beside one GPU
        ({"b32_s0": OLD, "b64_s0": UNKNOWN}, 0),
    ],
)
def test_processors_are_compared_within_a_seed(tmp_path: Path, made: dict[str, dict[str, str]], seeds: int) -> None:
    found = mixed(records(tmp_path, **made), ())
    assert len(found) == (seeds > 0)
    assert all(f"in {seeds} seed" in warning for warning in found)


def test_runs_of_an_earlier_choice_do_not_count(tmp_path: Path) -> None:
    metrics = records(tmp_path, b32_s0=OLD, b64_s0=NEW)
    assert mixed(metrics, {"net-digits-b32-s0"}) == []


def test_a_page_shows_the_warning(tmp_path: Path) -> None:
    made_up = study(tmp_path, "quick")
    records_of = sorted((made_up["metrics"] / "train").glob("*.json"))
    assert "ran on different processors" not in page(**made_up)
    for path, how in zip(records_of, [OLD, *[NEW] * (len(records_of) - 1)], strict=True):
        place = Path(str(path).replace("/metrics/", "/provenance/"))
        place.write_text(json.dumps(json.loads(place.read_text()) | how))
    assert "ran on different processors: New (avx512) and Old (avx2)" in page(**made_up)
