"""Samples that are left out of a batch's gradient: which, in what mean, and the same however the batch is split."""

import copy
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import runs
import torch
from test_gradient import images, largest_difference, network
from test_resume import differ, ended, stopped
from test_training import settings
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from gapscope import seeds
from gapscope.errors import InputError
from gapscope.numerics.discarding import CHOICES, OF_CLASSES
from gapscope.tasks.classification import CLASSIFICATION, Classification
from gapscope.tasks.task import Batch
from gapscope.training import gradient
from gapscope.training.discarding import Discarding, check_discarding, make_discarding
from gapscope.training.distributed import ALONE
from gapscope.training.gradient import backward
from gapscope.training.settings import DiscardSettings

DIRECT = 1e-12  # float64 sums in another order
SHARE = 0.3
BATCH = torch.randperm(60, generator=seeds.generator("batch"))[:37]


def discarding(by: str = "small_loss", mean: str = "kept", share: float = SHARE) -> Discarding:
    made = make_discarding(DiscardSettings(share, None, by, mean), images())
    assert made is not None
    made.redraw(seeds.generator("test"))
    return made


def gradients(model: nn.Module, made: Discarding | None, index: Tensor = BATCH, **changes) -> dict[str, Tensor]:
    model = copy.deepcopy(model).double().train()
    with seeds.seeded("dropout"):
        backward(model, images(), index, settings(**changes), discarding=made)
    return {name: p.grad for name, p in model.named_parameters()}


# --- which samples, in what mean: against a slow reference ------------------------------------------------------------


def slowly_kept(by: str, losses: np.ndarray, labels: np.ndarray, tickets: np.ndarray) -> list[int]:
    """Sort and cut; of class_mix as many as possible have to go from each class as small_loss takes."""
    gone = int(np.ceil(SHARE * len(losses)))
    small = sorted(range(len(losses)), key=lambda i: losses[i])
    if by in {"small_loss", "large_loss"}:
        return sorted((small if by == "small_loss" else small[::-1])[gone:])
    if by == "random":
        return sorted(sorted(range(len(losses)), key=lambda i: tickets[i])[gone:])
    kept = []
    for label in np.unique(labels):
        own = [i for i in range(len(losses)) if labels[i] == label]
        if by == "class_mix":
            many = sum(labels[i] == label for i in small[:gone])
            kept += sorted(own, key=lambda i: tickets[i])[many:]
        else:
            many = min(int(np.ceil(SHARE * len(own))), len(own) - 1)
            kept += sorted(own, key=lambda i: losses[i])[many:]
    return sorted(kept)


def kept_by_hand(model: nn.Module, by: str) -> Tensor:
    batch = CLASSIFICATION.batch(images(), BATCH)
    losses = CLASSIFICATION.losses(copy.deepcopy(model).double()(batch.inputs), batch).detach().numpy()
    tickets = torch.randperm(60, generator=seeds.generator("test")).numpy()[BATCH]
    return BATCH[slowly_kept(by, losses, batch.targets.numpy(), tickets)]


@pytest.mark.parametrize("mean", ["kept", "batch"])
@pytest.mark.parametrize("by", CHOICES)
def test_the_gradient_is_that_of_the_samples_kept(by: str, mean: str) -> None:
    model = network(batch_norm=False)
    kept = kept_by_hand(model, by)
    assert 0 < len(kept) < len(BATCH)
    factor = 1.0 if mean == "kept" else len(kept) / len(BATCH)
    known = {name: factor * g for name, g in gradients(model, None, kept).items()}
    assert largest_difference(gradients(model, discarding(by, mean)), known) < DIRECT
    other = gradients(model, discarding(by, "batch" if mean == "kept" else "kept"))
    assert largest_difference(other, known) > 0.1  # the other mean
    for choice in set(CHOICES) - {by}:  # the other choices
        assert largest_difference(gradients(model, discarding(choice, mean)), known) > 1e-3


def test_batch_norm_sees_the_samples_that_are_discarded() -> None:
    whole, part = (copy.deepcopy(network(batch_norm=True)).double().train() for _ in range(2))
    backward(whole, images(), BATCH, settings(), discarding=discarding())
    backward(part, images(), BATCH, settings())
    norms = [name for name, _ in whole.named_buffers() if "running" in name]
    assert norms
    for name in norms:
        assert torch.equal(whole.get_buffer(name), part.get_buffer(name))


# --- however the batch is split ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("mean", ["kept", "batch"])
@pytest.mark.parametrize("by", CHOICES)
@pytest.mark.parametrize("micro_batch", [1, 10, 37])
def test_micro_batches_discard_as_one_batch_does(by: str, mean: str, micro_batch: int) -> None:
    model = network(batch_norm=False)
    known = gradients(model, discarding(by, mean))
    assert largest_difference(gradients(model, discarding(by, mean), micro_batch=micro_batch), known) < DIRECT


def test_a_ranking_within_each_micro_batch_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    model, made = network(batch_norm=False), discarding()
    known = gradients(model, made)
    whole = made.shares

    def of_each(losses: Tensor, weights: Tensor, index: Tensor, ranks: object) -> Tensor:
        parts = zip(*(of.split(10) for of in (losses, weights, index)), strict=True)
        return torch.cat([whole(*part, ALONE) * len(part[0]) / len(index) for part in parts])

    monkeypatch.setattr(made, "shares", of_each)
    assert largest_difference(gradients(model, made, micro_batch=10), known) > 1e-3


def test_whole_batches_with_batch_norm_discard_with_the_same_bits() -> None:
    model = network(batch_norm=True)
    known = gradients(model, discarding())
    with gradient.recompute_units(model, True):  # as with micro_batch_norm=whole
        found = gradients(model, discarding(), micro_batch=10)
    assert all(torch.equal(found[name], known[name]) for name in known)


class Dropping(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(784), nn.Dropout(0.5), nn.Linear(784, 10)).double()

    def forward(self, inputs: Tensor) -> Tensor:
        return self.net(inputs)


@pytest.mark.parametrize("fault", ["none", "kept", "_untracked"])
def test_the_pass_that_ranks_draws_the_same_masks_and_leaves_no_trace(
    fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if fault != "none":
        monkeypatch.setattr(seeds if fault == "kept" else gradient, fault, lambda *_: nullcontext())
    seen, losses = [], Classification.losses

    def noted(task: Classification, outputs: Tensor, batch: Batch) -> Tensor:
        seen.append(losses(task, outputs, batch).detach())
        return losses(task, outputs, batch)

    monkeypatch.setattr(Classification, "losses", noted)
    model = Dropping()
    backward(model, images(), BATCH, settings(micro_batch=10, micro_batch_norm="ghost"), discarding=discarding())
    first, second = torch.cat(seen[:4]), torch.cat(seen[4:])
    assert torch.equal(first, second) == (fault != "kept")
    assert (int(model.net[1].num_batches_tracked) == 4) == (fault != "_untracked")


# --- runs -------------------------------------------------------------------------------------------------------------


def test_a_share_of_zero_has_the_bits_of_plain_training() -> None:
    plain = ended()
    assert not differ(ended(discard=DiscardSettings(0.0, None, "small_loss", "kept")), plain)
    assert differ(ended(discard=DiscardSettings(0.01, None, "small_loss", "kept")), plain)  # one image of each batch


@pytest.mark.parametrize(("epochs", "discarded"), [(None, 24), (2, 8), (6, 24), (100, 24)])
def test_samples_are_discarded_in_the_first_epochs(
    epochs: int | None, discarded: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, shares = [], Discarding.shares
    monkeypatch.setattr(Discarding, "shares", lambda *given: calls.append(given) or shares(*given))
    runs.run(runs.network(), discard=DiscardSettings(SHARE, epochs, "small_loss", "kept"))
    assert len(calls) == discarded  # of 24 updates, 4 an epoch


@pytest.mark.parametrize("stream", ["nothing", "discard"])
@pytest.mark.parametrize("updates", [2, 4, 9])
def test_a_stopped_run_that_discards_at_random_goes_on_with_the_same_bits(
    tmp_path: Path, updates: int, stream: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {"discard": DiscardSettings(SHARE, 3, "random", "kept")}
    known, checkpoint = ended(**own), stopped(tmp_path / "checkpoint", updates, **own)
    named = seeds.stream_seed
    monkeypatch.setattr(seeds, "stream_seed", lambda *names: named(*names, *(["other"] if stream in names else [])))
    assert differ(ended(checkpoint, **own), known) == (stream == "discard")


def test_random_choices_differ_from_epoch_to_epoch() -> None:
    made = discarding("random")
    losses, weights = torch.zeros(37), torch.ones(37)
    first = made.shares(losses, weights, BATCH, ALONE)
    made.redraw(seeds.generator("test", 2))
    assert not torch.equal(made.shares(losses, weights, BATCH, ALONE), first)
    assert int((first == 0).sum()) == 12  # 0.3 of 37, rounded up


def test_the_observer_of_losses_sees_the_whole_batch() -> None:
    found = [
        runs.run(runs.network(), observers=("losses",), discard=discard).observed[0]
        for discard in (None, DiscardSettings(0.9, None, "small_loss", "kept"))
    ]
    assert found[0] == found[1]


# --- what could go wrong ----------------------------------------------------------------------------------------------


def test_a_loss_that_is_no_number_is_not_hidden() -> None:
    losses = torch.full((37,), 2.0)
    losses[5] = torch.nan
    for by in ("small_loss", "large_loss", *OF_CLASSES[1:]):
        assert discarding(by, share=0.9).shares(losses, torch.ones(37), BATCH, ALONE)[5] > 0


def test_an_infinite_loss_that_is_discarded_leaves_the_others() -> None:
    losses = torch.full((37,), 2.0, requires_grad=True)
    with torch.no_grad():
        losses[5] = torch.inf
    shares = discarding("large_loss").shares(losses, torch.ones(37), BATCH, ALONE)
    total = gradient._weighted_sum(losses, shares)
    total.backward()
    assert float(total.detach()) == pytest.approx(2.0)
    assert losses.grad is not None
    assert int((losses.grad == 0).sum()) == 12
    assert bool(losses.grad.isfinite().all())


def test_a_run_that_diverges_is_recorded_so() -> None:
    result = runs.run(runs.network(), lr_start=1e300, lr_end=1e300, discard=runs.DISCARD)
    assert result.status == "diverged"


@pytest.mark.parametrize("by", CHOICES)
@pytest.mark.parametrize("count", [1, 2, 9])
def test_some_sample_of_a_small_batch_stays(by: str, count: int) -> None:
    index = BATCH[:count]
    shares = discarding(by, share=0.99).shares(torch.ones(count), torch.ones(count), index, ALONE)
    assert float(shares.sum()) == pytest.approx(1.0)
    if by != "within_class":  # where one of each class stays
        assert int((shares > 0).sum()) == 1


class NoClasses(Classification.__base__):
    """A task that is no classification."""

    batch = losses = errors = error = None


def test_classes_are_needed_for_the_choices_by_class() -> None:
    for by in CHOICES:
        own = DiscardSettings(SHARE, None, by, "kept")
        check_discarding(own, CLASSIFICATION)
        if by in OF_CLASSES:
            with pytest.raises(
                InputError, match=f"train.discard.by={by} needs the class of each sample, and NoClasses"
            ):
                check_discarding(own, NoClasses())
        else:
            check_discarding(own, NoClasses())


@pytest.mark.parametrize(
    ("values", "hint"),
    [
        ((1.0, None, "random", "kept"), "train.discard.share must be at least 0 and below 1, got 1.0"),
        ((-0.1, None, "random", "kept"), "train.discard.share"),
        ((float("nan"), None, "random", "kept"), "train.discard.share"),
        ((0.3, 0, "random", "kept"), "train.discard.epochs must be at least 1, got 0"),
        ((0.3, None, "loss", "kept"), "train.discard.by must be one of small_loss, large_loss, random"),
        ((0.3, None, "random", "all"), "train.discard.mean must be one of kept, batch"),
    ],
)
def test_settings_that_mean_nothing_raise(values: tuple, hint: str) -> None:
    with pytest.raises(InputError, match=hint):
        DiscardSettings(*values)


@pytest.mark.parametrize("by", CHOICES)
def test_no_shape_depends_on_a_value_so_that_a_cuda_graph_can_hold_it(by: str) -> None:
    with FakeTensorMode(allow_non_fake_inputs=True):
        shares = discarding(by).shares(torch.ones(37), torch.ones(37), torch.ones(37, dtype=torch.int64), ALONE)
        assert shares.shape == (37,)
        with pytest.raises(DataDependentOutputException):
            float(shares.sum())
