"""Which names a study may use: dvc.yaml puts them into paths and shell commands, and DVC quotes nothing.

A name is letters, digits and `_`, and between them single `.` and `-`. So it holds no shell character, no blank, no
`/` and no `..`: a path that leaves the repository is an output that DVC would delete.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from gapscope.errors import InputError

LONGEST = 80  # of one name; the longest file name is made of two, and file systems end at 255
_NAME = r"[A-Za-z0-9_]+(?:[.-][A-Za-z0-9_]+)*"
NAME = re.compile(_NAME)
SOURCE = re.compile(rf"{_NAME}:{_NAME}")  # package.module:Class
FILE = re.compile(rf"{_NAME}(?:/{_NAME})*")  # within the repository
RESERVED = {"claims"}  # folders of metrics/ that belong to no study


def check_names(params: Mapping[str, Any]) -> None:
    """Refuse params whose names are unsafe in a path or a command; those that are absent are not looked at.

    Raises:
        InputError: a name that does not match its pattern, no whole number where one stands in a command, or a text
            with an interpolation.
    """
    for name, check in CHECKS.items():
        value, there = _value(params, name)
        if there:
            check(name, value)
    for name, value in _texts(params):
        if "${" in value:
            raise InputError(f"param {name} holds an interpolation, {value!r}; write the value itself")


def _one(pattern: re.Pattern[str], allowed: str) -> Callable[[str, Any], None]:
    def check(name: str, value: Any) -> None:
        if not isinstance(value, str):
            raise InputError(f"param {name} must be of type str, got {value!r}")
        if not pattern.fullmatch(value) or len(value) > LONGEST:
            raise InputError(f"param {name}: {value!r} is refused; {allowed}, of at most {LONGEST} characters")

    return check


def _each(check: Callable[[str, Any], None]) -> Callable[[str, Any], None]:
    def each(name: str, value: Any) -> None:
        if not isinstance(value, list):
            raise InputError(f"param {name} must be a list, got {value!r}")
        for item in value:
            check(name, item)

    return each


def _whole(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InputError(f"param {name} must be of type int, got {value!r}")


def _optional_whole(name: str, value: Any) -> None:
    if value is not None:
        _whole(name, value)


def _study(name: str, value: Any) -> None:
    _name(name, value)
    if value in RESERVED:
        raise InputError(f"param {name}: {value!r} is refused; metrics/{value} belongs to no study, take another name")


def _model(name: str, value: Any) -> None:
    if isinstance(value, str) and ":" in value:
        raise InputError(plain_name_for(value))
    _name(name, value)


def plain_name_for(path: str) -> str:
    """Return what to write where an import path is a model's name.

    Example:
        >>> plain_name_for("mine.nets:Net_w2")
        'a model has a plain name, not mine.nets:Net_w2; write models: [net_w2], code: {models: {net: "mine.nets:Net"}}'
    """
    module, _, attribute = path.partition(":")
    cls, width = re.fullmatch(r"(.*?)((?:_w[\d.]+)?)", attribute, re.DOTALL).groups()  # type: ignore[union-attr]
    name = cls.lower()
    return (
        f"a model has a plain name, not {path}; write models: [{name}{width}], "
        f'code: {{models: {{{name}: "{module}:{cls}"}}}}'
    )


def _sources(name: str, value: Any) -> None:
    for key, path in _mapping(name, value).items():
        _name(name, key)
        _one(SOURCE, "it is an import path, package.module:Class")(f"{name}.{key}", path)


def _pipelines(name: str, value: Any) -> None:
    for key, studies in _mapping(name, value).items():
        _each(_name)(f"{name}.{key}", studies)


def _paths(name: str, value: Any) -> None:
    for key, path in _mapping(name, value).items():
        _one(FILE, "it is a path: names joined by /")(f"{name}.{key}", path)


def _keys(name: str, value: Any) -> None:
    for key in _mapping(name, value):
        _name(name, key)


def _mapping(name: str, value: Any) -> Mapping[Any, Any]:
    if not isinstance(value, Mapping):
        raise InputError(f"param {name} must be a mapping, got {value!r}")
    return value


_BETWEEN = "a name is letters, digits and _, with single . or - between them"
_name = _one(NAME, _BETWEEN)
CHECKS: dict[str, Callable[[str, Any], None]] = {  # every param that dvc.yaml interpolates, and the names of data.files
    "study": _study,
    "models": _each(_model),
    "datasets": _each(_name),
    "batch_sizes": _each(_whole),
    "batch_size": _whole,
    "seeds": _each(_whole),
    "measures": _each(_name),
    "pipelines": _pipelines,
    "records": _paths,
    "controls.seeds": _each(_whole),
    "landscape.small": _optional_whole,
    "landscape.large": _optional_whole,
    "claims.reference": _name,
    "code.model": _one(FILE, "it is a path within the repository: names joined by /"),
    "code.models": _sources,
    "data.files": _keys,
    "data.shapes": _keys,
    "data.ranges": _keys,
    "data.lengths": _keys,
}


def _value(params: Any, name: str) -> tuple[Any, bool]:
    for part in name.split("."):
        if not isinstance(params, Mapping) or part not in params:
            return None, False
        params = params[part]
    return params, True


def _texts(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield every text among the params, and among their names, with its own name."""
    if isinstance(value, str):
        yield name, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(str(key), name)
            yield from _texts(item, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item, name)
