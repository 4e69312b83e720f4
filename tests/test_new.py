"""`gapscope new`: what it writes can be run, and what it refuses leaves no file."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_cli import ROOT, call
from test_pipeline import run, tracked_copy

from gapscope.cli import new
from gapscope.cli.compose import composed
from gapscope.data.sources import fetch

NET = """
from torch import Tensor, nn

class Net(nn.Module):
    def __init__(self, image_shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        channels, height, width = image_shape
        pixels = channels * height * width
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(pixels, 8), nn.ReLU(), nn.Linear(8, classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)
"""
READER = """
from torch import Tensor, nn

class Reader(nn.Module):
    def __init__(self, image_shape: tuple[int], classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Embedding(classes, 8), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, classes))

    def forward(self, tokens: Tensor) -> Tensor:
        return self.layers(tokens)
"""
ASKED = ("new", "mine", "--model", "made.up.nets:Net", "--data", "blobs.npz")


def make_up(folder: Path, train: int = 200) -> None:
    """Write a network, and data of which the brighter half of the image gives the class."""
    (folder / "made/up").mkdir(parents=True)
    (folder / "made/up/nets.py").write_text(NET)
    draw = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", train), ("test", 40)):
        labels = np.arange(count) % 2
        images = draw.integers(0, 100, (count, 6, 6))
        images[:, :, :3] += 100 * labels[:, None, None]
        arrays |= {f"x_{split}": images.astype(np.uint8), f"y_{split}": labels}
    np.savez(folder / "blobs.npz", **arrays)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("conf", "hydra_plugins"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    make_up(tmp_path)
    return tmp_path


def test_it_writes_a_study_that_composes_and_passes_the_plan(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, *ASKED) == 0
    assert "next: gapscope run mine" in capsys.readouterr().out
    params, _ = composed(["study=mine"])
    assert (params.study, params.models, params.datasets) == ("mine", ("net",), ("blobs",))
    assert params.batch_sizes == (16, 64, 16)  # at most half of 200 images; the last one is for -S batch_size=N
    assert params.groups["code"] == {"model": "made/up/nets.py", "models": {"net": "made.up.nets:Net"}}
    assert call(monkeypatch, "new", "other", *ASKED[2:], "--batch-sizes", "10", "20", "--epochs", "3") == 0
    params, _ = composed(["study=other"])
    assert (params.batch_sizes, params.epochs) == ((10, 20, 10), 3)


def test_sets_of_labels_are_a_task_of_their_own(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arrays = dict(np.load("blobs.npz"))
    for split in ("train", "test"):
        labels = arrays[f"y_{split}"]
        arrays[f"y_{split}"] = np.stack([labels, 1 - labels, np.arange(len(labels)) % 3 == 0], 1).astype(np.uint8)
    np.savez("blobs.npz", **arrays)
    assert call(monkeypatch, *ASKED) == 0, capsys.readouterr().err
    params, _ = composed(["study=mine"])
    assert params.groups["train"]["task"] == "multilabel_classification"


def flat(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: array.reshape(len(array), -1) if name[0] == "x" else array for name, array in arrays.items()}


def floats(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: array / np.float32(255) if name[0] == "x" else array for name, array in arrays.items()}


def medmnist(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Its names of the arrays, and its labels (N, 1)."""
    kinds = {"x": "images", "y": "labels"}
    named = {f"{name[2:]}_{kinds[name[0]]}": array for name, array in arrays.items()}
    return {name: array[:, None] if array.ndim == 1 else array[..., None] for name, array in named.items()}


@pytest.mark.parametrize(
    ("change", "option", "stated"),
    [
        (flat, "--shape 1 6 6", {"shapes": {"blobs": [1, 6, 6]}}),
        (floats, "--range 0 1", {"ranges": {"blobs": [0.0, 1.0]}}),
        (medmnist, "", {}),
    ],
)
def test_it_takes_the_files_that_the_download_stage_takes(
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    change: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]],
    option: str,
    stated: dict[str, object],
) -> None:
    np.savez("blobs.npz", **change(dict(np.load("blobs.npz"))))
    assert call(monkeypatch, *ASKED) == (2 if option else 0)
    if option:
        assert call(monkeypatch, *ASKED, *option.split()) == 0
    params, _ = composed(["study=mine"])
    defaults = {"files": {"blobs": "blobs.npz"}, "shapes": {}, "ranges": {}, "lengths": {}}
    assert params.groups["data"] == defaults | stated
    record = fetch("blobs", folder / "written.npz", **params.groups["data"])  # as the stage does
    assert record["image_shape"] == [1, 6, 6]


def test_a_text_is_a_task_of_its_own(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tokens = np.arange(100_000) % 7
    np.savez("blobs.npz", train=tokens[:80_000].astype(np.uint8), test=tokens[80_000:].astype(np.uint8))
    (folder / "made/up/reader.py").write_text(READER)
    assert call(monkeypatch, *ASKED[:3], "made.up.reader:Reader", *ASKED[4:]) == 0, capsys.readouterr().err
    params, _ = composed(["study=mine"])
    assert params.groups["train"]["task"] == "language_model"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("new ../mine --model made.up.nets:Net --data blobs.npz", "'../mine'"),
        ("new claims --model made.up.nets:Net --data blobs.npz", "metrics/claims"),
        ("new quick --model made.up.nets:Net --data blobs.npz", "conf/study/quick.yaml is there already"),
        ("new mine --model made.up.nets --data blobs.npz", "package.module:Class"),
        ("new mine --model made.up.nots:Net --data blobs.npz", "made/up/nots.py"),
        ("new mine --model made.up.nets:Not --data blobs.npz", "made.up.nets:Not"),
        ("new mine --model made.up.nets:Net --data blubs.npz", "blubs.npz"),
        ("new mine --model made.up.nets:Net --data a$(b).npz", r"a\$\(b\).npz.*rename"),
        ("new mine --model made.up.nets:Net --data text.npz", "text.npz"),
        ("new mine --model made.up.nets:Net --data blobs.npz --batch-sizes 16 300", "300.*200"),
        ("new mine --model made.up.nets:Net --data blobs.npz --epochs 0", "epochs.*0"),
    ],
)
def test_what_it_refuses_is_one_line_and_leaves_no_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: str, said: str
) -> None:
    (folder / "text.npz").write_text("no arrays")
    shutil.copy("blobs.npz", "a$(b).npz")
    before = {path: path.read_bytes() for path in Path("conf").rglob("*") if path.is_file()}
    assert call(monkeypatch, *arguments.split()) == 2
    assert re.fullmatch(f"gapscope: .*{said}.*\n", capsys.readouterr().err)
    assert {path: path.read_bytes() for path in Path("conf").rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("path", "name"), [("a.b:Net", "net"), ("a:LeNet5", "my_lenet5"), ("a:Net_w2", "netw2"), ("a:VGG16", "my_vgg16")]
)
def test_a_network_s_plain_name(path: str, name: str) -> None:
    assert new.model_name(path) == name


@pytest.mark.integration
def test_a_made_up_network_and_data_come_to_a_page(tmp_path: Path) -> None:
    folder = tracked_copy(tmp_path / "gapscope")
    make_up(folder)
    run(folder, "gapscope", *ASKED, "--epochs", "2")
    short = ("-S", "seeds=[0]", "-S", "sharpness.converged_starts=0")
    output = run(folder, "gapscope", "run", "mine", "-j", "2", *short)
    assert "reports/mine.html" in output
    gap = pd.read_csv(folder / "metrics/mine/gap.csv")
    assert gap[["model", "dataset", "batch_size", "n"]].to_numpy().tolist() == [["net", "blobs", 64, 1]]
    assert "made.up.nets:Net" in (folder / "reports/mine.html").read_text()
