"""Activations against plain forward passes; samples; hooks that leave no trace."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from gapscope import seeds
from gapscope.errors import InputError
from gapscope.measures.activations import (
    ActivationSettings,
    activation_bytes,
    extract,
    forward_errors,
    sample_indices,
)
from gapscope.models import unit_layers
from gapscope.models.lenet5 import LeNet5
from gapscope.numerics.hosvd.singular_values import mode_singular_values

DIRECT = 1e-12  # float64 products and sums, cut into other blocks
IMAGES = 11


def settings(**changes) -> ActivationSettings:
    plain = {
        "batch_norm_statistics": "running",
        "precision": "float64",
        "probe_images": 5,
        "forward_batch": 4,
        "threads": 1,
    }
    return ActivationSettings(**{**plain, **changes})


@pytest.fixture
def inputs() -> Tensor:
    return torch.randn(IMAGES, 1, 28, 28, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture
def lenet5() -> LeNet5:
    """A small LeNet-5 in float64, with running statistics that are neither initial nor those of the inputs."""
    with seeds.seeded(0, "test"):
        model = LeNet5((1, 28, 28), 10, channels=(3, 4), dense=(7, 5))
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 2)
    return model.double()


def extracted(model: nn.Module, inputs: Tensor, **changes) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}

    def open_layer(name: str, shape: tuple[int, ...]) -> np.ndarray:
        assert name not in arrays
        arrays[name] = np.full(shape, np.nan)
        return arrays[name]

    extract(model, lambda rows: inputs[rows], len(inputs), open_layer, settings(**changes))
    return arrays


@torch.no_grad()
def forward(model: LeNet5, images: Tensor) -> dict[str, np.ndarray]:
    """LeNet-5's forward pass, written out."""
    conv1 = model.conv1(images)
    conv2 = model.conv2(model.pool(conv1))
    fc1 = model.dense[0](model.pool(conv2).flatten(1))
    fc2 = model.dense[1](fc1)
    return {name: h.numpy() for name, h in [("conv1", conv1), ("conv2", conv2), ("fc1", fc1), ("fc2", fc2)]}


def equal(found: dict[str, np.ndarray], known: dict[str, np.ndarray]) -> None:
    assert list(found) == list(known)
    torch.testing.assert_close(found, known, rtol=DIRECT, atol=DIRECT)


@pytest.mark.parametrize("forward_batch", [1, 4, IMAGES, 100])
def test_activations_are_those_of_a_plain_forward_pass(lenet5: LeNet5, inputs: Tensor, forward_batch: int) -> None:
    found = extracted(lenet5, inputs, forward_batch=forward_batch)
    assert {name: layer.shape[1:] for name, layer in found.items()} == {
        "conv1": (3, 28, 28),  # unpooled
        "conv2": (4, 10, 10),
        "fc1": (7,),
        "fc2": (5,),
    }
    equal(found, forward(lenet5.eval(), inputs))
    with pytest.raises(AssertionError):
        equal(found, forward(copy.deepcopy(lenet5).train(), inputs))


@pytest.mark.parametrize("forward_batch", [1, 4, IMAGES])
def test_train_mode_uses_the_statistics_of_the_whole_batch(lenet5: LeNet5, inputs: Tensor, forward_batch: int) -> None:
    known = forward(copy.deepcopy(lenet5).train(), inputs)
    parts = [forward(copy.deepcopy(lenet5).train(), part) for part in inputs.split(4)]
    before = {name: value.clone() for name, value in lenet5.state_dict().items()}
    found = extracted(lenet5, inputs, batch_norm_statistics="batch", forward_batch=forward_batch)
    equal(found, known)
    with pytest.raises(AssertionError):
        equal(found, {name: np.concatenate([part[name] for part in parts]) for name in known})
    for name, value in lenet5.state_dict().items():
        assert name.endswith("num_batches_tracked") or value.equal(before[name])
    norms = [m for m in lenet5.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    assert [norm.momentum for norm in norms] == [0.1] * 4


@pytest.mark.parametrize("statistics", ["running", "batch"])
def test_the_model_is_left_in_eval_mode_without_hooks(lenet5: LeNet5, inputs: Tensor, statistics: str) -> None:
    lenet5.train()
    extracted(lenet5, inputs, batch_norm_statistics=statistics)
    assert not any(module.training for module in lenet5.modules())
    assert not any(module._forward_hooks for module in lenet5.modules())


def test_hooks_and_momenta_are_taken_back_after_a_failure(lenet5: LeNet5) -> None:
    with pytest.raises(RuntimeError):
        extracted(lenet5, torch.zeros(4, 2, 28, 28, dtype=torch.float64), batch_norm_statistics="batch")
    assert not any(module._forward_hooks for module in lenet5.modules())
    assert not any(module.training for module in lenet5.modules())
    assert lenet5.conv1.norm.momentum == 0.1
    assert lenet5.conv1.norm.track_running_stats


def test_no_buffer_changes_in_train_mode(lenet5: LeNet5, inputs: Tensor) -> None:
    before = {name: buffer.clone() for name, buffer in lenet5.named_buffers()}
    extracted(lenet5, inputs, batch_norm_statistics="batch")
    torch.testing.assert_close(dict(lenet5.named_buffers()), before, rtol=0, atol=0)


def test_counting_bytes_leaves_the_model_where_it_is(lenet5: LeNet5) -> None:
    assert activation_bytes(lenet5, (1, 28, 28)) > 0
    assert all(p.device.type == "cpu" for p in lenet5.parameters())


def user_net() -> nn.Sequential:
    with seeds.seeded(0, "test"):
        layers = [nn.Flatten(), nn.Linear(784, 9), nn.Tanh(), nn.Dropout(0.5), nn.Linear(9, 6), nn.ReLU()]
        return nn.Sequential(*layers, nn.BatchNorm1d(6), nn.Linear(6, 10)).double()


@pytest.mark.parametrize("statistics", ["running", "batch"])
def test_a_net_without_unit_layers_gives_its_non_linearities(inputs: Tensor, statistics: str) -> None:
    model = user_net()
    found = extracted(model, inputs, batch_norm_statistics=statistics)
    with torch.no_grad():  # dropout is off in either mode
        first = model[1](inputs.flatten(1)).tanh()
        second = model[4](first).relu()
    equal(found, {"2": first.numpy(), "5": second.numpy()})


def test_own_unit_layers_come_before_non_linearities() -> None:
    model = user_net()
    assert list(unit_layers(model)) == ["2", "5"]
    model.unit_layers = {"last": model[4]}
    assert unit_layers(model) == {"last": model[4]}


def test_a_model_with_nothing_to_hook_raises() -> None:
    with pytest.raises(InputError, match=r"Sequential.*unit_layers"):
        extracted(nn.Sequential(nn.Flatten(), nn.Linear(4, 10)), torch.ones(3, 4))


class Shared(nn.Module):
    """One ReLU in two places: two layers' activations under one name."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.relu = nn.Linear(4, 4), nn.Linear(4, 4), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.second(self.relu(self.first(x))))


def test_a_module_used_twice_is_two_layers() -> None:
    model, inputs = Shared().double(), torch.ones(3, 4, dtype=torch.float64)
    with torch.no_grad():
        first = model.first(inputs).relu()
        equal(extracted(model, inputs), {"relu": first.numpy(), "relu#2": model.second(first).relu().numpy()})


def test_bytes_are_those_of_one_image_in_float64() -> None:
    values = 3 * 28 * 28 + 4 * 10 * 10 + 7 + 5
    assert activation_bytes(LeNet5((1, 28, 28), 10, channels=(3, 4), dense=(7, 5)), (1, 28, 28)) == 8 * values


@given(images=st.integers(2, 300), seed=st.integers(0, 99), draw=st.data())
def test_samples_are_drawn_without_replacement(images: int, seed: int, draw: st.DataObject) -> None:
    batch_size, probe = (draw.draw(st.integers(1, images)) for _ in range(2))
    found = sample_indices(images, batch_size, seed, probe)
    assert {name: len(index) for name, index in found.items()} == {"run": batch_size, "probe": probe}
    for index in found.values():
        assert len(set(index.tolist())) == len(index)
        assert 0 <= min(index) <= max(index) < images


def test_the_probe_is_the_same_for_every_run_and_the_run_is_its_seeds_own() -> None:
    small, large, other = (sample_indices(1000, size, seed, 50) for size, seed in [(100, 0), (400, 0), (100, 1)])
    assert small["probe"].tolist() == large["probe"].tolist() == other["probe"].tolist()
    assert large["run"][:100].tolist() == small["run"].tolist()
    assert other["run"].tolist() != small["run"].tolist()
    assert small["run"][:50].tolist() != small["probe"].tolist()


@pytest.mark.parametrize(("batch_size", "probe"), [(101, 5), (5, 101)])
def test_more_images_than_there_are_raise(batch_size: int, probe: int) -> None:
    with pytest.raises(InputError, match=r"\b101\b.*\b100\b"):
        sample_indices(100, batch_size, 0, probe)


@pytest.mark.parametrize(
    "wrong", [{"batch_norm_statistics": "eval"}, {"precision": "float16"}, {"probe_images": 0}, {"forward_batch": 0}]
)
def test_settings_that_cannot_be_raise(wrong: dict) -> None:
    with pytest.raises(InputError, match="activations"):
        settings(**wrong)


def test_the_error_of_a_float32_pass_is_its_distance_to_the_float64_one(lenet5: LeNet5, inputs: Tensor) -> None:
    exact = extracted(lenet5, inputs)
    single = extracted(copy.deepcopy(lenet5).float(), inputs.float(), precision="float32")
    errors = forward_errors(lenet5, lambda rows: inputs[rows], single, settings(precision="float32"))
    for name, error in errors.items():
        assert error == pytest.approx(np.linalg.norm(exact[name] - single[name]), rel=1e-9)
        assert error > 0
    none = forward_errors(lenet5, lambda rows: inputs[rows], exact, settings())
    assert set(none.values()) == {0.0}
    # by Weyl no singular value is off by more; without the error some are off by more than the solver's bound
    for name, tensor in single.items():
        for found, known in zip(mode_singular_values(tensor), mode_singular_values(exact[name]), strict=True):
            off = abs(found.values - known.values)
            assert (off <= found.widened(errors[name]).error_bound + known.error_bound).all()
            assert (off > found.error_bound + known.error_bound).any()


def test_only_the_layers_asked_for_are_written(lenet5: LeNet5, inputs: Tensor) -> None:
    arrays = extract(
        lenet5, lambda rows: inputs[rows], len(inputs), lambda _, shape: np.empty(shape), settings(), only=["conv2"]
    )
    equal(arrays, {"conv2": extracted(lenet5, inputs)["conv2"]})
