"""Architectures against counts by hand, forward passes written out, and torchvision; each against planted faults."""

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

from gapscope import seeds
from gapscope.data.datasets import load
from gapscope.data.images import split_images
from gapscope.errors import InputError
from gapscope.measures.activations import activation_bytes
from gapscope.models import MODELS, OF_TOKENS, ModelSpec, build, unit_layers
from gapscope.models.resnet import Subsample
from gapscope.models.units import Units, flat_size

ROUNDING = 1e-9  # float64 sums through 56 layers, of the largest logit
USUAL = {"lenet5": (1, 28, 28), "lenet5_caffe": (1, 28, 28), "f1": (1, 28, 28), "f2": (1, 1, 360)}
OF_IMAGES = [name for name in MODELS if name not in OF_TOKENS]
DISTINCT = [name for name in OF_IMAGES if name not in ("c3", "c4")]  # those are c1 and c2
VGG16 = [3, 64, 64, 128, 128, *[256] * 3, *[512] * 6]


def spec(name: str, *, classes: int = 10, batch_norm: bool = True, linear: bool = False) -> ModelSpec:
    return ModelSpec(name, USUAL.get(name, (3, 32, 32)), classes, batch_norm, linear, linear)


def built(name: str, **changes) -> nn.Module:
    """A network in float64 and eval mode, with running statistics that do something."""
    with seeds.seeded(0, "test"):
        model = build(spec(name, **changes))
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 2)
    return model.double().eval()


def images(name: str, number: int = 2) -> Tensor:
    draw = torch.Generator().manual_seed(0)
    return torch.randn(number, *USUAL.get(name, (3, 32, 32)), generator=draw, dtype=torch.float64)


# --- parameters -------------------------------------------------------------------------------------------------------


def convolutions(channels: list[int], size: int, batch_norm: bool) -> int:
    """Weights of a chain of convolutions, with a bias a channel or batch norm's scale and shift."""
    weights = sum(size * size * depth * units for depth, units in pairwise(channels))
    return weights + (2 if batch_norm else 1) * sum(channels[1:])


def dense(units: list[int], batch_norm: bool) -> int:
    """The same of dense layers, and a head with a bias."""
    *hidden, classes = units
    return convolutions(hidden, 1, batch_norm) + hidden[-1] * classes + classes


def by_hand(name: str, bn: bool, classes: int) -> int:
    vgg16 = convolutions(VGG16, 3, bn) + dense([512, 512, classes], bn)
    shallow = convolutions([3, 64, 64], 5, bn) + dense([64 * 8 * 8, 384, 192, classes], bn)
    projections = sum(convolutions([units, 2 * units], 1, bn) for units in (64, 128, 256))
    return {
        "lenet5": convolutions([1, 6, 16], 5, bn) + dense([16 * 5 * 5, 120, 84, classes], bn),
        "lenet5_caffe": convolutions([1, 20, 50], 5, bn) + dense([50 * 4 * 4, 500, classes], bn),
        "vgg16": vgg16,
        # 6 n + 2 layers, n = 9
        "resnet56": convolutions([3, *[16] * 19, *[32] * 18, *[64] * 18], 3, bn) + dense([64, classes], bn),
        "resnet18": convolutions([3, *[64] * 5, *[128] * 4, *[256] * 4, *[512] * 4], 3, bn)
        + projections
        + dense([512, classes], bn),
        "alexnet": convolutions([3, 64], 3, bn)
        + convolutions([64, 192], 5, bn)
        + convolutions([192, 384, 256, 256], 3, bn)
        + dense([256 * 2 * 2, 4096, 4096, classes], bn),
        "f1": dense([784, *[512] * 5, classes], bn),
        "f2": dense([360, *[512] * 7, classes], bn),
        "mlp": dense([3 * 32 * 32, 64, 64, classes], bn),
        "c1": shallow,
        "c2": vgg16,
        "c3": shallow,
        "c4": vgg16,
    }[name]


@pytest.mark.parametrize("name", OF_IMAGES)
@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("classes", [10, 100])
def test_parameters_are_those_counted_by_hand(name: str, batch_norm: bool, classes: int) -> None:
    with torch.device("meta"):
        model = build(spec(name, batch_norm=batch_norm, classes=classes))
    assert sum(p.numel() for p in model.parameters()) == by_hand(name, batch_norm, classes)


@pytest.mark.parametrize(
    ("name", "batch_norm", "published"),
    [
        ("resnet56", True, 853_018),  # option A, with two-parameter batch norm: He et al. 2016, "0.85M"
        ("resnet18", True, 11_173_962),  # torchvision's 11,181,642 with a 3 x 3 first convolution
        ("vgg16", False, 14_982_474),  # the pruning papers' "14.98M"
        ("lenet5_caffe", False, 431_080),  # Caffe's
    ],
)
def test_counts_by_hand_are_the_published_ones(name: str, batch_norm: bool, published: int) -> None:
    assert by_hand(name, batch_norm, 10) == published


def test_f2_has_the_classes_of_timit() -> None:
    with torch.device("meta"):
        model = build(spec("f2", classes=1973))
    assert sum(p.numel() for p in model.parameters()) == 2_776_501
    assert model.head.out_features == 1973


def test_c3_and_c4_are_c1_and_c2_with_other_data() -> None:
    assert MODELS["c3"] is MODELS["c1"]
    assert MODELS["c4"] is MODELS["c2"]


# --- units ------------------------------------------------------------------------------------------------------------

STAGES_56 = [(16, 32, 32)] * 19 + [(32, 16, 16)] * 18 + [(64, 8, 8)] * 18
STAGES_18 = [(64, 32, 32)] * 5 + [(128, 16, 16)] * 4 + [(256, 8, 8)] * 4 + [(512, 4, 4)] * 4
BLOCKS_VGG = [
    (channels, side, side)
    for channels, side, number in [(64, 32, 2), (128, 16, 2), (256, 8, 3), (512, 4, 3), (512, 2, 3)]
    for _ in range(number)
]
CONVOLUTIONS = {
    "lenet5": [(6, 28, 28), (16, 10, 10)],
    "lenet5_caffe": [(20, 24, 24), (50, 8, 8)],
    "resnet56": STAGES_56,
    "resnet18": STAGES_18,
    "alexnet": [(64, 16, 16), (192, 8, 8), (384, 4, 4), (256, 4, 4), (256, 4, 4)],
    "c1": [(64, 32, 32), (64, 16, 16)],
    "vgg16": BLOCKS_VGG,
    "c2": BLOCKS_VGG,
}
DENSE = {
    "lenet5": [120, 84],
    "lenet5_caffe": [500],
    "vgg16": [512],
    "alexnet": [4096, 4096],
    "f1": [512] * 5,
    "f2": [512] * 7,
    "mlp": [64, 64],
    "c1": [384, 192],
    "c2": [512],
}


@pytest.mark.parametrize("name", DISTINCT)
@pytest.mark.parametrize("linear", [False, True])
def test_unit_layers_are_the_hidden_layers_in_forward_order(name: str, linear: bool) -> None:
    model = build(spec(name, linear=linear)).eval()
    called: list[tuple[str, Tensor]] = []
    for key, module in unit_layers(model).items():
        module.register_forward_hook(lambda _module, _inputs, output, key=key: called.append((key, output)))
    model(images(name).float())
    shapes = {f"conv{i}": shape for i, shape in enumerate(CONVOLUTIONS.get(name, []), 1)}
    shapes |= {f"fc{i}": (units,) for i, units in enumerate(DENSE.get(name, []), 1)}
    assert [(key, tuple(output.shape[1:])) for key, output in called] == list(shapes.items())
    assert list(model.unit_layers) == list(shapes)
    for _, output in called:
        assert (output.min() < 0) == linear  # after the non-linearity
        assert len(output.unique()) > 2


@pytest.mark.parametrize("name", ["vgg16", "resnet56", "alexnet", "c1", "f2"])
def test_a_network_is_built_and_measured_on_the_meta_device(name: str) -> None:
    with torch.device("meta"):
        model = build(spec(name))
    assert all(p.is_meta for p in model.parameters())
    values = sum(c * h * w for c, h, w in CONVOLUTIONS.get(name, [])) + sum(DENSE.get(name, []))
    assert activation_bytes(model, USUAL.get(name, (3, 32, 32))) == 8 * values


@pytest.mark.parametrize("name", DISTINCT)
def test_a_seed_gives_its_own_weights(name: str) -> None:
    first, again, other = (weights(name, seed) for seed in (0, 0, 1))
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert not first["head.weight"].equal(other["head.weight"])
    torch.testing.assert_close(first, weights(name, 0, linear=True), rtol=0, atol=0)


def weights(name: str, seed: int, **changes) -> dict[str, Tensor]:
    with seeds.seeded(seed, "test"):
        return build(spec(name, **changes)).state_dict()


@pytest.mark.parametrize("name", ["alexnet", "c1", "c2"])
def test_dropout_is_off_in_eval_mode_and_on_in_training(name: str) -> None:
    model, x = built(name), images(name, 8)
    assert model(x).equal(model(x))
    for module in model.modules():
        module.train(isinstance(module, nn.Dropout))
    assert not model(x).equal(model(x))


def test_dropout_is_where_the_sources_have_it() -> None:
    rates = {}
    for name in DISTINCT:
        with torch.device("meta"):
            rates[name] = [m.p for m in build(spec(name)).modules() if isinstance(m, nn.Dropout) and m.p > 0]
    assert rates.pop("c1") == rates.pop("alexnet") == [0.5, 0.5]
    assert rates.pop("c2") == [0.3, 0.4, *[0.4] * 6, 0.5, 0.5]
    assert not any(rates.values())


# --- forward passes written out ---------------------------------------------------------------------------------------


class Written:
    """Forward passes from a state dict whose entries are used up in order; `fault` plants one."""

    def __init__(self, model: nn.Module, fault: str = "") -> None:
        self.left: Iterator[Tensor] = iter([v for v in model.state_dict().values() if v.is_floating_point()])
        self.fault = fault

    def conv(self, x: Tensor, stride: int = 1) -> Tensor:
        weight = next(self.left)
        return self.norm(functional.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2))

    def dense(self, x: Tensor) -> Tensor:
        return self.norm(functional.linear(x, next(self.left)))

    def norm(self, x: Tensor) -> Tensor:
        scale, shift, mean, variance = (next(self.left) for _ in range(4))
        return functional.batch_norm(x, mean, variance, scale, shift)

    def head(self, x: Tensor) -> Tensor:
        return functional.linear(x, next(self.left), next(self.left))

    def pool(self, x: Tensor, size: int, stride: int, padding: int = 0) -> Tensor:
        if self.fault == "average for maximum":
            return functional.avg_pool2d(x, size, stride, padding)
        return functional.max_pool2d(x, size, stride, padding)

    def shortcut(self, x: Tensor, channels: int) -> Tensor:
        """Option A."""
        extra = channels - x.shape[1]
        if not extra:
            return x
        if self.fault == "no stride":  # the right shape, from a corner of the image
            half = x[:, :, : x.shape[2] // 2, : x.shape[3] // 2]
        elif self.fault == "average for stride":
            half = functional.avg_pool2d(x, 2)
        else:
            half = x[:, :, ::2, ::2]
        before = {"zeros before": extra, "zeros on both sides": extra // 2}.get(self.fault, 0)
        return functional.pad(half, (0, 0, 0, 0, before, extra - before))

    def resnet56(self, x: Tensor) -> Tensor:
        x = self.conv(x).relu()
        for number in range(27):
            stride = 2 if number in (9, 18) else 1
            first = self.conv(x, stride).relu()
            second = self.conv(first)
            short = self.shortcut(x, second.shape[1])
            x = second.relu() + short if self.fault == "addition after ReLU" else (second + short).relu()
        return self.head(x.amax((2, 3)) if self.fault == "maximum for average" else x.mean((2, 3)))

    def vgg16(self, x: Tensor) -> Tensor:
        for convolutions_ in (2, 2, 3, 3, 3):
            for _ in range(convolutions_):
                x = self.conv(x).relu()
            x = self.pool(x, 2, 2)
        return self.head(self.dense(x.flatten(1)).relu())

    c2 = vgg16

    def c1(self, x: Tensor) -> Tensor:
        for _ in range(2):
            x = self.pool(self.conv(x).relu(), 3, 2, padding=1)
        return self.head(self.dense(self.dense(x.flatten(1)).relu()).relu())

    def alexnet(self, x: Tensor) -> Tensor:
        stride = 1 if self.fault == "no stride" else 2
        x = self.conv(x, stride).relu()[:, :, :16, :16]
        x = self.pool(x, 2, 2)
        x = self.pool(self.conv(x).relu(), 2, 2)
        for _ in range(3):
            x = self.conv(x).relu()
        x = self.pool(x, 2, 2).flatten(1)
        return self.head(self.dense(self.dense(x).relu()).relu())


def check_written(name: str, fault: str = "") -> None:
    model, x = built(name), images(name)
    written = Written(model, fault)
    with torch.no_grad():
        known, found = getattr(written, name)(x), model(x)
    assert not list(written.left)
    torch.testing.assert_close(found, known, rtol=0, atol=ROUNDING * float(known.abs().max()))


@pytest.mark.parametrize("name", ["resnet56", "vgg16", "c1", "c2", "alexnet"])
def test_a_network_is_its_forward_pass_written_out(name: str) -> None:
    check_written(name)


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("resnet56", "zeros before"),
        ("resnet56", "zeros on both sides"),
        ("resnet56", "no stride"),
        ("resnet56", "average for stride"),
        ("resnet56", "addition after ReLU"),
        ("resnet56", "maximum for average"),
        ("vgg16", "average for maximum"),
        ("c1", "average for maximum"),
        ("alexnet", "average for maximum"),
        ("alexnet", "no stride"),
    ],
)
def test_a_planted_fault_shows(name: str, fault: str) -> None:
    with pytest.raises(AssertionError):
        check_written(name, fault)


def test_option_a_takes_every_second_pixel_and_adds_zeros_after() -> None:
    x = torch.arange(2 * 3 * 5).reshape(1, 2, 3, 5)
    found = Subsample(2, 3)(x)
    assert found[0, :2].tolist() == [[[0, 2, 4], [10, 12, 14]], [[15, 17, 19], [25, 27, 29]]]
    assert found.shape == (1, 5, 2, 3)
    assert not found[0, 2:].any()


# --- torchvision's ----------------------------------------------------------------------------------------------------


def copy_weights(ours: nn.Module, theirs: nn.Module) -> None:
    """Take our weights over in order."""
    state = theirs.state_dict()
    theirs.load_state_dict(dict(zip(state, ours.state_dict().values(), strict=True)))


@pytest.mark.parametrize("changed", [True, False])
def test_resnet18_is_torchvisions_but_for_its_first_layer(changed: bool) -> None:
    ours, theirs = built("resnet18"), torchvision.models.resnet18(num_classes=10).double().eval()
    assert sum(p.numel() for p in theirs.parameters()) == 11_173_962 + (7 * 7 - 3 * 3) * 3 * 64
    theirs.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False).double()
    if changed:
        theirs.maxpool = nn.Identity()
    copy_weights(ours, theirs)
    x = images("resnet18")
    assert changed == torch.allclose(ours(x), theirs(x), rtol=0, atol=ROUNDING)


def test_the_convolutions_of_vgg16_are_torchvisions() -> None:
    ours = built("vgg16", batch_norm=False)
    with torch.device("meta"):
        theirs = torchvision.models.vgg16().features
    theirs = theirs.to_empty(device="cpu").double()
    copy_weights(ours.features, theirs)
    x = images("vgg16")
    torch.testing.assert_close(ours.features(x), theirs(x), rtol=ROUNDING, atol=ROUNDING)


def test_alexnet_differs_from_torchvisions_in_what_its_images_need() -> None:
    with torch.device("meta"):
        ours, theirs = build(spec("alexnet", batch_norm=False)), torchvision.models.alexnet(num_classes=10)
    shapes = [(tuple(a.shape), tuple(b.shape)) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True)]
    assert [pair for pair in shapes if pair[0] != pair[1]] == [
        ((64, 3, 3, 3), (64, 3, 11, 11)),
        ((4096, 256 * 2 * 2), (4096, 256 * 6 * 6)),
    ]


# --- images of other shapes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["vgg16", "resnet56", "resnet18", "f1", "c1", "c2"])
@pytest.mark.parametrize("image_shape", [(1, 28, 28), (2, 1, 1), (1, 7, 33)])
def test_images_of_any_shape_will_do(name: str, image_shape: tuple[int, int, int]) -> None:
    model = build(ModelSpec(name, image_shape, 3, batch_norm=True)).eval()
    assert model(torch.zeros(2, *image_shape)).shape == (2, 3)


@pytest.mark.parametrize(("side", "fits"), [(14, False), (15, True), (28, True)])
def test_images_that_the_pooling_of_alexnet_uses_up_raise(side: int, fits: bool) -> None:
    def make() -> nn.Module:
        return build(ModelSpec("alexnet", (1, 40, side), 3, batch_norm=False))

    if fits:
        assert make()(torch.zeros(1, 1, 40, side)).shape == (1, 3)
    else:
        with pytest.raises(InputError, match=f"AlexNet.*40 x {side}"):
            make()


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize(
    "layer",
    [
        lambda make: make.conv(1, 2, 5),
        lambda make: make.conv(1, 2, 3, stride=2, padding=1),
        lambda make: make.pool(2),
        lambda make: make.pool(2, ceil=True),
        lambda make: make.pool(3, 2, padding=1),
    ],
)
def test_the_size_left_is_that_of_a_forward_pass(linear: bool, layer: Callable[[Units], nn.Module]) -> None:
    module = layer(Units(False, linear, linear))
    for side in range(1, 12):
        try:
            known = module(torch.zeros(1, 1, side, 11)).numel()
        except RuntimeError:
            with pytest.raises(InputError, match=f"{side} x 11"):
                flat_size("a net", (1, side, 11), [module])
        else:
            assert flat_size("a net", (1, side, 11), [module]) == known


def test_average_pooling_averages_over_the_image_alone() -> None:
    pool = Units(batch_norm=True, linear_units=True, average_pooling=True).pool(3, 2, padding=1)
    assert (pool(torch.ones(1, 1, 7, 7)) == 1).all()


def test_f2_trains_on_a_file_of_the_shape_of_timit(tmp_path: Path) -> None:
    """360 features and 1,973 classes, as images of one row: the data themselves are licensed."""
    draw = np.random.default_rng(0)
    arrays = {f"x_{split}": draw.integers(0, 256, (n, 1, 360), np.uint8) for split, n in (("train", 64), ("test", 16))}
    labels = {"y_train": np.r_[1972, draw.integers(0, 1973, 63)], "y_test": draw.integers(0, 1973, 16)}
    np.savez(tmp_path / "timit.npz", **arrays, **labels)
    found = load(tmp_path / "timit.npz")
    assert (found.image_shape, found.classes) == ((1, 1, 360), 1973)
    training = split_images(found, "train", "cpu")
    model = build(ModelSpec("f2", found.image_shape, found.classes, batch_norm=True))
    optimizer = torch.optim.Adam(model.parameters())
    losses = []
    for _ in range(5):
        loss = torch.nn.functional.cross_entropy(model(training.inputs(slice(None))), training.labels)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[0] > 7  # log(1973) = 7.6
    assert losses[-1] < 5
