"""Files between stages: what is written is read again, half a file is never taken for a whole one."""

import errno
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from scripts import file_size_limit

from gapscope.errors import InputError
from gapscope.records.activations import read_activations, write_activations
from gapscope.records.files import atomic_path, write_text
from gapscope.records.spectra import LayerRecord, ModeRecord, kept_indices, read_spectra, write_spectra
from gapscope.records.tables import SCHEMA, read_record, read_table, write_record, write_table
from gapscope.records.weights import AS_TRAINED, read_weights, write_weights

HALF_A_DIGIT = 5e-10  # ten significant digits: at most half a unit of the tenth, relative to a leading digit of 1


def refusal(call: Callable[..., object], *args: object) -> str:
    try:
        call(*args)
    except InputError as error:
        return str(error)
    pytest.fail("nothing was refused")


# --- one small output of each format, to be written in two versions and compared --------------------------------------


def write_small_record(path: Path, version: int) -> None:
    write_record(path, {"version": version, "loss": 0.25, "history": list(range(150))})


def write_small_table(path: Path, version: int) -> None:
    write_table(path, [{"version": version, "model": "lenet5", "loss": row / 8} for row in range(100)])


def write_small_weights(path: Path, version: int) -> None:
    write_weights(path, {"weight": torch.full((300,), version)}, {}, {"version": version})


def write_small_activations(path: Path, version: int) -> None:
    with write_activations(path, {"version": version}) as open_layer:
        for layer in ("conv1", "fc1"):
            open_layer("run", layer, (20, 10))[:] = version


def write_small_spectra(path: Path, version: int) -> None:
    ranks = {"stable_rank": 100.0, "effective_rank": 100.0, "participation_ratio": 100.0}
    values = [1.0] * 100 + [version / 1e4] * 300
    quantiles = {index: 1.0 for index in kept_indices(400) if index < 100}
    mode = ModeRecord("gram", 1.0, values[-1], np.full(400, 2.0**-40), np.array(values[100:]), quantiles, ranks)
    layers = [LayerRecord("run", layer, (500, 400), [mode], None, [3], []) for layer in "ab"]
    write_spectra(path, {"version": version, "cut": 1e-2}, layers)


def read_small_spectra(path: Path) -> Any:
    header, layers = read_spectra(path)
    return header, [(layer.layer, [mode.tail.tolist() for mode in layer.modes]) for layer in layers]


def read_whole_activations(path: Path) -> Any:
    header, layers = read_activations(path)
    return header, [(sample, layer, array.tolist()) for sample, layer, array in layers]


def read_small_table(path: Path) -> Any:
    return read_table(path).to_dict("list")


def read_small_weights(path: Path) -> Any:
    state, header = read_weights(path)
    return {name: tensor.tolist() for name, tensor in state.items()}, header


@dataclass(frozen=True)
class Format:
    write: Callable[[Path, int], None]
    read: Callable[[Path], Any]
    remedy: str


FORMATS = {
    "record": Format(write_small_record, read_record, "run the stage that makes it"),
    "table": Format(write_small_table, read_small_table, "run the stage that makes it"),
    "weights": Format(write_small_weights, read_small_weights, "run the train stage"),
    "activations": Format(write_small_activations, read_whole_activations, "run the stage that makes it"),
    "spectra": Format(write_small_spectra, read_small_spectra, "run the spectra stage"),
}


@pytest.fixture(params=FORMATS.values(), ids=FORMATS)
def kind(request) -> Format:
    return request.param


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "output"


def test_second_version_replaces_the_first_and_leaves_nothing_else(kind, path):
    kind.write(path, 1)
    first = kind.read(path)
    kind.write(path, 2)
    assert kind.read(path) != first
    kind.write(path, 1)
    assert kind.read(path) == first
    assert list(path.parent.iterdir()) == [path]


def test_missing_output_names_the_path_and_the_stage(kind, path):
    message = refusal(kind.read, path)
    assert str(path) in message
    assert kind.remedy in message


# --- round trips ------------------------------------------------------------------------------------------------------


def test_record_round_trip(path):
    record = {"study": "small", "loss": 0.1 + 0.2, "none": None, "ok": True, "list": [1, [2.5, "x"]], "name": "Müller"}
    write_record(path, record)
    assert read_record(path) == {"schema": SCHEMA, **record}
    assert path.read_text(encoding="utf-8").endswith("}\n")


def test_infinity_and_nan_in_a_record_become_null(path):
    bad = [float("nan"), float("inf"), float("-inf"), np.float64("nan")]
    write_record(path, {"top": bad[0], "list": [1.5, *bad], "nested": {"pair": (bad[1], {"deep": bad[2]})}})
    expected = {"top": None, "list": [1.5, *[None] * 4], "nested": {"pair": [None, {"deep": None}]}}
    assert read_record(path) == {"schema": SCHEMA, **expected}

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    json.loads(path.read_text(), parse_constant=refuse)


@pytest.mark.parametrize("as_frame", [True, False])
def test_table_round_trip(path, as_frame):
    columns = {
        "model": ["lenet5", "a, b", 'say "x"'],
        "batch_size": [32, 8192, 2**40],
        "loss": [0.25, 1.0e-300, -1.5e9],
        "near_rank": [0.5, float("nan"), 1.0],
    }
    frame = pd.DataFrame(columns)
    write_table(path, frame if as_frame else frame.to_dict("records"))
    pd.testing.assert_frame_equal(read_table(path), frame, check_exact=True)


def test_table_keeps_ten_digits(path):
    exact = np.random.default_rng(0).lognormal(sigma=20, size=500)
    write_table(path, [{"x": x} for x in [1 / 3, *exact]])
    found = read_table(path)["x"].to_numpy()
    assert path.read_text().splitlines()[1] == "0.3333333333"
    torch.testing.assert_close(torch.tensor(found[1:]), torch.from_numpy(exact), rtol=HALF_A_DIGIT, atol=0.0)


def test_weights_round_trip(path):
    state = {
        "conv.weight": torch.arange(24.0).reshape(2, 3, 4).transpose(0, 2).requires_grad_(),  # not contiguous
        "bn.running_mean": torch.tensor([1.0, 2.0]),
        "bn.num_batches_tracked": torch.tensor(7),
        "half": torch.tensor([0.5, 65504.0], dtype=torch.float16),
        "double": torch.tensor([1 / 3], dtype=torch.float64),
    }
    as_trained = {"bn.running_mean": torch.tensor([9.0, 9.0])}
    header = {"model": "lenet5", "settings": {"linear": False, "seeds": [0, 1]}, "name": "Müller"}
    write_weights(path, state, as_trained, header)
    found, found_header = read_weights(path)
    assert found_header == header
    torch.testing.assert_close(found, {name: tensor.detach() for name, tensor in state.items()}, rtol=0.0, atol=0.0)
    with safe_open(path, framework="pt") as file:
        torch.testing.assert_close(
            file.get_tensor(AS_TRAINED + "bn.running_mean"), as_trained["bn.running_mean"], rtol=0.0, atol=0.0
        )


def test_activations_round_trip(path):
    shapes = [("run", "conv1", (4, 2, 3, 3)), ("run", "fc1", (4, 5)), ("probe", "conv1", (2, 2, 3, 3))]
    arrays = [np.random.default_rng(index).normal(size=shape) for index, (*_, shape) in enumerate(shapes)]
    with write_activations(path, {"status": "measured", "samples": {"run": [3, 1]}}) as open_layer:
        for (sample, layer, shape), array in zip(shapes, arrays):
            open_layer(sample, layer, shape)[:] = array
        assert not path.exists()
    header, layers = read_activations(path)
    assert header == {"schema": SCHEMA, "status": "measured", "samples": {"run": [3, 1]}}
    assert [(sample, layer, array.shape) for sample, layer, array in layers] == shapes
    for (*_, array), expected in zip(layers, arrays):
        assert isinstance(array, np.memmap)
        assert not array.flags.writeable
        assert array.dtype == np.float64
        np.testing.assert_array_equal(array, expected)


def test_fewer_layers_replace_more_whole(path):
    write_small_activations(path, 1)
    with write_activations(path, {}) as open_layer:
        open_layer("run", "only", (2, 2))[:] = 3.0
    assert [layer for _, layer, _ in read_whole_activations(path)[1]] == ["only"]
    assert len(list(path.iterdir())) == 2


# --- damage -----------------------------------------------------------------------------------------------------------


def lengths_short_of(whole: bytes) -> list[int]:
    """Every 13th length, and all near the end; a last line break alone may go."""
    end = len(whole.rstrip(b"\n"))
    return sorted({*range(0, end, 13), *range(max(0, end - 20), end)})


@pytest.mark.parametrize("name", ["record", "weights", "spectra"])
def test_truncated_file(path, name):
    FORMATS[name].write(path, 1)
    whole = path.read_bytes()
    for length in lengths_short_of(whole):
        path.write_bytes(whole[:length])
        message = refusal(FORMATS[name].read, path)
        assert str(path) in message


@pytest.mark.parametrize("part", ["index.json", "run.000.conv1.npy", "run.001.fc1.npy"])
def test_truncated_part_of_activations(path, part):
    write_small_activations(path, 1)
    whole = (path / part).read_bytes()
    for length in lengths_short_of(whole):
        (path / part).write_bytes(whole[:length])
        message = refusal(read_whole_activations, path)
        assert str(path / part) in message


def test_empty_table(path):
    write_text(path, "")
    assert f"{path}" in refusal(read_table, path)


def test_truncated_table(path):
    write_table(path, [{"batch_size": 32, "loss": 0.125}, {"batch_size": 64, "loss": 12.75}])
    whole = path.read_bytes()
    for length in range(1, len(whole) - 1):
        if whole[length - 1 : length] != b"\n":  # between two rows there is nothing to see
            path.write_bytes(whole[:length])
            assert f"{path}" in refusal(read_table, path)


def test_missing_layer_of_activations(path):
    write_small_activations(path, 1)
    (path / "run.001.fc1.npy").unlink()
    message = refusal(read_whole_activations, path)
    assert str(path / "run.001.fc1.npy") in message
    assert "activations" in message


def test_activations_that_are_pickled_are_not_loaded(path):
    write_small_activations(path, 1)
    np.save(path / "run.000.conv1.npy", np.array([{}, {}], dtype=object))
    assert str(path / "run.000.conv1.npy") in refusal(read_whole_activations, path)


@pytest.mark.parametrize("damage", [b"\xff" * 300, b"model,loss\nm\xfcller,1\n", b"a,b\n1,2\n1,2,3\n", b"\n\n"])
def test_other_bytes_in_place_of_an_output(kind, path, damage):
    kind.write(path, 1)
    damaged = path / "index.json" if path.is_dir() else path
    damaged.write_bytes(damage)
    assert str(damaged) in refusal(kind.read, path)


@pytest.mark.parametrize("name", ["record", "weights", "activations", "spectra"])
@pytest.mark.parametrize("damage", [b"\x00" * 300, b"{}", b"[]", b"null", b'{"schema": 1}\n[1]\n'])
def test_other_json_in_place_of_an_output(path, name, damage):
    FORMATS[name].write(path, 1)
    damaged = path / "index.json" if path.is_dir() else path
    damaged.write_bytes(damage)
    assert str(damaged) in refusal(FORMATS[name].read, path)


def test_spectra_whose_header_is_no_object(path):
    write_text(path, '[]\n{"end": 1}\n')
    assert f"{path}" in refusal(read_spectra, path)


@pytest.mark.parametrize("name", ["record", "activations", "spectra"])
@pytest.mark.parametrize("schema", ['"schema": 9', f'"schema": "{SCHEMA}"', '"scheme": 1'])
def test_other_schema(path, name, schema):
    FORMATS[name].write(path, 1)
    file = path / "index.json" if path.is_dir() else path
    changed = re.sub(r'"schema": ?\d', schema, file.read_text(), count=1)
    assert changed != file.read_text()
    file.write_text(changed)
    assert str(file) in refusal(FORMATS[name].read, path)


@pytest.mark.parametrize("lost", range(6))
def test_spectra_with_a_line_lost(path, lost):
    write_small_spectra(path, 1)
    lines = path.read_text().splitlines(keepends=True)
    assert len(lines) == 6  # a header, two layers of two lines, the end
    path.write_text("".join(lines[:lost] + lines[lost + 1 :]))
    assert f"{path}" in refusal(read_spectra, path)


def test_spectra_with_a_line_twice(path):
    write_small_spectra(path, 1)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:2], *lines[1:]]))
    assert f"{path}" in refusal(read_spectra, path)


def test_weights_of_another_program(path):
    path.parent.mkdir()
    save_file({"weight": torch.zeros(3)}, path)
    assert f"{path}" in refusal(read_weights, path)
    save_file({"weight": torch.zeros(3)}, path, metadata={"gapscope": "{"})
    assert f"{path}" in refusal(read_weights, path)


def test_damaged_header_of_a_layer(path):
    write_small_activations(path, 1)
    file = path / "run.000.conv1.npy"
    whole = file.read_bytes()
    for position in range(whole.index(b"}") + 1):
        changed = bytearray(whole)
        changed[position] ^= 0xFF
        file.write_bytes(changed)
        assert str(file) in refusal(read_whole_activations, path)


@pytest.mark.parametrize(
    "index",
    [{}] + [{"layers": [{"sample": "run", "layer": "conv1", "file": "run.000.conv1.npy"} | wrong]} for wrong in (
        {"layer": None}, {"sample": [1]}, {"file": 3}, {"file": "../evil.npy"}, {"file": "/evil.npy"}, {"file": "."},
    )],
)  # fmt: skip
def test_record_that_is_no_index(path, index):
    write_small_activations(path, 1)
    write_record(path / "index.json", index)
    assert str(path / "index.json") in refusal(read_whole_activations, path)


# --- whole or not at all ----------------------------------------------------------------------------------------------


class StopHereError(Exception):
    pass


@pytest.mark.parametrize("old", [True, False])
def test_exception_in_mid_write(path, old):
    if old:
        write_text(path, "old")

    def write_half() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("ne")
            raise StopHereError

    with pytest.raises(StopHereError):
        write_half()
    assert [(file, file.read_text()) for file in path.parent.iterdir()] == ([(path, "old")] if old else [])


@pytest.mark.parametrize("old", [True, False])
def test_exception_between_two_layers(path, old):
    if old:
        write_small_activations(path, 1)

    def write_half() -> None:
        with write_activations(path, {"version": 2}) as open_layer:
            open_layer("run", "conv1", (20, 10))[:] = 2
            raise StopHereError

    with pytest.raises(StopHereError):
        write_half()
    assert list(path.parent.iterdir()) == ([path] if old else [])
    if old:
        header, layers = read_whole_activations(path)
        assert header["version"] == 1
        assert [layer for _, layer, _ in layers] == ["conv1", "fc1"]


def test_full_disk_when_the_file_is_flushed(kind, path, monkeypatch):
    kind.write(path, 1)
    before = kind.read(path)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left on device"):
            kind.write(path, 2)
        with pytest.raises(OSError, match="No space left on device"):
            kind.write(path.with_name("new"), 2)
    assert kind.read(path) == before
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("old", [True, False])
def test_write_that_fails_half_way(kind, path, old):
    path.parent.mkdir()
    if old:
        kind.write(path, 1)
    before = kind.read(path) if old else None
    with pytest.raises((OSError, SafetensorError)), file_size_limit(200):
        kind.write(path, 2)
    if old:
        assert kind.read(path) == before
    assert list(path.parent.iterdir()) == ([path] if old else [])


def test_failed_write_of_weights_is_an_os_error(path):
    with pytest.raises(OSError, match="File too large"), file_size_limit(1000):
        write_small_weights(path, 1)


def test_all_is_flushed_before_it_takes_its_name(kind, path, monkeypatch):
    flushed: set[int] = set()  # files by their inode, which a new name does not change
    flushed_before: list[set[int]] = []
    fsync, replace = os.fsync, os.replace

    def log_fsync(handle: int) -> None:
        flushed.add(os.fstat(handle).st_ino)
        fsync(handle)

    def log_replace(source: Path, target: Path) -> None:
        if target == path:
            flushed_before.append(set(flushed))
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", log_fsync)
        patch.setattr(os, "replace", log_replace)
        kind.write(path, 1)
    files = list(path.iterdir()) if path.is_dir() else [path]
    assert len(flushed_before) == 1
    assert flushed_before[0] >= {file.stat().st_ino for file in files}


GONE = 2**22 + 1  # no process: Linux and macOS give no id that is larger than 2**22

KILLED_IN_MID_WRITE = """
import sys, time
from pathlib import Path
from gapscope.records.activations import write_activations
from gapscope.records.files import atomic_path

folder, file, new_folder, new_file = map(Path, sys.argv[1:])
with (
    write_activations(folder, {"version": 2}) as over_old,
    write_activations(new_folder, {"version": 2}) as over_none,
    atomic_path(file) as temporary,
    atomic_path(new_file) as new_temporary,
):
    for open_layer in (over_old, over_none):
        array = open_layer("run", "conv1", (20, 10))
        array[:] = 2
        array.flush()
    for half in (temporary, new_temporary):
        half.write_text('{"schema": 1, "vers')
    print("half", flush=True)
    time.sleep(60)
"""


def test_kill_in_mid_write(tmp_path):
    folder, file, new_folder, new_file = (tmp_path / name for name in ("folder", "file", "new_folder", "new_file"))
    write_small_activations(folder, 1)
    write_small_record(file, 1)
    before = read_whole_activations(folder), read_record(file)
    command = [sys.executable, "-c", KILLED_IN_MID_WRITE, *map(str, (folder, file, new_folder, new_file))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout.readline() == "half\n"
        writer.kill()
    assert (read_whole_activations(folder), read_record(file)) == before
    assert not new_folder.exists()
    assert not new_file.exists()
    left = {path.name for path in tmp_path.iterdir()} - {"folder", "file"}
    assert len(left) == 4  # the kill was in mid-write
    assert all(name.startswith(".") and name.endswith(".tmp") for name in left)  # what git and DVC ignore
    write_small_activations(folder, 2)
    write_small_activations(new_folder, 2)
    assert read_whole_activations(folder) == read_whole_activations(new_folder)
    assert {path.name for path in tmp_path.glob(".*")} == {name for name in left if "file" in name}
    for path in (file, new_file):
        write_small_record(path, 2)
    assert not list(tmp_path.glob(".*"))


def test_rest_of_a_killed_run_with_this_process_id(path):
    rest = path.with_name(f".{path.name}.{os.getpid()}.tmp")  # ids come back: in a container, at once
    rest.mkdir(parents=True)
    (rest / "run.000.old.npy").write_text("half")
    write_small_activations(path, 1)
    assert len(read_whole_activations(path)[1]) == 2
    assert list(path.glob("*old*")) == []


def test_what_a_running_process_writes_is_left_alone(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    others = [f".{path.name}.{os.getppid()}.tmp", f".{path.name}.more.{GONE}.tmp", f".{path.name}.x.tmp"]
    for name in others:  # of a process that runs, of another file, and of nobody that is known
        (path.parent / name).write_text("half")
    gone = path.with_name(f".{path.name}.{GONE}.tmp")
    gone.write_text("half")
    write_text(path, "whole")
    assert {file.name for file in path.parent.iterdir()} == {path.name, *others}


@pytest.mark.parametrize("name", ["a[1]", "a*"])
def test_a_name_is_no_pattern(tmp_path, name):
    (tmp_path / f".a1.{GONE}.tmp").write_text("of another file")
    (tmp_path / f".{name}.{GONE}.tmp").write_text("half")
    write_text(tmp_path / name, "whole")
    assert {file.name for file in tmp_path.iterdir()} == {name, f".a1.{GONE}.tmp"}


def test_an_empty_frame_keeps_its_columns(tmp_path: Path) -> None:
    write_table(tmp_path / "empty.csv", pd.DataFrame(columns=["batch_size", "loss"]))
    assert read_table(tmp_path / "empty.csv").columns.tolist() == ["batch_size", "loss"]
    assert len(read_table(tmp_path / "empty.csv")) == 0
