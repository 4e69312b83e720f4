"""The settings of a built-in optimiser, from `train.optimizer.settings`: by name, type and range."""

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from gapscope.config import build
from gapscope.errors import InputError

WHERE = "train.optimizer.settings"
T = TypeVar("T")


def own_settings(kind: type[T], values: Mapping[str, Any]) -> T:
    """Return an optimiser's settings: `kind` is a dataclass in which every field has a default.

    Raises:
        InputError: an unknown name, a value of another type, or what `kind` refuses.
    """
    known = {field.name: field.default for field in fields(kind)}  # type: ignore[arg-type]
    defaults = {name: list(value) if isinstance(value, tuple) else value for name, value in known.items()}
    return build(kind, {**defaults, **values}, WHERE)


def check_range(name: str, value: float, low: float, below: float = math.inf) -> None:
    """Raise InputError unless low <= value < below."""
    if not low <= value < below:
        raise InputError(f"{WHERE}.{name} must be a number in [{low:g}, {below:g}), got {value}")


def check_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    """Raise InputError unless the value is one of the known ones."""
    if value not in known:
        raise InputError(f"{WHERE}.{name} must be one of {', '.join(known)}, got {value!r}")
