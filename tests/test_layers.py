"""Parts of a network by name."""

import pytest
from torch import nn

from gapscope.errors import InputError
from gapscope.models.gpt import GPT
from gapscope.models.layers import blocks, parameters_within


class Small(nn.Module):
    """A frozen layer, one without a bias, and a parameter of the network itself."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(2, 2).requires_grad_(False), nn.Sequential(nn.Linear(2, 2), nn.Tanh())
        self.second10 = nn.Linear(2, 2, bias=False)
        self.scale = nn.Parameter(nn.init.ones_(self.second10.weight.new_empty(1)))


def test_a_module_has_the_parameters_below_it_and_no_others() -> None:
    model = Small()
    assert parameters_within(model, ["second"], "here") == ["second.0.weight", "second.0.bias"]
    assert parameters_within(model, ["scale", "second.0.bias"], "here") == ["scale", "second.0.bias"]
    assert blocks(model, ["second10", "second"], "here") == {
        "second10": ["second10.weight"],
        "second": ["second.0.weight", "second.0.bias"],
    }


def test_each_stands_for_the_modules_that_have_trainable_parameters_of_their_own() -> None:
    assert blocks(Small(), ["*"], "here") == {
        "scale": ["scale"],
        "second.0": ["second.0.weight", "second.0.bias"],
        "second10": ["second10.weight"],
    }


def test_a_shared_parameter_belongs_to_each_module_and_is_one_block() -> None:
    model = GPT((4,), 5, layers=1, units=4, heads=2, tied=False)
    assert model.head is not None
    model.head.weight = model.tokens.weight
    assert blocks(model, ["head"], "here") == {"head": ["tokens.weight"]}
    assert blocks(model, ["tokens", "head"], "here") == {"tokens": ["tokens.weight"], "head": ["tokens.weight"]}
    each = blocks(model, ["*"], "here")
    assert "head" not in each
    assert sorted(name for names in each.values() for name in names) == sorted(dict(model.named_parameters()))


@pytest.mark.parametrize("name", ["secnd", "first", "", "second.1"])
def test_a_name_without_trainable_parameters_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"curvature\.layers: no trainable .*second"):
        blocks(Small(), [name], "curvature.layers")
