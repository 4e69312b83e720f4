"""The choice of a learning rate: by the held-out images alone, and not made again after a stop."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import runs
from test_resume import After

from gapscope.data.datasets import Dataset
from gapscope.errors import InputError, StoppedError
from gapscope.records.checkpoints import Checkpoint
from gapscope.training import tuning
from gapscope.training.loop import TrainResult
from gapscope.training.settings import TrainSettings

SWEEP = {"lr_candidates": (0.3, 0.1, 0.03), "lr_sweep_epochs": 2, "validation_images": 12}


def tuned(data: Dataset | None = None, **changes: Any) -> tuple[float, list[dict[str, Any]]]:
    options = {name: changes.pop(name) for name in ("checkpoint", "stop") if name in changes}
    settings = runs.changed(**{**SWEEP, **changes})
    found = data or runs.data()
    return tuning.tune_rate(runs.network, found, settings, batch_size=20, seed=3, device="cpu", **options)


def pretend(monkeypatch: pytest.MonkeyPatch, losses: dict[float, float]) -> list[dict[str, Any]]:
    """Put made-up losses, NaN where a run diverges, in the place of training, and note what it was asked for."""
    asked: list[dict[str, Any]] = []

    def train(_model: object, data: Dataset, settings: TrainSettings, **how: Any) -> TrainResult:
        asked.append({"data": data, "settings": settings, **how})
        loss = losses[how["lr"]]
        final = {} if np.isnan(loss) else {"test_cross_entropy": loss, "test_error_pct": 50.0, "train_loss": -loss}
        return TrainResult("ok" if final else "diverged", [], final, {}, [])

    monkeypatch.setattr(tuning, "train", train)
    return asked


def test_the_rate_of_the_least_held_out_loss_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = pretend(monkeypatch, {0.3: 0.9, 0.1: 0.5, 0.03: 0.7})
    best, rows = tuned(batch_schedule=(), updates=5, patience=3)
    assert best == 0.1
    assert [(row["lr"], row["validation_cross_entropy"]) for row in rows] == [(0.3, 0.9), (0.1, 0.5), (0.03, 0.7)]
    assert [(how["lr"], how["epochs"], how["batch_size"], how["seed"]) for how in asked] == [
        (lr, 2, 20, 3) for lr in SWEEP["lr_candidates"]
    ]
    assert all((how["settings"].schedule.updates, how["settings"].schedule.patience) == (None, None) for how in asked)


def test_it_trains_on_the_rest_of_the_training_set_and_never_sees_the_test_set(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = pretend(monkeypatch, dict.fromkeys(SWEEP["lr_candidates"], 1.0))
    whole = runs.data()
    whole.x_train[:, 0, 0, 0] = np.arange(len(whole.x_train))  # each image can be told
    whole.x_test[:, 0, 0, 0] = 255
    tuned(whole)
    for how in asked:
        rest, held = (set(images[:, 0, 0, 0].tolist()) for images in (how["data"].x_train, how["data"].x_test))
        assert (len(rest), len(held)) == (runs.IMAGES - 12, 12)
        assert rest | held == set(range(runs.IMAGES))


def test_a_candidate_that_diverged_is_not_chosen_and_where_all_did_the_smallest_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pretend(monkeypatch, {0.3: float("nan"), 0.1: 0.5, 0.03: 0.7})
    best, rows = tuned()
    assert (best, rows[0]["status"]) == (0.1, "diverged")
    pretend(monkeypatch, dict.fromkeys(SWEEP["lr_candidates"], float("nan")))
    assert tuned()[0] == 0.03


def test_no_images_left_to_train_on_raise() -> None:
    with pytest.raises(InputError, match=f"validation_images.*{runs.IMAGES}"):
        tuned(validation_images=runs.IMAGES)


def test_after_a_stop_finished_candidates_are_not_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = tuned()
    kept = Checkpoint(tmp_path / "sweep", {"a": 1}, 1)
    with pytest.raises(StoppedError):
        tuned(checkpoint=kept, stop=After(8))  # a candidate has 2 epochs of 3 updates
    learned, train = [], tuning.train
    monkeypatch.setattr(tuning, "train", lambda *args, **how: learned.append(how["lr"]) or train(*args, **how))
    assert tuned(checkpoint=kept) == known
    assert learned == [0.1, 0.03]
    other = Checkpoint(tmp_path / "sweep", {"a": 2}, 1)
    assert tuned(checkpoint=other) == known
    assert learned[2:] == [0.3, 0.1, 0.03]
