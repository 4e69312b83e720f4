"""The arrays of a user's own file, in the forms in which people have them: each pixel and label where it belongs."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gapscope.data import sources
from gapscope.data.datasets import load
from gapscope.data.own_files import Stated, standard
from gapscope.errors import InputError

SAYS_NOTHING = Stated()
LABELS = np.array([0, 1, 2, 0, 1])
Form = Callable[[np.ndarray], np.ndarray]


def read(
    x: np.ndarray, y: np.ndarray = LABELS, stated: Stated = SAYS_NOTHING
) -> tuple[dict[str, np.ndarray], list[str]]:
    arrays = {"x_train": x, "y_train": y, "x_test": x, "y_test": y}
    return standard(Path("mine.npz"), "mine", arrays, stated)


def pixels(*shape: int) -> np.ndarray:
    """Images whose pixels all differ along each axis."""
    return np.random.default_rng(0).integers(0, 256, (len(LABELS), *shape), dtype=np.uint8)


FORMS: dict[str, tuple[tuple[int, ...], Form, Stated]] = {  # the images as they are kept, how the file has them, params
    "as kept, grey": ((5, 4), lambda x: x, SAYS_NOTHING),
    "as kept, colour": ((5, 4, 3), lambda x: x, SAYS_NOTHING),
    "one channel, last": ((5, 4), lambda x: x[..., None], SAYS_NOTHING),
    "one channel, first": ((5, 4), lambda x: x[:, None], SAYS_NOTHING),
    "three channels, first": ((5, 4, 3), lambda x: x.transpose(0, 3, 1, 2), SAYS_NOTHING),
    "flat": ((5, 4), lambda x: x.reshape(len(x), -1), Stated(shape=(1, 5, 4))),
    "int64": ((5, 4), lambda x: x.astype(np.int64), SAYS_NOTHING),
    "float32 in 0..1": ((5, 4), lambda x: (x / 255).astype(np.float32), Stated(range=(0.0, 1.0))),
    "float32 in -1..1": ((5, 4), lambda x: (x / 127.5 - 1).astype(np.float32), Stated(range=(-1.0, 1.0))),
    "16 bits": ((5, 4), lambda x: x.astype(np.uint16) * np.uint16(257), Stated(range=(0.0, 65535.0))),
}


@pytest.mark.parametrize("form", FORMS)
def test_images_are_read_pixel_by_pixel_and_what_was_changed_is_said(form: str) -> None:
    shape, written, stated = FORMS[form]
    found, notes = read(written(pixels(*shape)), stated=stated)
    np.testing.assert_array_equal(found["x_train"], pixels(*shape))
    assert bool(notes) == (not form.startswith("as kept"))


def test_labels_in_a_column_are_labels() -> None:
    found, notes = read(pixels(5, 4), LABELS[:, None])
    assert found["y_train"].tolist() == LABELS.tolist()
    assert len(notes) == 1


def test_the_names_of_medmnist_are_read_and_its_validation_images_left_out() -> None:
    arrays = {
        f"{split}_{kind}": array
        for split in ("train", "val", "test")
        for kind, array in (("images", pixels(5, 4)), ("labels", LABELS[:, None].astype(np.uint8)))
    }
    arrays["val_images"] = pixels(5, 4)[::-1]
    found, notes = standard(Path("mine.npz"), "mine", arrays, SAYS_NOTHING)
    np.testing.assert_array_equal(found["x_train"], pixels(5, 4))
    assert found["y_test"].tolist() == LABELS.tolist()
    assert any("train_images" in note for note in notes)


USUAL: dict[str, tuple[np.ndarray, np.ndarray, list[int]]] = {  # images, labels -> labels that are read
    "truth values": (pixels(5, 4), LABELS > 0, [0, 1, 1, 0, 1]),
    "other byte order": (pixels(5, 4), LABELS.astype(">i8"), [0, 1, 2, 0, 1]),
    "Fortran's order": (np.asfortranarray(pixels(5, 4, 3)), LABELS, [0, 1, 2, 0, 1]),
    "one pixel": (pixels(1, 1), LABELS, [0, 1, 2, 0, 1]),
}


@pytest.mark.parametrize("usual", USUAL)
def test_usual_arrays_are_read_as_they_are(usual: str, tmp_path: Path) -> None:
    x, y, labels = USUAL[usual]
    np.savez(tmp_path / "mine.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    sources.fetch("mine", tmp_path / "out.npz", {"mine": str(tmp_path / "mine.npz")})
    found = load(tmp_path / "out.npz")
    np.testing.assert_array_equal(found.x_train, x.reshape(len(x), -1, *x.shape[1:3]) if x.ndim == 3 else
                                  x.transpose(0, 3, 1, 2))  # fmt: skip
    assert found.y_train.tolist() == labels


def test_a_missing_file_of_a_queued_experiment_is_said_to_be_untracked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".dvc/tmp/exps/temp").mkdir(parents=True)
    for folder, said in ((tmp_path, "there is no such file"), (tmp_path / ".dvc/tmp/exps/temp", "git add mine.npz")):
        monkeypatch.chdir(folder)
        with pytest.raises(InputError, match=said):
            sources.fetch("mine", Path("out.npz"), {"mine": "mine.npz"})
