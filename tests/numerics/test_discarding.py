"""Which samples are discarded, by each choice."""

import pytest
import torch

from gapscope.numerics.discarding import CHOICES, PARTS, Order, discard_parts, kept

DRAW = torch.Generator().manual_seed(0)
LABELS = torch.randint(0, 3, (200,), generator=DRAW)
LOSSES = torch.rand(200, generator=DRAW) + LABELS  # each class has losses of its own


def parts() -> dict[str, torch.Tensor]:
    return discard_parts(LOSSES, LABELS, torch.Generator().manual_seed(1))


def classes(kept: torch.Tensor) -> list[int]:
    return torch.bincount(LABELS[kept], minlength=3).tolist()


def test_every_choice_has_ten_parts_and_those_of_the_whole_batch_are_equal() -> None:
    found = parts()
    assert tuple(found) == CHOICES
    for choice in ("small_loss", "large_loss", "random", "class_mix"):
        assert torch.bincount(found[choice]).tolist() == [20] * PARTS
    assert torch.bincount(found["within_class"]).sub(20).abs().max() <= 3  # of each class a tenth, rounded


@pytest.mark.parametrize("discarded", range(1, PARTS))
def test_the_smallest_losses_go_first_and_the_controls_keep_what_they_say(discarded: int) -> None:
    kept = {choice: of >= discarded for choice, of in parts().items()}
    small = LOSSES.argsort()[: 20 * discarded]
    assert not kept["small_loss"][small].any()
    assert not kept["large_loss"][LOSSES.argsort(descending=True)[: 20 * discarded]].any()
    assert classes(kept["class_mix"]) == classes(kept["small_loss"])
    assert not torch.equal(kept["class_mix"], kept["small_loss"])
    for label in range(3):
        own = label == LABELS
        gone = LOSSES[own & ~kept["within_class"]]
        assert len(gone) == -(-int(own.sum()) * discarded // PARTS)
        assert gone.max() <= LOSSES[own & kept["within_class"]].min()


@pytest.mark.parametrize(
    ("share", "left"), [(0.05, 19), (0.3, 14), (0.31, 13), (0.7, 6), (0.9, 2), (0.96, 1), (0.99, 1)]
)
def test_the_number_discarded_is_rounded_up_and_one_stays(share: float, left: int) -> None:
    ranks = torch.arange(20)
    assert kept(Order(ranks, 20), share).tolist() == [False] * (20 - left) + [True] * left


def test_a_random_choice_has_another_class_mix_than_the_losses() -> None:
    kept = {choice: of >= 5 for choice, of in parts().items()}
    assert classes(kept["random"]) != classes(kept["small_loss"])
    assert classes(kept["small_loss"])[0] == 0  # the class of small losses is gone


def test_equal_losses_are_discarded_in_their_order() -> None:
    found = discard_parts(torch.zeros(20), torch.zeros(20, dtype=torch.int64), DRAW)["small_loss"]
    assert found.tolist() == [k // 2 for k in range(20)]
