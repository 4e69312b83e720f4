"""The cross-entropy of tokens in pieces, against PyTorch's own; and its memory over a large vocabulary."""

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.nn.functional import cross_entropy

from gapscope.numerics import token_cross_entropy as module
from gapscope.numerics.token_cross_entropy import softmax_hessian_product, token_cross_entropy

DIRECT = 1e-12  # float64: the same sums in another order
IGNORED = -100


@pytest.fixture(params=[1, 12, 10**6], ids=lambda size: f"pieces of {size}")
def logits(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    monkeypatch.setattr(module, "PIECE", request.param)
    draw = torch.Generator().manual_seed(0)
    return (3 * torch.randn(2, 4, 6, generator=draw, dtype=torch.float64)).requires_grad_()


@pytest.fixture
def targets() -> Tensor:
    return torch.tensor([[0, 5, IGNORED, 2], [IGNORED, 1, 1, 3]])


def plain(logits: Tensor, targets: Tensor) -> Tensor:
    return cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="none").view_as(
        targets
    )


def counting_all(logits: Tensor, targets: Tensor) -> Tensor:
    """Wrong: an ignored target is taken for token 0."""
    return plain(logits, targets.clamp(min=0))


@pytest.mark.parametrize("known", [plain, counting_all])
def test_values_and_both_derivatives_are_those_of_pytorch(logits: Tensor, targets: Tensor, known: object) -> None:
    draw = torch.Generator().manual_seed(1)
    upstream, vector = torch.randn(2, 4, generator=draw).double(), torch.randn(2, 4, 6, generator=draw).double()
    made = []
    for function in (lambda z, y: token_cross_entropy(z, y, IGNORED), known):
        losses = function(logits, targets)  # type: ignore[operator]
        (gradient,) = torch.autograd.grad((losses * upstream).sum(), logits, create_graph=True)
        (product,) = torch.autograd.grad(gradient, logits, vector)
        made.append((losses, gradient, product))
    equal = [torch.allclose(a, b, rtol=DIRECT, atol=DIRECT) for a, b in zip(*made, strict=True)]
    assert equal == [known is plain] * 3


def test_derivatives_are_those_of_finite_differences_also_in_the_upstream(logits: Tensor, targets: Tensor) -> None:
    assert gradcheck(lambda z: token_cross_entropy(z, targets, IGNORED), logits)
    assert gradgradcheck(lambda z: token_cross_entropy(z, targets, IGNORED), logits)


def test_the_hessian_product_is_the_second_derivative(logits: Tensor, targets: Tensor) -> None:
    vector = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(1)).double()
    counted = targets != IGNORED
    (gradient,) = torch.autograd.grad(plain(logits, targets).sum(), logits, create_graph=True)
    (known,) = torch.autograd.grad(gradient, logits, vector)
    found = softmax_hessian_product(logits, counted, vector)
    torch.testing.assert_close(found, known, rtol=DIRECT, atol=DIRECT)
    whole = softmax_hessian_product(logits, torch.ones_like(counted), vector)
    assert not torch.allclose(whole, known)


def test_a_third_derivative_is_refused(logits: Tensor, targets: Tensor) -> None:
    (first,) = torch.autograd.grad(token_cross_entropy(logits, targets, IGNORED).sum(), logits, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), logits, create_graph=True)
    with pytest.raises(RuntimeError):
        torch.autograd.grad(second.sum(), logits)
