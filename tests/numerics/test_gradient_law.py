"""The gradient law on made-up gradients: exact identities, simulations, intervals, and layers without noise."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from gapscope.numerics.binary_counter import BinaryCounter
from gapscope.numerics.gradient_law import (
    GradientLaw,
    average,
    exponent,
    folded_normal_mean,
    gradient_law,
    joined_counts,
    spread,
)
from gapscope.numerics.loss_surface.noise_scale import noise_scale

DIRECT = 1e-12  # algebra in float64
SINGLE = 1e-5  # the same in float32, over a few thousand sums
STANDARD_ERRORS = 4
SIZES = (7, 5, 8)
MEAN = torch.from_numpy(np.random.default_rng(9).standard_normal(sum(SIZES))) / 4
DEVIATION = torch.linspace(0.5, 2, sum(SIZES), dtype=torch.float64)


def images(count: int, seed: int = 0, draw: str = "normal") -> Tensor:
    """Gradients of single images, with known mean and deviation, whatever their distribution."""
    rng = np.random.default_rng(seed)
    shape = (count, sum(SIZES))
    noise = rng.standard_normal(shape) if draw == "normal" else rng.exponential(size=shape) - 1
    return MEAN + torch.from_numpy(noise) * DEVIATION


def law_of(single: Tensor, batch_size: int = 4, sizes: tuple[int, ...] = SIZES) -> GradientLaw:
    """The law, from the gradient of every image."""
    batches = single.reshape(-1, batch_size, single.shape[1]).mean(1)
    return gradient_law(batches, batch_size, sizes, batches=len(batches))


def by_tensor(vector: Tensor) -> np.ndarray:
    return np.array([float(part.mean()) for part in vector.split(list(SIZES))])


# --- the binary counter ---


def check_counter(count: int, weigh: Callable[[BinaryCounter], Tensor] = lambda counter: counter.joined().mean) -> None:
    vectors = images(count)
    counter, seen = BinaryCounter(), set()
    for vector in vectors:
        for node in counter.add(vector):
            known = vectors[node.start : node.start + node.count].mean(0)
            torch.testing.assert_close(node.mean, known, rtol=DIRECT, atol=DIRECT)
            seen.add((node.start, node.count))
    powers = [1 << k for k in range(count.bit_length())]
    assert seen == {(start, size) for size in powers for start in range(0, count - size + 1, size)}
    torch.testing.assert_close(weigh(counter), vectors.mean(0), rtol=DIRECT, atol=DIRECT)
    scatter = ((vectors - vectors.mean(0)) ** 2).sum(0)
    torch.testing.assert_close(counter.scatter(), scatter, rtol=DIRECT, atol=DIRECT)
    torch.testing.assert_close(counter.scatter(), scatter, rtol=DIRECT, atol=DIRECT)  # asking changes nothing


@pytest.mark.parametrize("count", [1, 2, 3, 8, 13, 48, 63])
def test_the_counter_gives_the_direct_means_and_squares(count: int) -> None:
    check_counter(count)


def test_nodes_of_unequal_size_that_are_not_weighted_are_seen() -> None:
    with pytest.raises(AssertionError):
        check_counter(13, lambda counter: torch.stack([node.mean for node in counter._pending]).mean(0))


def test_equal_vectors_have_no_scatter_at_all() -> None:
    counter = BinaryCounter()
    for _ in range(11):
        counter.add(torch.full((3,), 0.1))  # 0.1 * 3 / 3 is not 0.1 in float32
    assert counter.scatter().tolist() == [0, 0, 0]


# --- E g^2 ---


def check_square_law(variant: str = "right") -> None:
    """At b and at N the law is an identity; between them it holds on average over orders of the images."""
    single = images(64, draw="exponential")
    orders = [torch.randperm(64, generator=torch.Generator().manual_seed(seed)) for seed in range(400)]
    laws = [law_of(single[order]) for order in orders]
    mu2, sigma2 = by_tensor(single.mean(0) ** 2), by_tensor(single.var(0))
    left = {"right": lambda n: 1 / n - 1 / 64, "infinite": lambda n: 1 / n, "deviation": lambda n: n**-0.5}[variant]
    for n in (4, 8, 16, 32):
        found = np.array([law.mean_square[n].mean(axis=0) for law in laws])
        error = found.std(axis=0, ddof=1) / math.sqrt(len(laws))
        assert (abs(found.mean(axis=0) - mu2 - sigma2 * left(n)) <= STANDARD_ERRORS * error).all()


def test_the_mean_square_of_n_of_n_images_is_exact_over_all_orders() -> None:
    check_square_law()


@pytest.mark.parametrize("variant", ["infinite", "deviation"])
def test_the_mean_square_is_not(variant: str) -> None:
    with pytest.raises(AssertionError):
        check_square_law(variant)


@pytest.mark.parametrize("count", [64, 96, 120])  # 16, 24 and 30 batches: the last two are joined of several nodes
def test_the_laws_are_exact_at_one_batch_and_at_all_images(count: int) -> None:
    law = law_of(images(count))
    for n in (4, count):
        np.testing.assert_allclose(law.square_law(n), law.mean_square[n].mean(axis=0), rtol=DIRECT)
    assert len(law.mean_abs[count]) == 1
    for name in ("common_sigma", "folded_normal"):  # no noise is left: |mu_i|
        np.testing.assert_allclose(law.abs_laws(count)[name], law.mean_abs[count][0], rtol=DIRECT)


def test_mu_and_sigma_are_unbiased_estimates_of_the_truth() -> None:
    """`mu2` is that of the distribution that the N images are from: the noise of N images is taken off."""
    laws = [law_of(images(64, seed)) for seed in range(400)]
    for name, known in (("mu2", by_tensor(MEAN**2)), ("sigma2", by_tensor(DEVIATION**2))):
        found = np.array([getattr(law, name) for law in laws])
        error = found.std(axis=0, ddof=1) / math.sqrt(len(laws))
        assert (abs(found.mean(axis=0) - known) <= STANDARD_ERRORS * error).all()
    biased = np.array([by_tensor(law.mean**2) for law in laws])
    assert (abs(biased.mean(axis=0) - by_tensor(MEAN**2)) > STANDARD_ERRORS * error / 64).all()


# --- E |g| ---


def check_folded_normal(fault: str = "none") -> None:
    draws = torch.randn(200_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for mean, deviation in ((0.0, 1.0), (0.5, 1.0), (-2.0, 0.5), (3.0, 4.0)):
        values = (mean + deviation * draws).abs()
        given = deviation**2 if fault == "variance" else deviation * (2**0.5 if fault == "equation 4" else 1)
        found = float(folded_normal_mean(torch.tensor(mean).double(), torch.tensor(given).double()))
        assert abs(found - float(values.mean())) <= STANDARD_ERRORS * float(values.std()) / len(draws) ** 0.5


def test_the_folded_normal_is_the_mean_of_simulated_values() -> None:
    check_folded_normal()


@pytest.mark.parametrize("fault", ["variance", "equation 4"])
def test_the_folded_normal_is_not(fault: str) -> None:
    with pytest.raises(AssertionError):
        check_folded_normal(fault)


def test_equation_4_is_right_where_its_assumptions_hold_but_for_its_constant() -> None:
    """Zero mean, one sigma in a tensor: the corrected equation agrees with the measured mean, the printed one does not.

    The margin is that of 4,096 batches of 64 entries: 0.76 / sqrt(4096 * 64) of the value, times 5.
    """
    single = torch.randn(16_384, 64, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    law = law_of(single, sizes=(64,))
    found, laws = law.mean_abs[4].mean(), law.abs_laws(4)
    assert laws["equation_4_corrected"] == pytest.approx(found, rel=7e-3)
    assert laws["folded_normal"] == pytest.approx(found, rel=7e-3)
    assert laws["equation_4"] == pytest.approx(2**0.5 * found, rel=7e-3)
    slope = exponent(law, law.mean_abs, 4, 8)
    assert slope.low < -0.5 < slope.high
    assert slope.high - slope.low < 0.02


def test_with_unequal_sigmas_only_the_folded_normal_of_each_entry_is_right() -> None:
    single = torch.randn(16_384, 64, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    law = law_of(single * torch.tensor([0.1, 10.0]).repeat(32), sizes=(64,))
    found, laws = law.mean_abs[64].mean(), law.abs_laws(64)
    assert laws["folded_normal"] == pytest.approx(found, rel=2e-2)
    assert laws["common_sigma"] > 1.3 * found


# --- intervals ---


def covered(of: Callable[[GradientLaw], tuple[np.ndarray, np.ndarray]], known: np.ndarray, count: int) -> float:
    inside = []
    for seed in range(200):
        low, high = of(law_of(images(count, 1000 + seed)))
        inside += [(low <= known) & (known <= high)]
    return float(np.mean(inside))


@pytest.mark.parametrize("name", ["mu2", "sigma2", "noise_scale"])
@pytest.mark.parametrize("count", [128, 120])  # 32 batches in 16 groups; 30 of one batch each
def test_intervals_of_a_layer_cover_the_truth_as_often_as_they_say(name: str, count: int) -> None:
    truth = {"mu2": by_tensor(MEAN**2), "sigma2": by_tensor(DEVIATION**2)}
    truth["noise_scale"] = truth["sigma2"] / truth["mu2"]
    share = covered(lambda law: (spread(law)[name].low, spread(law)[name].high), truth[name], count)
    assert 0.92 <= share <= 0.99  # 600 intervals: 0.95 +- 0.01, and those of a skewed estimate are a little short


@pytest.mark.parametrize("n", [4, 8, 16])
def test_intervals_of_e_abs_g_cover_the_truth(n: int) -> None:
    known = by_tensor(folded_normal_mean(MEAN, DEVIATION / n**0.5))

    def ends(law: GradientLaw) -> tuple[np.ndarray, np.ndarray]:
        found = average(law, law.mean_abs, n)
        return found.low, found.high

    assert 0.92 <= covered(ends, known, 128) <= 0.98


def test_there_is_no_interval_where_there_is_no_second_batch() -> None:
    law = law_of(images(96))  # 24 batches
    assert [len(law.mean_abs[n]) for n in (4, 8, 16, 32, 64, 96)] == [24, 12, 6, 3, 1, 1]
    for n, there in ((32, True), (64, False), (96, False)):
        found = average(law, law.mean_abs, n)
        assert np.isfinite(found.low).all() == there
    assert np.isnan(exponent(law, law.mean_abs, 32, 64).low).all()
    assert np.isfinite(exponent(law, law.mean_abs, 32, 64).value).all()


def test_an_interval_over_nodes_would_be_shorter_than_one_over_groups() -> None:
    """Batches of a group that share something: the interval over the groups sees it."""
    shared = torch.randn(16, 1, generator=torch.Generator().manual_seed(1)).double().repeat_interleave(32, 0)
    law = law_of(images(512) + shared)
    groups, nodes = average(law, law.mean_abs, 4), law.mean_abs[4]
    over_nodes = 2 * 1.98 * nodes.std(axis=0, ddof=1) / len(nodes) ** 0.5
    assert law.group == 8
    assert ((groups.high - groups.low) > 1.3 * over_nodes).all()


# --- the noise scale of all layers ---


def check_noise_scale(dtype: torch.dtype, tolerance: float, fault: bool = False) -> None:
    batches = images(96).reshape(-1, 4, sum(SIZES)).mean(1).to(dtype)
    law = gradient_law(batches, 4, SIZES, batches=len(batches))
    known = noise_scale(lambda: batches, 4)
    weights = np.ones(len(SIZES)) if fault else np.array(SIZES)
    trace, squared = (float((weights * values).sum()) for values in (law.sigma2, law.mu2))
    np.testing.assert_allclose(
        [trace, squared, trace / squared], [known.trace, known.squared_gradient, known.noise_scale], rtol=tolerance
    )


def test_from_the_layers_sums_the_noise_scale_comes_out() -> None:
    check_noise_scale(torch.float64, DIRECT)
    check_noise_scale(torch.float32, SINGLE)


def test_from_the_layers_means_without_their_sizes_it_does_not() -> None:
    with pytest.raises(AssertionError):
        check_noise_scale(torch.float64, DIRECT, fault=True)


# --- what has a defined answer ---


def test_frozen_layers_and_dead_units_have_defined_answers() -> None:
    single = images(64)
    single[:, :7] = 0  # a frozen layer
    single[:, 7:10] = 0.1  # no noise in three entries of five
    single[:, 12:] = 0.1  # no noise at all
    law = law_of(single)
    assert law.live_share.tolist() == [0, 1, 1]
    found = spread(law)
    assert math.isnan(found["noise_scale"].value[0])
    assert found["noise_scale"].value[2] == 0
    assert math.isnan(exponent(law, law.mean_abs, 4, 8).value[0])
    assert exponent(law, law.mean_abs, 4, 8).value[2] == pytest.approx(0, abs=DIRECT)
    for n in law.mean_abs:
        assert all(np.isfinite(values).all() for values in law.abs_laws(n).values())
        assert law.abs_laws(n)["folded_normal"][0] == 0
        assert law.abs_laws(n)["folded_normal"][2] == pytest.approx(0.1, rel=DIRECT)


def test_noise_alone_has_an_infinite_noise_scale() -> None:
    law = law_of(torch.tensor([1.0, -1.0]).double().repeat(32)[:, None].expand(64, 20).clone(), batch_size=1)
    found = spread(law)["noise_scale"]
    assert found.value.tolist() == [math.inf] * 3
    assert (found.high == math.inf).all()


@pytest.mark.parametrize(
    ("batches", "said", "message"),
    [(3, 3, "at least 4 batches, got 3"), (8, 16, "16 gradients were to come, got 8"), (8, 8, "not finite")],
)
def test_what_has_no_law_raises(batches: int, said: int, message: str) -> None:
    vectors = images(batches)
    if message == "not finite":
        vectors[5, 3] = math.nan
    with pytest.raises(ValueError, match=message):
        gradient_law(vectors, 4, SIZES, batches=said)


def test_sizes_are_doublings_then_three_halves_and_all() -> None:
    assert joined_counts(1875) == {1536, 1875}  # 32 images each: 49152 and 60000
    assert joined_counts(1562) == {1536, 1562}
    assert joined_counts(1024) == set()
    assert joined_counts(1500) == {1500}
    assert joined_counts(1536) == {1536}
    assert sorted(law_of(images(4 * 13)).mean_abs) == [4, 8, 16, 32, 48, 52]


def test_each_gradient_is_shown_with_its_batch_size() -> None:
    seen = []
    vectors = images(7)
    gradient_law(vectors, 5, SIZES, batches=7, seen=lambda n, gradient: seen.append((n, gradient)))
    assert [n for n, _ in seen] == [5, 5, 10, 5, 5, 10, 20, 5, 5, 10, 30, 5, 35]
    torch.testing.assert_close(seen[-1][1], vectors.mean(0), rtol=DIRECT, atol=DIRECT)
