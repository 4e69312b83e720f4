"""Our convolution and pooling against PyTorch's: values, gradients, second derivatives, and where PyTorch's run."""

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck
from torch.nn.functional import conv2d, max_pool2d
from torch.utils.checkpoint import checkpoint

from gapscope.models import ModelSpec, build, kernels

DIRECT = 1e-12  # float64 sums in another order
NAN, INFINITE = float("nan"), float("inf")


def drawn(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=dtype)


def in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """Send every convolution in float64 our way: float32 is too coarse to compare sums."""
    monkeypatch.setattr(kernels.Conv2d, "_is_faster", lambda _self, images: images.dtype == torch.float64)


def ran(output: Tensor) -> str:
    """The backward function of what computed it."""
    return type(output.grad_fn).__name__


# --- pooling ----------------------------------------------------------------------------------------------------------


def pooling_images(shape: tuple[int, ...], kind: str, dtype: torch.dtype) -> Tensor:
    images = drawn(*shape, dtype=dtype)
    if kind == "ties":
        images = images.round().clamp(-1, 1)  # three values, and so windows with every pattern of ties
    if kind == "not finite":
        draw = torch.Generator().manual_seed(0)
        values = torch.tensor([NAN, -INFINITE, INFINITE, 1], dtype=dtype)
        images = values[torch.randint(4, shape, generator=draw)]
    return images


@pytest.mark.parametrize("shape", [(40, 6, 28, 28), (40, 3, 10, 12), (40, 3, 5, 8), (40, 3, 6, 7), (40, 3, 3, 3)])
@pytest.mark.parametrize("kind", ["distinct", "ties", "not finite"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_pooling_has_the_bits_of_pytorchs(shape: tuple[int, ...], kind: str, dtype: torch.dtype) -> None:
    images = pooling_images(shape, kind, dtype)
    ours, theirs = images.clone().requires_grad_(), images.clone().requires_grad_()
    found, known = kernels.MaxPool2d(2)(ours), max_pool2d(theirs, 2)
    assert ran(found) == "_PoolingBackward"
    torch.testing.assert_close(found, known, rtol=0, atol=0, equal_nan=True)
    upstream = drawn(*known.shape, dtype=dtype)
    gradients = [torch.autograd.grad(y, x, upstream)[0] for y, x in ((found, ours), (known, theirs))]
    torch.testing.assert_close(*gradients, rtol=0, atol=0)


def test_the_second_derivatives_of_pooling_are_pytorchs() -> None:
    def second(pool: nn.Module) -> Tensor:
        images = drawn(4, 2, 7, 6, dtype=torch.float64).round().requires_grad_()
        (gradient,) = torch.autograd.grad((pool(images) ** 3).sum(), images, create_graph=True)
        return torch.autograd.grad((gradient**2).sum(), images)[0]

    torch.testing.assert_close(second(kernels.MaxPool2d(2)), second(nn.MaxPool2d(2)), rtol=0, atol=0)
    images = drawn(2, 2, 5, 4, dtype=torch.float64).requires_grad_()
    assert gradcheck(kernels.MaxPool2d(2), images)
    assert gradgradcheck(kernels.MaxPool2d(2), images)


@pytest.mark.parametrize(
    ("settings", "images"),
    [
        ({"kernel_size": 3, "stride": 2}, drawn(2, 3, 8, 8)),
        ({"kernel_size": 2, "stride": 1}, drawn(2, 3, 8, 8)),
        ({"kernel_size": 2, "padding": 1}, drawn(2, 3, 8, 8)),
        ({"kernel_size": 2, "dilation": 2}, drawn(2, 3, 8, 8)),
        ({"kernel_size": 2, "ceil_mode": True}, drawn(2, 3, 8, 7)),
        ({"kernel_size": 2, "ceil_mode": True}, drawn(2, 3, 7, 8)),
        ({"kernel_size": 2}, drawn(3, 8, 8)),
        ({"kernel_size": 2}, drawn(2, 3, 8, 8).bfloat16()),
        ({"kernel_size": 2}, drawn(2, 3, 8, 8).contiguous(memory_format=torch.channels_last)),
    ],
)
def test_other_pooling_is_pytorchs(settings: dict, images: Tensor) -> None:
    images.requires_grad_()
    found, known = (cls(**settings)(images) for cls in (kernels.MaxPool2d, nn.MaxPool2d))
    assert ran(found) == ran(known) == "MaxPool2DWithIndicesBackward0"
    torch.testing.assert_close(found, known, rtol=0, atol=0)


def test_pooling_that_returns_indices_is_pytorchs() -> None:
    images = drawn(2, 3, 8, 8)
    found = kernels.MaxPool2d(2, return_indices=True)(images)
    torch.testing.assert_close(found, max_pool2d(images, 2, return_indices=True), rtol=0, atol=0)


def test_images_too_small_to_pool_raise() -> None:
    with pytest.raises(RuntimeError, match="Output size is too small"):
        kernels.MaxPool2d(2)(drawn(2, 3, 1, 8))


# --- convolution ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "sides"),
    [
        ({"kernel_size": 5, "padding": 2}, (28, 28)),
        ({"kernel_size": 5, "bias": False}, (9, 12)),
        ({"kernel_size": (3, 2), "padding": (1, 0)}, (7, 6)),
        ({"kernel_size": 3, "padding": 1}, (2, 2)),
        ({"kernel_size": 3, "padding": 1}, (1, 2)),
        ({"kernel_size": 3, "padding": 1}, (2, 3)),
        ({"kernel_size": (5, 3), "padding": (2, 1), "bias": False}, (3, 2)),
        ({"kernel_size": (4, 3)}, (4, 3)),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_gradients_of_convolution_are_pytorchs(
    settings: dict, sides: tuple[int, int], channels: int, layout: torch.memory_format, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_float64(monkeypatch)
    layers = [cls(channels, 6, **settings, dtype=torch.float64) for cls in (kernels.Conv2d, nn.Conv2d)]
    layers[1].load_state_dict(layers[0].state_dict())
    images = drawn(9, channels, *sides, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()
    found, known = (layer.to(memory_format=layout)(images) for layer in layers)
    assert ran(found) == "_ConvolutionBackward"
    torch.testing.assert_close(found, known, rtol=DIRECT, atol=DIRECT * float(known.detach().abs().max()))
    upstream = drawn(*known.shape, dtype=torch.float64)
    gradients = [
        torch.autograd.grad(output, [images, *layer.parameters()], upstream)
        for output, layer in zip((found, known), layers, strict=True)
    ]
    for mine, other in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, other, rtol=DIRECT, atol=DIRECT * float(other.abs().max()))


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("sides", [(4, 5), (2, 2)])
@pytest.mark.parametrize("of_images", [False, True])
def test_the_second_derivatives_of_convolution(
    channels: int, sides: tuple[int, int], of_images: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_float64(monkeypatch)
    layer = kernels.Conv2d(channels, 2, 3, padding=1).double()
    images = drawn(3, channels, *sides, dtype=torch.float64).requires_grad_(of_images)

    def convolve(images: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        output: Tensor = torch.func.functional_call(layer, {"weight": weight, "bias": bias}, images)
        return output

    assert gradcheck(convolve, (images, *layer.parameters()))
    assert gradgradcheck(convolve, (images, *layer.parameters()))


SMALL = {"in_channels": 128, "out_channels": 128, "padding": 1}


@pytest.mark.parametrize(
    ("settings", "shape", "ours_runs"),
    [
        ({}, (2, 1, 8, 8), True),
        ({"in_channels": 3}, (2, 3, 8, 8), False),
        ({"stride": 2}, (2, 1, 8, 8), False),
        ({"dilation": 2}, (2, 1, 8, 8), False),
        ({"padding": "same"}, (2, 1, 8, 8), False),
        ({"padding": 1, "padding_mode": "circular"}, (2, 1, 8, 8), False),
        ({"dtype": torch.float64}, (2, 1, 8, 8), False),
        (SMALL, (64, 128, 2, 2), True),
        (SMALL, (16, 128, 4, 4), True),
        (SMALL, (15, 128, 4, 4), False),
        (SMALL, (16, 128, 4, 5), False),
        (SMALL | {"in_channels": 127}, (16, 127, 4, 4), False),
        (SMALL | {"out_channels": 127}, (16, 128, 4, 4), False),
        (SMALL | {"groups": 2}, (16, 128, 4, 4), False),
        (SMALL | {"dtype": torch.float64}, (16, 128, 4, 4), False),
    ],
)
def test_where_convolution_is_ours(settings: dict, shape: tuple[int, ...], ours_runs: bool) -> None:
    settings = {"in_channels": 1, "out_channels": 2, "kernel_size": 3} | settings
    ours, theirs = kernels.Conv2d(**settings), nn.Conv2d(**settings)
    theirs.load_state_dict(ours.state_dict())
    images = drawn(*shape, dtype=ours.weight.dtype)
    found, known = ours(images), theirs(images)
    assert ran(known) == "ConvolutionBackward0"
    assert ran(found) == ("_ConvolutionBackward" if ours_runs else ran(known))
    if shape[2:] == (2, 2):  # sums in another order
        torch.testing.assert_close(found, known)
    else:
        torch.testing.assert_close(found, known, rtol=0, atol=0)
    if settings["in_channels"] == 1:
        assert ran(ours(images.requires_grad_())) == "ConvolutionBackward0"


def test_a_kernel_larger_than_the_padded_image_is_pytorchs_error(monkeypatch: pytest.MonkeyPatch) -> None:
    in_float64(monkeypatch)
    with pytest.raises(RuntimeError, match="Kernel size can't be greater than actual input size"):
        kernels.Conv2d(1, 2, 5, padding=1, dtype=torch.float64)(drawn(2, 1, 2, 2, dtype=torch.float64))


@pytest.mark.parametrize(("channels", "side"), [(1, 28), (128, 2)])
def test_a_part_without_images_has_a_gradient_of_zero(channels: int, side: int) -> None:
    layer = kernels.Conv2d(channels, 128, 3, padding=1)
    layer(drawn(0, channels, side, side)).sum().backward()
    assert layer.weight.grad.equal(torch.zeros_like(layer.weight))


def test_what_follows_may_change_the_outputs_in_place() -> None:
    layers = [cls(128, 128, 3, padding=1, bias=False) for cls in (kernels.Conv2d, nn.Conv2d)]
    layers[1].load_state_dict(layers[0].state_dict())
    images = drawn(64, 128, 2, 2)
    for layer in layers:
        nn.functional.relu(layer(images), inplace=True).square().sum().backward()
    torch.testing.assert_close(layers[0].weight.grad, layers[1].weight.grad, rtol=1e-4, atol=1e-3)


def test_bfloat16_is_pytorchs() -> None:
    ours, images = kernels.Conv2d(1, 2, 3), drawn(2, 1, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        found, known = ours(images), conv2d(images, ours.weight, ours.bias)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, known, rtol=0, atol=0)
    found.float().sum().backward()
    assert ours.weight.grad.dtype == torch.float32


@pytest.mark.parametrize("side", [2, 4])
@pytest.mark.parametrize("bias", [False, True])
def test_small_images_in_bfloat16_are_ours_and_as_exact_as_pytorchs(side: int, bias: bool) -> None:
    exact, ours, theirs = (cls(128, 128, 3, padding=1, bias=bias) for cls in (nn.Conv2d, kernels.Conv2d, nn.Conv2d))
    for layer in (exact, theirs):
        layer.load_state_dict(ours.state_dict())
    images, upstream = drawn(64, 128, side, side), drawn(64, 128, side, side)

    def output_and_gradients(layer: nn.Module, dtype: torch.dtype) -> list[Tensor]:
        inputs = images.to(dtype).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype != torch.float64):
            output = layer(inputs)
        assert (ran(output) == "_ConvolutionBackward") == (layer is ours)
        gradients = torch.autograd.grad(output, [inputs, *layer.parameters()], upstream.to(output.dtype))
        return [output, *gradients]

    known = output_and_gradients(exact.double(), torch.float64)
    for dtype in (torch.float32, torch.bfloat16):  # of the images; the layer's weights are float32
        found, other = (output_and_gradients(layer, dtype) for layer in (ours, theirs))
        assert [tensor.dtype for tensor in found] == [tensor.dtype for tensor in other]
        for mine, pytorchs, true in zip(found, other, known, strict=True):
            assert mine.shape == true.shape
            error, allowed = ((tensor.double() - true).norm() / true.norm() for tensor in (mine, pytorchs))
            assert 0 < error < 1.5 * allowed


def test_other_types_under_autocast_are_pytorchs() -> None:
    layer = kernels.Conv2d(128, 128, 3, padding=1)
    with torch.autocast("cpu", torch.float16):
        assert ran(layer(drawn(64, 128, 2, 2))) == "ConvolutionBackward0"
    with torch.autocast("cpu", torch.bfloat16):
        assert ran(layer(drawn(64, 128, 5, 4))) == "ConvolutionBackward0"


# --- both, in a network -----------------------------------------------------------------------------------------------


def lenet5(*, pytorchs: bool = False) -> nn.Module:
    torch.manual_seed(0)
    model = build(ModelSpec("lenet5", (1, 28, 28), 10, batch_norm=True))
    if pytorchs:
        for module in model.modules():
            for ours, theirs in ((kernels.Conv2d, nn.Conv2d), (kernels.MaxPool2d, nn.MaxPool2d)):
                if isinstance(module, ours):
                    module.__class__ = theirs
    return model


def gradient(model: nn.Module) -> list[Tensor]:
    model(drawn(16, 1, 28, 28)).logsumexp(1).sum().backward()
    return [p.grad for p in model.parameters()]


def test_a_gradient_has_the_same_bits_each_time_and_when_computed_again() -> None:
    once, again, recomputed = gradient(lenet5()), gradient(lenet5()), lenet5()
    torch.testing.assert_close(once, again, rtol=0, atol=0)
    for module in (recomputed.conv1, recomputed.pool):
        module.forward = lambda x, forward=module.forward: checkpoint(forward, x, use_reentrant=False)
    torch.testing.assert_close(once, gradient(recomputed), rtol=0, atol=0)


def test_a_network_has_pytorchs_logits_with_and_without_gradients() -> None:
    ours, theirs, images = lenet5().eval(), lenet5(pytorchs=True).eval(), drawn(3, 1, 28, 28)
    known = theirs(images)
    torch.testing.assert_close(ours(images), known, rtol=0, atol=0)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), known, rtol=0, atol=0)
    with torch.inference_mode():
        torch.testing.assert_close(ours(images), known, rtol=0, atol=0)


def test_torchs_function_transforms_go_through_a_network() -> None:
    model, images = lenet5().eval(), drawn(3, 1, 28, 28)
    weights = dict(model.named_parameters())

    def loss(weights: dict[str, Tensor], images: Tensor) -> Tensor:
        logits: Tensor = torch.func.functional_call(model, weights, images)
        return logits.logsumexp(1).sum()

    gradients = torch.func.grad(loss)(weights, images)
    each = torch.func.vmap(torch.func.grad(loss), (None, 0))(weights, images[:, None])
    torch.testing.assert_close(each["conv1.layer.weight"].sum(0), gradients["conv1.layer.weight"], rtol=1e-4, atol=1e-4)
