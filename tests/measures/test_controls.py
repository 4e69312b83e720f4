"""Controls against the same quantities computed plainly; and that nothing of them is left behind."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from gapscope import seeds
from gapscope.data.images import Images
from gapscope.errors import InputError
from gapscope.measures.activations import ActivationSettings, sample_indices
from gapscope.measures.controls import CONTROLS, controls
from gapscope.models.lenet5 import LeNet5

SIZES = (5, 12)
SETTINGS = ActivationSettings(
    batch_norm_statistics="running", precision="float64", probe_images=4, forward_batch=3, threads=1
)


def network(seed: int) -> nn.Module:
    with seeds.seeded(seed, "test"):
        return LeNet5((1, 28, 28), 10, channels=(3, 4), dense=(7,))


@pytest.fixture
def training() -> Images:
    images = torch.randint(0, 256, (20, 1, 28, 28), generator=seeds.generator("test"), dtype=torch.uint8)
    return Images(images, torch.zeros(20, dtype=torch.int64), torch.tensor([0.4]), torch.tensor([0.3]))


@pytest.fixture
def found(training: Images, tmp_path: Path) -> dict[tuple[str, int, str], np.ndarray]:
    models = {"reference": network(0), "untrained": network(1)}
    made = controls(models, training, SIZES, 7, SETTINGS, folder=tmp_path)
    tensors = {(c.sample, c.batch_size, c.layer): np.array(c.tensor) for c in made}
    assert list(tmp_path.iterdir()) == []
    return tensors


def test_every_control_is_there_once_a_layer_and_batch_size(found: dict) -> None:
    layers = ("conv1", "conv2", "fc1")
    known = {(name, size, layer) for name in CONTROLS[:3] for size in SIZES for layer in layers}
    assert set(found) == known | {("input", size, "input") for size in SIZES}


def test_controls_are_in_float64_whatever_the_precision_of_the_runs(training: Images, tmp_path: Path, found) -> None:
    models = {"reference": network(0), "untrained": network(1)}
    single = replace(SETTINGS, precision="float32")
    for control in controls(models, training, SIZES, 7, single, folder=tmp_path):
        np.testing.assert_array_equal(control.tensor, found[control.sample, control.batch_size, control.layer])


def test_a_layer_that_the_forward_pass_leaves_out_has_none(training: Images, tmp_path: Path) -> None:
    models = {"reference": nn.Sequential(nn.Flatten(), nn.ReLU()), "untrained": nn.Sequential(nn.Flatten(), nn.ReLU())}
    for model in models.values():
        model[1].spare = nn.ReLU()
    made = list(controls(models, training, SIZES, 7, SETTINGS, folder=tmp_path))
    assert {control.layer for control in made} == {"input", "1"}


@pytest.mark.parametrize("size", SIZES)
def test_models_see_the_images_of_the_run(found: dict, training: Images, size: int) -> None:
    index = sample_indices(20, size, 7, 4)["run"]
    images = training.inputs(index, torch.float64)
    np.testing.assert_array_equal(found["input", size, "input"], images.numpy())
    for name, seed in (("reference", 0), ("untrained", 1)):
        model = network(seed).double().eval()
        with torch.no_grad():
            known = model.conv1(images).numpy()
        np.testing.assert_allclose(found[name, size, "conv1"], known, rtol=0, atol=1e-12 * abs(known).max())
        assert not np.allclose(found[name, size, "conv1"], model.train().conv1(images).detach().numpy())


def test_a_random_tensor_has_shape_and_norm_of_the_reference_and_nothing_else(found: dict) -> None:
    for (name, size, layer), tensor in found.items():
        if name == "random":
            reference = found["reference", size, layer]
            assert tensor.shape == reference.shape
            # a sum of n squares of standard normal entries is within 6 standard errors of n
            assert np.linalg.norm(tensor) == pytest.approx(np.linalg.norm(reference), rel=6 / np.sqrt(2 * tensor.size))
            assert abs(np.corrcoef(tensor.ravel(), reference.ravel())[0, 1]) < 6 / np.sqrt(tensor.size)


def test_the_same_seed_gives_the_same_and_another_another(training: Images, tmp_path: Path) -> None:
    def of(seed: int) -> list[np.ndarray]:
        models = {"reference": network(0), "untrained": network(1)}
        return [np.array(c.tensor) for c in controls(models, training, (5,), seed, SETTINGS, folder=tmp_path)]

    assert all(map(np.array_equal, of(7), of(7)))
    assert not any(map(np.array_equal, of(7), of(8)))


@pytest.mark.parametrize(("held", "passes"), [(1, 3), (2**31, 1)])
def test_layers_that_fit_share_a_forward_pass_and_are_the_same(
    held: int, passes: int, training: Images, tmp_path: Path, found: dict
) -> None:
    models, seen, calls = {"reference": network(0), "untrained": network(1)}, [], []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gapscope.measures.controls.HELD", held)
        for control in controls(models, training, SIZES, 7, SETTINGS, folder=tmp_path):
            seen.append((control.sample, control.batch_size, control.layer))
            np.testing.assert_array_equal(control.tensor, found[seen[-1]])
        models["untrained"].register_forward_hook(lambda *_: calls.append(1))
        list(controls(models, training, (5,), 7, replace(SETTINGS, forward_batch=5), folder=tmp_path))
    assert seen == list(found)
    assert len(calls) == passes


def test_a_batch_size_above_the_training_set_raises(training: Images, tmp_path: Path) -> None:
    models = {"reference": network(0), "untrained": network(1)}
    with pytest.raises(InputError, match=r"\b21\b.*\b20\b"):
        list(controls(models, training, (21,), 0, SETTINGS, folder=tmp_path))
