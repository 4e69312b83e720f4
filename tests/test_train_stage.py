"""The train stage as DVC starts it: stopped by a signal and started again, under a launcher, after an edit of code."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

ROOT = Path(__file__).parents[1]
EPOCHS = 20


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    draw = np.random.default_rng(0)
    y = draw.integers(0, 10, 420)
    x = draw.integers(0, 100, (420, 28, 28), np.uint8) + (15 * y[:, None, None]).astype(np.uint8)
    np.savez(tmp_path / "noise.npz", x_train=x[:400], y_train=y[:400], x_test=x[400:], y_test=y[400:])
    (tmp_path / "digests").mkdir()
    (tmp_path / "digests/train.txt").write_text("as it is\n")
    write_params(tmp_path)
    return tmp_path


def write_params(folder: Path, epochs: int = EPOCHS, launcher: str | None = None) -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params |= {"study": "made_up", "models": ["lenet5"], "datasets": ["noise"], "batch_sizes": [40], "epochs": epochs}
    params["train"] |= {"threads": 1}
    params["runtime"] |= {"checkpoint_epochs": 1, "launcher": launcher}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))


def start(folder: Path, out: str) -> "subprocess.Popen[str]":
    command = [sys.executable, str(ROOT / "stages/train.py"), "--model", "lenet5", "--data", "noise.npz"]
    command += ["--batch-size", "40", "--seed", "0", "--checkpoint", f"{out}.checkpoint.safetensors"]
    command += ["--weights", f"{out}.safetensors", "--record", out]
    environment = os.environ | {"GAPSCOPE_DEVICE": "cpu", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, cwd=folder, env=environment, **pipes)


def ended(folder: Path, out: str) -> str:
    process = start(folder, out)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return output


def stopped(folder: Path, out: str, number: int) -> int:
    """Send the signal once two epochs are done, and return the exit status."""
    process = start(folder, out)
    lines = iter(process.stdout.readline, "")
    assert any(": 2/" in line for line in lines)
    process.send_signal(number)
    process.communicate(timeout=300)
    return process.returncode


def test_a_stage_that_is_stopped_ends_with_the_bits_of_one_that_is_not(folder: Path) -> None:
    ended(folder, "known")
    known = (folder / "known.safetensors").read_bytes()
    assert stopped(folder, "a", signal.SIGTERM) != 0
    assert not (folder / "a.safetensors").exists()
    assert "going on from update" in ended(folder, "a")
    assert (folder / "a.safetensors").read_bytes() == known
    assert stopped(folder, "b", signal.SIGKILL) == -signal.SIGKILL
    assert "going on from update" in ended(folder, "b")
    assert (folder / "b.safetensors").read_bytes() == known
    assert not list(folder.glob("*checkpoint*"))


def test_the_state_of_other_code_is_refused(folder: Path) -> None:
    stopped(folder, "a", signal.SIGTERM)
    (folder / "digests/train.txt").write_text("as it is now\n")
    assert "is of another run (code was " in ended(folder, "a")


def test_a_launcher_starts_ranks_that_train_as_one(folder: Path) -> None:
    write_params(folder, epochs=2)  # in float32 more would drive sums in another order apart
    ended(folder, "one")
    write_params(folder, 2, launcher=f"{sys.executable} -m torch.distributed.run --standalone --nproc_per_node=2")
    ended(folder, "two")
    records = [json.loads((folder / f"{out}.json").read_text()) for out in ("one", "two")]
    assert [record["provenance"]["ranks"] for record in records] == [1, 2]
    one, two = (load_file(folder / f"{out}.safetensors") for out in ("one", "two"))
    torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-4)
    assert len((folder / "two.csv").read_text().splitlines()) == 1 + 2  # written once
