"""Texts: streams and sequences of tokens, the corpus that comes with a dependency, and its bigram model."""

import hashlib
import math
from collections import Counter
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch

from gapscope.data import text
from gapscope.data.datasets import load, read_arrays
from gapscope.data.images import split_images
from gapscope.data.sources import fetch
from gapscope.data.tokens import Tokens
from gapscope.errors import InputError

DIRECT = 1e-12  # the same sums in another order


def streams(path: Path, tokens: int = 50, dtype: type = np.uint8, **more: object) -> Path:
    draw = np.random.default_rng(0)
    np.savez(path, train=draw.integers(0, 9, tokens).astype(dtype), test=draw.integers(0, 9, 30).astype(dtype), **more)  # type: ignore[arg-type]
    return path


def test_a_stream_is_cut_into_sequences_whose_targets_are_the_tokens_that_follow(tmp_path: Path) -> None:
    own, out = streams(tmp_path / "own.npz", 50), tmp_path / "mine.npz"
    record = fetch("mine", out, {"mine": str(own)}, lengths={"mine": 7})
    found, stream = load(out), read_arrays(own)["train"]
    assert isinstance(found, text.Text)
    assert found.x_train.shape == found.y_train.shape == (7, 7)
    for row in range(7):
        np.testing.assert_array_equal(found.x_train[row], stream[7 * row : 7 * row + 7])
        np.testing.assert_array_equal(found.y_train[row], stream[7 * row + 1 : 7 * row + 8])
    assert (record["image_shape"], record["classes"], record["targets"]) == ([7], 256, "tokens")
    assert record["read_as"] == ["streams of tokens, cut into sequences of 7"]
    assert record["train_tokens"] == 49


def test_sequences_with_ignored_targets_are_read_as_they_are(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    x, y = draw.integers(0, 1000, (2, 6, 5)).astype(np.uint16)
    y = y.astype(np.int64)
    y[0, :3] = text.IGNORED
    own, out = tmp_path / "own.npz", tmp_path / "mine.npz"
    np.savez(own, x_train=x, y_train=y, x_test=x[:2], y_test=y[:2], classes=np.int64(1200))
    record = fetch("mine", out, {"mine": str(own)})
    assert (record["train_tokens"], record["test_tokens"], record["classes"]) == (27, 7, 1200)
    split = split_images(load(out), "train", "cpu")
    assert isinstance(split, Tokens)
    assert (split.counted(), split.counted(torch.tensor([0, 1])), split.samples) == (27, 7, 5)
    np.testing.assert_array_equal(split.inputs(slice(0, 6)), x)
    np.testing.assert_array_equal(split.targets(torch.tensor([0])), y[:1])
    assert len(split.subset(torch.tensor([2, 0]))) == 2


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"train": np.zeros(50), "test": np.zeros(9, np.uint8)}, "one stream of tokens, uint8 or uint16, got float64"),
        ({"train": np.zeros(50, np.uint8), "test": np.zeros(4, np.uint8)}, "4 tokens, too few .* data.lengths"),
        (dict.fromkeys(("x_train", "y_train", "x_test", "y_test"), np.full((3, 4), -1)), "must lie in .*found -1"),
        (
            {**dict.fromkeys(("x_train", "x_test", "y_test"), np.ones((3, 4), int)), "y_train": np.full((3, 4), -100)},
            "all of y_train is -100",
        ),
        ({**dict.fromkeys(("x_train", "y_train"), np.ones((3, 4), int)), "x_test": np.ones((3, 4), int),
          "y_test": np.ones(3, int)}, "y_test must hold whole numbers of one shape"),
    ],
)  # fmt: skip
def test_other_tokens_are_refused_in_one_line(tmp_path: Path, arrays: dict[str, np.ndarray], said: str) -> None:
    own = tmp_path / "own.npz"
    np.savez(own, **arrays)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=said):
        fetch("mine", tmp_path / "mine.npz", {"mine": str(own)}, lengths={"mine": 7})


def test_a_part_of_a_text_keeps_the_whole_test_set(tmp_path: Path) -> None:
    own = streams(tmp_path / "own.npz")
    record = fetch("mine_n3", tmp_path / "mine_n3.npz", {"mine": str(own)}, lengths={"mine": 7})
    assert (record["train_images"], record["test_images"]) == (3, 4)


def test_the_corpus_is_the_text_whose_hash_is_pinned_and_another_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = fetch(text.CORPUS, tmp_path / "c.npz")
    assert record["sha256"] == "4d128379b9d7f41d3b334df1a471623b3b72853929c675370a7e4b25ded22b06"
    assert (record["train_images"], record["test_images"]) == (40301, 2045)
    assert 1.5 < record["bigram_cross_entropy"] < math.log(256)
    whole = load(tmp_path / "c.npz").x_test.tobytes()
    distribution = metadata.distribution("sympy")
    assert Path(str(distribution.locate_file("sympy/core/mul.py"))).read_bytes()[:200] in whole
    monkeypatch.setattr(text, "PACKAGES", ("core",))
    with pytest.raises(InputError, match=r"SHA-256 .* install sympy==1.14.0, or bring tokens of your own"):
        fetch(text.CORPUS, tmp_path / "c.npz")


def plain_bigram(x: np.ndarray, y: np.ndarray, test: tuple[np.ndarray, np.ndarray], classes: int) -> float:
    """Witten-Bell by dicts, one token at a time."""
    pairs = [(int(a), int(b)) for a, b in zip(x.ravel(), y.ravel(), strict=True) if b != text.IGNORED]
    both, first, last = Counter(pairs), Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    different = Counter(a for a, _ in both)
    losses = []
    for a, b in zip(test[0].ravel(), test[1].ravel(), strict=True):
        if b == text.IGNORED:
            continue
        unigram = (last[b] + 1) / (len(pairs) + classes)
        top = both[int(a), int(b)] + different[a] * unigram
        losses.append(-math.log(top / (first[a] + different[a]) if first[a] else unigram))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("ignored", [False, True])
def test_the_bigram_model_is_that_of_plain_counts_and_its_chances_add_up_to_one(ignored: bool) -> None:
    draw = np.random.default_rng(1)
    x, y = draw.integers(0, 6, (2, 8, 9)), draw.integers(0, 6, (2, 8, 9)).astype(np.int32)
    if ignored:
        y[:, ::3, 2:] = text.IGNORED
    x[0][x[0] == 4] = 3  # a token that nothing follows in training
    found = text.bigram_cross_entropy((x[0], y[0]), (x[1], y[1]), 7)
    assert found == pytest.approx(plain_bigram(x[0], y[0], (x[1], y[1]), 7), rel=DIRECT)
    every = [
        math.exp(-text.bigram_cross_entropy((x[0], y[0]), (np.array([[2]]), np.array([[b]], np.int32)), 7))
        for b in range(7)
    ]
    assert sum(every) == pytest.approx(1, rel=DIRECT)
    hidden = np.where(y[0] == text.IGNORED, 0, y[0])  # wrong: ignored tokens counted
    assert (text.bigram_cross_entropy((x[0], hidden), (x[1], y[1]), 7) == found) != ignored


def test_the_digest_tells_texts_apart() -> None:
    x = np.arange(12, dtype=np.uint8).reshape(3, 4)
    one = text.checked(Path("t"), "t", {"x_train": x, "y_train": x, "x_test": x, "y_test": x})
    other = text.checked(Path("t"), "t", {"x_train": x, "y_train": x.T.reshape(3, 4), "x_test": x, "y_test": x})
    assert one.digest() != other.digest()
    assert hashlib.sha256(one.x_train.tobytes()).digest() == hashlib.sha256(x.tobytes()).digest()
