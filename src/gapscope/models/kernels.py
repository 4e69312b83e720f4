"""Layers for which PyTorch's CPU kernels are slow, by faster operations: 2 x 2 pooling and two kinds of convolution.

Both are PyTorch's own layers (names, weights, hooks). On a CPU, for the shapes where it is faster, they take another
path, which can be differentiated twice. `benchmarks/kernels.md` compares both paths on two processors. On one with AMX,
PyTorch's kernels for grey images and pooling are as fast or faster. `training.md` has the speed of training.

Pooling: PyTorch goes from window to window; a maximum of slices is vectorised. Values and gradients are PyTorch's own:
among equal values the first one of the window, in row-major order, gets the gradient; NaN propagates.

Convolution with stride 1, in float32, and for small images also under autocast to bfloat16. It computes the same sums
in another order.
- For grey images the weight gradient is itself a convolution, of the images with the upstream gradient, with batch and
  channels swapped. oneDNN is faster at that for one channel, and slower for three.
- For images of up to 4 x 4 with many channels, as in the last layers of VGG-16, the weight gradient is one matrix
  product for each place in the kernel. If the kernel covers the whole image from every pixel, as 3 x 3 covers 2 x 2,
  the layer is a single matrix product. It leaves out the padding zeros, more than half of all terms.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, max_pool2d, pad
from torch.nn.grad import conv2d_input

# measured: with more pixels per image, fewer channels, or fewer pixels in the whole batch, oneDNN is as fast
SMALL, CHANNELS, PIXELS = 4 * 4, 128, 256
Sides = Sequence[int]  # of height and width
Context = Any  # torch's FunctionCtx, which does not declare what a Function stores in it


class Conv2d(nn.Conv2d):
    """Convolution, by the operations described at the top of this module where those are faster."""

    def forward(self, input: Tensor) -> Tensor:
        """Return (b, out_channels, h', w') of images (b, in_channels, h, w)."""
        if not (self._is_covered(input) and self._is_faster(input)):
            return super().forward(input)
        tensors: tuple[Tensor | None, ...] = (input, self.weight, self.bias)
        if torch.is_autocast_enabled("cpu"):
            dtype = torch.get_autocast_dtype("cpu")
            tensors = tuple(tensor if tensor is None else tensor.to(dtype) for tensor in tensors)
        return _Convolution.apply(*tensors, self.padding)  # type: ignore[no-any-return]

    def _is_covered(self, images: Tensor) -> bool:
        return (
            not torch.compiler.is_compiling()
            and images.dim() == 4
            and self.stride == self.dilation == (1, 1)
            and self.groups == 1
            and self.padding_mode == "zeros"
            and not isinstance(self.padding, str)
            and self.weight.requires_grad
            and torch.is_grad_enabled()
            and not torch._C._are_functorch_transforms_active()
        )

    def _is_faster(self, images: Tensor) -> bool:
        grey = self.in_channels == 1 and not images.requires_grad
        batch, _, height, width = images.shape
        small = height * width <= SMALL and batch * height * width >= PIXELS
        many = min(self.in_channels, self.out_channels) >= CHANNELS
        if (
            batch == 0 or images.device.type != "cpu" or self.weight.dtype != torch.float32
        ):  # 0: a rank's last batch may be empty
            return False
        if torch.is_autocast_enabled("cpu"):
            return torch.get_autocast_dtype("cpu") == torch.bfloat16 and small and many
        return images.dtype == torch.float32 and (grey or (small and many))


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Context, images: Tensor, weight: Tensor, bias: Tensor | None, padding: Sides) -> Tensor:
        ctx.save_for_backward(images, weight)
        ctx.padding = padding
        return _product(images, weight, bias, padding)

    @staticmethod
    def backward(ctx: Context, upstream: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        (images, weight), (for_images, for_weight, for_bias, _) = ctx.saved_tensors, ctx.needs_input_grad
        return (
            _images_gradient(images.shape, weight, upstream, ctx.padding) if for_images else None,
            _WeightGradient.apply(images, upstream, ctx.padding) if for_weight else None,
            upstream.sum((0, 2, 3)) if for_bias else None,
            None,
        )


class _WeightGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Context, images: Tensor, upstream: Tensor, padding: Sides) -> Tensor:
        ctx.save_for_backward(images, upstream)
        ctx.padding = padding
        return _weight_gradient(images, upstream, padding)

    @staticmethod
    def backward(ctx: Context, direction: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        # linear in both arguments, so its derivatives are convolutions with the direction in place of the weights
        (images, upstream), (for_images, for_upstream, _) = ctx.saved_tensors, ctx.needs_input_grad
        return (
            conv2d_input(images.shape, direction, upstream, padding=ctx.padding) if for_images else None,
            conv2d(images, direction, padding=ctx.padding) if for_upstream else None,
            None,
        )


def _product(images: Tensor, weight: Tensor, bias: Tensor | None, padding: Sides) -> Tensor:
    """Return (b, out_channels, h', w') of images (b, in_channels, h, w)."""
    sides, size = images.shape[2:], weight.shape[2:]
    if not _lies_over_all(sides, size, padding):
        return conv2d(images, weight, bias, padding=padding)
    rows, columns = _steps(sides, size, padding)
    # not a view of the product: the next layer may change the result of an autograd function in place
    output = images.new_empty(len(images), len(weight), rows, columns)
    torch.mm(_pixels(images), _matrix(weight, sides, padding).T, out=output.flatten(1))
    return output if bias is None else output + bias[:, None, None]


def _images_gradient(shape: torch.Size, weight: Tensor, upstream: Tensor, padding: Sides) -> Tensor:
    """Return (b, in_channels, h, w), the shape of the images."""
    if not _lies_over_all(shape[2:], weight.shape[2:], padding):
        return conv2d_input(shape, weight, upstream, padding=padding)  # type: ignore[no-any-return]
    pixels = upstream.flatten(1) @ _matrix(weight, shape[2:], padding)
    return pixels.view(shape[0], *shape[2:], shape[1]).permute(0, 3, 1, 2)


def _weight_gradient(images: Tensor, upstream: Tensor, padding: Sides) -> Tensor:
    """Return (out_channels, in_channels, size, size) of images (b, in_channels, h, w)."""
    if images.shape[1] == 1:
        return conv2d(images.transpose(0, 1), upstream.transpose(0, 1), padding=padding).transpose(0, 1)
    (height, width), (above, left), sides = upstream.shape[2:], padding, images.shape[2:]
    rows, columns = _steps(sides, upstream.shape[2:], padding)  # the kernel's own size
    if _lies_over_all(sides, (rows, columns), padding):
        places = _places(sides, (rows, columns), padding)
        products = (upstream.flatten(1).T @ _pixels(images)).view(-1, len(places), *sides, images.shape[1])
        gradient = products.new_zeros(len(products), rows, columns, images.shape[1])
        for place, product in zip(places, products.unbind(1), strict=True):
            gradient[place] += product
        return gradient.permute(0, 3, 1, 2)
    pixels = pad(images.permute(0, 2, 3, 1), (0, 0, left, left, above, above))
    by_channel = upstream.permute(1, 0, 2, 3).flatten(1)
    taps = [
        by_channel @ pixels[:, row : row + height, column : column + width].flatten(0, 2)
        for row in range(rows)
        for column in range(columns)
    ]
    return torch.stack(taps, dim=-1).unflatten(-1, (rows, columns))  # type: ignore[no-any-return,no-untyped-call]


def _steps(sides: Sides, size: Sides, padding: Sides) -> Iterator[int]:
    """Yield the number of places for a window of that size, by rows and by columns."""
    return (side + 2 * border - n + 1 for side, n, border in zip(sides, size, padding, strict=True))


def _lies_over_all(sides: Sides, size: Sides, padding: Sides) -> bool:
    """Return whether the kernel covers the whole image in each of its places."""
    axes = zip(sides, size, padding, strict=True)
    return all(side + border <= n <= side + 2 * border for side, n, border in axes)


def _places(sides: Sides, size: Sides, padding: Sides) -> list[tuple[slice, slice, slice]]:
    """Return, for each output pixel, the part of (out_channels, *size, in_channels) that covers the image."""
    starts = [range(border, n - side - border - 1, -1) for side, n, border in zip(sides, size, padding, strict=True)]
    return [
        (slice(None), slice(row, row + sides[0]), slice(column, column + sides[1]))
        for row in starts[0]
        for column in starts[1]
    ]


def _matrix(weight: Tensor, sides: Sides, padding: Sides) -> Tensor:
    """Return the matrix from pixels (h w in_channels) to outputs (out_channels h' w'), for a kernel that covers all."""
    taps = weight.permute(0, 2, 3, 1)
    parts = [taps[place].flatten(1) for place in _places(sides, weight.shape[2:], padding)]
    return torch.stack(parts, dim=1).flatten(0, 1)


def _pixels(images: Tensor) -> Tensor:
    """Return (b, h w in_channels)."""
    return images.permute(0, 2, 3, 1).flatten(1)


class MaxPool2d(nn.MaxPool2d):
    """Max pooling; 2 x 2 with stride 2 is computed as maxima of slices."""

    def forward(self, input: Tensor) -> Tensor:
        """Return (b, c, h // 2, w // 2), or of the size that other settings give, of images (b, c, h, w)."""
        if not self._is_faster(input):
            return super().forward(input)  # type: ignore[no-any-return]
        return _Pooling.apply(input)  # type: ignore[no-any-return]

    def _is_faster(self, images: Tensor) -> bool:
        return (
            images.device.type == "cpu"
            and not torch.compiler.is_compiling()
            and images.dtype in (torch.float32, torch.float64)
            and images.dim() == 4
            and images.is_contiguous()  # PyTorch's kernel for channels_last is as fast
            and (self.kernel_size, self.stride, self.padding, self.dilation) == (2, 2, 0, 1)
            and not self.return_indices
            and min(images.shape[2:]) >= 2
            and not (self.ceil_mode and _covered(images) != images.shape[2:])
            and not torch._C._are_functorch_transforms_active()
        )


class _Pooling(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Context, images: Tensor) -> Tensor:
        height, width = _covered(images)
        # whole rows first, so that only the second maximum skips every other value
        rows = torch.maximum(images[:, :, 0:height:2, :width], images[:, :, 1:height:2, :width])
        pooled = torch.maximum(rows[..., 0::2], rows[..., 1::2])
        ctx.save_for_backward(images, pooled)
        return pooled

    @staticmethod
    def backward(ctx: Context, upstream: Tensor) -> Tensor:  # type: ignore[override]
        images, pooled = ctx.saved_tensors
        indices = _indices(images.detach(), pooled.detach())
        # it can be differentiated itself; arguments after the images: size, stride, padding, dilation, ceil_mode
        gradient: Tensor = torch.ops.aten.max_pool2d_with_indices_backward(
            upstream, images, [2, 2], [2, 2], [0, 0], [1, 1], False, indices
        )
        return gradient


def _covered(images: Tensor) -> tuple[int, int]:
    """Return the height and width covered by windows: PyTorch ignores an odd last row or column."""
    return images.shape[2] // 2 * 2, images.shape[3] // 2 * 2


def _indices(images: Tensor, pooled: Tensor) -> Tensor:
    """Return each window's first maximum as a place in its image, (b, c, h // 2, w // 2), as PyTorch does."""
    if bool(pooled.sum().isnan()):  # any NaN; also infinities of both signs, which does no harm
        return max_pool2d(images, 2, return_indices=True)[1]
    (height, width), across = _covered(images), images.shape[3]
    # position of the maximum in its window: not the first, not the second, not the third. Sums, because a single
    # torch.where takes as long as all of this
    second = images[:, :, 0:height:2, 0:width:2] != pooled
    third = (images[:, :, 0:height:2, 1:width:2] != pooled).logical_and_(second)
    fourth = (images[:, :, 1:height:2, 0:width:2] != pooled).logical_and_(third)
    first = torch.arange(0, height, 2)[:, None] * across + torch.arange(0, width, 2)
    return (first + second).add_(third, alpha=across - 1).add_(fourth)
