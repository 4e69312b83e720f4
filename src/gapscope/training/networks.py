"""A study's own networks, built from its params alone.

The header of a weights file says what network it holds. It never chooses what is built or imported: it is compared with
what the study trains, and a difference is refused.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from gapscope import seeds
from gapscope.config import Params
from gapscope.data.datasets import Dataset
from gapscope.errors import InputError
from gapscope.models import CodeSettings, ModelSpec, build
from gapscope.records.tensors import difference
from gapscope.tasks import make_task
from gapscope.training.settings import TrainSettings


def study_spec(params: Params, name: str, image_shape: tuple[int, ...], classes: int) -> ModelSpec:
    """Return the spec of one of a study's models on a data set of this shape.

    Raises:
        InputError: the study's task cannot take so many classes.
    """
    train = params.section("train", TrainSettings)
    own = params.section("code", CodeSettings).models
    task = make_task(train.task)
    outputs, tokens = task.network_outputs(classes), task.targets == "tokens"
    return ModelSpec(name, image_shape, outputs, *train.switches, own, tokens)


def initial(spec: ModelSpec, seed: int) -> nn.Module:
    """Return a network with the initial weights of a seed, which all batch sizes share."""
    with seeds.seeded(seed, "initialisation"):
        return build(spec)


def checked_spec(params: Params, header: Mapping[str, Any], dataset: Dataset, weights: Path) -> ModelSpec:
    """Return the study's own spec of the network that a weights file says it holds.

    Args:
        params: of the study.
        header: of the weights file.
        dataset: that the network was trained on.
        weights: path of the file, for messages.

    Raises:
        InputError: the study has no such model, or another one by that name.
    """
    held: dict[str, Any] = header["model"] if isinstance(header.get("model"), dict) else {}
    name = held.get("name")
    if name is None or name not in params.models:
        known = ", ".join(params.models)
        raise InputError(
            f"{weights} holds the model {name!r}, which study {params.study} has not ({known}); train again"
        )
    spec = study_spec(params, name, dataset.image_shape, dataset.classes)
    own = json.loads(json.dumps(spec.to_header()))
    if differing := [key for key in {**own, **held} if held.get(key) != own.get(key)]:
        pairs = ", ".join(f"{key} {held.get(key)} (study: {own.get(key)})" for key in differing)
        raise InputError(f"{weights} holds another {name} than study {params.study}: {pairs}; train again")
    return spec


def restored(
    params: Params, state: Mapping[str, Tensor], header: Mapping[str, Any], dataset: Dataset, weights: Path
) -> nn.Module:
    """Return the study's network with the weights of a file; arguments and errors as of `checked_spec`."""
    return loaded(build(checked_spec(params, header, dataset, weights)), state, weights)


def loaded(model: nn.Module, state: Mapping[str, Tensor], weights: Path) -> nn.Module:
    """Return the model with the weights of a file.

    Raises:
        InputError: the file has other tensors, or some of another shape or type, which torch would cast.
    """
    if other := difference(state, model.state_dict()):
        raise InputError(f"{weights} holds other tensors than its network has ({other}); train again")
    model.load_state_dict(dict(state))
    return model
