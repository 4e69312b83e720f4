"""Devices: the one asked for or one clear line, and named so that a run may go on on another of its kind."""

import pytest
import torch

from gapscope import runtime
from gapscope.errors import InputError
from gapscope.runtime import describe_device, pick_device, progress


@pytest.mark.parametrize(
    ("wanted", "gpus", "said"),
    [
        ("cuda", 0, "GAPSCOPE_DEVICE=cuda.*cpu"),
        ("cuda:2", 2, "GAPSCOPE_DEVICE=cuda:2.*2 GPUs"),
        ("tpu", 0, "GAPSCOPE_DEVICE.*'tpu'"),
        ("meta", 1, "GAPSCOPE_DEVICE.*'meta'"),
    ],
)
def test_a_device_that_is_not_here_is_one_clear_line(
    wanted: str, gpus: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GAPSCOPE_DEVICE", wanted)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    with pytest.raises(InputError, match=said):
        pick_device()


@pytest.mark.parametrize(("wanted", "gpus", "found"), [(None, 0, "cpu"), (None, 1, "cuda"), ("cuda:1", 2, "cuda:1")])
def test_the_device_is_the_one_asked_for_or_a_gpu_where_there_is_one(
    wanted: str | None, gpus: int, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GAPSCOPE_DEVICE", raising=False)
    if wanted:
        monkeypatch.setenv("GAPSCOPE_DEVICE", wanted)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert pick_device() == found


def test_gpus_of_one_kind_are_described_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _device: "NVIDIA H200")
    assert {describe_device(device) for device in ("cuda", "cuda:0", "cuda:1")} == {"cuda (NVIDIA H200)"}


def test_progress_is_a_line_every_few_seconds_and_one_at_the_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # at the start, after each item, and again where a line is printed: after items 2, 4 and 5
    clock = iter([0.0, 1.0, 3.5, 3.5, 4.0, 9.0, 9.0, 9.0])
    monkeypatch.setattr(runtime.time, "monotonic", lambda: next(clock))
    losses = []
    for item in progress(range(5), "run", facts=lambda: f"loss {losses[-1]}" if len(losses) > 2 else ""):
        losses.append(item / 10)
    assert capsys.readouterr().out.splitlines() == ["run: 2/5", "run: 4/5, loss 0.3", "run: 5/5, loss 0.4"]


def test_on_a_terminal_the_facts_stand_beside_the_bar(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(runtime.sys.stderr, "isatty", lambda: True)
    assert list(progress(range(3), "run", facts=lambda: "loss 0.5")) == [0, 1, 2]
    assert "loss 0.5" in capsys.readouterr().err


def test_an_error_s_line_shows_control_characters_and_passes_none_to_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def main() -> None:
        raise InputError("a\x1b[2J.npz\nis \u202eno f\u00fcnction \ud800")

    with pytest.raises(SystemExit):
        runtime.run_command(main)
    assert capsys.readouterr().err.partition(": ")[2] == "a\\x1b[2J.npz is \\u202eno f\u00fcnction \\ud800\n"
