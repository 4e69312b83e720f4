"""What must hold on a GPU as on a CPU: `pytest -m gpu -n 0` where there is one. CPU cases show only that they run."""

from pathlib import Path

import numpy as np
import pytest
import runs
import torch
from torch import nn

from gapscope import seeds
from gapscope.data.datasets import Dataset
from gapscope.data.images import split_images
from gapscope.errors import InputError, StoppedError
from gapscope.models import ModelSpec, build
from gapscope.numerics.discarding import CHOICES
from gapscope.numerics.hosvd.singular_values import mode_singular_values
from gapscope.numerics.loss_surface.sharpness import keskar_sharpness
from gapscope.records.checkpoints import Checkpoint
from gapscope.runtime import set_threads
from gapscope.training import loop
from gapscope.training.distributed import Ranks
from gapscope.training.graphs import graphs_possible
from gapscope.training.loop import TrainResult, train
from gapscope.training.objective import Objective
from gapscope.training.settings import DiscardSettings

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
DOUBLE = 1e-10  # float64 sums in another order
SETTINGS = runs.changed(lr_start=0.05, lr_end=0.01, eval_batch=50)


def data() -> Dataset:
    draw = np.random.default_rng(0)
    y = draw.integers(0, 10, 120)
    x = draw.integers(0, 100, (120, 1, 28, 28), np.uint8) + (15 * y[:, None, None, None]).astype(np.uint8)
    return Dataset("noise", 10, x[:100], y[:100], x[100:], y[100:])


def network() -> nn.Module:
    with seeds.seeded(0, "test"):
        return build(ModelSpec("lenet5_w0.5", (1, 28, 28), 10, batch_norm=True))


class Dropping(nn.Module):
    """A network whose masks must differ from update to update."""

    def __init__(self) -> None:
        super().__init__()
        with seeds.seeded(0, "test"):
            self.net = nn.Sequential(
                nn.Flatten(), nn.Linear(784, 20), nn.BatchNorm1d(20), nn.Dropout(0.5), nn.Linear(20, 10)
            )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.net(images)


class Waiting(Dropping):
    """A network that decides something by its values."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.net(images) * (2 if float(images.sum()) == 0 else 1)


def trained(device: str, **options) -> tuple[nn.Module, TrainResult]:
    set_threads(1)  # as every stage does: on a GPU it fixes the order of sums, without which no two runs are alike
    model = network()
    return model, train(model, data(), SETTINGS, batch_size=30, epochs=4, seed=1, device=device, **options)


@pytest.mark.parametrize("device", DEVICES)
def test_training_repeats_its_bits_and_goes_on_with_them_after_a_stop(device: str, tmp_path: Path) -> None:
    model, result = trained(device)
    assert result.history[-1]["train_loss_running"] < result.history[0]["train_loss_running"]
    checkpoint, asked = Checkpoint(tmp_path / "checkpoint", {}, 1), iter(range(100))
    with pytest.raises(StoppedError):
        trained(device, checkpoint=checkpoint, stop=lambda: next(asked) == 6)
    for again in (trained(device)[0], trained(device, checkpoint=checkpoint)[0]):
        for name, tensor in model.state_dict().items():
            assert torch.equal(again.state_dict()[name], tensor), name


@pytest.mark.gpu
def test_recorded_updates_of_convolutions_have_the_bits_of_those_that_are_not() -> None:
    models = []
    for graphs in (True, False):
        set_threads(1)
        model = network()
        settings = runs.changed(SETTINGS, cuda_graphs=graphs)
        train(model, data(), settings, batch_size=30, epochs=4, seed=1, device="cuda")
        models.append(model.state_dict())
    for name, tensor in models[0].items():
        assert torch.equal(models[1][name], tensor), name


@pytest.mark.gpu
@pytest.mark.parametrize("by", CHOICES)
def test_recorded_updates_that_discard_have_the_bits_of_those_that_are_not(by: str) -> None:
    models = []
    for graphs in (True, False):
        set_threads(1)
        model, discard = network(), DiscardSettings(share=0.3, epochs=3, by=by, mean="kept")
        settings = runs.changed(SETTINGS, cuda_graphs=graphs, discard=discard)
        result = train(model, data(), settings, batch_size=30, epochs=5, seed=1, device="cuda")
        assert "without_cuda_graphs" not in result.final
        models.append(model.state_dict())
    for name, tensor in models[0].items():
        assert torch.equal(models[1][name], tensor), name


@pytest.mark.gpu
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_recorded_updates_replay_and_draw_anew(optimizer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    replays, replay = [], torch.cuda.CUDAGraph.replay
    monkeypatch.setattr(torch.cuda.CUDAGraph, "replay", lambda graph: (replays.append(graph), replay(graph)))
    found = []
    for changes in ({}, {"cuda_graphs": False}):
        model, settings = Dropping(), runs.changed(SETTINGS, name=optimizer, **changes)
        train(model, data(), settings, batch_size=30, epochs=4, seed=1, device="cuda")
        found.append(model.state_dict())
        assert len(replays) == 4 * 4 - 2  # all but the first update of each of two sizes
        assert len(set(replays)) == 2
    for name, tensor in found[0].items():
        torch.testing.assert_close(found[1][name], tensor, rtol=1e-6, atol=1e-7, msg=name)  # the rate is in float32


@pytest.mark.parametrize(
    ("changes", "device", "ranks"),
    [({}, "cpu", 1), ({"cuda_graphs": False}, "cuda", 1), ({"micro_batch": 10}, "cuda", 1), ({}, "cuda", 2)],
)
def test_what_cannot_be_recorded_stays_as_it_is(changes: dict, device: str, ranks: int) -> None:
    assert graphs_possible(SETTINGS, "cuda")
    assert not graphs_possible(runs.changed(SETTINGS, **changes), device, Ranks(0, ranks))


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
def test_no_update_waits_for_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = loop.evaluation_metrics

    def waiting(*arguments, **named):
        torch.cuda.set_sync_debug_mode("default")
        return metrics(*arguments, **named)

    def strict() -> bool:  # asked before each update
        torch.cuda.set_sync_debug_mode("error")
        return False

    monkeypatch.setattr(loop, "evaluation_metrics", waiting)
    try:
        trained("cuda", stop=strict)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("device", DEVICES)
def test_loss_gradient_and_curvature_are_the_cpu_s(device: str) -> None:
    found = []
    for place in ("cpu", device):
        images = split_images(data(), "train", place)
        objective = Objective.of_images(network().to(place), images, None, 40)
        x = objective.weights()
        v = torch.randn(len(x), generator=seeds.generator("test"), dtype=torch.float64).to(place)
        value, gradient = objective.value_and_gradient(x, with_gradient=True)
        found.append([value.reshape(1), gradient, objective.hvp(x, v), objective.gnvp(x, v)])
    for known, same in zip(*found, strict=True):
        torch.testing.assert_close(same.cpu(), known, rtol=0, atol=DOUBLE * float(known.abs().max()))
        assert known.abs().max() > 0


@pytest.mark.parametrize("device", DEVICES)
def test_sharpness_is_the_cpu_s(device: str) -> None:
    found = []
    for place in ("cpu", device):
        objective = Objective.of_images(network().to(place), split_images(data(), "train", place), None, 50)
        draw = seeds.generator("sharpness")
        found.append(keskar_sharpness(objective, objective.weights(), epsilon=1e-3, generator=draw).sharpness)
    assert found[0] > 0
    assert found[1] == pytest.approx(found[0], rel=1e-3)  # L-BFGS-B may take another turn by rounding


@pytest.mark.parametrize("device", DEVICES)
def test_singular_values_are_the_cpu_s_within_their_bounds(device: str) -> None:
    draw = torch.Generator().manual_seed(0)
    tensor = torch.randn(40, 6, 5, 5, generator=draw, dtype=torch.float64) * torch.logspace(0, -9, 5).double()
    for known, found in zip(mode_singular_values(tensor), mode_singular_values(tensor.to(device)), strict=True):
        assert (np.abs(known.values - found.values) <= known.error_bound + found.error_bound).all()
        assert found.values[0] > 1


@pytest.mark.gpu
def test_a_network_that_waits_for_the_device_says_how_to_train_it() -> None:
    plain = runs.changed(SETTINGS, cuda_graphs=False)
    assert train(Waiting(), data(), plain, batch_size=30, epochs=1, seed=1, device="cuda").status == "ok"
    # last: a recording that fails leaves torch's generator of the device unusable, and with it the process
    with pytest.raises(InputError, match=r"train\.precision\.cuda_graphs=false"):
        train(Waiting(), data(), SETTINGS, batch_size=30, epochs=1, seed=1, device="cuda")
