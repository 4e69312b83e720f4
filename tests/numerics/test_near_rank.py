"""Counts on spectra made by hand, and the numbers that LeNet-5's shapes alone give."""

import numpy as np
import oracles
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gapscope.measures.activations import activation_bytes
from gapscope.models import ModelSpec, build
from gapscope.numerics.hosvd.near_rank import NearRank, near_rank_count
from gapscope.numerics.hosvd.spectrum import ModeSpectrum

NETWORKS = {
    "lenet5": {"channels": (6, 16), "dense": (120, 84), "padding": 2},
    "lenet5_caffe": {"channels": (20, 50), "dense": (500,), "padding": 0},
}
# structural, economy, full: values that there are to count in all hidden layers together
VALUES_TO_COUNT = {
    ("lenet5", 128): (52, 558, 610),
    ("lenet5", 512): (820, 1326, 2146),
    ("lenet5", 1024): (1844, 2350, 4194),
    ("lenet5", 2048): (4340, 3950, 8290),
    ("lenet5", 4096): (10484, 5998, 16482),
    ("lenet5", 8192): (26260, 6606, 32866),
    ("lenet5_caffe", 128): (372, 518, 890),
    ("lenet5_caffe", 512): (12, 1658, 1670),
    ("lenet5_caffe", 1024): (524, 2682, 3206),
    ("lenet5_caffe", 2048): (1548, 4730, 6278),
    ("lenet5_caffe", 4096): (4492, 7930, 12422),
    ("lenet5_caffe", 8192): (12684, 12026, 24710),
}


def spectrum(values: list[float], size: int | None = None, error_bound: float = 0.0) -> ModeSpectrum:
    return ModeSpectrum(np.array(values), size or len(values), error_bound, "qr")


def test_a_value_equal_to_the_threshold_counts() -> None:
    (found,) = near_rank_count([spectrum([3.0, 2.0, 1e-4, 1e-5])], 1e-4)
    assert found == NearRank(economy=2, structural=0, full=2, fraction=0.5, certain=2, possible=2)
    (found,) = near_rank_count([spectrum([3.0, 2.0, float(np.nextafter(1e-4, 1)), 1e-5])], 1e-4)
    assert found.economy == 1


def test_structural_zeros_are_in_full_only() -> None:
    (found,) = near_rank_count([spectrum([3.0, 1e-6, 0.0], size=10)], 1e-5)
    assert (found.economy, found.structural, found.full) == (2, 7, 9)
    assert found.fraction == 2 / 3  # of the values that there are, not of the size


def test_threshold_zero_counts_exact_zeros() -> None:
    (found,) = near_rank_count([spectrum([3.0, 1e-300, 0.0, 0.0])], 0.0)
    assert found.economy == 2


def test_each_mode_is_counted_by_itself_and_in_order() -> None:
    modes = [spectrum([1.0, 1.0]), spectrum([1.0, 0.0, 0.0], size=4), spectrum([0.0])]
    assert [found.full for found in near_rank_count(modes, 1e-5)] == [0, 3, 1]


def test_the_interval_is_what_the_solver_leaves_open() -> None:
    values = [3.0, 1.3e-5, 1.1e-5, 0.9e-5, 0.7e-5]
    (found,) = near_rank_count([spectrum(values, error_bound=0.2e-5)], 1e-5)
    assert (found.certain, found.economy, found.possible) == (1, 2, 3)


@pytest.mark.parametrize(
    ("between", "below", "undecidable"),
    [(0, 0, False), (1, 0, False), (2, 0, True), (2, 300, False), (3, 296, True)],
)
def test_undecidable_is_more_than_one_per_cent_and_more_than_one_value(
    between: int, below: int, undecidable: bool
) -> None:
    values = [1.0] + [1e-5] * between + [0.0] * below
    (found,) = near_rank_count([spectrum(values, error_bound=1e-9)], 1e-5)
    assert found.possible - found.certain == between
    assert found.undecidable is undecidable


@pytest.mark.parametrize("threshold", [-1e-9, float("nan"), float("inf")])
def test_a_threshold_that_is_none_raises(threshold: float) -> None:
    with pytest.raises(ValueError, match="threshold"):
        near_rank_count([spectrum([1.0])], threshold)


@given(
    count=st.integers(1, 40),
    zeros_by_shape=st.integers(0, 40),
    exponent=st.floats(-9, 2),
    bound_exponent=st.floats(-16, 0),
    seed=st.integers(0, 2**32 - 1),
)
def test_counts_are_ordered(count: int, zeros_by_shape: int, exponent: float, bound_exponent: float, seed: int) -> None:
    values = np.sort(10.0 ** np.random.default_rng(seed).uniform(-9, 2, count))[::-1]
    mode = ModeSpectrum(values, count + zeros_by_shape, 10.0**bound_exponent, "qr")
    (found,), (higher,) = (near_rank_count([mode], t) for t in (10.0**exponent, 2 * 10.0**exponent))
    assert found.economy == sum(value <= 10.0**exponent for value in values.tolist())
    assert 0 <= found.certain <= found.economy <= found.possible <= count
    assert found.full == found.economy + zeros_by_shape <= mode.size
    assert found.fraction == found.economy / count
    assert higher.economy >= found.economy


def activation_shapes(name: str, batch: int) -> list[tuple[int, ...]]:
    """Return the shapes of the unit layers' outputs; nothing is computed."""
    with torch.device("meta"):
        model = build(ModelSpec(name, (1, 28, 28), 10, batch_norm=True)).eval()
        shapes: list[tuple[int, ...]] = []
        for module in model.unit_layers.values():
            module.register_forward_hook(lambda _module, _inputs, output: shapes.append(tuple(output.shape)))
        model(torch.empty(batch, 1, 28, 28))
    return shapes


@pytest.mark.parametrize(("name", "batch"), VALUES_TO_COUNT)
def test_lenet5_has_the_values_to_count_that_its_shapes_give(name: str, batch: int) -> None:
    shapes = activation_shapes(name, batch)
    assert shapes == oracles.lenet5_shapes(batch, **NETWORKS[name])
    modes = [spectrum([0.0] * count, size) for shape in shapes for size, count in oracles.mode_sizes(shape)]
    found = near_rank_count(modes, 0.0)
    assert (
        tuple(sum(getattr(f, kind) for f in found) for kind in ("structural", "economy", "full"))
        == (VALUES_TO_COUNT[name, batch])
    )


@pytest.mark.parametrize("name", NETWORKS)
def test_bytes_of_an_image_are_those_of_the_shapes(name: str) -> None:
    model = build(ModelSpec(name, (1, 28, 28), 10, batch_norm=True))
    values = sum(int(np.prod(shape)) for shape in oracles.lenet5_shapes(1, **NETWORKS[name]))
    assert activation_bytes(model, (1, 28, 28)) == 8 * values


# --- the tail: what a threshold up to the cut can count ---------------------------------------------------------------


@given(
    count=st.integers(1, 60),
    bound_exponent=st.floats(-16, -1),
    cut_exponent=st.floats(-8, 1),
    part=st.floats(0, 1),
    relative=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_tail_gives_the_counts_of_the_whole_spectrum_up_to_the_cut(
    count: int, bound_exponent: float, cut_exponent: float, part: float, *, relative: bool, seed: int
) -> None:
    draws = np.random.default_rng(seed)
    values = np.sort(10.0 ** draws.uniform(-9, 2, count))[::-1]
    bounds = 10.0**bound_exponent * draws.uniform(0, 4, count) * values ** draws.choice([0, 1])
    whole, cut = ModeSpectrum(values, count, bounds, "qr"), 10.0**cut_exponent
    threshold = part * cut / (values[0] if relative else 1)
    if relative and threshold * values[0] > cut:
        threshold = np.nextafter(threshold, 0)
    assert near_rank_count([whole], threshold, relative=relative) == near_rank_count(
        [whole.tail(cut)], threshold, relative=relative
    )


def test_a_value_above_the_cut_that_may_lie_below_it_is_in_the_tail() -> None:
    whole = ModeSpectrum(np.array([3.0, 0.02, 0.0101, 0.001]), 4, np.array([0.0, 0.001, 0.001, 0.0]), "qr")
    assert whole.tail(0.01).values.tolist() == [0.0101, 0.001]
    (found,) = near_rank_count([whole.tail(0.01)], 0.01)
    assert (found.certain, found.economy, found.possible) == (1, 1, 2)


@pytest.mark.parametrize(("threshold", "relative"), [(0.0100001, False), (0.5, True)])
def test_a_threshold_above_the_cut_raises(threshold: float, relative: bool) -> None:
    with pytest.raises(ValueError, match=r"above 0\.01, up to which"):
        near_rank_count([spectrum([3.0, 1e-5]).tail(0.01)], threshold, relative=relative)


def test_a_tail_of_zeros_has_all_of_them() -> None:
    tail = spectrum([0.0, 0.0], size=5).tail(1e-2)
    assert (len(tail.values), tail.structural) == (2, 3)
    assert near_rank_count([tail], 0.5, relative=True)[0].full == 5
