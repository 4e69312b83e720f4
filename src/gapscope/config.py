"""The only reader of params: `params.yaml` -> the study's lists, and each stage's own frozen dataclass.

A stage's settings class lives with that stage's module, so that a new setting of one stage changes no dependency of
another. Which top-level names exist is declared in `conf/config.yaml` alone.
"""

import dataclasses
import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from gapscope import noops
from gapscope.errors import InputError, did_you_mean, reading
from gapscope.names import check_names
from gapscope.renamed import refuse_old

PARAMS = Path("params.yaml")
REVISIONS = Path("revisions.yaml")
DECLARED = Path("conf/config.yaml")

T = TypeVar("T")
LARGEST = 2**53  # whole numbers beyond it are no sizes or seeds
YAML_TAG = "tag:yaml.org,2002:"
OTHER_IN_YAML_1_2 = re.compile(r"^[-+]?0[0-9_]|:")  # 010, 1:30
MOST_VALUES = 100_000  # values in a params file: one with YAML aliases may expand to any number


@dataclasses.dataclass(frozen=True)
class Within:
    """The range of a number, for a settings class: `epochs: Annotated[int, Within(1, 100_000)]`.

    Attributes:
        least, most: the ends; None: no end but that of all numbers.
        above: whether the lower end itself is refused.
    """

    least: float | None = None
    most: float | None = None
    above: bool = False

    def check(self, value: Any, name: str) -> None:
        """Raise InputError for a number outside the range."""
        low = self.least is not None and (value <= self.least if self.above else value < self.least)
        if low or (self.most is not None and value > self.most):
            lower = "" if self.least is None else f"above {self.least:g}" if self.above else f"at least {self.least:g}"
            upper = "" if self.most is None else f"at most {self.most:g}"
            raise InputError(f"{name} must be {' and '.join(filter(None, (lower, upper)))}, got {value}")


@dataclasses.dataclass(frozen=True)
class OneOf:
    """The values that a text may have, for a settings class."""

    known: tuple[str, ...]

    def check(self, value: Any, name: str) -> None:
        """Raise InputError for another value."""
        if value not in self.known:
            raise InputError(f"{name} must be one of {', '.join(self.known)}, got {value!r}")


Count = Annotated[int, Within(1, 10_000_000)]  # of images, repetitions, points
Threads = Annotated[int, Within(1, 1024)]
Epochs = Annotated[int, Within(1, 100_000)]
Positive = Annotated[float, Within(0, above=True)]
AtLeastZero = Annotated[float, Within(0)]


@dataclasses.dataclass(frozen=True)
class Params:
    """A study: the lists that span its cells, and the settings of each stage."""

    study: str
    models: tuple[str, ...]
    datasets: tuple[str, ...]
    batch_sizes: tuple[Annotated[int, Within(1)], ...]
    batch_size: Annotated[int, Within(1)]
    seeds: tuple[int, ...]
    epochs: Epochs
    thresholds: tuple[AtLeastZero, ...]
    groups: dict[str, Any]

    def __post_init__(self) -> None:
        if not self.thresholds:
            raise InputError("thresholds is empty; give at least one")

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
        if not isinstance(values[key], dict) and any(name.startswith(f"{key}.") for name in known):
            raise InputError(f"{path}: param {key} must be a mapping of names to values, got {values[key]!r}")
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
    hints = get_type_hints(cls, include_extras=True)
    for key in values:
        if key not in hints:
            raise InputError(f"unknown param {_join(where, key)!r}; {did_you_mean(str(key), hints)}")
    for key in hints:
        if key not in values:
            raise InputError(f"missing param {_join(where, key)!r}; declare it in {DECLARED}")
    return cls(**{key: _convert(values[key], hint, _join(where, key)) for key, hint in hints.items()})


def _convert(value: Any, hint: Any, name: str) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        value = _convert(value, args[0], name)
        for limit in args[1:]:
            limit.check(value, name)
        return value
    if origin in (types.UnionType, Union):  # Annotated[...] | None is a Union
        return _convert(value, next((kind for kind in args if type(value) is kind), args[0]), name)
    if origin in (tuple, dict):
        return _convert_each(value, origin, args, name)
    if hint is Any:
        return value
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return build(hint, value, name)
    return _convert_one(value, hint, name)


def _convert_each(value: Any, origin: type, args: tuple[Any, ...], name: str) -> Any:
    if origin is tuple:
        if not isinstance(value, list):
            raise InputError(f"param {name} must be a list, got {value!r}")
        return tuple(_convert(item, args[0], name) for item in value)
    if not isinstance(value, dict):
        raise InputError(f"param {name} must be a mapping, got {value!r}; write {{}} for an empty one")
    return {_convert(key, args[0], name): _convert(item, args[1], _join(name, key)) for key, item in value.items()}


def _convert_one(value: Any, hint: Any, name: str) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST:
        value = float(value)
    if hint is float and isinstance(value, str):
        raise InputError(f"param {name} must be a number, got the text {value!r} (YAML wants 1.0e-4 for 1e-4)")
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise InputError(f"param {name} must be of type {hint.__name__}, got {value!r}")
    if hint in (int, float) and not abs(value) <= (LARGEST if hint is int else sys.float_info.max):
        raise InputError(f"param {name} must be a finite number of usual size, got {value}")
    return value


def _join(where: str, key: Any) -> str:
    return f"{where}.{key}" if where else str(key)


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping that a YAML file holds.

    Raises:
        InputError: no such file, no readable YAML, or no mapping.
    """
    with reading(
        path, "readable YAML", "mend it, or compose it anew", "run from the folder that holds it, or compose it"
    ):
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # it is a safe one
        if not isinstance(values, dict):
            raise InputError(f"{path} must hold a mapping of names to values")
        _check_number_of_values(path, values)
        return values


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which refuses what may mean something else than it seems.

    A name that stands twice in a mapping: the first would be ignored. Merge keys. Numbers such as 010 and 1:30, which
    PyYAML reads by YAML 1.1 as 8 and 90, and DVC by YAML 1.2 as others.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        if any(key.tag == f"{YAML_TAG}merge" for key, _ in node.value):
            raise _refusal("merge keys (<<) are not taken: write the values out", node)
        names = [self.construct_object(key, deep=True) for key, _ in node.value]  # type: ignore[no-untyped-call]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise _refusal(f"{twice!r} stands there twice", node)
        return super().construct_mapping(node, deep)

    def construct_number(self, node: yaml.ScalarNode) -> Any:
        if OTHER_IN_YAML_1_2.search(node.value):
            raise _refusal(f"{node.value} is another number by YAML 1.1 than by 1.2: write it as a plain decimal", node)
        whole = node.tag == f"{YAML_TAG}int"
        return (self.construct_yaml_int if whole else self.construct_yaml_float)(node)  # type: ignore[no-untyped-call]


for _tag in ("int", "float"):
    _Loader.add_constructor(f"{YAML_TAG}{_tag}", _Loader.construct_number)


def _refusal(what: str, node: yaml.Node) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, what, node.start_mark)


def _check_number_of_values(path: Path, values: Any) -> None:
    todo, count = [values], 0
    while todo:
        value = todo.pop()
        count += 1
        if count > MOST_VALUES:
            raise InputError(f"{path} holds more than {MOST_VALUES} values (through aliases?); write fewer")
        if isinstance(value, dict):
            todo += value.values()
        elif isinstance(value, list):
            todo += value
