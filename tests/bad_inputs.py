"""Bad inputs, each with a part of the line that answers it, and how they are put through the real scripts.

Each case is a stage, what is put into a folder before it runs, its arguments, and a part of the one line on stderr. The
exit status is 2 and there is no traceback. What is not here has a test of its own.
"""

import copy
import io
import json
import os
import re
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors.torch import save_file

from gapscope.models import ModelSpec, build

ROOT = Path(__file__).parents[1]
Arrange = Callable[[Path], None]
NAN, INF = float("nan"), float("inf")


@dataclass(frozen=True)
class Case:
    """A bad input."""

    name: str
    stage: str
    arguments: tuple[str, ...]
    arrange: Arrange
    said: str


def params() -> dict[str, Any]:
    """Return params of a small study: those that are committed, with data of its own."""
    found = yaml.safe_load((ROOT / "params.yaml").read_text())
    found |= {"study": "made_up", "models": ["lenet5"], "datasets": ["noise"], "batch_sizes": [20, 40], "seeds": [0]}
    found["data"] = {"files": {"noise": "noise.npz"}}
    found["controls"]["seeds"] = [0]
    return found


def arrays() -> dict[str, np.ndarray]:
    """Return a small data set."""
    draw = np.random.default_rng(0)
    x = draw.integers(0, 256, (100, 28, 28), dtype=np.uint8)
    y = np.arange(100) % 4
    return {"x_train": x[:80], "y_train": y[:80], "x_test": x[80:], "y_test": y[80:]}


def write(folder: Path, found: dict[str, Any]) -> None:
    (folder / "params.yaml").write_text(yaml.safe_dump(found))


# --- values of params: the stage check --------------------------------------------------------------------------------


def both(first: Arrange, second: Arrange) -> Arrange:
    """Do one after the other."""

    def arrange(folder: Path) -> None:
        first(folder)
        second(folder)

    return arrange


def changed(name: str, value: Any) -> Arrange:
    """Put a value into params, by its full name."""

    def arrange(folder: Path) -> None:
        found = params()
        *groups, last = name.split(".")
        holder = found
        for group in groups:
            holder = holder[group]
        holder[last] = copy.deepcopy(value)
        write(folder, found)

    return arrange


BIG = 10**30
WRONG_VALUES: dict[str, list[Any]] = {
    "epochs": [0, -1, 10**9, BIG, "3", 3.0, None, True, [1], NAN],
    "batch_sizes": [[0], [-5], [BIG], ["32"], [1.5], None, 32, [None]],
    "seeds": [["0"], [0.5], None, [BIG]],
    "thresholds": [[], [-1.0], [NAN], [INF], ["1e-4"], None, 1e-4],
    "train": [None, [], 3, "text", {}],
    "sharpness": [None, [], "text", {}],
    "curvature": [None, 3],
    "activations": [None, []],
    "spectra": [None],
    "claims": [None],
    "runtime": [None],
    "data": [None, []],
    "landscape": [None],
    "train.optimizer": [None, "sgd", []],
    "train.schedule": [None, 0.1],
    "train.optimizer.momentum": [2, -0.1, NAN, "0.9", None],
    "train.optimizer.weight_decay": [-1, NAN, INF, "much"],
    "train.optimizer.decay": ["biases", None, 3],
    "train.schedule.lr_start": ["abc", -0.1, NAN, INF, None],
    "train.schedule.lr_end": ["1e-4", -1.0, NAN],
    "train.schedule.lr_shape": ["line", 3, None],
    "train.schedule.lr_reference_batch": [0, -1, 1.5],
    "train.tuning.lr_sweep_epochs": [0, 10**9, None],
    "train.batch.micro_batch_norm": ["some", None],
    "train.precision.compute": ["float16", None],
    "train.evaluation.eval_batch": [1, 0, -1, None],
    "train.evaluation.history_rows": [0, 10**9],
    "train.evaluation.history_images": [0, "all"],
    "train.threads": [0, -1, 10**6, None, "1"],
    "train.batch_norm": ["yes", 1, None],
    "activations.threads": [0, 10**6],
    "activations.precision": ["float16", None],
    "activations.probe_images": [0, "512"],
    "activations.batch_norm_statistics": ["eval"],
    "spectra.threads": [0],
    "spectra.cut": [-1.0, NAN, "1e-2"],
    "spectra.method": ["svd"],
    "controls.threads": [0],
    "controls.eval_batch": [1, 0],
    "near_rank.relative_thresholds": [[1.5], [-0.1], [NAN], 0.1],
    "sharpness.epsilons": [[], [0.0], [-1e-3], [NAN], ["1e-3"]],
    "sharpness.restarts": [0, 10**9, None],
    "sharpness.manifold_dimension": [0, -1],
    "sharpness.splits": [[], ["val"], "train"],
    "sharpness.images": [0, -1, "all"],
    "sharpness.threads": [0],
    "curvature.steps": [0, 10**9],
    "curvature.layers": ["conv1", [3], None],
    "curvature.trace_probes": [1, 10**9],
    "curvature.radius": [0.0, -1.0, NAN],
    "curvature.precision": ["half"],
    "curvature_radius.damping": [-1.0, NAN],
    "curvature_radius.method": ["guess"],
    "landscape.alphas": [5, 0, 10**9 + 3],
    "landscape.points": [2, 10**9 + 1],
    "noise_scale.epochs": [0, 10**9],
    "noise_scale.gradient_batch": [1],
    "gradient_law.epochs": [[], [-1], [10**9]],
    "warmstart.starts": [[], [3, 2], [-1]],
    "random_matrices.repetitions": [1, 10**9],
    "random_matrices.shapes": [[[1, 2]], [[10**9, 10**9]], [[3]]],
    "perturbation.size": [0.0, 2.0, NAN],
    "claims.level": [2, 0, -0.1, NAN, "0.02"],
    "tables.tolerance_points": [-1.0, NAN, 1000.0],
    "runtime.checkpoint_epochs": [0, None],
    "runtime.workers": [0],
    "runtime.launcher": ["torchrun 'unbalanced", "", 3],
    "study": [None, 3, "../x", "a b", "$(touch x)", "x;y"],
    "models": [None, ["../x"], ["a/b"], [3], "lenet5"],
    "datasets": [["$(touch x)"], ["../../x"], None],
    "data.files": [None, ["a"], {"../x": "a"}, {"a": 3}],
    "code.models": [{"lenet5": "a:B"}, {"x": "no path"}, None],
    "measures": [["spectrum"], None, ["sharpness"], []],
}


def text(written: str | bytes) -> Arrange:
    """Write the whole params file."""

    def arrange(folder: Path) -> None:
        path = folder / "params.yaml"
        path.write_bytes(written if isinstance(written, bytes) else written.encode())

    return arrange


def appended(lines: str) -> Arrange:
    def arrange(folder: Path) -> None:
        write(folder, params())
        with (folder / "params.yaml").open("a") as file:
            file.write(lines)

    return arrange


def epochs(written: str) -> Arrange:
    """Put a number into the params file as it is written here."""

    def arrange(folder: Path) -> None:
        whole = yaml.safe_dump(params())
        (folder / "params.yaml").write_text(re.sub(r"(?m)^epochs: .*", f"epochs: {written}", whole))

    return arrange


BOMB = "\n".join(["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"] + [
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)])  # fmt: skip
TEXTS = {
    "empty": (text(""), "mapping"),
    "a list": (text("- a\n- b\n"), "mapping"),
    "unbalanced": (text("study: [a\n"), "not readable YAML"),
    "a tab": (text("study: a\n\tmodels: b"), "not readable YAML"),
    "no UTF-8": (text(b"study: \xff\xfe"), "not readable YAML"),
    "nested deeply": (text("a: " + "[" * 5000 + "]" * 5000), "nested too deeply"),
    "an object": (text("study: !!python/object/apply:os.getcwd []"), "not readable YAML"),
    "no such date": (text("study: 2026-13-45\n"), "params.yaml"),
    "conflict": (text("<<<<<<< HEAD\nstudy: a\n=======\nstudy: b\n>>>>>>> x\n"), "not readable YAML"),
    "alias bomb": (text(BOMB), "values"),
    "an alias of itself": (text("a: &a [*a]\n"), "values"),
    "a number of 9,999 digits": (text(f"epochs: {'9' * 9999}\n"), "params.yaml"),
    "twice at the top": (appended("epochs: 3\n"), "'epochs' stands there twice"),
    "twice in a group": (appended("new: {a: 1, a: 2}\n"), "'a' stands there twice"),
    "an octal number": (epochs("010"), "010 is another number by YAML 1.1 than by 1.2"),
    "an octal number with a sign": (epochs("+010"), "+010 is another number by YAML 1.1 than by 1.2"),
    "a number to the base 60": (epochs("1:30"), "1:30 is another number by YAML 1.1 than by 1.2"),
    "two documents": (appended("---\nstudy: other\n"), "not readable YAML"),
    "a merge key": (appended("base: &base {a: 1}\nnew: {<<: *base}\n"), "merge keys (<<) are not taken"),
    "a merge key at the top": (appended("<<: {study: other}\n"), "merge keys (<<) are not taken"),
    "unknown": (appended("epoch: 3\n"), "did you mean 'epochs'"),
    "interpolated environment": (changed("study", "${oc.env:HOME}"), "refused"),
    "interpolated in a group": (changed("train.optimizer.name", "${oc.env:HOME}"), "interpolation"),
    "no-op": (changed("train.augment", False), "train.augment"),
}


# --- data files: the stage download -----------------------------------------------------------------------------------


def data(**changes: Any) -> Arrange:
    """Write a data set in which some arrays are others; None: left out."""

    def arrange(folder: Path) -> None:
        found = {name: array for name, array in (arrays() | changes).items() if array is not None}
        write(folder, params())
        np.savez(folder / "noise.npz", **found)

    return arrange


def raw(content: bytes) -> Arrange:
    def arrange(folder: Path) -> None:
        write(folder, params())
        (folder / "noise.npz").write_bytes(content)

    return arrange


def member(name: str, content: bytes, *, whole: bool = True) -> bytes:
    """Return an .npz in which one member is something else."""
    file = io.BytesIO()
    np.savez(file, **{key: array for key, array in arrays().items() if whole and key != name})
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(f"{name}.npy", content)
    return file.getvalue()


def header(described: str) -> bytes:
    """Return a .npy file with that header and no data."""
    line = described.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(line).to_bytes(2, "little") + line


def encrypted() -> bytes:
    content = bytearray(member("x_train", header("{}")))
    for sign, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = 0
        while (place := content.find(sign, place)) >= 0:
            content[place + at] |= 1
            place += 4
    return bytes(content)


def squeezed(damaged: bool) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays())
    content = bytearray(file.getvalue())
    for place in range(2000, 2400) if damaged else ():
        content[place] ^= 0xFF
    return bytes(content if damaged else content[: len(content) // 2])


def pipe(folder: Path) -> None:
    write(folder, params())
    os.mkfifo(folder / "noise.npz")


def table(**changes: Any) -> Arrange:
    """Write a table of 5 features."""
    draw = np.random.default_rng(0)
    return data(x_train=draw.random((80, 5)), x_test=draw.random((20, 5)), **changes)


def tokens(**changes: Any) -> Arrange:
    """Write sequences of 4 tokens, and the tokens that follow."""
    found = {f"{array}_{split}": np.arange(4 * n).reshape(n, 4) % 7 for array in "xy"
             for split, n in (("train", 80), ("test", 20))}  # fmt: skip
    return data(**found | changes)


X, Y = arrays()["x_train"], arrays()["y_train"]
PAIRS, SETS = np.stack([Y, Y], 1), np.stack([Y % 2, Y // 2], 1)
DATA = {
    "no file": (lambda folder: write(folder, params()), "there is no such file"),
    "a folder": (lambda folder: (write(folder, params()), (folder / "noise.npz").mkdir())[0], "no regular file"),
    "a pipe": (pipe, "no regular file"),
    "empty": (raw(b""), "not a readable .npz"),
    "text": (raw(b"hello\n"), "not a readable .npz"),
    "cut": (raw(squeezed(False)), "not a readable .npz"),
    "deflate damaged": (raw(squeezed(True)), "not a readable .npz"),
    "a .npy": (raw(header("{'descr': '|u1', 'fortran_order': False, 'shape': (0,), }")), "not a readable .npz"),
    "encrypted": (raw(encrypted()), "not a readable .npz"),
    "unbalanced header": (raw(member("x_train", header("{'descr': '|u1', 'shape': (1, "))), "not a readable .npz"),
    "8 PB declared": (
        raw(member("x_train", header("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000000,), }"))),
        "noise.npz",
    ),
    "a member of text": (raw(member("x_train", b"hello")), "noise.npz"),
    "no arrays": (raw(b"PK\x05\x06" + bytes(18)), "lacks the arrays"),
    "x_train lacks": (data(x_train=None), "lacks the arrays x_train"),
    "objects": (data(x_train=np.array([None] * 80)), "Python objects, which are never loaded"),
    "structured": (data(x_train=np.zeros((80, 5, 5), dtype=[("a", "u1")])), "not numbers"),
    "text images": (data(x_train=np.full((80, 5, 5), "a")), "not numbers"),
    "dates as images": (data(x_train=np.zeros((80, 5, 5), "datetime64[D]")), "not numbers"),
    "complex images": (data(x_train=np.zeros((80, 5, 5), complex)), "not numbers"),
    "flat": (data(x_train=X.reshape(80, -1)), "shapes: {noise: [channels, height, width]}"),
    "one image": (data(x_train=X[0, 0]), "shapes: {noise: [channels, height, width]}"),
    "five axes": (data(x_train=X[:, None, None]), "shapes: {noise: [channels, height, width]}"),
    "two channels": (data(x_train=np.stack([X, X], 3)), "neither 1 nor 3 channels"),
    "RGBA": (data(x_train=np.stack([X] * 4, 3)), "keep three of them"),
    "channels first or last": (data(x_train=np.zeros((80, 1, 8, 3), np.uint8)), "channels first or last"),
    "float": (data(x_train=X / 255), "ranges: {noise: [0.0, 1.0]}"),
    "float of both signs": (data(x_train=X / 127.5 - 1), "ranges: {noise: [-1.0, 1.0]}"),
    "16 bit": (data(x_train=X.astype(np.uint16) * 257), "ranges: {noise: [0.0, 65535.0]}"),
    "NaN": (data(x_train=np.full((80, 28, 28), NAN)), "must be uint8 images"),
    "negative": (data(x_train=X.astype(int) - 1), "must be uint8 images"),
    "empty test": (data(x_test=X[:0], y_test=Y[:0]), "x_test is empty"),
    "sizes differ": (data(x_test=X[:20, :5]), "must have the same shape"),
    "one label": (data(y_train=np.zeros(80, int)), "two classes"),
    "labels from 1": (data(y_train=Y + 1, y_test=arrays()["y_test"] + 1), "number them 0, 1, 2"),
    "labels with gaps": (data(y_train=np.array([0, 5, 250, 5] * 20)), "number them 0, 1, 2"),
    "labels to 10^12": (data(y_train=Y * 10**12), "number them 0, 1, 2"),
    "uint64 labels": (data(y_train=Y.astype(np.uint64) + np.uint64(2**63)), "noise.npz"),
    "an ignored label": (data(y_train=np.where(Y == 3, 255, Y)), "leave out what is no class"),
    "negative label": (data(y_train=Y - 1), "leave out images without a label"),
    "unlabelled test": (data(y_test=-np.ones(20, int)), "leave out images without a label"),
    "unknown test label": (data(y_test=np.array([0, 9] * 10)), "must lie in 0..3"),
    "one-hot": (data(y_train=np.eye(4)[Y]), "y_train.argmax(1)"),
    "float labels": (data(y_train=Y.astype(float)), "y_train.astype(int)"),
    "text labels": (data(y_train=np.array(["a", "b"] * 40)), "return_inverse=True"),
    "dates as labels": (data(y_train=Y.astype("datetime64[D]")), "integer labels"),
    "labels short": (data(y_train=Y[:79]), "80 integer labels"),
    "labels of two columns": (data(y_train=np.stack([Y, Y], 1)), "sets of the same labels"),
    "classes as sets of labels": (data(y_train=PAIRS, y_test=PAIRS[:20]), "must hold 0 and 1, a column for each label"),
    "an unknown label in a set": (
        data(y_train=SETS - 1, y_test=SETS[:20]),
        "must hold 0 and 1, a column for each label",
    ),
    "a label that none has": (data(y_train=SETS * [1, 0], y_test=SETS[:20]), "label 1 is 0 in all training examples"),
    "a label that all have": (data(y_train=SETS | [0, 1], y_test=SETS[:20]), "label 1 is 1 in all training examples"),
    "sets of three axes": (data(y_train=SETS[:, None], y_test=SETS[:20, None]), "integer labels"),
    "classes too few": (data(classes=np.int64(3)), "must lie in 0..2"),
    "10^12 classes": (data(classes=np.int64(10**12)), "classes must be one whole number in 1..1000000"),
    "no classes": (data(classes=np.int64(0)), "classes must be one whole number"),
    "classes of text": (data(classes=np.array("four")), "classes must be one whole number"),
    "two numbers of classes": (data(classes=np.array([4, 5])), "classes must be one whole number"),
} | {
    f"a table with {name}": (table(**changes), said)
    for name, (changes, said) in {
        "10^12 classes": ({"classes": np.int64(10**12)}, "classes must be one whole number"),
        "classes of text": ({"classes": np.array("four")}, "classes must be one whole number"),
        "two numbers of classes": ({"classes": np.array([4, 5])}, "classes must be one whole number"),
        "text for standardise": ({"standardise": np.array("no")}, "standardise must be true or false"),
        "two answers to standardise": ({"standardise": np.array([True, False])}, "standardise must be true or false"),
    }.items()
} | {
    f"a text with {name}": (tokens(**changes), said)
    for name, (changes, said) in {
        "10^12 classes": ({"classes": np.int64(10**12)}, "classes must be one whole number"),
        "half a class": ({"classes": np.float64(300.5)}, "classes must be one whole number"),
        "classes of text": ({"classes": np.array("many")}, "classes must be one whole number"),
        "a token of 10^12": ({"x_train": np.full((80, 4), 10**12)}, "tokens must lie in 0..999999"),
        "fewer classes than tokens": ({"classes": np.int64(3)}, "tokens must lie in 0..2"),
    }.items()
}  # fmt: skip


def stated(what: str, value: Any, **changes: Any) -> Arrange:
    """Write a data set with a stated shape or range."""

    def arrange(folder: Path) -> None:
        data(**changes)(folder)
        found = params()
        found["data"][what] = {"noise": value}
        write(folder, found)

    return arrange


STATED = {
    "a file with a line break in its name": (stated("files", "a\nb.npz"), "must be a path of printable characters"),
    "a file with NUL in its name": (stated("files", "a\0b.npz"), "must be a path of printable characters"),
    "a file with a surrogate in its name": (stated("files", "\ud800.npz"), "must be a path of printable characters"),
    "a file with an escape sequence in its name": (stated("files", "\x1b[2J.npz"), "must be a path of printable"),
    "a file with a long name": (stated("files", "a" * 5000), "too long"),
    "a file without a name": (stated("files", ""), "no regular file"),
    "a file of $(...)": (stated("files", "$(touch x).npz"), "no such file"),
    "an option for a file": (stated("files", "--out=x.npz"), "no such file"),
    "shape of two numbers": (stated("shapes", [28, 28]), "[channels, height, width]"),
    "shape of two channels": (stated("shapes", [2, 28, 28]), "1 or 3 channels"),
    "shape of text": (stated("shapes", ["a", 1, 1]), "data.shapes.noise"),
    "another shape": (stated("shapes", [1, 5, 5]), "data.shapes.noise"),
    "flat with colours": (stated("shapes", [3, 14, 14], x_train=np.zeros((80, 588), np.uint8)), "reshape it yourself"),
    "range that falls": (stated("ranges", [1.0, 0.0]), "data.ranges.noise"),
    "range of one": (stated("ranges", [1.0]), "data.ranges.noise"),
    "range beyond float64": (stated("ranges", [-1e308, 1e308]), "data.ranges.noise"),
    "range of NaN": (stated("ranges", [NAN, 1.0]), "data.ranges.noise"),
    "outside the range": (stated("ranges", [0.0, 1.0]), "outside data.ranges.noise"),
}


# --- records ----------------------------------------------------------------------------------------------------------

FOUND = {"schema": 1, "dataset": "noise", "image_shape": [1, 28, 28], "classes": 4, "train_images": 80}


def found_json(content: Any) -> Arrange:
    def arrange(folder: Path) -> None:
        write(folder, params())
        whole = content if isinstance(content, bytes) else json.dumps(content).encode()
        (folder / "found.json").write_bytes(whole)

    return arrange


RECORDS = {
    "missing": (lambda folder: write(folder, params()), "is missing"),
    "empty": (found_json(b""), "not a complete JSON record"),
    "cut": (found_json(json.dumps(FOUND).encode()[:40]), "not a complete JSON record"),
    "no UTF-8": (found_json(b"\xff\xfe"), "not a complete JSON record"),
    "a list": (found_json([1]), "not a record of schema 1"),
    "another schema": (found_json(FOUND | {"schema": 7}), "not a record of schema 1"),
    "only a schema": (found_json({"schema": 1}), "lacks 'image_shape'"),
    "no classes": (found_json({k: v for k, v in FOUND.items() if k != "classes"}), "lacks 'classes'"),
    "nested deeply": (found_json(b'{"schema": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"), "nested too deeply"),
    "text for a number": (found_json(FOUND | {"train_images": "many"}), "found.json"),
    "text for a shape": (found_json(FOUND | {"image_shape": "28"}), "found.json"),
    "shape of two": (found_json(FOUND | {"image_shape": [28, 28], "train_images": 2874}), "found.json"),
    "null": (found_json(FOUND | {"classes": None}), "found.json"),
    "unknown measure": (both(found_json(FOUND), changed("measures", ["flatness"])), "unknown measure"),
    "no measure": (both(found_json(FOUND), changed("measures", [])), "measures is empty"),
}


def weights(tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None) -> Arrange:
    def arrange(folder: Path) -> None:
        data()(folder)
        save_file(tensors, folder / "w.safetensors", metadata=metadata)

    return arrange


def weights_raw(content: bytes) -> Arrange:
    def arrange(folder: Path) -> None:
        data()(folder)
        (folder / "w.safetensors").write_bytes(content)

    return arrange


HEADER = {
    "status": "ok", "dataset": "noise", "batch_size": 20, "epochs": 1, "seed": 0,
    "model": {"name": "lenet5", "image_shape": [1, 28, 28], "classes": 4, "batch_norm": True, "linear": False},
}  # fmt: skip


def headed(**changes: Any) -> dict[str, str]:
    return {"gapscope": json.dumps(HEADER | changes)}


def cast(kind: torch.dtype) -> Arrange:
    """Write weights of the right names and shapes in another type, which torch would cast."""

    def arrange(folder: Path) -> None:
        model = build(ModelSpec("lenet5", (1, 28, 28), 4, batch_norm=True))
        weights(model.to(kind).state_dict(), headed())(folder)

    return arrange


ONE = {"a": torch.zeros(2)}
WEIGHTS = {
    "missing": (data(), "is missing"),
    "empty": (weights_raw(b""), "not a complete weights file"),
    "text": (weights_raw(b"hello, this is no safetensors file"), "not a complete weights file"),
    "a huge header": (weights_raw((2**60).to_bytes(8, "little") + b"{}"), "not a complete weights file"),
    "no metadata": (weights(ONE, None), "not a complete weights file"),
    "no header": (weights(ONE, {"other": "x"}), "lacks 'gapscope'"),
    "header no JSON": (weights(ONE, {"gapscope": "{"}), "not a complete weights file"),
    "header a list": (weights(ONE, {"gapscope": "[1]"}), "no header of a network"),
    "header empty": (weights(ONE, {"gapscope": "{}"}), "lacks 'status'"),
    "no model": (weights(ONE, headed(model=None)), "holds the model None"),
    "another model": (weights(ONE, headed(model=HEADER["model"] | {"name": "vgg16"})), "has not"),
    "other classes": (weights(ONE, headed(model=HEADER["model"] | {"classes": 5})), "another lenet5"),
    "other tensors": (weights(ONE, headed()), "other tensors"),
    "in float64": (cast(torch.float64), "of torch.float64, not"),
    "in bfloat16": (cast(torch.bfloat16), "of torch.bfloat16, not"),
    "unknown status": (weights(ONE, headed(status="weird")), "as its status"),
    "no text for a status": (weights(ONE, headed(status=None)), "as its status"),
    "text for a batch size": (weights(ONE, headed(batch_size="20")), "as its batch_size"),
    "NaN for a batch size": (weights(ONE, headed(batch_size=NAN)), "as its batch_size"),
    "half a seed": (weights(ONE, headed(seed=0.5)), "as its seed"),
    "a seed of 31 digits": (weights(ONE, headed(seed=BIG)), "as its seed"),
    "a folder": (lambda folder: (data()(folder), (folder / "w.safetensors").mkdir())[0], "not a complete weights file"),
    "a pipe": (lambda folder: (data()(folder), os.mkfifo(folder / "w.safetensors"))[0], "no regular file"),
    "a link to itself": (
        lambda folder: (data()(folder), (folder / "w.safetensors").symlink_to("w.safetensors"))[0],
        "w.safetensors",
    ),
}


# --- activations: the stage spectra -----------------------------------------------------------------------------------

LAYER = {"sample": "run", "layer": "conv1", "file": "run.000.conv1.npy"}
INDEX = {"schema": 1, "status": "ok", "device": "cpu"}


def layers(array: Any = None, entry: Any = None, **changes: Any) -> Arrange:
    """Write a folder of activations with one layer; None takes an entry of the index out."""

    def arrange(folder: Path) -> None:
        write(folder, params())
        (folder / "layers").mkdir()
        np.save(folder / "layers" / LAYER["file"], np.eye(5) if array is None else array)
        np.save(folder / "outside.npy", np.eye(5))
        index = INDEX | {"layers": [LAYER | (entry or {})]} | changes
        whole = {name: value for name, value in index.items() if value is not None}
        (folder / "layers/index.json").write_text(json.dumps(whole))

    return arrange


def layers_with(change: Callable[[Path], object]) -> Arrange:
    """Write a folder of activations, and change it."""

    def arrange(folder: Path) -> None:
        layers()(folder)
        change(folder / "layers")

    return arrange


def pipe_for(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


ACTIVATIONS = {
    "no index": (layers_with(lambda folder: (folder / "index.json").unlink()), "is missing"),
    "cut index": (layers_with(lambda folder: (folder / "index.json").write_text("{")), "not a complete JSON record"),
    "a pipe for a layer": (layers_with(lambda folder: pipe_for(folder / LAYER["file"])), "no regular file"),
    "a layer lacks": (layers_with(lambda folder: (folder / LAYER["file"]).unlink()), "is missing"),
    "a file of another folder": (layers(entry={"file": "../outside.npy"}), "not an index of layers"),
    "a number for a file": (layers(entry={"file": 3}), "not an index of layers"),
    "a list for a layer": (layers(entry={"layer": ["a"]}), "not an index of layers"),
    "no sample": (layers(entry={"sample": None}), "not an index of layers"),
    "no layers": (layers(**{"layers": None}), "not an index of layers"),
    "no status": (layers(status=None), "lacks 'status'"),
    "no device": (layers(device=None), "lacks 'device'"),
    "number for errors": (layers(forward_error=3), "not a folder of activations"),
    "text for an error": (layers(forward_error={"run": {"conv1": "x"}}), "not a folder of activations"),
    "negative error": (layers(forward_error={"run": {"conv1": -1.0}}), "not a folder of activations"),
    "NaN for an error": (layers(forward_error={"run": {"conv1": NAN}}), "not a folder of activations"),
    "NaN": (layers(np.full((5, 5), NAN)), "holds NaN or infinity"),
    "infinity": (layers(np.full((5, 5), INF)), "holds NaN or infinity"),
    "beyond float64": (layers(np.full((5, 5), 1e308)), "beyond float64"),
    "whole numbers": (layers(np.ones((5, 5), int)), "not a complete array"),
    "half precision": (layers(np.ones((5, 5), np.float16)), "not a complete array"),
    "complex": (layers(np.ones((5, 5), complex)), "not a complete array"),
    "text": (layers(np.full((5, 5), "a")), "not a complete array"),
    "dates": (layers(np.zeros((5, 5), "datetime64[D]")), "not a complete array"),
    "structured": (layers(np.zeros((5, 5), [("a", "f8")])), "not a complete array"),
    "objects": (layers(np.array([[None, None]])), "not a complete array"),
    "no axis": (layers(np.float64(3)), "not a complete array"),
    "one axis": (layers(np.zeros(5)), "not a complete array"),
    "no samples": (layers(np.zeros((0, 5))), "not a complete array"),
}


# --- records of a study: the stages near_rank, tables and claims ------------------------------------------------------

COMMITTED = yaml.safe_load((ROOT / "params.yaml").read_text())
STUDY = COMMITTED["study"]
CELL = "{models[0]}-{datasets[0]}-b{batch_sizes[0]}-s{seeds[0]}".format(**COMMITTED)


def damaged(name: str, change: Callable[[str], str | bytes | None]) -> Arrange:
    """Take the committed records of a study, one of which is changed, or missing (None)."""

    def arrange(folder: Path) -> None:
        shutil.copy(ROOT / "params.yaml", folder)
        shutil.copytree(ROOT / "metrics" / STUDY, folder / "metrics" / STUDY, copy_function=os.symlink)
        path = folder / "metrics" / STUDY / name
        content = change(path.read_text())
        path.unlink()
        if content is not None:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())

    return arrange


def field(name: str, value: Any) -> Callable[[str], str]:
    """Put a value into a JSON record, or into the header of JSON lines; None: take it out."""

    def change(content: str) -> str:
        first, end, rest = content.partition("\n") if content.startswith('{"') else (content, "", "")
        record = {key: old for key, old in json.loads(first).items() if key != name}
        return json.dumps(record if value is None else record | {name: value}) + end + rest

    return change


def column(name: str, other: str) -> Callable[[str], str]:
    """Rename a column of a table."""
    return lambda content: re.sub(rf"(?m)\A(.*\b){name}\b", rf"\g<1>{other}", content)


def first_value(content: str) -> str:
    """Put text in place of the first number of the column `value`."""
    head, row, *rows = content.splitlines(keepends=True)
    cells_ = row.rstrip("\n").split(",")
    cells_[head.rstrip("\n").split(",").index("value")] = "many"
    return "".join([head, ",".join(cells_) + "\n", *rows])


def second_line(change: Callable[[list[Any]], list[Any]]) -> Callable[[str], str]:
    """Change the first spectrum of a record."""

    def changed_lines(content: str) -> str:
        lines = content.splitlines()
        place = next(number for number, line in enumerate(lines) if line.startswith("["))
        lines[place] = json.dumps(change(json.loads(lines[place])))
        return "\n".join(lines) + "\n"

    return changed_lines


def in_row(place: int, value: Any) -> Callable[[str], str]:
    """Put a value into the first spectrum of a record, which has `gapscope.records.spectra.COLUMNS`."""
    return second_line(lambda row: [*row[:place], value, *row[place + 1 :]])


def bounds(value: float) -> Callable[[str], str]:
    """Put a value in the place of every error bound of the first spectrum."""
    return second_line(lambda row: [*row[:6], [[count, value] for count, _ in row[6]], *row[7:]])


def of_layer(**changes: Any) -> Callable[[str], str]:
    """Change what a record of spectra says of its first layer."""

    def change(content: str) -> str:
        head, about, rest = content.split("\n", 2)
        return "\n".join([head, json.dumps(json.loads(about) | changes), rest])

    return change


def gone(_: str) -> None:
    return None


SPECTRA = f"spectra/{CELL}.jsonl"
NEAR_RANK = {
    "missing": (damaged(SPECTRA, gone), "run the spectra stage"),
    "empty": (damaged(SPECTRA, lambda _: ""), "not a whole record of spectra"),
    "no JSON": (damaged(SPECTRA, lambda _: "hello\n"), "not a whole record of spectra"),
    "no UTF-8": (damaged(SPECTRA, lambda _: b"\xff\xfe"), "not a whole record of spectra"),
    "cut": (damaged(SPECTRA, lambda text: text[: len(text) // 2]), "not a whole record of spectra"),
    "a line lost": (damaged(SPECTRA, lambda text: text.replace("\n", "", 1)), "not a whole record of spectra"),
    "another schema": (damaged(SPECTRA, field("schema", 9)), "schema 9"),
    "other columns": (damaged(SPECTRA, field("columns", ["a"])), "its columns are not"),
    "no cut": (damaged(SPECTRA, field("cut", None)), "no cut"),
    "text for the cut": (damaged(SPECTRA, field("cut", "x")), "its cut is 'x'"),
    "text for a value": (damaged(SPECTRA, second_line(lambda row: [row[0], "x", *row[2:]])), "record of spectra"),
    "values that end too soon": (damaged(SPECTRA, second_line(lambda row: row[:3])), "record of spectra"),
} | {
    name: (damaged(SPECTRA, change), "not a whole record of spectra")
    for name, change in {
        "an infinite cut": field("cut", INF), "NaN for the largest": in_row(1, NAN),
        "text for the smallest": in_row(2, "x"), "null for the smallest": in_row(2, None),
        "NaN for a rank": in_row(3, NAN), "text for a rank": in_row(3, "x"), "no bounds": in_row(6, []),
        "8 GB of bounds": in_row(6, [[10**9, -40]]), "a negative number of bounds": in_row(6, [[-1, -40]]),
        "a tail of 10^10 values": in_row(7, "0*9999999999"), "a tail of no number": in_row(7, "!!"),
        "a list for a tail": in_row(7, [1]), "10^11 dead units": of_layer(dead_units="0-99999999999"),
        "text for dead units": of_layer(dead_units="a"),
        "a duplicate beyond the end": of_layer(duplicate_samples="9" * 9),
        "a dead unit beyond the end": of_layer(dead_units="3000"), "dead units below zero": of_layer(dead_units="3--7"),
        "dead units backwards": of_layer(dead_units="3-1"), "a dead unit twice": of_layer(dead_units="1 1"),
        "a duplicate within a range": of_layer(duplicate_samples="1-3 2"),
        "a negative bound": bounds(-1.5), "a bound of NaN": bounds(NAN),
        "a negative rank": in_row(3, -1.0), "a smallest value above the largest": in_row(2, 1e9),
        "text for a shape": of_layer(shape="x"), "a shape of one axis": of_layer(shape=[3]),
        "an empty shape": of_layer(shape=[]), "a shape with no length": of_layer(shape=[0, 5]),
    }.items()
}  # fmt: skip
TRAIN, LONG = f"train/{CELL}.json", f"train/{CELL}.csv"
TABLES = {
    "no record": (damaged(TRAIN, gone), "is missing"),
    "empty record": (damaged(TRAIN, lambda _: ""), "not a complete JSON record"),
    "record of another schema": (damaged(TRAIN, field("schema", 9)), "schema"),
    "record without status": (damaged(TRAIN, field("status", None)), "lacks 'status'"),
    "text for the model": (damaged(TRAIN, field("model", "lenet5")), "not the record of a run"),
    "text for classes": (damaged(TRAIN, field("model", {"classes": "ten"})), "not the record of a run"),
    "numbers of guessing in a list": (damaged(TRAIN, field("guessing", [2.3])), "not the record of a run"),
    "text in guessing": (damaged(TRAIN, field("guessing", {"cross_entropy": "much"})), "not the record of a run"),
    "record of another batch size": (damaged(TRAIN, field("batch_size", 7)), "by its name"),
    "record of another seed": (damaged(TRAIN, field("seed", 77)), "by its name"),
    "no table": (damaged(LONG, gone), "is missing"),
    "empty table": (damaged(LONG, lambda _: ""), "not a complete CSV table"),
    "cut table": (damaged(LONG, lambda text: text[:-3]), "its last line has no end"),
    "table of text": (damaged(LONG, lambda _: "hello\n"), "lacks the columns quantity"),
    "text for a number": (damaged(LONG, first_value), "not a complete CSV table"),
    "no values": (damaged(LONG, column("value", "worth")), "lacks the columns value"),
    "cut near-rank counts": (damaged("near_rank.csv", lambda text: text[:-3]), "its last line has no end"),
}
CLAIMS = {
    "no runs": (damaged("runs.csv", gone), "is missing"),
    "no cells": (damaged("cells.csv", gone), "is missing"),
    "empty cells": (damaged("cells.csv", lambda _: ""), "not a complete CSV table"),
    "cells without status": (damaged("cells.csv", column("status", "state")), "lacks the columns status"),
    "runs without quantity": (damaged("runs.csv", column("quantity", "what")), "lacks the columns quantity"),
    "runs without values": (damaged("runs.csv", column("value", "worth")), "lacks the columns value"),
    "text for a number": (damaged("runs.csv", first_value), "not a complete CSV table"),
    "no UTF-8": (damaged("runs.csv", lambda _: b"a\n\xff\n"), "not a complete CSV table"),
    "cut runs": (damaged("runs.csv", lambda text: text[:-3]), "its last line has no end"),
}


def cases() -> list[Case]:
    """Return all of them."""
    check, download = ("--out", "checked.yaml"), ("--dataset", "noise", "--out", "d/noise.npz")
    plan = ("--found", "found.json", "--out", "plan.txt")
    sharpness = ("--weights", "w.safetensors", "--data", "noise.npz", "--out", "sharp")
    activations = ("--weights", "w.safetensors", "--data", "noise.npz", "--out", "acts")
    controls = ("--weights", "w.safetensors", "--data", "noise.npz", "--out", "controls.jsonl")
    claims = ("--tables", f"metrics/{STUDY}", "--reference", f"metrics/{STUDY}/runs.csv", "--out", "claims.csv")
    found = [
        Case(f"{name}={str(value)[:20]}", "check", check, changed(name, value), name.rpartition(".")[2].rstrip("s"))
        for name, values in WRONG_VALUES.items()
        for value in values
    ]
    for stage, arguments, table in (
        ("check", check, TEXTS),
        ("download", download, DATA | STATED),
        ("plan", plan, RECORDS),
        ("sharpness", sharpness, WEIGHTS),
        ("activations", activations, WEIGHTS),
        ("controls", controls, WEIGHTS),
        ("spectra", ("--activations", "layers", "--out", "spectra.jsonl"), ACTIVATIONS),
        ("near_rank", ("--out", "near_rank.csv"), NEAR_RANK),
        ("tables", ("--out", "tables"), TABLES),
        ("claims", claims, CLAIMS),
    ):
        found += [Case(f"{stage}: {name}", stage, arguments, arrange, said) for name, (arrange, said) in table.items()]
    return found
