"""The time that is left: sums of what is expected, corrected by what ended stages took."""

import json
import shutil
from pathlib import Path

import pytest

from gapscope.cli.compose import composed
from gapscope.engine import cost
from gapscope.engine.time_left import STARTUP_S, TimeLeft, expected, probe, training_seconds

ROOT = Path(__file__).parents[2]


def test_what_is_left_is_shared_by_the_jobs_but_no_stage_is_split() -> None:
    left = TimeLeft({"train@a": 10.0, "train@b": 30.0, "train@c": 20.0})
    assert left.seconds(["train@a", "train@b", "train@c"], {}, 1) == 60
    assert left.seconds(["train@a", "train@b", "train@c"], {}, 2) == 30
    assert left.seconds(["train@a", "train@b", "train@c"], {}, 5) == 30
    assert left.seconds(["train@b"], {"train@a": 4.0, "train@c": 50.0}, 1) == 36
    assert left.seconds([], {}, 2) == 0


def test_ended_stages_correct_what_is_expected_of_their_kind() -> None:
    left = TimeLeft({"train@a": 10.0, "train@b": 30.0, "spectra@a": 7.0})
    left.note("train@a", 15.0)
    assert left.seconds(["train@b"], {}, 1) == 45
    assert left.seconds(["spectra@a"], {}, 1) == 7
    left.note("sharpness@a", 4.0)
    left.note("sharpness@b", 8.0)
    assert left.seconds(["sharpness@c"], {}, 1) == 6
    assert left.seconds(["tables@a"], {}, 1) == STARTUP_S


def test_it_is_a_least_time_while_stages_of_many_cells_are_unknown() -> None:
    left = TimeLeft({"train@a": 90.0})
    assert left.words(["train@a", "tables@a"], {}, 1) == "about 1.6 min"
    assert left.words(["train@a", "sharpness@a", "sharpness@b"], {}, 1) == "at least 1.7 min"
    left.note("sharpness@a", 60.0)
    assert left.words(["sharpness@b", "sharpness@c"], {}, 1) == "about 2 min"


def test_training_is_expected_by_the_probe_and_other_stages_by_their_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    params, _ = composed(["study=smoke"])
    monkeypatch.chdir(tmp_path)
    for name, seconds in (("a", 2.0), ("b", 4.0)):
        path = Path(f"provenance/smoke/sharpness/{name}.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"schema": 1, "wall_s": seconds}))
    monkeypatch.setattr(cost, "measure", lambda *_: cost.Speed(60.0, 0.0, 0.0))  # a minute an update
    training = probe(params)
    assert list(training.values()) == [23 * 60, 3 * 60]  # 2,874 images
    stages = [f"{kind}@smoke-lenet5-digits-{b}-0" for kind in ("train", "sharpness", "spectra") for b in (128, 1024)]
    assert list(training) == stages[:2]
    found = expected("smoke", stages[1:], training)
    assert found == {stages[1]: 180 + STARTUP_S, stages[2]: 3 + STARTUP_S, stages[3]: 3 + STARTUP_S}


@pytest.mark.parametrize("fault", ["", "raise ZeroDivisionError"])
def test_a_network_that_fails_stops_no_estimate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    for name in ("conf", "hydra_plugins"):
        shutil.copytree(ROOT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GAPSCOPE_DEVICE", "cpu")
    Path("mine.py").write_text(
        "from torch import nn\ndef Net(image_shape, classes):\n    print('made')\n"
        f"    {fault}\n    return nn.Sequential(nn.Flatten(), nn.Linear(784, classes))\n"
    )
    _, text = composed(["study=smoke", "models=[net]", "+code.models.net=mine:Net", "code.model=mine.py"])
    Path("params.yaml").write_text(text)
    assert list(training_seconds()) == (
        [] if fault else ["train@smoke-net-digits-128-0", "train@smoke-net-digits-1024-0"]
    )
