"""Data: every source gives the same checked arrays, and every bad file one line that names it and its fault.

The network is a server of this process on 127.0.0.1; nothing here leaves the machine.
"""

import gzip
import hashlib
import io
import os
import pickle
import re
import socket
import struct
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scripts import file_size_limit
from sklearn.datasets import load_digits
from torchvision import datasets

from gapscope.data import datasets as data
from gapscope.data import sources
from gapscope.engine import locks
from gapscope.errors import InputError

ROOT = Path(__file__).parents[2]

ROUNDING = 1e-12  # both sides are sums of at most some thousand float64 numbers of one sign, on the scale 0..1
AT_ONCE_S = 0.8 * sources.TIMEOUT_S  # a refused connection takes milliseconds, but on a busy machine seconds


@pytest.fixture(autouse=True)
def _bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GAPSCOPE_DATA", raising=False)
    monkeypatch.setenv("no_proxy", "*")
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out" / "fetched.npz"


def left_behind(out: Path) -> list[Path]:
    """All that fetch left in its output's folder (temporary files too) and in the system's temporary folder."""
    return [path for folder in (out.parent, Path(tempfile.gettempdir())) for path in folder.rglob("*")]


def refusal(call: Callable[..., object], *args: object) -> str:
    try:
        call(*args)
    except InputError as error:
        return str(error)
    pytest.fail("nothing was refused")


def some_arrays(seed: int, image: tuple[int, ...] = (5, 4), classes: int = 3) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "x_train": rng.integers(0, 256, (7, *image), dtype=np.uint8),
        "y_train": np.arange(7) % classes,
        "x_test": rng.integers(0, 256, (4, *image), dtype=np.uint8),
        "y_test": np.arange(4) % classes,
    }


def write_npz(path: Path, **arrays: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)
    return path


def assert_holds(path: Path, arrays: dict[str, np.ndarray]) -> None:
    dataset = data.load(path)
    for name, expected in arrays.items():
        found = getattr(dataset, name)
        wanted = expected[:, None] if expected.ndim == 3 else expected
        assert found.dtype == (np.uint8 if name.startswith("x") else np.int64)
        np.testing.assert_array_equal(found, wanted)


# --- digits -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, Path]:
    path = tmp_path_factory.mktemp("digits") / "digits.npz"
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("GAPSCOPE_DATA", raising=False)
        return sources.fetch("digits", path, {}), path


def test_digits_shapes_and_note(digits):
    note, path = digits
    dataset = data.load(path)
    assert dataset.x_train.shape == (2874, 1, 28, 28)
    assert dataset.x_test.shape == (360, 1, 28, 28)
    assert dataset.x_train.dtype == dataset.x_test.dtype == np.uint8
    assert (dataset.classes, dataset.name, dataset.image_shape) == (10, "digits", (1, 28, 28))
    assert (note["train_images"], note["test_images"], note["classes"]) == (2874, 360, 10)
    assert "digits" in note["source"]


def test_digits_fill_the_range_of_grey_levels(digits):
    x_test = data.load(digits[1]).x_test
    assert (x_test.min(), x_test.max()) == (0, 255)


def test_digits_share_no_test_image_nor_a_nudge_of_one_with_training(digits):
    dataset = data.load(digits[1])
    training = {image.tobytes() for image in dataset.x_train}
    for image in dataset.x_test[:, 0]:
        nudged = [np.roll(image, shift, axis) for axis in (0, 1) for shift in (-1, 1)]
        assert not training & {copy.tobytes() for copy in (image, *nudged)}


def test_digits_training_part_is_each_image_and_a_nudge_of_it_in_each_direction_in_turn(digits):
    dataset = data.load(digits[1])
    originals, copies = dataset.x_train[:1437, 0], dataset.x_train[1437:, 0]
    for index, (original, copy) in enumerate(zip(originals, copies, strict=True)):
        axis, shift = ((0, -1), (0, 1), (1, -1), (1, 1))[index % 4]
        np.testing.assert_array_equal(copy, np.roll(original, shift, axis))


def test_digits_labels_are_stratified(digits):
    dataset = data.load(digits[1])
    total = np.bincount(load_digits().target)
    test = np.bincount(dataset.y_test)
    assert np.all(np.abs(test - total * 360 / 1797) < 1)  # the nearest whole numbers that add up to 360
    np.testing.assert_array_equal(np.bincount(dataset.y_train), 2 * (total - test))


def test_digits_labels_belong_to_their_images(digits):
    dataset = data.load(digits[1])
    train = torch.from_numpy(dataset.x_train).flatten(1).float()
    test = torch.from_numpy(dataset.x_test).flatten(1).float()
    nearest = torch.cdist(test, train).argmin(dim=1).numpy()
    # nearest neighbours err on 1 to 2 per cent of these digits, chance on 90
    assert np.mean(dataset.y_train[nearest] == dataset.y_test) > 0.95


def test_digits_are_the_same_bytes_every_time(digits, out):
    note, path = digits
    assert sources.fetch("digits", out, {}) == note
    assert out.read_bytes() == path.read_bytes()


# --- a file of one's own ----------------------------------------------------------------------------------------------


@pytest.fixture(params=["data.files", "GAPSCOPE_DATA"])
def supply(request, tmp_path, monkeypatch) -> Callable[..., tuple[Path, dict[str, str]]]:
    def write(name: str, **arrays: object) -> tuple[Path, dict[str, str]]:
        path = write_npz(tmp_path / "own" / f"{name}.npz", **arrays)
        if request.param == "data.files":
            return path, {name: str(path)}
        monkeypatch.setenv("GAPSCOPE_DATA", str(path.parent))
        return path, {}

    return write


@pytest.mark.parametrize("label_type", [np.uint8, np.int32, np.int64])
def test_own_file(supply, out, label_type):
    arrays = some_arrays(0)
    typed = arrays | {name: arrays[name].astype(label_type) for name in ("y_train", "y_test")}
    _, files = supply("mine", **typed)
    note = sources.fetch("mine", out, files)
    assert_holds(out, arrays)
    digest = hashlib.sha256(b"".join(typed[name].tobytes() for name in ("x_train", "y_train", "x_test", "y_test")))
    assert note["sha256"] == digest.hexdigest()
    assert "mine.npz" in note["source"]
    assert (note["dataset"], note["classes"], note["image_shape"]) == ("mine", 3, [1, 5, 4])
    assert (note["train_images"], note["test_images"]) == (7, 4)
    assert left_behind(out) == [out]


@pytest.mark.parametrize("classes", [8, np.array([8])])
def test_own_file_may_say_how_many_classes(supply, out, classes):
    _, files = supply("mine", **some_arrays(0), classes=classes)
    assert sources.fetch("mine", out, files)["classes"] == 8
    assert data.load(out).classes == 8


def test_own_file_under_a_built_in_name_has_that_many_classes(supply, out):
    _, files = supply("cifar100", **some_arrays(0))
    assert sources.fetch("cifar100", out, files)["classes"] == 100
    assert data.load(out).classes == 100


def test_a_subset_is_some_of_the_training_images_and_every_test_image(supply, out):
    arrays = some_arrays(0)
    arrays["x_train"][:, 0, 0] = np.arange(7)  # each image can be told
    _, files = supply("mine", **arrays, classes=8)
    note = sources.fetch("mine_n5", out, files)
    assert (note["dataset"], note["train_images"], note["test_images"], note["classes"]) == ("mine_n5", 5, 4, 8)
    assert re.match(r"5 training images of .*\(mine.npz\)", note["source"])
    with np.load(out) as found:
        chosen = found["x_train"][:, 0, 0]
        assert len(set(chosen.tolist())) == 5
        np.testing.assert_array_equal(found["x_train"], arrays["x_train"][chosen])
        np.testing.assert_array_equal(found["y_train"], arrays["y_train"][chosen])
        np.testing.assert_array_equal(found["x_test"], arrays["x_test"])
    assert sources.fetch("mine_n5", out, files) == note


def test_a_subset_is_no_prefix(supply, out):
    arrays = some_arrays(0)
    _, files = supply("mine", **arrays)
    firsts = set()
    for images in (1, 2, 3):
        sources.fetch(f"mine_n{images}", out, files)
        with np.load(out) as found:
            firsts.add(np.array_equal(found["x_train"], arrays["x_train"][:images]))
    assert firsts != {True}


@pytest.mark.parametrize("images", [0, 8])
def test_a_subset_of_more_images_than_there_are_is_refused(supply, out, images):
    _, files = supply("mine", **some_arrays(0))
    with pytest.raises(InputError, match=rf"mine_n{images}\b.*\b7\b"):
        sources.fetch(f"mine_n{images}", out, files)


def test_a_file_of_ones_own_may_be_named_like_a_subset(supply, out):
    _, files = supply("mine_n3", **some_arrays(0))
    assert sources.fetch("mine_n3", out, files)["train_images"] == 7


def test_colour_images_become_channels_first(supply, out):
    arrays = some_arrays(0, image=(5, 4, 3))
    _, files = supply("colour", **arrays)
    assert sources.fetch("colour", out, files)["image_shape"] == [3, 5, 4]
    dataset = data.load(out)
    assert dataset.x_train.shape == (7, 3, 5, 4)
    for channel in range(3):
        np.testing.assert_array_equal(dataset.x_train[:, channel], arrays["x_train"][..., channel])
        np.testing.assert_array_equal(dataset.x_test[:, channel], arrays["x_test"][..., channel])


def test_first_source_wins(tmp_path, out, monkeypatch):
    named = write_npz(tmp_path / "a" / "digits.npz", **some_arrays(1))
    in_folder = write_npz(tmp_path / "b" / "digits.npz", **some_arrays(2))
    monkeypatch.setenv("GAPSCOPE_DATA", str(in_folder.parent))
    assert sources.fetch("digits", out, {"digits": str(named)})["source"] == "data.files (digits.npz)"
    assert_holds(out, some_arrays(1))
    assert sources.fetch("digits", out, {})["source"] == "GAPSCOPE_DATA (digits.npz)"
    assert_holds(out, some_arrays(2))
    in_folder.unlink()
    assert sources.fetch("digits", out, {})["train_images"] == 2874


def test_data_folder_that_is_none(tmp_path, out, monkeypatch):
    monkeypatch.setenv("GAPSCOPE_DATA", str(tmp_path / "nowhere"))
    assert f"GAPSCOPE_DATA={tmp_path / 'nowhere'}" in refusal(sources.fetch, "digits", out, {})
    assert left_behind(out) == []


# --- bad files --------------------------------------------------------------------------------------------------------

FAULTS = {
    "missing array": ({"y_test": None}, "y_test", "x_train, y_train, x_test"),
    "missing arrays": ({"x_train": None, "y_test": None}, "x_train, y_test"),
    "float images": ({"x_train": np.zeros((7, 5, 4))}, "x_train", "uint8", "float64"),
    "float test images": ({"x_test": np.zeros((4, 5, 4), np.float32)}, "x_test", "uint8", "float32"),
    "flat images": ({"x_train": np.zeros((7, 20), np.uint8)}, "x_train", "(7, 20)", "shapes: {mine: ["),
    "channels first": ({"x_train": np.zeros((7, 3, 5, 4), np.uint8)}, "training", "test"),
    "no images": ({"x_train": np.zeros((0, 5, 4), np.uint8), "y_train": np.zeros(0, int)}, "(0, 5, 4)"),
    "two sizes": ({"x_test": np.zeros((4, 5, 5), np.uint8)}, "training", "test"),
    "grey and colour": ({"x_test": np.zeros((4, 5, 4, 3), np.uint8)}, "training", "test"),
    "negative label": ({"y_train": np.array([0, 1, 2, 0, 1, 2, -1])}, "y_train", "0..2", "-1..2"),
    "test label too high": ({"y_test": np.array([0, 1, 2, 3])}, "y_test", "0..2", "0..3"),
    "label as high as classes": ({"classes": 2}, "y_train", "0..1", "0..2"),
    "a label short": ({"y_train": np.zeros(6, int)}, "y_train", "7", "(6,)"),
    "a label too many": ({"y_test": np.zeros(5, int)}, "y_test", "4", "(5,)"),
    "one-hot labels": ({"y_test": np.eye(4, dtype=int)}, "y_test", "(4, 4)"),
    "float labels": ({"y_train": np.zeros(7)}, "y_train", "float64"),
}


@pytest.mark.parametrize(("changes", "facts"), [(changes, facts) for changes, *facts in FAULTS.values()], ids=FAULTS)
def test_bad_arrays(supply, out, changes, facts):
    arrays = {name: array for name, array in (some_arrays(0) | changes).items() if array is not None}
    path, files = supply("mine", **arrays)
    message = refusal(sources.fetch, "mine", out, files)
    assert [fact for fact in (str(path), *facts) if fact not in message] == []
    assert left_behind(out) == []


def test_label_beyond_the_classes_of_a_built_in_name(supply, out):
    path, files = supply("mnist", **some_arrays(0) | {"y_test": np.array([0, 1, 2, 10])})
    message = refusal(sources.fetch, "mnist", out, files)
    assert [fact for fact in (str(path), "y_test", "0..9", "0..10") if fact not in message] == []


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("name", ["x_train", "y_test", "classes"])
def test_pickled_array_is_refused_and_never_unpickled(supply, out, tmp_path, name):
    trap = tmp_path / "sprung"
    path, files = supply("mine", **some_arrays(0) | {name: np.array([Trap(trap)] * 7, dtype=object)})
    message = refusal(sources.fetch, "mine", out, files)
    assert str(path) in message
    assert not trap.exists()
    assert left_behind(out) == []
    with np.load(path, allow_pickle=True) as file:
        file[name]
    assert trap.exists()  # so the trap works


@pytest.mark.parametrize("protocol", [0, 4])
def test_bare_pickle_is_refused_and_never_unpickled(out, tmp_path, protocol):
    trap = tmp_path / "sprung"
    path = tmp_path / "mine.npz"
    path.write_bytes(pickle.dumps(Trap(trap), protocol))
    assert str(path) in refusal(sources.fetch, "mine", out, {"mine": str(path)})
    assert not trap.exists()
    pickle.loads(path.read_bytes())
    assert trap.exists()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_truncated_file(tmp_path, save):
    path = tmp_path / "mine.npz"
    save(path, **some_arrays(0))
    whole = path.read_bytes()
    for length in [*range(0, len(whole), 37), len(whole) - 1]:
        path.write_bytes(whole[:length])
        message = refusal(data.load, path)
        assert str(path) in message


def test_random_bytes(supply, out):
    path, files = supply("mine", **some_arrays(0))
    path.write_bytes(np.random.default_rng(0).bytes(4096))
    message = refusal(sources.fetch, "mine", out, files)
    assert str(path) in message
    assert left_behind(out) == []


def test_missing_file(tmp_path, out):
    path = tmp_path / "absent.npz"
    assert re.search(f"data.files.*{path}", refusal(sources.fetch, "mine", out, {"mine": str(path)}))
    assert re.search(f"{path}.*download", refusal(data.load, path))
    assert left_behind(out) == []


def test_folder_in_place_of_a_file(tmp_path, out):
    (tmp_path / "mine.npz").mkdir()
    message = refusal(sources.fetch, "mine", out, {"mine": str(tmp_path / "mine.npz")})
    assert re.search(f"data.files.*{tmp_path / 'mine.npz'}", message)


def test_old_output_survives_a_bad_source(supply, out):
    write_npz(out, **some_arrays(3))
    _, files = supply("mine", **some_arrays(0) | {"x_test": np.zeros(4)})
    refusal(sources.fetch, "mine", out, files)
    assert_holds(out, some_arrays(3))
    assert left_behind(out) == [out]


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_changed_byte_is_refused_or_harmless(tmp_path, save):
    path = tmp_path / "mine.npz"
    arrays = some_arrays(0)
    save(path, **arrays)
    whole = path.read_bytes()
    positions = range(0, len(whole), 5)
    refused = 0
    for position in positions:
        changed = bytearray(whole)
        changed[position] ^= 1
        path.write_bytes(changed)
        try:
            assert_holds(path, arrays)  # a byte of a date, say
        except InputError:
            refused += 1
    assert refused > len(positions) / 2


@pytest.mark.parametrize("classes", [np.array([3, 3]), "three", np.nan, 3.5, -1])
def test_classes_must_be_one_positive_whole_number(tmp_path, classes):
    path = write_npz(tmp_path / "mine.npz", **some_arrays(0), classes=classes)
    message = refusal(data.load, path)
    assert re.search(f"{path}.*classes", message)


def test_single_array_in_place_of_an_npz(tmp_path):
    path = tmp_path / "mine.npz"
    with path.open("wb") as handle:
        np.save(handle, np.arange(3))
    assert str(path) in refusal(data.load, path)


def test_damaged_file_is_closed(tmp_path, monkeypatch):
    path = write_npz(tmp_path / "mine.npz", **some_arrays(0))
    path.write_bytes(path.read_bytes()[:-1])
    unraisable = []
    monkeypatch.setattr("sys.unraisablehook", lambda event: unraisable.append(event.exc_value))
    refusal(data.load, path)
    for warning in unraisable:
        raise warning


# --- statistics -------------------------------------------------------------------------------------------------------


@settings(max_examples=20)
@given(
    images=st.integers(1, 12),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    channels=st.sampled_from([1, 3]),
    seed=st.integers(0, 2**32 - 1),
)
def test_channel_statistics_are_those_of_the_training_images(images, height, width, channels, seed):
    rng = np.random.default_rng(seed)
    ceilings = rng.integers(2, 256, (1, channels, 1, 1))
    x_train = (rng.integers(0, 256, (images, channels, height, width)) % ceilings).astype(np.uint8)
    x_train.flat[0] = 255  # so that a channel is seldom constant
    labels = np.zeros(images, np.int64)
    dataset = data.Dataset("any", 1, x_train, labels, np.full_like(x_train, 200), labels)
    scaled = x_train.astype(np.float64) / 255
    mean, std = dataset.channel_statistics()
    expected_std = scaled.std(axis=(0, 2, 3))
    expected_std[[len(np.unique(x_train[:, channel])) == 1 for channel in range(channels)]] = 1.0
    assert mean.dtype == std.dtype == np.float64
    torch.testing.assert_close(mean, scaled.mean(axis=(0, 2, 3)), rtol=ROUNDING, atol=ROUNDING)
    torch.testing.assert_close(std, expected_std, rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.parametrize("level", [0, 77, 255])
def test_constant_channel_has_a_deviation_of_one(level):
    x_train = np.stack([np.full((6, 4, 4), level), np.arange(96).reshape(6, 4, 4)], axis=1).astype(np.uint8)
    labels = np.zeros(6, np.int64)
    mean, std = data.Dataset("any", 1, x_train, labels, x_train, labels).channel_statistics()
    assert mean[0] == level / 255
    assert std[0] == 1.0
    assert std[1] < 1.0


def test_note_carries_the_statistics(supply, out):
    arrays = some_arrays(0, image=(5, 4, 3))
    _, files = supply("colour", **arrays)
    note = sources.fetch("colour", out, files)
    scaled = arrays["x_train"].astype(np.float64) / 255
    torch.testing.assert_close(
        np.array([note["channel_mean"], note["channel_std"]]),
        np.stack([scaled.mean(axis=(0, 1, 2)), scaled.std(axis=(0, 1, 2))]),
        rtol=ROUNDING,
        atol=ROUNDING,
    )


# --- torchvision's sources --------------------------------------------------------------------------------------------

NAMES = {"mnist": datasets.MNIST, "fashion_mnist": datasets.FashionMNIST}


@dataclass(frozen=True)
class Web:
    address: str
    folder: Path
    asked: list[str]


def use_mirrors(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    for cls in NAMES.values():
        monkeypatch.setattr(cls, "mirrors", list(addresses))
    monkeypatch.setattr(datasets.CIFAR10, "url", addresses[0] + datasets.CIFAR10.filename)


@pytest.fixture
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "own"
    folder.mkdir()
    monkeypatch.setenv("GAPSCOPE_DATA", str(folder))
    return folder


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    """A server on this machine, and the only one that torchvision knows of."""
    folder = tmp_path / "web"
    folder.mkdir()
    asked: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(folder))

        def log_message(self, *_: object) -> None:
            asked.append(self.path)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        served = Web(f"http://127.0.0.1:{server.server_address[1]}/", folder, asked)
        use_mirrors(monkeypatch, served.address)
        yield served
        server.shutdown()
        thread.join()


@pytest.fixture
def closed() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    return f"http://127.0.0.1:{port}/"


def idx(array: np.ndarray) -> bytes:
    """LeCun's format: two zero bytes, 8 for uint8, the number of axes, each length big-endian, the values."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


@pytest.fixture
def originals(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """The four files of some_arrays(5), which torchvision now takes for the published ones."""
    arrays = some_arrays(5)
    contents = {
        "train-images-idx3-ubyte.gz": arrays["x_train"],
        "train-labels-idx1-ubyte.gz": arrays["y_train"],
        "t10k-images-idx3-ubyte.gz": arrays["x_test"],
        "t10k-labels-idx1-ubyte.gz": arrays["y_test"],
    }
    files = {name: gzip.compress(idx(array), mtime=0) for name, array in contents.items()}
    for cls in NAMES.values():
        resources = [(name, hashlib.md5(content).hexdigest()) for name, content in files.items()]
        monkeypatch.setattr(cls, "resources", resources)
    return files


def publish(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def with_one_byte_changed(content: bytes, position: int) -> bytes:
    return content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]


@pytest.mark.parametrize("name", NAMES)
def test_download(web, originals, out, name):
    publish(web.folder, originals)
    note = sources.fetch(name, out, {})
    assert_holds(out, some_arrays(5))
    assert note["source"] == "torchvision's download, MD5-checked"
    assert (note["dataset"], note["classes"], note["image_shape"]) == (name, 10, [1, 5, 4])
    assert {path.strip("/") for path in web.asked} == set(originals)
    assert left_behind(out) == [out]


def test_second_mirror_is_tried(web, closed, originals, out, monkeypatch):
    publish(web.folder, originals)
    use_mirrors(monkeypatch, closed, web.address)
    sources.fetch("mnist", out, {})
    assert_holds(out, some_arrays(5))


# byte 4 is of gzip's own date: what is unpacked is the same, and only the MD5 can tell
@pytest.mark.parametrize("position", [4, -12])
@pytest.mark.parametrize("index", range(4))
def test_download_with_a_changed_byte_is_refused(web, originals, out, index, position):
    damaged = list(originals)[index]
    position %= len(originals[damaged])
    publish(web.folder, originals | {damaged: with_one_byte_changed(originals[damaged], position)})
    message = refusal(sources.fetch, "mnist", out, {})
    assert damaged in message
    assert "GAPSCOPE_DATA" in message
    assert left_behind(out) == []


def test_old_output_survives_a_failed_download(closed, originals, out, monkeypatch):
    write_npz(out, **some_arrays(3))
    use_mirrors(monkeypatch, closed)
    refusal(sources.fetch, "mnist", out, {})
    assert_holds(out, some_arrays(3))
    assert left_behind(out) == [out]


@pytest.mark.parametrize("folder_is_set", [False, True])
def test_no_network_fails_at_once_and_says_what_was_tried_and_what_to_do(
    closed, data_folder, out, monkeypatch, folder_is_set
):
    use_mirrors(monkeypatch, f"{closed}first/", f"{closed}second/")
    if not folder_is_set:
        monkeypatch.delenv("GAPSCOPE_DATA")
    start = time.perf_counter()
    message = refusal(sources.fetch, "mnist", out, {})
    assert time.perf_counter() - start < AT_ONCE_S
    assert "mnist" in message
    assert (f"GAPSCOPE_DATA={data_folder}" if folder_is_set else "GAPSCOPE_DATA (not set)") in message
    assert f"{closed}first/" in message
    assert f"{closed}second/" in message
    assert "mnist.npz" in message
    assert all(file in message for file, _ in datasets.MNIST.resources)
    assert message.endswith("set GAPSCOPE_DATA to it")
    assert left_behind(out) == []


def test_silent_server_is_given_up(out, monkeypatch):
    monkeypatch.setattr(sources, "TIMEOUT_S", 0.2)
    before = socket.getdefaulttimeout()
    with socket.create_server(("127.0.0.1", 0)) as silent:  # connections wait in its queue for ever
        use_mirrors(monkeypatch, f"http://127.0.0.1:{silent.getsockname()[1]}/")
        start = time.perf_counter()
        refusal(sources.fetch, "mnist", out, {})
    assert time.perf_counter() - start < AT_ONCE_S
    assert socket.getdefaulttimeout() == before
    assert left_behind(out) == []


def test_a_full_disk_is_not_taken_for_a_missing_source(web, originals, out):
    publish(web.folder, originals)
    with pytest.raises(OSError, match="File too large"), file_size_limit(30):
        sources.fetch("mnist", out, {})


def test_server_that_speaks_no_http(out, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1024)
                connection.sendall(b"220 mail.example ESMTP\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        use_mirrors(monkeypatch, f"http://127.0.0.1:{server.getsockname()[1]}/")
        try:
            message = refusal(sources.fetch, "mnist", out, {})
        finally:
            thread.join()
    assert "mnist" in message


@pytest.mark.parametrize(
    "source",
    [
        ("mnist", "mnist"),
        ("mnist", "MNIST/raw"),
        ("fashion_mnist", "fashion_mnist"),
        ("fashion_mnist", "FashionMNIST/raw"),
    ],
)
def test_original_files_in_the_data_folder(web, originals, data_folder, out, source):
    name, place = source
    publish(data_folder / place, originals)
    note = sources.fetch(name, out, {})
    assert_holds(out, some_arrays(5))
    assert note["source"] == "original files in GAPSCOPE_DATA, MD5-checked"
    assert web.asked == []
    assert left_behind(out) == [out]
    assert {path.name for path in data_folder.rglob("*-ubyte*")} == set(originals)  # nothing was unpacked there


@pytest.mark.parametrize("index", range(4))
def test_damaged_original_file_is_refused_by_name_and_not_replaced(web, originals, data_folder, out, index):
    publish(web.folder, originals)
    damaged = list(originals)[index]
    publish(data_folder / "mnist", originals | {damaged: with_one_byte_changed(originals[damaged], 4)})
    message = refusal(sources.fetch, "mnist", out, {})
    assert str(data_folder / "mnist" / damaged) in message
    assert hashlib.md5(originals[damaged]).hexdigest() in message
    assert web.asked == []
    assert left_behind(out) == []


def test_missing_original_file_is_downloaded_and_the_note_says_so(web, originals, data_folder, out):
    publish(web.folder, originals)
    *present, absent = originals
    publish(data_folder / "mnist", {name: originals[name] for name in present})
    assert sources.fetch("mnist", out, {})["source"] == "torchvision's download, MD5-checked"
    assert_holds(out, some_arrays(5))
    assert {path.strip("/") for path in web.asked} == {absent}


def test_mnist_files_without_a_folder_of_their_own_are_not_taken_for_fashion_mnist(web, originals, data_folder, out):
    publish(web.folder, originals)
    publish(data_folder, {name: with_one_byte_changed(file, 4) for name, file in originals.items()})
    assert sources.fetch("fashion_mnist", out, {})["source"] == "torchvision's download, MD5-checked"


def test_classes_follow_the_name_that_was_asked_for(supply, out):
    path, _ = supply("mine", **some_arrays(0))
    assert sources.fetch("mnist", out, {"mnist": str(path)})["classes"] == 10


@pytest.fixture
def cifar10(monkeypatch: pytest.MonkeyPatch) -> tuple[bytes, dict[str, np.ndarray]]:
    """A small CIFAR-10 archive, which torchvision now takes for the published one, and its arrays."""
    arrays = some_arrays(6, image=(32, 32, 3))
    members: dict[str, dict[str, object]] = {"batches.meta": {"label_names": list("abcdefghij")}}
    for split in ("train", "test"):
        rows = arrays[f"x_{split}"].transpose(0, 3, 1, 2).reshape(-1, 3072)  # red, then green, then blue
        members[f"{split}_batch"] = {"data": rows, "labels": arrays[f"y_{split}"].tolist()}
    archive, digests = io.BytesIO(), {}
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        for name, member in members.items():
            content = pickle.dumps(member)
            digests[name] = hashlib.md5(content).hexdigest()
            info = tarfile.TarInfo(f"{datasets.CIFAR10.base_folder}/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    meta = datasets.CIFAR10.meta | {"md5": digests["batches.meta"]}
    monkeypatch.setattr(datasets.CIFAR10, "meta", meta)
    monkeypatch.setattr(datasets.CIFAR10, "train_list", [["train_batch", digests["train_batch"]]])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [["test_batch", digests["test_batch"]]])
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", hashlib.md5(archive.getvalue()).hexdigest())
    return archive.getvalue(), arrays


@pytest.mark.parametrize("from_folder", [True, False])
def test_cifar10_archive(web, cifar10, data_folder, out, from_folder):
    archive, arrays = cifar10
    publish(data_folder / "cifar10" if from_folder else web.folder, {datasets.CIFAR10.filename: archive})
    note = sources.fetch("cifar10", out, {})
    assert (note["image_shape"], note["classes"]) == ([3, 32, 32], 10)
    assert_holds(out, {n: a.transpose(0, 3, 1, 2) if n.startswith("x") else a for n, a in arrays.items()})
    assert bool(web.asked) != from_folder
    assert left_behind(out) == [out]


def test_damaged_cifar10_archive_is_refused(web, cifar10, out):
    archive, _ = cifar10
    publish(web.folder, {datasets.CIFAR10.filename: with_one_byte_changed(archive, 4)})
    message = refusal(sources.fetch, "cifar10", out, {})
    assert "cifar10" in message
    assert left_behind(out) == []


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "right"), [("fashion-mnist", "fashion_mnist"), ("minst", "mnist"), ("digit", "digits")]
)
def test_unknown_name_suggests_the_nearest(out, wrong, right):
    message = refusal(sources.fetch, wrong, out, {})
    assert re.search(f"'{wrong}'.*'{right}'", message)
    assert f"$GAPSCOPE_DATA/{wrong}.npz" in message
    assert re.search(r"data\.files \(data: \{files: ", message)
    assert left_behind(out) == []


def test_name_near_to_none_lists_the_known(out):
    assert (
        "breast_cancer, cifar10, cifar100, diabetes, digits, digits_segments, fashion_mnist, linear_gaussian, mnist, "
        "sympy_source, wine" in refusal(sources.fetch, "zzz", out, {})
    )


@pytest.mark.parametrize("name", ["digits", "diabetes", "breast_cancer", "wine", "linear_gaussian"])
def test_a_data_set_has_the_bytes_that_committed_results_were_made_from(name: str, tmp_path: Path) -> None:
    """Else every committed study would train again: DVC compares the MD5 of the whole file."""
    sources.fetch(name, tmp_path / f"{name}.npz")
    entry = locks.read(ROOT / "dvc.lock")[f"download@{name}"]
    recorded = {out["path"]: out["md5"] for out in entry["outs"]}
    assert hashlib.md5((tmp_path / f"{name}.npz").read_bytes()).hexdigest() == recorded[f"data/datasets/{name}.npz"]


def test_the_order_of_a_files_arrays_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = np.arange(4 * 64, dtype=np.uint8).reshape(4, 8, 8), np.array([0, 1, 0, 1])
    arrays = {"x_train": images, "y_train": labels, "x_test": images, "y_test": labels, "classes": np.int64(2)}
    written = []
    for number, names in enumerate((arrays, reversed(arrays))):
        np.savez(tmp_path / "mine.npz", **{name: arrays[name] for name in names})  # type: ignore[arg-type]
        sources.fetch("mine", tmp_path / f"out{number}.npz", {"mine": str(tmp_path / "mine.npz")})
        written.append((tmp_path / f"out{number}.npz").read_bytes())
    assert written[0] == written[1]
