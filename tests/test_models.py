"""Networks: parameter counts, shapes, linear networks, and networks of one's own."""

import re
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from gapscope import seeds
from gapscope.errors import InputError
from gapscope.models import MODELS, OF_TOKENS, CodeSettings, ModelSpec, build
from gapscope.models.lenet5 import LeNet5
from gapscope.names import check_names

DIRECT = 1e-12  # a few float64 products and sums


def spec(
    name: str, source: str | None = None, *, batch_norm: bool = True, linear: bool | str = False, classes: int = 10
) -> ModelSpec:
    """Return the spec of a built-in network, or of one of a user's own at an import path."""
    own = {} if source is None else {name.partition("_w")[0]: source}
    return ModelSpec(name, (1, 28, 28), classes, batch_norm, bool(linear), linear is True, own)


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("name", "batch_norm", "parameters"),
    [
        ("lenet5", False, 61_706),
        ("lenet5", True, 61_932),
        ("lenet5_caffe", False, 431_080),
        ("lenet5_caffe", True, 431_650),
    ],
)
@pytest.mark.parametrize("linear", [False, True])
def test_parameter_counts(name: str, batch_norm: bool, parameters: int, linear: bool) -> None:
    assert count(build(spec(name, batch_norm=batch_norm, linear=linear))) == parameters


@pytest.mark.parametrize("name", sorted(MODELS.keys() - {*OF_TOKENS}))
@pytest.mark.parametrize("image_shape", [(1, 28, 28), (3, 32, 32), (1, 24, 40)])
def test_logits_are_one_a_class(name: str, image_shape: tuple[int, int, int]) -> None:
    model = build(ModelSpec(name, image_shape, 7, batch_norm=True))
    assert model(torch.zeros(3, *image_shape)).shape == (3, 7)


def test_images_that_pooling_uses_up_raise() -> None:
    assert LeNet5((1, 16, 16), 10, padding=0)(torch.zeros(2, 1, 16, 16)).shape == (2, 10)  # the smallest
    with pytest.raises(InputError, match="15 x 16"):
        LeNet5((1, 15, 16), 10, padding=0)
    with pytest.raises(InputError, match="16 x 4"):
        LeNet5((1, 16, 4), 10)


@pytest.mark.parametrize(("name", "layers"), [("lenet5", [6, 16, 120, 84]), ("lenet5_caffe", [20, 50, 500])])
def test_unit_layers_are_the_hidden_layers_in_forward_order(name: str, layers: list[int]) -> None:
    model = build(spec(name))
    called: list[tuple[str, torch.Tensor]] = []
    for key, module in model.unit_layers.items():
        module.register_forward_hook(lambda _module, _inputs, output, key=key: called.append((key, output)))
    model(torch.randn(4, 1, 28, 28, generator=torch.Generator().manual_seed(0)))
    assert [key for key, _ in called] == list(model.unit_layers)
    assert list(model.unit_layers) == ["conv1", "conv2", *(f"fc{i}" for i in range(1, len(layers) - 1))]
    assert [output.shape[1] for _, output in called] == layers
    for _, output in called:
        assert output.min() == 0  # after the non-linearity
    assert called[0][1].shape[2:] == ((28, 28) if name == "lenet5" else (24, 24))  # before pooling


def check_affine(model: nn.Module) -> None:
    """f(t a + (1 - t) b) = t f(a) + (1 - t) f(b), batch norm in eval mode with statistics that do something."""
    draw = torch.Generator().manual_seed(0)
    model = model.double().eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean.normal_(generator=draw)
            module.running_var.uniform_(0.5, 2, generator=draw)
    a, b = torch.randn(2, 3, 1, 28, 28, generator=draw, dtype=torch.float64)
    mixed = model(0.3 * a + 0.7 * b)
    torch.testing.assert_close(mixed, 0.3 * model(a) + 0.7 * model(b), rtol=DIRECT, atol=DIRECT)


@pytest.mark.parametrize(
    "name", [name for name in MODELS if name not in ("c3", "c4", *OF_TOKENS)]
)  # those are c1 and c2
@pytest.mark.parametrize("batch_norm", [False, True])
def test_a_linear_network_is_affine_in_its_images(name: str, batch_norm: bool) -> None:
    with seeds.seeded(0, "test"):
        linear, usual = (build(spec(name, batch_norm=batch_norm, linear=linear)) for linear in (True, False))
    check_affine(linear)
    with pytest.raises(AssertionError):
        check_affine(usual)


@pytest.mark.parametrize("fault", ["maximum for average", "a ReLU left"])
@pytest.mark.parametrize("name", ["lenet5", "c1"])
def test_a_linear_network_with_a_non_linearity_is_not_affine(name: str, fault: str) -> None:
    with seeds.seeded(0, "test"):
        model = build(spec(name, linear=True))
    if fault == "a ReLU left":
        model.unit_layers["fc2"].activation = nn.ReLU()
    for parent in list(model.modules()):
        for child, module in list(parent.named_children()):
            if fault == "maximum for average" and isinstance(module, nn.AvgPool2d):
                setattr(parent, child, nn.MaxPool2d(module.kernel_size, module.stride, module.padding))
    with pytest.raises(AssertionError):
        check_affine(model)


@pytest.mark.parametrize("name", ["lenet5", "vgg16", "c1"])
def test_linear_units_leave_maximum_pooling_as_the_one_non_linearity(name: str) -> None:
    with seeds.seeded(0, "test"):
        model = build(spec(name, linear="units"))
    assert not any(isinstance(module, nn.ReLU) for module in model.modules())
    with pytest.raises(AssertionError):
        check_affine(model)
    for parent in list(model.modules()):
        for child, module in list(parent.named_children()):
            if isinstance(module, nn.MaxPool2d):
                average = nn.AvgPool2d(module.kernel_size, module.stride, module.padding, ceil_mode=module.ceil_mode)
                setattr(parent, child, average)
    check_affine(model)


def test_linear_changes_no_initial_weight() -> None:
    states = []
    for linear in (False, "units", True):
        with seeds.seeded(0, "test"):
            states.append(build(spec("lenet5", linear=linear)).state_dict())
    for state in states[1:]:
        torch.testing.assert_close(state, states[0], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("lenet5_w2", [12, 32, 240, 168]),
        ("lenet5_w0.5", [3, 8, 60, 42]),
        ("lenet5_w1", [6, 16, 120, 84]),
        ("lenet5_caffe_w1.5", [30, 75, 750]),
    ],
)
def test_a_width_factor_multiplies_the_hidden_layers(name: str, layers: list[int]) -> None:
    model = build(spec(name, batch_norm=False))
    shapes = [module.layer.weight.shape[0] for module in model.unit_layers.values()]
    assert shapes == layers
    assert model(torch.zeros(1, 1, 28, 28)).shape == (1, 10)


def test_a_width_of_one_is_the_network_itself() -> None:
    states = []
    for name in ("lenet5", "lenet5_w1.0"):
        with seeds.seeded(0, "test"):
            states.append(build(spec(name)).state_dict())
    torch.testing.assert_close(*states, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("lenet5_w0.05", "0.05.*6"),
        ("lenet5_w0", r"\b0\b"),
        ("vgg16_w2", "vgg16.*width"),
        ("lenet_w2", "'lenet'.*'lenet5'"),
        ("lenet5_w-1", "'lenet5_w-1'"),
    ],
)
def test_a_width_that_cannot_be_raises(name: str, remedy: str) -> None:
    with pytest.raises(InputError, match=remedy):
        build(spec(name))


@pytest.mark.parametrize(
    ("linear", "switches"), [(False, (False, False)), ("units", (True, False)), (True, (True, True))]
)
def test_the_header_has_the_words_of_committed_records(linear: bool | str, switches: tuple[bool, bool]) -> None:
    header = {"name": "lenet5", "image_shape": (1, 28, 28), "classes": 10, "batch_norm": True, "linear": linear}
    assert ModelSpec("lenet5", (1, 28, 28), 10, True, *switches).to_header() == header


OWN = """
from torch import nn

LIMIT = 5

class Plain(nn.Module):
    def __init__(self, image_shape, classes):
        super().__init__()
        self.made_with = image_shape, classes

class Switched(Plain):
    def __init__(self, image_shape, classes, batch_norm, linear_units, average_pooling):
        super().__init__(image_shape, classes)
        self.switches = batch_norm, linear_units, average_pooling

class Old(Plain):
    def __init__(self, image_shape, classes, linear=False):
        super().__init__(image_shape, classes)

def function(image_shape, classes):
    return Plain(image_shape, classes)

class Wide(Plain):
    def __init__(self, image_shape, classes, width=1.0):
        super().__init__(image_shape, classes)
        self.width = width

class Needy(Plain):
    def __init__(self, image_shape, classes, depth):
        super().__init__(image_shape, classes)
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module in the study's folder, which is not on the import path."""
    name = "nets_of_a_user"
    (tmp_path / f"{name}.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p not in ("", str(tmp_path))])
    sys.modules.pop(name, None)
    yield name
    sys.modules.pop(name, None)


@pytest.mark.parametrize("attribute", ["Plain", "function"])
def test_a_network_of_ones_own_is_imported_from_the_working_folder(own: str, attribute: str) -> None:
    assert build(spec("net", f"{own}:{attribute}", classes=3)).made_with == ((1, 28, 28), 3)


def test_a_network_of_ones_own_may_take_a_width(own: str) -> None:
    assert build(spec("net_w2.5", f"{own}:Wide")).width == 2.5
    assert build(spec("net", f"{own}:Wide")).width == 1.0
    with pytest.raises(InputError, match="net takes no width=, so there is no net_w2"):
        build(spec("net_w2", f"{own}:Plain"))


def test_a_network_of_ones_own_gets_the_settings_that_it_takes(own: str) -> None:
    assert build(spec("net", f"{own}:Switched", batch_norm=False, linear="units")).switches == (False, True, False)


@pytest.mark.parametrize(
    ("setting", "remedy"),
    [
        ({"batch_norm": False}, "takes no batch_norm=, so train.batch_norm must be true"),
        ({"linear": "units"}, "takes no linear_units=, so train.linear_units must be false$"),
        ({"linear": True}, "takes no linear_units="),
    ],
)
def test_a_setting_that_the_network_does_not_take_raises(own: str, setting: dict[str, bool], remedy: str) -> None:
    with pytest.raises(InputError, match=remedy):
        build(spec("net", f"{own}:Plain", **setting))


def test_a_network_with_the_old_switch_is_told_the_new_ones(own: str) -> None:
    assert build(spec("old", f"{own}:Old"))
    with pytest.raises(InputError, match="its linear= is now linear_units= and average_pooling="):
        build(spec("old", f"{own}:Old", linear=True))


def test_a_network_that_needs_more_raises(own: str) -> None:
    with pytest.raises(InputError, match=r"net cannot be called with image_shape=, classes=: .*'depth'"):
        build(spec("net", f"{own}:Needy"))


@pytest.mark.parametrize(
    "path", ["{own}:Absent", "{own}:", ":Plain", "no_such_module:Plain", "{own}.py:Plain", "./{own}.py:Plain"]
)
def test_a_path_that_leads_nowhere_raises(own: str, path: str) -> None:
    with pytest.raises(InputError, match="cannot be imported"):
        build(spec("net", path.format(own=own)))


def test_a_path_to_something_that_is_no_network_raises(own: str) -> None:
    with pytest.raises(InputError, match="model net is a int, not a class"):
        build(spec("net", f"{own}:LIMIT"))


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("lenet", "'lenet5'"),
        ("lenet5_cafe", "'lenet5_caffe'"),
        ("inception", "alexnet, c1, "),
    ],
)
def test_an_unknown_name_suggests_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(InputError, match=f"'{name}'.*{hint}"):
        build(spec(name))


@pytest.mark.parametrize(("name", "plain"), [("mine.nets:Net", "net"), ("mine.nets:Net_w0.5", "net_w0.5")])
def test_an_import_path_as_a_name_is_answered_with_what_to_write(name: str, plain: str) -> None:
    remedy = f'models: [{plain}], code: {{models: {{net: "mine.nets:Net"}}}}'
    with pytest.raises(InputError, match=re.escape(remedy)):
        build(spec(name))
    with pytest.raises(InputError, match=re.escape(remedy)):
        check_names({"models": [name]})


@pytest.mark.parametrize(
    ("models", "remedy"),
    [
        ({"lenet5": "mine.nets:Net"}, "lenet5 is a built-in network"),
        ({"net_w2": "mine.nets:Net"}, "must be a plain name without a width"),
        ({"a:b": "mine.nets:Net"}, "must be a plain name without a width"),
        ({"net": "mine.nets.Net"}, "must be an import path, package.module:Class"),
    ],
)
def test_a_mapping_that_cannot_be_raises(models: dict[str, str], remedy: str) -> None:
    with pytest.raises(InputError, match=remedy):
        CodeSettings("mine/nets.py", models)


def test_names_of_ones_own_are_safe_in_paths_and_their_sources_are_import_paths() -> None:
    check_names({"code": {"models": {"net": "mine.nets:Net"}}})
    for models in ({"a:b": "mine.nets:Net"}, {"net": "$(touch x):Net"}, {"net": "mine"}):
        with pytest.raises(InputError, match=r"code\.models"):
            check_names({"code": {"models": models}})
