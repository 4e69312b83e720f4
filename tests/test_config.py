"""Params: what is read from a whole file, and the one line that answers each mistake."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from gapscope import noops
from gapscope.config import Params, load_params
from gapscope.data.sources import DataSettings
from gapscope.errors import InputError
from gapscope.records.cells import cells

STUDY = {
    "study": "small",
    "models": ["lenet5"],
    "datasets": ["digits", "mnist"],
    "batch_sizes": [32, 128],
    "batch_size": 128,
    "seeds": [0, 1],
    "epochs": 3,
    "thresholds": [1.0e-4, 0],
    "toy": {"lr_start": 0.1, "momentum": 1, "nesterov": True, "decay": "all", "epsilons": [1.0e-3], "images": None},
}


@dataclass(frozen=True)
class ToySettings:
    lr_start: float
    momentum: float
    nesterov: bool
    decay: str
    epsilons: tuple[float, ...]
    images: int | None


@pytest.fixture(autouse=True)
def no_op_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """The group `train` is a made-up one here: it has one no-op value of its own, within a group."""
    monkeypatch.setattr(noops, "NOOPS", {"other": {"nested.off": None}})


@pytest.fixture
def declared(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({"defaults": ["_self_"], **dict.fromkeys(STUDY, "???"), "data": {"files": {}}}))
    return path


@pytest.fixture
def params_file(tmp_path: Path) -> Path:
    return tmp_path / "params.yaml"


@pytest.fixture
def load(params_file: Path, declared: Path):
    def with_changes(**changes: object) -> Params:
        params_file.write_text(yaml.safe_dump(STUDY | changes))
        return load_params(params_file, declared)

    return with_changes


def without(mapping: dict, key: str) -> dict:
    return {name: value for name, value in mapping.items() if name != key}


def test_whole_file_is_read_as_it_stands(load):
    params = load()
    assert params == Params(
        study="small",
        models=("lenet5",),
        datasets=("digits", "mnist"),
        batch_sizes=(32, 128),
        batch_size=128,
        seeds=(0, 1),
        epochs=3,
        thresholds=(1.0e-4, 0.0),
        groups={"toy": STUDY["toy"]},
    )
    assert type(params.thresholds[1]) is float
    toy = params.section("toy", ToySettings)
    assert toy == ToySettings(0.1, 1.0, True, "all", (1.0e-3,), None)
    assert type(toy.momentum) is float


def test_null_or_a_value_where_null_is_allowed(load):
    assert load(toy=STUDY["toy"] | {"images": 512}).section("toy", ToySettings).images == 512
    with pytest.raises(InputError, match=r"toy\.images must be of type int, got 'all'"):
        load(toy=STUDY["toy"] | {"images": "all"}).section("toy", ToySettings)


@pytest.mark.parametrize(("wrong", "right"), [("bacth_sizes", "batch_sizes"), ("epoch", "epochs"), ("tyo", "toy")])
def test_unknown_top_level_key_names_the_nearest(load, params_file, wrong, right):
    with pytest.raises(InputError, match=f"'{wrong}'.*'{right}'") as caught:
        load(**{wrong: [1]})
    assert str(params_file) in str(caught.value)


def test_unknown_key_near_to_none_lists_the_known(load):
    with pytest.raises(InputError, match=r"unknown param 'zzz'; known: batch_size, batch_sizes, .*thresholds, toy"):
        load(zzz=1)


def test_the_hydra_defaults_list_is_no_param(load):
    with pytest.raises(InputError, match="'defaults'"):
        load(defaults=[])


def test_group_is_known_when_the_configuration_declares_it(load, declared, params_file):
    declared.write_text(declared.read_text() + "curvature: {}\n")
    assert load(curvature={"probes": 8}).groups["curvature"] == {"probes": 8}
    declared.write_text(declared.read_text().replace("curvature: {}\n", ""))
    with pytest.raises(InputError, match="'curvature'"):
        load_params(params_file, declared)


def test_unknown_nested_key_names_the_nearest(load):
    params = load(toy=STUDY["toy"] | {"lr_strat": 0.1})
    with pytest.raises(InputError, match=r"unknown param 'toy\.lr_strat'; did you mean 'lr_start'"):
        params.section("toy", ToySettings)


@pytest.mark.parametrize("key", sorted(without(STUDY, "toy")))
def test_missing_top_level_key(params_file, declared, key):
    params_file.write_text(yaml.safe_dump(without(STUDY, key)))
    with pytest.raises(InputError, match=f"'{key}'"):
        load_params(params_file, declared)


@pytest.mark.parametrize("key", sorted(STUDY["toy"]))
def test_missing_nested_key(load, key):
    params = load(toy=without(STUDY["toy"], key))
    with pytest.raises(InputError, match=rf"missing param 'toy\.{key}'"):
        params.section("toy", ToySettings)


def test_missing_group_names_the_nearest(load):
    with pytest.raises(InputError, match="no group 'toys'; did you mean 'toy'"):
        load().section("toys", ToySettings)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"study": 5}, "study.*\\bstr\\b.*\\b5\\b"),
        ({"epochs": "3"}, "epochs.*int.*'3'"),
        ({"epochs": 3.0}, r"epochs.*int.*3\.0"),
        ({"epochs": True}, "epochs.*int.*True"),
        ({"epochs": None}, "epochs.*int.*None"),
        ({"batch_sizes": [32, True]}, "batch_sizes.*int.*True"),
        ({"seeds": [False]}, "seeds.*int.*False"),
        ({"thresholds": [True]}, "thresholds.*float.*True"),
        ({"batch_sizes": 32}, "batch_sizes.*list.*32"),
        ({"models": "lenet5"}, "models.*list.*'lenet5'"),
        ({"models": {"lenet5": 1}}, "models.*list"),
        ({"datasets": [5]}, "datasets.*\\bstr\\b.*\\b5\\b"),
    ],
)
def test_wrong_type_at_the_top_level(load, changes, message):
    with pytest.raises(InputError, match=message):
        load(**changes)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("lr_start", "1e-4", r"toy\.lr_start must be a number, got the text '1e-4' \(YAML wants 1\.0e-4"),
        ("lr_start", True, r"toy\.lr_start must be of type float, got True"),
        ("lr_start", [0.1], r"toy\.lr_start must be of type float, got \[0\.1\]"),
        ("nesterov", 1, r"toy\.nesterov must be of type bool, got 1"),
        ("nesterov", "true", r"toy\.nesterov must be of type bool, got 'true'"),
        ("decay", None, r"toy\.decay must be of type str, got None"),
        ("epsilons", 1.0e-3, r"toy\.epsilons must be a list, got 0\.001"),
        ("epsilons", ["1e-3"], r"toy\.epsilons must be a number, got the text '1e-3' \(YAML wants 1\.0e-4"),
        ("images", True, r"toy\.images must be of type int, got True"),
    ],
)
def test_wrong_type_in_a_group(load, key, value, message):
    params = load(toy=STUDY["toy"] | {key: value})
    with pytest.raises(InputError, match=message):
        params.section("toy", ToySettings)


def test_number_that_yaml_reads_as_text_says_how_to_write_it(params_file, declared):
    params_file.write_text(yaml.safe_dump(without(STUDY, "thresholds")) + "thresholds: [1e-4]\n")
    with pytest.raises(InputError, match=r"thresholds .*'1e-4'.*1\.0e-4"):
        load_params(params_file, declared)


@pytest.mark.parametrize("group", [None, 3, "text", ["lr_start"]])
def test_group_that_is_no_mapping(load, group):
    with pytest.raises(InputError, match="param toy must be a mapping"):
        load(toy=group).section("toy", ToySettings)


def test_empty_thresholds(load):
    with pytest.raises(InputError, match="thresholds"):
        load(thresholds=[])


@pytest.mark.parametrize("name", ["models", "datasets", "batch_sizes", "seeds"])
def test_what_is_listed_twice_is_one_cell(load, name):
    once = load()
    twice = load(**{name: [*getattr(once, name), *getattr(once, name)]})
    assert cells(twice) == cells(once)


@pytest.mark.parametrize("name", ["models", "datasets", "batch_sizes", "seeds"])
def test_a_study_with_an_empty_list_is_read_and_has_no_cells(load, name):
    params = load(**{name: []})
    with pytest.raises(InputError, match=name):
        cells(params)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_sizes": [32, 0]}, "batch.size.*1.*0"),
        ({"batch_sizes": [-8]}, "batch.size.*1.*-8"),
        ({"batch_size": 0}, "batch.size.*1.*0"),
        ({"epochs": 0}, "epochs.*1.*0"),
        ({"thresholds": [1.0e-4, -1.0e-9]}, r"threshold.*-1e-09"),
        ({"thresholds": [float("nan")]}, "threshold.*nan"),
        ({"thresholds": [float("inf")]}, "threshold.*inf"),
    ],
)
def test_value_out_of_range(load, changes, message):
    with pytest.raises(InputError, match=message):
        load(**changes)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"study: [a\nmodels: b", "is not readable YAML"),
        (b"study: a\n\tmodels: b", "is not readable YAML"),
        (b"study: \xff\xfe", "is not readable YAML"),
        (b"study: !!python/object/apply:os.getcwd []", "is not readable YAML"),
        (b"", "must hold a mapping"),
        (b"- study\n- models\n", "must hold a mapping"),
    ],
)
def test_unreadable_yaml_is_one_line_with_the_file(params_file, declared, content, fault):
    params_file.write_bytes(content)
    with pytest.raises(InputError) as caught:
        load_params(params_file, declared)
    assert str(params_file) in str(caught.value)
    assert fault in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file(params_file, declared):
    with pytest.raises(InputError) as caught:
        load_params(params_file, declared)
    assert str(params_file) in str(caught.value)


def test_key_that_is_no_text(params_file, declared):
    params_file.write_text(yaml.safe_dump({**STUDY, 1: "one"}))
    with pytest.raises(InputError, match=r"\b1\b"):
        load_params(params_file, declared)


def test_date_that_does_not_exist(params_file, declared):
    params_file.write_text("study: 2026-13-45\n")
    with pytest.raises(InputError, match=str(params_file)):
        load_params(params_file, declared)


@pytest.mark.parametrize("files", [None, ["mnist"], "mnist.npz", {"mnist": 3}])
def test_data_files_must_map_names_to_paths(load, files):
    with pytest.raises(InputError, match=r"data\.files"):
        load(data={"files": files, "shapes": {}, "ranges": {}, "lengths": {}}).section("data", DataSettings)
