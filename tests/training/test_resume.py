"""A run that is killed and started again ends with the bits of one that was never stopped."""

import random
import re
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import runs
import torch
from processes import Forked
from torch import Tensor

from gapscope import seeds
from gapscope.errors import InputError, StoppedError
from gapscope.optim.adam import Adam
from gapscope.optim.imported import TorchOptimizer
from gapscope.optim.sgd import SGD
from gapscope.records.checkpoints import Checkpoint, content_digest
from gapscope.training import state

IDENTITY = {"batch_size": 20, "settings": {"momentum": 0.9}}
Ended = tuple[dict[str, torch.Tensor], list[dict]]


def ended(checkpoint: Checkpoint | None = None, **changes) -> Ended:
    model = runs.network()
    result = runs.run(model, checkpoint, **changes)
    assert all(p.grad is not None and p.grad.abs().max() > 1e-6 for p in model.parameters())  # else all would agree
    return model.state_dict(), runs.plain(result.history)


@pytest.fixture(scope="module")
def uninterrupted() -> Ended:
    return ended()


def differ(one: Ended, other: Ended) -> bool:
    (weights, history), (known, known_history) = one, other
    return history != known_history or any(not torch.equal(weights[name], known[name]) for name in known)


class After:
    """Asks to stop after so many updates."""

    def __init__(self, updates: int) -> None:
        self.left = updates

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


def stopped(path: Path, updates: int, **changes) -> Checkpoint:
    checkpoint = Checkpoint(path, IDENTITY, 100)
    with pytest.raises(StoppedError, match="checkpoint"):
        runs.run(runs.network(), checkpoint, stop=After(updates), **changes)
    return checkpoint


@pytest.mark.parametrize("updates", [1, 3, 4, 5, 12, 23])  # an epoch has 4
def test_a_stopped_run_goes_on_with_the_same_bits(tmp_path: Path, uninterrupted: Ended, updates: int) -> None:
    assert not differ(ended(stopped(tmp_path / "checkpoint", updates)), uninterrupted)


def test_seconds_before_the_stop_count(tmp_path: Path) -> None:
    checkpoint = stopped(tmp_path / "checkpoint", 13)
    tensors, progress = checkpoint.load() or ({}, {})
    checkpoint.save(tensors, progress | {"seconds": 1000.0})
    assert runs.run(runs.network(), checkpoint).final["wall_s"] > 1000


LEFT_OUT = {
    "weights": lambda tensors, _: {name: t for name, t in tensors.items() if not name.endswith("weight")},
    "running statistics": lambda tensors, _: {name: t for name, t in tensors.items() if "running" not in name},
}


@pytest.mark.parametrize("item", [*LEFT_OUT, "velocities", "step", "history"])
def test_a_state_item_left_out_is_seen(
    tmp_path: Path, uninterrupted: Ended, item: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = stopped(tmp_path / "checkpoint", 13)
    tensors, progress = checkpoint.load() or ({}, {})
    if item in LEFT_OUT:
        whole = state.TrainingState.tensors
        tensors = LEFT_OUT[item](tensors, None)
        monkeypatch.setattr(state.TrainingState, "tensors", lambda state: LEFT_OUT[item](whole(state), None))
    elif item == "velocities":
        monkeypatch.setattr(SGD, "restore", lambda *_: None)
    else:
        progress |= {"step": 12} if item == "step" else {"history": progress["history"][1:]}
    checkpoint.save(tensors, progress)
    assert differ(ended(checkpoint), uninterrupted)


ADAM = {"name": "adam", "lr_start": 1e-3, "lr_end": 1e-3}


@pytest.mark.parametrize("forgotten", ["nothing", "mean", "square", "step"])
def test_a_stopped_run_of_adam_goes_on_with_the_same_bits(
    tmp_path: Path, forgotten: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = stopped(tmp_path / "checkpoint", 13, **ADAM)
    restore = Adam.restore

    def without(adam: Adam, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
        own = {name: tensor.clone() for name, tensor in adam.state().items() if name.startswith(forgotten)}
        restore(adam, {**tensors, **own}, numbers)

    monkeypatch.setattr(Adam, "restore", without)
    assert differ(ended(checkpoint, **ADAM), ended(**ADAM)) == (forgotten != "nothing")


@pytest.mark.parametrize("stream", ["order", "augmentation", "dropout"])
def test_a_stream_that_is_not_taken_up_is_seen(
    tmp_path: Path, uninterrupted: Ended, stream: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = stopped(tmp_path / "checkpoint", 13)
    named = seeds.stream_seed
    monkeypatch.setattr(seeds, "stream_seed", lambda *names: named(*names, *(["other"] if stream in names else [])))
    assert differ(ended(checkpoint), uninterrupted)


def test_a_killed_process_goes_on_with_the_same_bits(tmp_path: Path, uninterrupted: Ended) -> None:
    """SIGKILL at random moments, ten times: in an update, an evaluation, the writing of a checkpoint."""
    out, checkpoint = tmp_path / "out", tmp_path / "checkpoint"
    pauses, killed, went_on = random.Random(0), 0, 0
    while killed < 10 or not out.exists():
        if out.exists():  # a fast machine gets to the end sooner: from the start again
            assert not differ(torch.load(out), uninterrupted)
            out.unlink()
            checkpoint.unlink()
        process = Forked(tmp_path / "log", runs.main, out, checkpoint)
        process.wait_for_output("ready\n")
        if killed >= 5:  # on a slow machine too some of the kills come after the first checkpoint
            process.wait_for(lambda: checkpoint.exists() or out.exists())
        if killed < 10:
            time.sleep(pauses.uniform(0.0, 0.05 * (1 + killed)))
            process.send_signal(signal.SIGKILL)
        status = process.end()
        killed += status == -signal.SIGKILL
        went_on += "going on from update" in process.output.read_text()
        assert status in {0, -signal.SIGKILL}
    assert went_on > 0
    assert not differ(torch.load(out), uninterrupted)


def test_another_run_s_checkpoint_is_refused_with_the_reason(
    tmp_path: Path, uninterrupted: Ended, capsys: pytest.CaptureFixture[str]
) -> None:
    stopped(tmp_path / "checkpoint", 13)
    other = Checkpoint(tmp_path / "checkpoint", {**IDENTITY, "settings": {"momentum": 0.8}}, 100)
    assert not differ(ended(other), uninterrupted)  # from the start
    assert re.search(r"settings.momentum\b.*0\.9.*0\.8", capsys.readouterr().out)


WRONG = {
    "missing": lambda tensors, _: tensors.pop("model.head.weight"),
    "extra": lambda tensors, _: tensors.update({"model.more": torch.zeros(2)}),
    "of the optimiser missing": lambda tensors, _: tensors.pop("optimizer.velocity.0"),
    "of the optimiser, another shape": lambda tensors, _: tensors.update({"optimizer.velocity.0": torch.zeros(())}),
    "another shape": lambda tensors, _: tensors.update({"model.head.bias": torch.zeros(1, dtype=torch.float64)}),
    "another type": lambda tensors, _: tensors.update({"model.head.bias": torch.zeros(10)}),
    "step beyond the run": lambda _, progress: progress.update(step=10**9),
    "step before the run": lambda _, progress: progress.update(step=-1),
    "no step": lambda _, progress: progress.pop("step"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_state_that_does_not_fit_the_run_is_refused(tmp_path: Path, wrong: str) -> None:
    """It belongs to the run by its identity and has the right checksum, and still is not taken or broadcast."""
    checkpoint = stopped(tmp_path / "checkpoint", 5)
    tensors, progress = checkpoint.load() or ({}, {})
    WRONG[wrong](tensors, progress)
    checkpoint.save(tensors, progress)
    with pytest.raises(InputError, match=rf"{checkpoint.path} is not a state of this run .*; remove it"):
        runs.run(runs.network(), checkpoint)


def test_a_checkpoint_without_a_checksum_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """That of an older version, or one whose word `sha256` has a flipped byte."""
    checkpoint = stopped(tmp_path / "checkpoint", 5)
    checkpoint.path.write_bytes(checkpoint.path.read_bytes().replace(b"sha256", b"rha256"))
    assert checkpoint.load() is None
    assert "training starts afresh" in capsys.readouterr().out


def test_half_a_checkpoint_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = stopped(tmp_path / "checkpoint", 5)
    whole = checkpoint.path.read_bytes()
    checkpoint.path.write_bytes(whole[: len(whole) // 2])
    assert checkpoint.load() is None
    assert str(checkpoint.path) in capsys.readouterr().out


def test_a_flipped_byte_is_refused_anywhere_in_a_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = stopped(tmp_path / "checkpoint", 5)
    whole = checkpoint.path.read_bytes()
    metadata = whole.index(b"__metadata__")
    places = [*range(8, metadata + 120, 3), *range(len(whole) - 1, metadata, -len(whole) // 200)]
    assert len(places) > 200
    for place in places:
        checkpoint.path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert checkpoint.load() is None, place
    assert len(capsys.readouterr().out.splitlines()) == len(places)
    checkpoint.path.write_bytes(whole)
    assert checkpoint.load() is not None


def test_the_checksum_covers_names_types_and_shapes() -> None:
    tensors = {"a": torch.zeros(2, 3, dtype=torch.bfloat16), "b": torch.tensor(True)}
    others = (
        {"a": tensors["a"].reshape(3, 2), "b": tensors["b"]}, {"a": tensors["a"].half(), "b": tensors["b"]},
        {"b": tensors["a"], "a": tensors["b"]}, {"a": tensors["a"]}, {"a": tensors["a"], "b": torch.tensor(False)},
    )  # fmt: skip
    digests = {content_digest(each, "{}") for each in (tensors, dict(reversed(tensors.items())), *others)}
    assert len(digests) == 1 + len(others)
    assert content_digest(tensors, "{} ") not in digests


def test_a_checkpoint_every_so_many_epochs(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "checkpoint", IDENTITY, 2)
    steps = []
    save = Checkpoint.save

    def note(self: Checkpoint, tensors: dict, progress: dict) -> None:
        steps.append(progress["step"])
        save(self, tensors, progress)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoint, "save", note)
        runs.run(runs.network(), checkpoint)
    assert steps == [8, 16]  # of 24 updates, 4 an epoch; none at the end
    checkpoint.remove()
    assert not checkpoint.path.exists()


@pytest.mark.filterwarnings("ignore")  # importing torch._dynamo warns of other packages
@pytest.mark.parametrize("fault", [False, True])
@pytest.mark.parametrize("name", ["torch.optim:AdamW", "torch.optim:Adagrad"])
def test_a_stopped_run_of_an_imported_optimiser_goes_on_with_the_same_bits(
    tmp_path: Path, name: str, fault: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {"name": name, "lr_start": 1e-2, "lr_end": 1e-3}
    checkpoint = stopped(tmp_path / "checkpoint", 13, **own)
    known = ended(**own)
    if fault:
        monkeypatch.setattr(TorchOptimizer, "restore", lambda *_: None)
    assert differ(ended(checkpoint, **own), known) == fault
