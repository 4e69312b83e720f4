"""Warm starts: rows against runs made by hand, after any stop those of a run that was never stopped; the stages."""

import json
import math
import shutil
import signal
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import runs
import torch
from dvc.repo import Repo
from dvc.utils.hydra import compose_and_dump
from processes import Forked
from scripts import run

from gapscope import seeds
from gapscope.data import sources
from gapscope.data.images import split_images
from gapscope.data.tabular import Table
from gapscope.errors import InputError, StoppedError
from gapscope.measures import warm_start, warm_start_runs
from gapscope.measures.sharpness import SharpnessSettings, measure
from gapscope.records import weights
from gapscope.records.long import read_long, select
from gapscope.training import loop
from gapscope.training.loop import train
from gapscope.training.objective import Objective

ROOT = Path(__file__).parents[2]
SMALL, LARGE, SMALL_EPOCHS, LARGE_EPOCHS, STARTS = 10, 31, 4, 3, (0, 1, 3, 4)
UPDATES = 7 * SMALL_EPOCHS + 2 * LARGE_EPOCHS * len(STARTS)  # of 62 images
SETTINGS = warm_start.WarmstartSettings(SMALL, LARGE, SMALL_EPOCHS, LARGE_EPOCHS, STARTS, 1)
TRAINING = runs.changed(lr_shape="constant")
SHARPNESS = SharpnessSettings((1e-5, 5e-6), 5, 1, 0, ("train", "test"), 20, "running", 20, "float64", 1)
CONVERGED = replace(SHARPNESS, converged_starts=1)  # ten times the work, in boxes so small that the search soon ends
FINAL = ["train_error_pct", "test_error_pct", "train_cross_entropy", "test_cross_entropy", "weight_norm"]
Rows = list[dict[str, Any]]


def cell(folder: Path, **changes: Any) -> warm_start_runs.WarmStart:
    whole = warm_start_runs.WarmStart(
        runs.network, runs.data(), SETTINGS, TRAINING, SHARPNESS, 3, "cpu", folder, {"run": "a", "starts": [*STARTS]}, 2
    )
    return replace(whole, **changes)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    return list(cell(tmp_path_factory.mktemp("whole") / "folder").rows())


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    """The same with the search that goes on until it converges."""
    return list(cell(tmp_path_factory.mktemp("measured") / "folder", sharpness=CONVERGED).rows())


# --- what a row says --------------------------------------------------------------------------------------------------


def by_hand(model: torch.nn.Module, size: int, epochs: int) -> dict[str, Any]:
    """Train on, and return the final figures of the loop itself."""
    return train(model, runs.data(), TRAINING, batch_size=size, epochs=epochs, seed=3, device="cpu").final


def of(found: dict[str, Any], phase: str, quantity: str) -> list[float]:
    """Return the values of a quantity of one start and phase, in their order."""
    return [row["value"] for row in found["values"] if (row["phase"], row["quantity"]) == (phase, quantity)]


def final_of(found: dict[str, Any], phase: str) -> list[float]:
    errors, entropies = of(found, phase, "error_pct"), of(found, phase, "cross_entropy")
    return [*errors, *entropies, *of(found, phase, "weight_norm")]


def sharpness(model: torch.nn.Module) -> tuple[list[float], list[float]]:
    """Return the sharpness of each split and box: after ten iterations, and after convergence."""
    found = []
    for split, images in (("train", SHARPNESS.images), ("test", None)):
        objective = Objective.of_images(model, split_images(runs.data(), split, "cpu"), images, SHARPNESS.micro_batch)
        found += islice(measure(objective, objective.weights(), CONVERGED, seed=3), len(CONVERGED.epsilons))
    return [row["sharpness"] for row in found], [row["search"].sharpness for row in found]


def moved(model: torch.nn.Module) -> float:
    pairs = zip(model.parameters(), runs.network().parameters(), strict=True)
    return sum(float((now - then).detach().square().sum()) for now, then in pairs) ** 0.5


@pytest.mark.parametrize(("row", "start"), list(enumerate(STARTS)))
def test_a_row_is_that_of_a_small_batch_run_of_that_length_and_of_a_large_batch_run_from_its_weights(
    measured: Rows, row: int, start: int
) -> None:
    found, model = measured[row], runs.network()
    assert (found["start_epoch"], found["status"]) == (start, "ok")
    if start:  # at a constant rate an epoch does not know how many are to come
        final = by_hand(model, SMALL, start)
        assert final_of(found, "small") == pytest.approx([final[name] for name in FINAL])
        assert of(found, "small", "sharpness_pct") == pytest.approx(sharpness(model)[0], rel=1e-9)
        assert of(found, "small", "distance_from_initial") == pytest.approx([moved(model)])
    final = by_hand(model, LARGE, LARGE_EPOCHS)
    assert final_of(found, "large") == pytest.approx([final[name] for name in FINAL])
    assert of(found, "large", "distance_from_start") == pytest.approx([final["distance_from_initial"]])
    ten, converged = sharpness(model)
    assert of(found, "large", "sharpness_pct") == pytest.approx(ten, rel=1e-9)
    assert of(found, "large", "sharpness_converged_pct") == pytest.approx(converged, rel=1e-9)
    assert of(found, "large", "distance_from_initial") == pytest.approx([moved(model)])


def test_starts_differ(uninterrupted: Rows) -> None:
    for phase, name in (("small", "weight_norm"), ("large", "weight_norm"), ("small", "sharpness_pct")):
        assert len({of(row, phase, name)[0] for row in uninterrupted}) == len(STARTS)


def test_a_diverged_run_is_recorded(tmp_path: Path) -> None:
    rows = list(cell(tmp_path / "folder", training=runs.changed(TRAINING, lr_start=1e300)).rows())
    assert [row["status"] for row in rows] == ["large diverged"] + ["small diverged"] * 3
    assert all(math.isfinite(value) for value in of(rows[0], "small", "error_pct"))
    assert not of(rows[0], "large", "error_pct")
    assert not any(row["values"] for row in rows[1:])


def test_a_regression_has_its_own_error(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    arrays = [draw.normal(size=(count, width)).astype(np.float32) for count in (62, 20) for width in (3, 1)]
    data = Table("made up", 1, *arrays)
    training = runs.changed(TRAINING, task="regression", augment=False, lr_start=0.05)

    def line() -> torch.nn.Module:
        with seeds.seeded(0, "test"):
            return torch.nn.Linear(3, 1)

    changes = {"make": line, "data": data, "training": training, "settings": replace(SETTINGS, starts=(0, 1))}
    cold, _ = cell(tmp_path / "folder", **changes).rows()
    options = {"batch_size": LARGE, "epochs": LARGE_EPOCHS, "seed": 3, "device": "cpu"}
    final = train(line(), data, training, **options).final
    for quantity in ("rmse_pct", "squared_error", "r2"):
        known = [final[f"{split}_{quantity}"] for split in ("train", "test")]
        assert of(cold, "large", quantity) == pytest.approx(known)
        assert quantity in warm_start.QUANTITIES
    rmse, loss = of(cold, "large", "rmse_pct"), of(cold, "large", "squared_error")
    assert rmse == pytest.approx([100 * value**0.5 for value in loss], rel=1e-6)
    assert not of(cold, "large", "error_pct")


# --- stops and kills --------------------------------------------------------------------------------------------------


class After:
    """Asks to stop after so many updates."""

    def __init__(self, updates: int) -> None:
        self.left = updates

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


def stopped(folder: Path, updates: int) -> warm_start_runs.WarmStart:
    with pytest.raises(StoppedError, match="folder"):
        list(cell(folder, stop=After(updates)).rows())
    return cell(folder)


@pytest.mark.parametrize("updates", [0, 10, 21, 27, 30, UPDATES - 1])
def test_a_stopped_run_goes_on_to_the_same_rows(tmp_path: Path, uninterrupted: Rows, updates: int) -> None:
    assert list(stopped(tmp_path / "folder", updates).rows()) == uninterrupted


def test_a_state_that_is_written_anew_in_mid_epoch_is_seen(tmp_path: Path, uninterrupted: Rows) -> None:
    again = stopped(tmp_path / "folder", 24)  # three updates into the epoch after 3
    (tmp_path / "folder/start3.safetensors").unlink()
    assert [row == whole for row, whole in zip(again.rows(), uninterrupted, strict=True)] == [True, True, False, True]


@pytest.mark.parametrize(("every", "epoch"), [(1, 0), (1, 3), (2, 3), (2, 4), (3, 3)])
def test_a_kill_between_a_checkpoint_and_the_state_of_its_epoch_loses_no_state(
    tmp_path: Path, uninterrupted: Rows, every: int, epoch: int
) -> None:
    write, again = weights.write_weights, cell(tmp_path / "f", checkpoint_epochs=every)

    def killed(path: Path, *arguments: Any) -> None:
        if path.name == f"start{epoch}.safetensors":
            raise InterruptedError
        write(path, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(warm_start_runs, "write_weights", killed)
        with pytest.raises(InterruptedError):
            list(again.rows())
    assert list(again.rows()) == uninterrupted


@pytest.mark.parametrize("name", ["row0", "kept", "start3"])
def test_a_damaged_file_is_never_taken(tmp_path: Path, uninterrupted: Rows, name: str) -> None:
    again = stopped(tmp_path / "folder", 45)  # in the large-batch run from epoch 3
    path = tmp_path / f"folder/{name}.safetensors"
    content = bytearray(path.read_bytes())
    content[-1 if name == "start3" else content.index(b"start_epoch" if name == "row0" else b"kept") + 15] ^= 1
    path.write_bytes(content)
    if name == "start3":
        with pytest.raises(InputError, match=f"start3.safetensors is damaged; remove {tmp_path / 'folder'}"):
            list(again.rows())
    else:
        assert list(again.rows()) == uninterrupted


def test_what_is_finished_is_not_done_again(
    tmp_path: Path, uninterrupted: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    again, sizes, whole = (
        stopped(tmp_path / "folder", UPDATES - 8),
        [],
        loop.Training,
    )  # in the run of the last start but one

    def noted(*arguments: Any, **options: Any) -> Any:
        sizes.append(options["batch_size"])
        return whole(*arguments, **options)

    monkeypatch.setattr(warm_start_runs, "Training", noted)
    assert list(again.rows()) == uninterrupted
    assert sizes == [LARGE] * 2
    assert list(again.rows()) == uninterrupted
    assert sizes == [LARGE] * 2
    assert not list((tmp_path / "folder").glob("large*"))
    again.remove()
    assert not (tmp_path / "folder").exists()


def test_another_run_s_folder_is_emptied_and_a_stranger_s_refused(tmp_path: Path, uninterrupted: Rows) -> None:
    folder = tmp_path / "folder"
    other = cell(folder, identity={"run": "b"}, training=runs.changed(TRAINING, lr_start=0.01), stop=After(30))
    with pytest.raises(StoppedError):
        list(other.rows())
    assert list(cell(folder).rows()) == uninterrupted
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="mine"):
        next(cell(tmp_path / "mine").rows())
    assert (tmp_path / "mine/thesis.txt").exists()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: replace(SETTINGS, starts=()), "[]"),
        (lambda: replace(SETTINGS, starts=(3, 1)), "[3, 1]"),
        (lambda: replace(SETTINGS, starts=(0, 5)), "[0, 5]"),
        (lambda: replace(SETTINGS, starts=(-1,)), "[-1]"),
    ],
)
def test_starts_that_cannot_be_are_refused(make: Callable[[], object], said: str) -> None:
    with pytest.raises(InputError) as refused:
        make()
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"training": runs.changed(TRAINING, updates=5)}, "train.schedule.updates has no meaning in a warm start"),
        ({"training": runs.changed(TRAINING, lr_candidates=(0.1,), validation_images=5)}, "train.tuning.lr_candidates"),
        ({"training": runs.changed(TRAINING, observers=("strides",))}, "train.observers has no meaning"),
        ({"settings": replace(SETTINGS, large=63)}, "got 63"),
        ({"settings": replace(SETTINGS, large_epochs=0)}, "epochs must be at least 1"),
    ],
)
def test_what_cannot_run_is_refused_before_anything_is_trained(tmp_path: Path, changes: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        next(cell(tmp_path / "folder", **changes).rows())
    assert not (tmp_path / "folder").exists()


# --- the stages -------------------------------------------------------------------------------------------------------

TINY = [
    "study=keskar_warmstart", "models=[lenet5_w0.5]", "datasets=[digits]", "seeds=[0]",
    "warmstart.small=50", "warmstart.large=200", "warmstart.small_epochs=3", "warmstart.large_epochs=2",
    "warmstart.starts=[0,1,2]", "sharpness.images=50", "sharpness.epsilons=[1.0e-3,5.0e-4]",
    "sharpness.converged_starts=0", "runtime.checkpoint_epochs=1",
]  # fmt: skip
NAME = "lenet5_w0.5-digits-s0"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of 250 digits: params, data, and the declarations that stages read."""
    made = tmp_path_factory.mktemp("stage")
    compose_and_dump(str(made / "params.yaml"), str(ROOT / "conf"), None, "config", str(ROOT), TINY)
    sources.fetch("digits", made / "all.npz", {})
    with np.load(made / "all.npz") as arrays:
        few = {name: array[:250] for name, array in arrays.items() if name != "classes"}
    np.savez(made / "digits.npz", **few)
    shutil.copy(ROOT / "revisions.yaml", made)
    return made


def training(out: str) -> list[str]:
    common = ["--model", "lenet5_w0.5", "--data", "digits.npz", "--seed", "0"]
    return [*common, "--out", f"{out}/{NAME}", "--checkpoint", f"unfinished/{Path(out).name}"]


@pytest.fixture(scope="module")
def records(folder: Path) -> Path:
    out = "metrics/keskar_warmstart/warmstart"
    run(folder, "warmstart", *training(out))
    return folder / out


def test_a_killed_stage_ends_with_the_table_of_one_that_was_not(
    folder: Path, records: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unfinished = folder / "unfinished/killed"
    for file, number, status in (("start1.safetensors", signal.SIGKILL, -9), ("row0.safetensors", signal.SIGTERM, 130)):
        process = Forked(folder / "log", run, folder, "warmstart", *training("killed"))
        process.wait_for((unfinished / file).exists)
        process.send_signal(number)
        assert process.end() == status
        assert process.output.read_text().count(str(Path("unfinished/killed"))) >= (number == signal.SIGTERM)
    capsys.readouterr()
    run(folder, "warmstart", *training("killed"))
    assert "from epoch 0" not in capsys.readouterr().out  # that start was finished
    whole = (records / f"{NAME}.csv").read_bytes()
    assert (folder / f"killed/{NAME}.csv").read_bytes() == whole
    assert not list((folder / "unfinished").iterdir())
    record = json.loads((records / f"{NAME}.json").read_text())
    assert record["starts"] == {"0": "ok", "1": "ok", "2": "ok"}
    assert (record["dataset"], record["settings"]["starts"], "patience" in record["train"]["schedule"]) == (
        "digits",
        [0, 1, 2],
        False,
    )


def test_the_state_of_other_code_is_refused(folder: Path, records: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(warm_start_runs, "stop_requests", lambda: nullcontext(After(9)))
        with pytest.raises(SystemExit, match="130"):
            run(folder, "warmstart", *training("edited"))
    before = (folder / "revisions.yaml").read_text()
    (folder / "revisions.yaml").write_text("warmstart: {revision: 99}\n")
    capsys.readouterr()
    run(folder, "warmstart", *training("edited"))
    (folder / "revisions.yaml").write_text(before)
    said = capsys.readouterr().out
    assert "revision was 1, is now 99" in said
    assert "going on from" not in said
    assert (folder / f"edited/{NAME}.csv").read_bytes() == (records / f"{NAME}.csv").read_bytes()


def test_the_tables_have_every_row_their_means_and_the_figure(folder: Path, records: Path) -> None:
    run(folder, "warmstart_report", "--out", "metrics/keskar_warmstart")
    table = read_long(folder / "metrics/keskar_warmstart/warmstart.csv")
    own = read_long(records / f"{NAME}.csv")
    pd.testing.assert_frame_equal(table[own.columns], own)
    assert set(table["model"]) == {"lenet5_w0.5"}
    assert dict(zip(table["phase"], table["batch_size"], strict=True)) == {"small": 50, "large": 200}
    summary = json.loads((folder / "metrics/keskar_warmstart/summary.json").read_text())
    error = select(own, "error_pct", {"phase": "large", "split": "test", "start_epoch": 1})["value"].item()
    assert summary["lenet5_w0.5-digits"]["start1"]["large"]["test_error_pct"] == error
    run(folder, "plots", "--out", "plots")
    assert len(pd.read_csv(folder / "plots/warmstart.csv")) == 3 * 3 * 2  # starts, panels, sides
    assert (folder / "plots/warmstart.svg").read_text().startswith("<svg")


@pytest.mark.parametrize(
    ("study", "own"),
    [
        ("keskar_warmstart", [f"warmstart@keskar_warmstart-f1-mnist-{seed}" for seed in (3, 4, 5)]),
        ("random_matrices", []),
        ("quick", []),
    ],
)
def test_a_study_of_warm_starts_runs_their_stages_alone_and_others_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, study: str, own: list[str]
) -> None:
    params = str(tmp_path / "params.yaml")
    compose_and_dump(params, str(ROOT / "conf"), None, "config", str(ROOT), [f"study={study}"])
    (tmp_path / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    with Repo.init(no_scm=True) as repo:
        stages = {stage.addressing for stage in repo.index.stages}
    report = [f"warmstart_report@{study}"] if own else []
    assert {name for name in stages if name.startswith("warmstart")} == {*own, *report}
    if own:
        last = {f"{stage}@{study}" for stage in ("plots", "claims", "settings", "report")}
        assert stages == {"check", "download@mnist", *own, *report, *last}
