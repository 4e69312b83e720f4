"""The train stage as DVC starts it: stopped by a signal and started again, under a launcher, after an edit of code."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from processes import Forked
from safetensors.torch import load_file
from scripts import run

ROOT = Path(__file__).parents[1]
EPOCHS = 20
LEARNING_RATE = 1e-3  # so small that ten updates do not amplify the rounding of sums in another order


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    draw = np.random.default_rng(0)
    y = draw.integers(0, 10, 420)
    x = draw.integers(0, 100, (420, 28, 28), np.uint8) + (15 * y[:, None, None]).astype(np.uint8)
    np.savez(tmp_path / "noise.npz", x_train=x[:400], y_train=y[:400], x_test=x[400:], y_test=y[400:])
    (tmp_path / "revisions.yaml").write_text("train: {revision: 1}\n")
    write_params(tmp_path)
    return tmp_path


def write_params(folder: Path, epochs: int = EPOCHS, launcher: str | None = None, **schedule: float) -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params |= {"study": "made_up", "models": ["lenet5"], "datasets": ["noise"], "batch_sizes": [40], "epochs": epochs}
    params["train"] |= {"threads": 1}
    params["train"]["schedule"] |= schedule
    params["runtime"] |= {"checkpoint_epochs": 1, "launcher": launcher}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))


def arguments(out: str) -> list[str]:
    return [
        "--model", "lenet5", "--data", "noise.npz", "--batch-size", "40", "--seed", "0",
        "--checkpoint", f"{out}.checkpoint.safetensors", "--weights", f"{out}.safetensors", "--record", out,
    ]  # fmt: skip


def stopped(folder: Path, out: str, number: int) -> int:
    """Send the signal once an epoch is done, and return the exit status."""
    process = Forked(folder / "log", run, folder, "train", *arguments(out))
    process.wait_for((folder / f"{out}.checkpoint.safetensors").exists)
    process.send_signal(number)
    return process.end()


def test_a_stage_that_is_stopped_ends_with_the_bits_of_one_that_is_not(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def ended(out: str) -> str:
        run(folder, "train", *arguments(out))
        return capsys.readouterr().out

    ended("known")
    known = (folder / "known.safetensors").read_bytes()
    assert stopped(folder, "a", signal.SIGTERM) == 130
    assert not (folder / "a.safetensors").exists()
    shutil.copy(folder / "a.checkpoint.safetensors", folder / "c.checkpoint.safetensors")
    assert "going on from update" in ended("a")
    assert (folder / "a.safetensors").read_bytes() == known
    assert stopped(folder, "b", signal.SIGKILL) == -signal.SIGKILL
    assert "going on from update" in ended("b")
    assert (folder / "b.safetensors").read_bytes() == known
    (folder / "revisions.yaml").write_text("train: {revision: 2}\n")
    refused = ended("c")  # the state of other code
    assert "revision was 1, is now 2" in refused
    assert "going on from update" not in refused
    assert (folder / "c.safetensors").read_bytes() == known
    assert not list(folder.glob("*checkpoint*"))


def test_a_launcher_starts_ranks_that_train_as_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That they do to 1e-12 is tested of `train`; here that the stage starts, joins and writes, in float32."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    small = {"epochs": 1, "lr_start": LEARNING_RATE, "lr_end": LEARNING_RATE}
    write_params(folder, **small)
    run(folder, "train", *arguments("one"))
    write_params(folder, **small, launcher=f"{sys.executable} -m torch.distributed.run --standalone --nproc_per_node=2")
    command = [str(ROOT / "stages/train.py"), *arguments("two")]
    with monkeypatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("GAPSCOPE_DEVICE", "cpu")
        subprocess.run([sys.executable, *command], check=True)
    made = [json.loads((folder / f"{out}.provenance.json").read_text()) for out in ("one", "two")]
    assert [how["ranks"] for how in made] == [1, 2]
    one, two = (load_file(folder / f"{out}.safetensors") for out in ("one", "two"))
    torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)
    assert pd.read_csv(folder / "two.csv")["epoch"].dropna().unique().tolist() == [1]  # written once
