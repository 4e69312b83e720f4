"""Lines, planes and directions, on quadratics of which every value is known."""

import numpy as np
import oracles
import pytest
import torch
from torch import Tensor, nn

from gapscope.measure.landscape import ALPHAS, along, between, filter_normalised, plane, random_direction, rises

DIRECT = 1e-12
STANDARD_ERRORS = 4
SIZE = 50
SPECTRUM = np.concatenate([[30.0, 20.0], np.linspace(-0.1, 0.5, SIZE - 2)])
MATRIX, VECTORS = (torch.from_numpy(part) for part in oracles.symmetric(SPECTRUM))
SMALL, LARGE = (torch.from_numpy(np.random.default_rng(seed).standard_normal(SIZE)) for seed in (1, 2))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def quadratic(w: Tensor) -> Tensor:
    return 3 + w @ MATRIX @ w / 2


def close(found: Tensor, known: Tensor) -> None:
    torch.testing.assert_close(found, known, rtol=DIRECT, atol=DIRECT * known.abs().max().item())


def test_the_line_goes_from_small_to_large() -> None:
    found = between(lambda w: (quadratic(w).item(), w[0].item()), SMALL, LARGE)
    assert found.shape == (25, 2)
    assert (ALPHAS[0], ALPHAS[8], ALPHAS[16], ALPHAS[24]) == (-1, 0, 1, 2)
    alphas = torch.tensor(ALPHAS, dtype=torch.float64)[:, None]
    points = SMALL + alphas * (LARGE - SMALL)
    known = torch.stack([3 + ((points @ MATRIX) * points).sum(dim=1) / 2, points[:, 0]], dim=1)
    close(found, known)
    with pytest.raises(AssertionError):  # from large to small
        close(found, known.flip(0))
    assert found[8].tolist() == [quadratic(SMALL).item(), SMALL[0].item()]  # the ends themselves, bit for bit
    assert found[16].tolist() == [quadratic(LARGE).item(), LARGE[0].item()]


def test_a_plane_is_rows_of_the_first_direction() -> None:
    directions = (VECTORS[:, 0], VECTORS[:, 1])
    a, b = torch.tensor([-1.0, 0.0, 2.0]).double(), torch.tensor([0.5, 1.0]).double()
    found = plane(quadratic, torch.zeros(SIZE).double(), directions, a.tolist(), b.tolist())
    known = 3 + 30 * a[:, None, None] ** 2 / 2 + 20 * b[None, :, None] ** 2 / 2
    close(found, known)
    close(along(quadratic, torch.zeros(SIZE).double(), directions[1], b.tolist()), known[1])
    assert found.shape == (3, 2, 1)


def test_a_diverged_point_stays_in_the_picture() -> None:
    assert along(lambda w: 1 / w[0], torch.zeros(1), torch.ones(1), (0, 1)).tolist() == [[float("inf")], [1]]


def test_filters_take_the_norm_of_the_weights() -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 5), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3, 4))
    with torch.no_grad():
        model[3].weight[2] = 0
    shapes = [p.shape for p in model.parameters()]
    x = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
    direction = random_direction(x, shapes, generator=generator())
    drawn = torch.randn(len(x), generator=generator(), dtype=torch.float64).to(x)
    sizes = [shape.numel() for shape in shapes]
    pieces = list(zip(model.parameters(), direction.split(sizes), drawn.split(sizes), strict=True))
    for weights, found, raw in pieces:
        if weights.ndim == 1:
            assert found.tolist() == [0] * len(found)
            continue
        for row, normalised, before in zip(weights, found.view(len(weights), -1), raw.view(len(weights), -1)):
            torch.testing.assert_close(normalised.norm(), row.norm())
            cosine = torch.dot(normalised, before) / before.norm()
            torch.testing.assert_close(cosine, row.norm())
    for wrong in (direction / direction.norm() * x.norm(), drawn):  # the whole vector's norm, or none
        first = wrong[: sizes[0]].view(3, -1)
        with pytest.raises(AssertionError):
            torch.testing.assert_close(first.norm(dim=1), model[0].weight.detach().flatten(1).norm(dim=1))
    with pytest.raises(ValueError, match="shapes of"):
        filter_normalised(drawn, x, shapes[1:])


def test_a_direction_without_shapes_has_unit_length() -> None:
    direction = random_direction(SMALL, generator=generator())
    torch.testing.assert_close(direction.norm().item(), 1.0)
    assert not direction.equal(random_direction(SMALL, generator=generator(1)))


def test_eigenvectors_are_steep_and_random_directions_are_not() -> None:
    radius, directions = 0.1, 400

    def tilted(w: Tensor) -> Tensor:  # the mean of both signs takes the slope away
        return quadratic(w) + 5 * w.sum()

    found = rises(tilted, SMALL, 7 * VECTORS[:, :2], radius, directions=directions, generator=generator())
    known = radius**2 / 2 * torch.tensor([30.0, 20.0], dtype=torch.float64)
    torch.testing.assert_close(found.eigenvectors, known, rtol=1e-9, atol=0)
    expected = radius**2 / 2 * SPECTRUM.sum() / SIZE
    error = found.random.std().item() / directions**0.5
    assert abs(found.random.mean().item() - expected) <= STANDARD_ERRORS * error
    assert abs(found.random.mean().item() - 2 * expected) > STANDARD_ERRORS * error  # without the 1 / 2
    assert found.random.mean() < found.eigenvectors.min() / 10


@pytest.mark.parametrize(("radius", "vectors"), [(0.0, VECTORS), (-1.0, VECTORS), (0.1, VECTORS[:3]), (0.1, SMALL)])
def test_rises_that_cannot_be_raise(radius: float, vectors: Tensor) -> None:
    with pytest.raises(ValueError, match="must be"):
        rises(quadratic, SMALL, vectors, radius, directions=2, generator=generator())
