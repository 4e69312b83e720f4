"""Params at their no-op value, which are left out of params.yaml, so that adding such a param makes no result stale.

This is the only list of no-op values: the composition (hydra_plugins/gapscope_noops.py) leaves a key out at the value
pinned here, `gapscope.config.load_params` puts the same value back, and a checkpoint's identity leaves it out too. The
defaults in conf/ play no part. If they did, a new default would change results without making any of them stale.

A new param that is off by default takes an entry here, a line in conf/config.yaml and a field of its settings class. A
no-op value never changes afterwards. Top-level params, and params that dvc.yaml interpolates, cannot be listed.
"""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

NOOPS: dict[str, dict[str, Any]] = {  # group -> key, dotted where it is nested -> its no-op value
    "train": {
        "task": "classification",
        "linear_units": False,
        "average_pooling": False,
        "augment": False,
        "optimizer.settings": {},
        "schedule.lr_scaling": "none",
        "schedule.warmup_epochs": 0.0,
        "schedule.updates": None,
        "schedule.batch_schedule": [],
        "schedule.patience": None,
        "tuning.lr_candidates": [],
        "tuning.validation_images": 0,
        "batch.drop_last": False,
        "batch.micro_batch": None,
        "discard": None,
        "precision.channels_last": False,
        "observers": [],
    },
    "data": {"shapes": {}, "ranges": {}, "lengths": {}},
    "sharpness": {"converged_starts": 0},
    "curvature": {"layers": []},
    "claims": {"seen_seeds": []},
}


def is_noop(value: Any, noop: Any) -> bool:
    """Return whether a value is the no-op value: numbers by value, but False is not 0, and a tuple is a list.

    Example:
        >>> is_noop(0, 0.0), is_noop(False, 0), is_noop((), [])
        (True, False, True)
    """
    if isinstance(value, bool) or isinstance(noop, bool):
        return value is noop
    return bool((list(value) if isinstance(value, tuple) else value) == noop)


def present(groups: Mapping[str, Any]) -> list[str]:
    """Return the full names of the params that are present at their no-op value."""
    return [
        f"{group}.{key}"
        for group, noops in NOOPS.items()
        for key, noop in noops.items()
        if (holder := _holder(groups.get(group), key)) is not None
        and (name := _last(key)) in holder
        and is_noop(holder[name], noop)
    ]


def left_out(groups: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of groups of params without those at their no-op value."""
    kept = deepcopy(dict(groups))
    for name in present(kept):
        group, _, key = name.partition(".")
        del _holder(kept[group], key)[_last(key)]
    return kept


def put_back(groups: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of groups of params in which each absent key has its no-op value."""
    whole = deepcopy(dict(groups))
    for group, noops in NOOPS.items():
        for key, noop in noops.items():
            if (holder := _holder(whole.get(group), key)) is not None:
                holder.setdefault(_last(key), deepcopy(noop))
    return whole


def names() -> Iterator[str]:
    """Yield the full name of each param that has a no-op value."""
    yield from (f"{group}.{key}" for group, noops in NOOPS.items() for key in noops)


def _holder(group: Any, key: str) -> Any:
    """Return the mapping within a group that holds a dotted key; None where there is none."""
    for part in key.split(".")[:-1]:
        group = group.get(part) if hasattr(group, "get") else None
    return group if hasattr(group, "get") else None


def _last(key: str) -> str:
    return key.rpartition(".")[2]
