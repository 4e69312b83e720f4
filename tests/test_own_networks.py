"""Networks of the kinds that people have: planned, trained, stored and measured, or named before they are trained."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import own_networks
import pandas as pd
import pytest
import torch
import yaml
from bad_inputs import data, params
from safetensors.torch import load_file
from scripts import ROOT, run
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.modules import activation

from gapscope.data.images import Images
from gapscope.measures.activations import ActivationSettings, extract, unit_bytes
from gapscope.training.evaluation import decayed_parameters
from gapscope.training.objective import Objective

SHAPE, CLASSES = (1, 12, 12), 4
DIFFERENCES = 1e-5  # relative: central differences of gradients in float64, of steps of 1e-5
LAYERS = {
    "Tied": ["relu", "tanh"],
    "Twice": ["all.2"],
    "Reused": ["relu", "relu#2"],
    "Functional": ["relu", "gelu", "relu#2", "tanh"],
    "Rare": ["between.0", "between.1", "between.2", "between.4", "between.5"],
    "Attention": ["gelu"],
    "Values": ["relu"],
    "Frozen": ["relu", "tanh"],
    "Untracked": ["relu"],
}
LEFT_OUT = {"Functional": ["clamp"], "Attention": ["scaled_dot_product_attention"]}
MEASURES = ["evaluation", "spectra", "near_rank", "sharpness", "curvature", "curvature_radius"]


def made(name: str) -> nn.Module:
    torch.manual_seed(0)
    return getattr(own_networks, name)(SHAPE, CLASSES)


def few_images(count: int = 12) -> Images:
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, *SHAPE), generator=draw, dtype=torch.uint8)
    half = torch.full((1,), 0.5, dtype=torch.float64)
    return Images(pixels, torch.arange(count) % CLASSES, half, half)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copy(own_networks.__file__, tmp_path / "own_networks.py")
    (tmp_path / "conf").symlink_to(ROOT / "conf")
    return tmp_path


def planned(folder: Path, name: str, **changes: dict[str, Any]) -> None:
    data()(folder)
    found = params()
    found |= {"models": ["own"], "epochs": 1, "measures": MEASURES}
    found["code"] |= {"model": "own_networks.py", "models": {"own": f"own_networks:{name}"}}
    found["activations"]["probe_images"] = 16
    for group in ("sharpness", "curvature", "curvature_radius"):
        found[group]["images"] = 32
    found["curvature"] |= {"steps": 5, "trace_probes": 2}
    found["curvature_radius"] |= {"probes": 2, "fewest_images": 32, "gradient_images": 32}
    for group, values in changes.items():
        for key, value in values.items():
            found[group][key] |= value
    (folder / "params.yaml").write_text(yaml.safe_dump(found))
    run(folder, "download", "--dataset", "noise", "--out", "d/noise.npz")
    run(folder, "plan", "--found", "d/noise.json", "--out", "plan.txt")


def trained(folder: Path) -> dict[str, Any]:
    arguments = [
        "--batch-size",
        "20",
        "--seed",
        "0",
        "--weights",
        "w.safetensors",
        "--record",
        "r",
        "--checkpoint",
        "c",
    ]
    run(folder, "train", "--model", "own", "--data", "d/noise.npz", *arguments)
    return json.loads((folder / "r.json").read_text())


@pytest.mark.parametrize("name", LAYERS)
def test_every_non_linearity_is_measured_or_named(name: str) -> None:
    model = made(name)
    sizes, left_out = unit_bytes(model, SHAPE)
    assert list(sizes) == LAYERS[name]
    assert left_out == LEFT_OUT.get(name, [])


OF_TORCH = {
    name: kind
    for name, kind in vars(activation).items()
    if isinstance(kind, type) and issubclass(kind, nn.Module) and kind.__module__ == activation.__name__
}
WITH_ARGUMENTS = {
    "Hardtanh": (-1.0, 1.0), "Threshold": (0.1, 20.0), "MultiheadAttention": (16, 2), "Softmin": (1,), "Softmax": (1,),
    "LogSoftmax": (1,),
}  # fmt: skip
OF_FUNCTIONS = (
    *("relu", "relu6", "elu", "selu", "celu", "leaky_relu", "rrelu", "glu", "gelu", "logsigmoid", "hardshrink", "mish"),
    *("tanhshrink", "softsign", "softplus", "softshrink", "tanh", "sigmoid", "hardsigmoid", "silu", "hardswish"),
    *("hardtanh", "softmax", "softmin", "log_softmax"),
)


class After(own_networks.Network):
    """A ReLU, and after it the non-linearity to find."""

    def __init__(self, other: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__(SHAPE, CLASSES)
        self.relu, self.other = nn.ReLU(), other
        self.head = nn.LazyLinear(CLASSES)

    def hidden(self, x: torch.Tensor) -> torch.Tensor:
        return self.other(self.relu(x))


def is_measured_or_named(other: Callable[[torch.Tensor], torch.Tensor]) -> bool:
    model = After(other).eval()
    model(torch.zeros(2, *SHAPE))
    sizes, left_out = unit_bytes(model, SHAPE)
    return len(sizes) + len(left_out) == 2


@pytest.mark.parametrize("name", sorted(OF_TORCH))
def test_every_non_linearity_of_torch_is_measured_or_named(name: str) -> None:
    module = OF_TORCH[name](*WITH_ARGUMENTS.get(name, ()))
    of_images = {"Softmax2d": lambda x: module(x[..., None, None]).flatten(1)}
    if name == "MultiheadAttention":
        of_images[name] = Attends(module)
    assert is_measured_or_named(of_images.get(name, module))


class Attends(nn.Module):
    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.attention(x[:, None], x[:, None], x[:, None])[0][:, 0]


@pytest.mark.parametrize("name", OF_FUNCTIONS)
def test_every_functional_form_is_measured_or_named(name: str) -> None:
    function = getattr(nn.functional, name)
    arguments = {"dim": 1} if name in ("softmax", "softmin", "log_softmax") else {}
    assert is_measured_or_named(lambda x: function(x, **arguments))


def test_an_identity_is_no_non_linearity() -> None:
    assert not is_measured_or_named(nn.Identity())


def test_what_is_measured_is_the_output_of_each_use() -> None:
    model, inputs = made("Functional").double(), few_images().inputs(slice(None), torch.float64)
    settings = ActivationSettings("running", "float64", 1, 5, 1)
    found = extract(
        model, lambda rows: inputs[rows], 12, lambda _, shape: torch.empty(shape).double().numpy(), settings
    )
    with torch.no_grad():
        relu = model.first(inputs.flatten(1)).relu()
        gelu = nn.functional.gelu(model.second(relu))
    right = {"relu": relu, "gelu": gelu, "relu#2": gelu.relu(), "tanh": gelu.relu().tanh()}
    assert list(found) == list(right)
    for name, array in found.items():
        torch.testing.assert_close(torch.from_numpy(array), right[name], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", ["Tied", "Twice", "Attention", "Frozen", "Rare"])
def test_products_with_the_hessian_are_differences_of_gradients(name: str) -> None:
    loss = Objective(made(name), few_images(), micro_batch=6)
    x = loss.weights()
    v = torch.randn(len(x), generator=torch.Generator().manual_seed(1), dtype=x.dtype)
    ends = [loss.value_and_gradient(x + step * v, with_gradient=True)[1] for step in (1e-5, -1e-5)]
    right = (ends[0] - ends[1]) / 2e-5
    assert (loss.hvp(x, v) - right).norm() < DIFFERENCES * right.norm()
    assert all(
        isinstance(p, nn.Parameter) for m in loss.model.modules() for p in m._parameters.values() if p is not None
    )


def test_frozen_weights_are_no_part_of_the_loss_and_of_the_penalty() -> None:
    model = made("Frozen")
    loss = Objective(model, few_images(), micro_batch=12, dtype=torch.float32)
    assert loss.conditions()["frozen"] == ["first.weight", "first.bias"]
    assert len(loss.weights()) == sum(p.numel() for p in model.parameters() if p.requires_grad)
    inputs = few_images().inputs(slice(None))
    torch.testing.assert_close(loss(loss.weights()), cross_entropy(model(inputs), few_images().labels))
    assert "first.weight" not in decayed_parameters(model, "weights")[0]


@pytest.mark.parametrize("pieces", [12, 6, 5])
def test_batch_norm_without_statistics_is_recorded_as_what_it_is(pieces: int) -> None:
    loss = Objective(made("Untracked"), few_images(), micro_batch=pieces)
    size = {12: 12, 6: 6, 5: 4}[pieces]
    assert f"statistics of batches of {size} in norm" in loss.conditions()["batch_norm"]


@pytest.mark.parametrize("name", ["Tied", "Twice", "Frozen", "Rare", "Attention"])
def test_a_network_is_trained_stored_and_measured(folder: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    planned(folder, name)
    assert f"unit layers: {', '.join(LAYERS[name])}" in capsys.readouterr().out
    record = trained(folder)
    for stage in ("sharpness", "curvature", "curvature_radius"):
        run(folder, stage, "--weights", "w.safetensors", "--data", "d/noise.npz", "--out", stage)
        assert pd.read_csv(folder / f"{stage}.csv")["value"].notna().all()
    run(folder, "activations", "--weights", "w.safetensors", "--data", "d/noise.npz", "--out", "a")
    assert (record.get("frozen_parameters"), record.get("unused_parameters")) == (
        (["first.weight", "first.bias"], ["unused.bias", "unused.weight"]) if name == "Frozen" else (None, None)
    )
    if name == "Frozen":
        stored, table = load_file(folder / "w.safetensors"), pd.read_csv(folder / "r.csv")
        decayed = sum(stored[key].double().square().sum() for key in ("second.weight", "head.weight"))
        weight_decay = params()["train"]["optimizer"]["weight_decay"]
        final = table[table["quantity"].eq("penalty") & table["epoch"].isna()]["value"].item()
        assert final == pytest.approx(0.5 * weight_decay * float(decayed), rel=1e-9)


def test_an_optimiser_that_asks_for_the_hessian_s_diagonal_is_rehearsed_too(folder: Path) -> None:
    planned(folder, "Tied", train={"optimizer": {"name": "cblr"}})


REFUSED = {
    "Random": "gives other outputs for the same images",
    "Zeros": "torch.zeros(..., dtype=x.dtype)",
    "Pair": "must return logits",
    "Graphless": "no gradient reaches a weight",
    "Curved": "second derivatives that are not those of its gradients",
    "Ends": "SystemExit",
    "Raises": "(own_networks.py, line",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_will_not_work_is_named_before_the_training(
    folder: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        planned(folder, name)
    said = capsys.readouterr().err
    assert (ended.value.code, len(said.splitlines())) == (2, 1), said
    assert REFUSED[name] in said


@pytest.mark.parametrize("name", ["Ends", "Raises"])
def test_a_users_own_error_keeps_its_traceback_below_a_line(
    folder: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        planned(folder, name)
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        trained(folder)
    first, *rest = capsys.readouterr().err.splitlines()
    assert ended.value.code == 1
    assert first.startswith("train: your own code raised ")
    assert "own_networks.py, line" in first
    assert rest[0].startswith("Traceback")
