"""The only reader of params: `params.yaml` -> the study's lists, and each stage's own frozen dataclass.

A stage's settings class lives with that stage's module, so that a new setting of one stage changes no dependency of
another. Which top-level names exist is declared in `conf/config.yaml` alone.
"""

import dataclasses
import math
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import yaml

from gapscope import noops
from gapscope.errors import InputError, did_you_mean
from gapscope.names import check_names
from gapscope.renamed import refuse_old

PARAMS = Path("params.yaml")
REVISIONS = Path("revisions.yaml")
DECLARED = Path("conf/config.yaml")

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Params:
    """A study: the lists that span its cells, and the settings of each stage."""

    study: str
    models: tuple[str, ...]
    datasets: tuple[str, ...]
    batch_sizes: tuple[int, ...]
    batch_size: int
    seeds: tuple[int, ...]
    epochs: int
    thresholds: tuple[float, ...]
    groups: dict[str, Any]

    def __post_init__(self) -> None:
        if not self.thresholds:
            raise InputError("thresholds is empty; give at least one")
        for size in (*self.batch_sizes, self.batch_size):
            if size < 1:
                raise InputError(f"a batch size must be at least 1, got {size}")
        if self.epochs < 1:
            raise InputError(f"epochs must be at least 1, got {self.epochs}")
        for threshold in self.thresholds:
            if not (math.isfinite(threshold) and threshold >= 0):
                raise InputError(f"a threshold must be a finite number >= 0, got {threshold}")

    def section(self, name: str, settings: type[T]) -> T:
        """Return one stage's settings; every key is required and none is ignored."""
        if name not in self.groups:
            raise InputError(f"params have no group {name!r}; {did_you_mean(name, self.groups)}")
        return build(settings, self.groups[name], name)


def load_params(path: Path = PARAMS, declared: Path = DECLARED) -> Params:
    """Read a composed params file.

    Raises:
        InputError: an unknown or missing key, a value of the wrong type or out of range, an unsafe name, a key at its
            no-op value, or no readable YAML.
    """
    values = read_yaml(path)
    refuse_old(values, str(path))
    fixed = {field.name for field in dataclasses.fields(Params)} - {"groups"}
    # conf/config.yaml names every group, so that a stage can be added without touching this module (and all its users)
    known = fixed | declared_names(declared) if declared.exists() else fixed | set(values)
    for key in values:
        if key not in known:
            raise InputError(f"{path}: unknown param {key!r}; {did_you_mean(str(key), known)}")
    check_names(values)
    if present := noops.present(values):
        raise InputError(
            f"{path}: {', '.join(present)} at the value that changes nothing; take the key out, since written there it "
            "would make results stale (gapscope compose leaves it out)"
        )
    groups = noops.put_back({key: value for key, value in values.items() if key not in fixed})
    return build(
        Params,
        {**{k: v for k, v in values.items() if k in fixed}, "groups": groups},
        "",
    )


def revision(stage: str, path: Path = REVISIONS) -> int:
    """Return a stage's revision: the number that is raised when its code gives other numbers.

    Raises:
        InputError: the file has no whole number for the stage.
    """
    entry = read_yaml(path).get(stage)
    found = entry.get("revision") if isinstance(entry, dict) else None
    if isinstance(found, bool) or not isinstance(found, int):
        raise InputError(f"{path} holds no whole number {stage}.revision, got {found!r}")
    return found


def declared_names(declared: Path = DECLARED) -> set[str]:
    """Return the name of every param and group, those within a group as group.name."""
    return set(_names(read_yaml(declared))) - {"defaults"}


def _names(values: dict[str, Any], within: str = "") -> Iterator[str]:
    for key, value in values.items():
        name = _join(within, key)
        yield name
        if isinstance(value, dict):
            yield from _names(value, name)


def build(cls: type[T], values: Any, where: str) -> T:
    """Build a dataclass from a mapping, checking names and types."""
    if not isinstance(values, dict):
        raise InputError(f"param {where or 'file'} must be a mapping of names to values, got {values!r}")
    hints = get_type_hints(cls)
    for key in values:
        if key not in hints:
            raise InputError(f"unknown param {_join(where, key)!r}; {did_you_mean(str(key), hints)}")
    for key in hints:
        if key not in values:
            raise InputError(f"missing param {_join(where, key)!r}; declare it in {DECLARED}")
    return cls(**{key: _convert(values[key], hint, _join(where, key)) for key, hint in hints.items()})


def _convert(value: Any, hint: Any, name: str) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if origin is types.UnionType:
        hint = next((kind for kind in args if type(value) is kind), args[0])
        origin, args = get_origin(hint), get_args(hint)
    if origin is tuple:
        if not isinstance(value, list):
            raise InputError(f"param {name} must be a list, got {value!r}")
        return tuple(_convert(item, args[0], name) for item in value)
    if hint is Any:
        return value
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return build(hint, value, name)
    if origin is dict:
        if not isinstance(value, dict):
            raise InputError(f"param {name} must be a mapping, got {value!r}; write {{}} for an empty one")
        return {_convert(key, args[0], name): _convert(item, args[1], _join(name, key)) for key, item in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if hint is float and isinstance(value, str):
        raise InputError(f"param {name} must be a number, got the text {value!r} (YAML wants 1.0e-4 for 1e-4)")
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise InputError(f"param {name} must be of type {hint.__name__}, got {value!r}")
    return value


def _join(where: str, key: Any) -> str:
    return f"{where}.{key}" if where else str(key)


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping that a YAML file holds.

    Raises:
        InputError: no such file, no readable YAML, or no mapping.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError) as error:  # ValueError: no UTF-8, or a date that does not exist
        raise InputError(f"{path} is not readable YAML: {' '.join(str(error).split())}") from error
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing; run from the folder that holds it, or compose it") from error
    if not isinstance(values, dict):
        raise InputError(f"{path} must hold a mapping of names to values")
    return values
