"""Several ranks against one: the same weights to rounding, with uneven splits, and not without what makes them so."""

import signal
import socket
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import runs
import torch
from processes import Forked
from torch import nn

from gapscope.errors import InputError, StoppedError
from gapscope.training import distributed as ranks
from gapscope.training.batches import check_batches
from gapscope.training.distributed import ALONE, Ranks, launch, requested_ranks


def started(logs: Path, world: int, *arguments: object, main: Callable[..., None] = runs.main) -> list[Forked]:
    """Start several ranks, which get from their environment what torchrun would say to them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    own = ({"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(world))
    return [Forked(logs / f"{names['RANK']}.log", main, *arguments, **common, **names) for names in own]


def end(ranks: list[Forked]) -> None:
    """Wait until all have trained to the end."""
    assert [rank.end() for rank in ranks] == [0] * len(ranks), [rank.output.read_text() for rank in ranks]


def together(tmp_path: Path, world: int, variant: str = "right") -> dict[str, torch.Tensor]:
    """Train on several ranks."""
    end(started(tmp_path, world, tmp_path / "out", None, variant))
    return torch.load(tmp_path / "out")[0]


@cache
def alone(batch_norm: bool = True, **changes: object) -> dict[str, torch.Tensor]:
    model = runs.network(dropout=0.0, batch_norm=batch_norm)
    runs.run(model, **changes)
    return model.state_dict()


def difference(found: dict[str, torch.Tensor], known: dict[str, torch.Tensor]) -> float:
    return max(float((found[name] - known[name]).abs().max()) for name in known if known[name].is_floating_point())


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_equal_one(tmp_path: Path, world: int) -> None:
    assert difference(together(tmp_path, world), alone()) < 1e-12


@pytest.mark.parametrize(("world", "micro_batches"), [(2, False), (3, False), (2, True), (3, True)])
def test_ranks_discard_as_one_does(tmp_path: Path, world: int, micro_batches: bool) -> None:
    known = alone(batch_norm=not micro_batches, discard=runs.DISCARD)
    variant = "discarded in micro-batches" if micro_batches else "discarded"
    assert difference(together(tmp_path, world, variant), known) < 1e-12
    assert difference(alone(batch_norm=not micro_batches), known) > 1e-3


def test_ranks_do_not_discard_as_one_does_if_each_ranks_its_own_samples(tmp_path: Path) -> None:
    found = together(tmp_path, 2, "discarded, ranked by each rank")
    assert difference(found, alone(discard=runs.DISCARD)) > 1e-3


def test_ranks_record_the_losses_of_the_whole_batch(tmp_path: Path) -> None:
    together(tmp_path, 2, "losses")
    observed = torch.load(tmp_path / "out")[1]
    known = runs.run(runs.network(dropout=0.0), observers=("losses",)).observed
    assert len(observed) == len(known)
    for row, of_one in zip(observed, known, strict=True):
        assert row == of_one | {"value": pytest.approx(of_one["value"], rel=1e-9)}


def test_ranks_do_not_equal_one_if_each_takes_its_own_mean(tmp_path: Path) -> None:
    assert difference(together(tmp_path, 3, "mean of each rank"), alone()) > 1e-3


def test_ranks_do_not_equal_one_if_each_normalises_by_itself(tmp_path: Path) -> None:
    found = together(tmp_path, 2, "batch norm of each rank")  # which cannot have a last batch of one image a rank
    assert difference(found, alone(drop_last=True)) > 1e-3


def test_killed_ranks_go_on_with_the_bits_of_ranks_that_were_not(tmp_path: Path) -> None:
    found = {}
    for name, killed in (("whole", False), ("killed", True)):
        out, state = tmp_path / f"{name}.out", tmp_path / f"{name}.state"
        if killed:
            ranks = started(tmp_path, 2, out, state)
            ranks[0].wait_for(state.exists)
            for rank in ranks:
                rank.send_signal(signal.SIGKILL)
            assert [rank.end() for rank in ranks] == [-signal.SIGKILL] * 2
        end(ranks := started(tmp_path, 2, out, state))
        assert ["going on from update" in rank.output.read_text() for rank in ranks] == [killed] * 2
        found[name] = torch.load(out)
    (weights, history), (known, known_history) = found["killed"], found["whole"]
    assert history == known_history
    assert all(torch.equal(weights[name], known[name]) for name in known)


def test_a_killed_rank_ends_the_others_with_one_line(tmp_path: Path) -> None:
    state = tmp_path / "state"
    ranks = started(tmp_path, 2, tmp_path / "out", state, main=runs.main_of_a_stage)
    ranks[0].wait_for(state.exists)
    ranks[1].send_signal(signal.SIGKILL)
    assert ranks[0].end() == 2
    said = ranks[0].output.read_text()
    assert "Traceback" not in said
    assert said.splitlines()[-1].startswith("train: another rank has ended; run it again")
    assert not (tmp_path / "out").exists()


def test_more_ranks_than_images_in_a_batch_raise() -> None:
    with pytest.raises(InputError, match="3 ranks cannot share a batch of 2"):
        check_batches(runs.network(), 62, runs.SETTINGS.lay_out(62, 2, 1), runs.SETTINGS, Ranks(0, 3))


@pytest.mark.parametrize("argument", ["--nproc_per_node=3", "--nproc-per-node 3"])
def test_a_launcher_that_asks_for_more_ranks_than_images_is_refused_before_it_starts(argument: str) -> None:
    settings, ranks = runs.SETTINGS, requested_ranks(f"torchrun --standalone {argument}")
    with pytest.raises(InputError, match="3 ranks cannot share a batch of 2"):
        check_batches(runs.network(), 62, settings.lay_out(62, 2, 1), settings, ranks)
    check_batches(runs.network(), 62, settings.lay_out(62, 20, 1), settings, ranks)
    assert requested_ranks(None) == requested_ranks("torchrun --standalone") == ALONE


def test_ghost_batch_norm_of_several_ranks_raises() -> None:
    settings = runs.changed(micro_batch=6, micro_batch_norm="ghost")
    run = settings.lay_out(62, 20, 1)
    check_batches(runs.network(), 62, run, settings)
    with pytest.raises(InputError, match="micro_batch_norm=ghost needs a single rank"):
        check_batches(runs.network(), 62, run, settings, Ranks(0, 3))


def test_statistics_over_ranks_are_in_float32_where_units_are_in_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "_total", lambda part: part)  # of one rank
    images = torch.randn(300, 3, 5, 5, generator=torch.Generator().manual_seed(0)).bfloat16()
    ours, theirs = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
    found, known = ranks._global_forward(ours, images), theirs(images.float())
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), known, rtol=2**-8, atol=2**-8)
    torch.testing.assert_close(ours.running_var, theirs.running_var, rtol=1e-5, atol=0)


@pytest.mark.parametrize(("caught", "error"), [(True, StoppedError), (False, InputError)])
def test_a_launcher_that_a_signal_stopped_has_not_failed(
    caught: bool, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = "os.kill(os.getppid(), signal.SIGTERM); time.sleep(60)" if caught else "raise SystemExit(3)"
    script = f"import os, signal, time; {stop}"
    monkeypatch.setattr(sys, "argv", ["-c", script])
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        with pytest.raises(error, match=sys.executable):
            launch(sys.executable)
    finally:
        for number, handler in zip((signal.SIGINT, signal.SIGTERM), before, strict=True):
            signal.signal(number, handler)


def test_a_launcher_that_is_not_there_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py"])
    with pytest.raises(InputError, match=r"runtime.launcher: .* nosuchrun"):
        launch("nosuchrun --nproc_per_node=2")
    monkeypatch.setenv("RANK", "0")
    assert not launch("nosuchrun")  # this is a rank already
