"""A weights file's header chooses nothing: the study's params do, and another network is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from gapscope import seeds
from gapscope.config import Params, load_params
from gapscope.data.datasets import Dataset
from gapscope.errors import InputError
from gapscope.models import build
from gapscope.training.networks import restored, study_spec

ROOT = Path(__file__).parents[2]
WEIGHTS = Path("weights.safetensors")


@pytest.fixture
def params(tmp_path: Path) -> Params:
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    values["models"] = ["lenet5", "net", "net_w2"]
    values["code"]["models"] = {"net": "mine.nets:Net"}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    return load_params(tmp_path / "params.yaml", ROOT / "conf/config.yaml")


def dataset(classes: int = 10) -> Dataset:
    images, labels = torch.zeros(2, 1, 28, 28, dtype=torch.uint8).numpy(), torch.zeros(2, dtype=torch.int64).numpy()
    return Dataset("digits", classes, images, labels, images, labels)


def header(params: Params, **changes: Any) -> dict[str, Any]:
    spec = study_spec(params, "lenet5", (1, 28, 28), 10).to_header()
    return {"model": {**spec, "image_shape": [1, 28, 28], **changes}}


def test_weights_of_the_studys_own_network_are_restored(params: Params) -> None:
    with seeds.seeded(0, "test"):
        model = build(study_spec(params, "lenet5", (1, 28, 28), 10))
    again = restored(params, model.state_dict(), header(params), dataset(), WEIGHTS)
    torch.testing.assert_close(again.state_dict(), model.state_dict(), rtol=0.0, atol=0.0)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "os:getcwd"}, "holds the model 'os:getcwd', which study quick has not"),
        ({"name": "vgg16"}, "holds the model 'vgg16', which study quick has not"),
        ({"name": None}, "holds the model None"),
        ({"batch_norm": False}, "batch_norm False (study: True)"),
        ({"linear": "units"}, "linear units (study: False)"),
        ({"classes": 100}, "classes 100 (study: 10)"),
        ({"image_shape": [3, 28, 28]}, "image_shape [3, 28, 28] (study: [1, 28, 28])"),
        ({"source": "os:getcwd"}, "source os:getcwd (study: None)"),
    ],
)
def test_a_header_of_another_network_is_refused_in_one_line(params: Params, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as refusal:
        restored(params, {}, header(params, **changes), dataset(), WEIGHTS)
    assert said in str(refusal.value)
    assert str(refusal.value).startswith(f"{WEIGHTS} holds")
    assert "\n" not in str(refusal.value)


def test_a_file_without_a_model_is_refused(params: Params) -> None:
    with pytest.raises(InputError, match="holds the model None"):
        restored(params, {}, {"model": "lenet5"}, dataset(), WEIGHTS)


def test_names_of_ones_own_come_from_params_alone(params: Params) -> None:
    spec = study_spec(params, "net_w2", (1, 28, 28), 10)
    assert (spec.base, spec.source) == (("net", 2.0), "mine.nets:Net")
    assert spec.to_header() == replace(spec, own={}).to_header()
    assert study_spec(params, "lenet5", (1, 28, 28), 10).source is None
