"""Params that have a new name: one table, from the dotted name up to version 0.1 to the present one.

`load_params` and `gapscope compose` answer an old name with the new one. The migration of locks maps whole trees of
composed params with `renamed`.
"""

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from gapscope.errors import InputError

RENAMED: dict[str, tuple[str, ...]] = {
    "train.linear": ("train.linear_units", "train.average_pooling"),
    "train.optimizer": ("train.optimizer.name",),
    "train.momentum": ("train.optimizer.momentum",),
    "train.weight_decay": ("train.optimizer.weight_decay",),
    "train.decay": ("train.optimizer.decay",),
    "train.lr_start": ("train.schedule.lr_start",),
    "train.lr_end": ("train.schedule.lr_end",),
    "train.lr_shape": ("train.schedule.lr_shape",),
    "train.lr_scaling": ("train.schedule.lr_scaling",),
    "train.lr_reference_batch": ("train.schedule.lr_reference_batch",),
    "train.warmup_epochs": ("train.schedule.warmup_epochs",),
    "train.updates": ("train.schedule.updates",),
    "train.batch_schedule": ("train.schedule.batch_schedule",),
    "train.patience": ("train.schedule.patience",),
    "train.lr_candidates": ("train.tuning.lr_candidates",),
    "train.lr_sweep_epochs": ("train.tuning.lr_sweep_epochs",),
    "train.validation_images": ("train.tuning.validation_images",),
    "train.drop_last": ("train.batch.drop_last",),
    "train.micro_batch": ("train.batch.micro_batch",),
    "train.micro_batch_norm": ("train.batch.micro_batch_norm",),
    "train.precision": ("train.precision.compute",),
    "train.channels_last": ("train.precision.channels_last",),
    "train.cuda_graphs": ("train.precision.cuda_graphs",),
    "train.history_images": ("train.evaluation.history_images",),
    "train.history_rows": ("train.evaluation.history_rows",),
    "train.eval_batch": ("train.evaluation.eval_batch",),
    "train.checkpoint_epochs": ("runtime.checkpoint_epochs",),
    "train.launcher": ("runtime.launcher",),
    "random_matrices.workers": ("runtime.workers",),
    "activations.batch_norm": ("activations.batch_norm_statistics",),
    "sharpness.batch_norm": ("sharpness.batch_norm_statistics",),
    "curvature.batch_norm": ("curvature.batch_norm_statistics",),
    "landscape.batch_norm": ("landscape.batch_norm_statistics",),
}
# Values that changed with the name: old value -> a value for each new name. Others keep their value.
VALUES: dict[str, dict[Any, tuple[Any, ...]]] = {
    "train.linear": {False: (False, False), "units": (True, False), True: (True, True)},
    "activations.batch_norm": {"eval": ("running",), "train": ("batch",)},
}
MANY = 10  # old names in one file: it was composed by version 0.1


def renamed(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return a tree of params, whole or in part, under the present names; a tree that has them stays as it is.

    Example:
        >>> renamed({"train": {"linear": "units", "optimizer": "adam", "threads": 1}})
        {'train': {'threads': 1, 'linear_units': True, 'average_pooling': False, 'optimizer': {'name': 'adam'}}}
    """
    tree = copy.deepcopy(dict(params))
    old = list(_old(tree))
    for name, _ in old:
        group, _, key = name.rpartition(".")
        del tree[group][key]
    for name, value in old:
        for new, converted in zip(RENAMED[name], _converted(name, value), strict=True):
            *groups, key = new.split(".")
            place = tree
            for group in groups:
                place = place.setdefault(group, {})
            place[key] = converted
    return tree


def answer(name: str, value: Any = None) -> str | None:
    """Return in words what an old name is called now; None for a name that is in use.

    Args:
        name: dotted name of a param.
        value: what it is set to. `train.optimizer` and `train.precision` are groups now, and old only if set to text.
    """
    if name not in RENAMED or isinstance(value, Mapping):
        return None
    news = RENAMED[name]
    if name in VALUES and isinstance(value, bool | str) and value in VALUES[name]:
        news = tuple(f"{new}={str(to).lower()}" for new, to in zip(news, VALUES[name][value], strict=True))
        return f"{name}={str(value).lower()} is now {' with '.join(news)}"
    return f"{name} is now {' and '.join(news)}"


def refuse_old(params: Mapping[str, Any], where: str) -> None:
    """Raise InputError, with every new name, if a tree of params has old names."""
    answers = [said for name, value in _old(params) if (said := answer(name, value))]
    if len(answers) > MANY:
        raise InputError(
            f"{where} has {len(answers)} params under the names of version 0.1; compose it again (gapscope compose "
            f"study=NAME). The first: {'; '.join(answers[:2])}"
        )
    if answers:
        raise InputError(f"{where}: params have new names: {'; '.join(answers)}")


def _old(params: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the old names in a tree, with their values."""
    for name in RENAMED:
        group, _, key = name.rpartition(".")
        inside = params.get(group)
        if isinstance(inside, Mapping) and key in inside and not isinstance(inside[key], Mapping):
            yield name, inside[key]


def _converted(name: str, value: Any) -> tuple[Any, ...]:
    if name not in VALUES:
        return (value,)
    if not (isinstance(value, bool | str) and value in VALUES[name]):
        known = ", ".join(str(old).lower() for old in VALUES[name])
        raise InputError(f"{name} must be one of {known}, got {value!r}")
    return VALUES[name][value]
