"""Import paths that stood as names of models in 0.1, and the plain names that stand for them in 0.2.

Windows allows no `:` in a file name, and 333 tracked paths held one. The names are replaced in paths, in names of lock
entries and in records. The import paths themselves go into `code.models`.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

NAMES = {"examples.nets:Net": "net"}  # import path -> plain name
_OLD = re.compile("|".join(re.escape(old) for old in NAMES))


def plain(text: str) -> str:
    """Return a text with plain names in place of import paths: a path, a lock entry's name, a record, a table.

    A width stays behind its name.

    Example:
        >>> plain("metrics/example_wide/train/examples.nets:Net_w0.5-noisy_digits-b16-s0.csv")
        'metrics/example_wide/train/net_w0.5-noisy_digits-b16-s0.csv'
    """
    return _OLD.sub(lambda match: NAMES[match[0]], text)


def plain_models(models: Sequence[str]) -> dict[str, list[str]]:
    """Return the param `models` with plain names in place of import paths."""
    return {"models": [plain(name) for name in models]}


def sources(entry: Mapping[str, Any]) -> dict[str, str]:
    """Return what `code.models` must hold for a lock entry of 0.1: the networks of the example studies, or none.

    Args:
        entry: with its command, dependencies and params.
    """
    return {name: old for old, name in NAMES.items() if old in str(dict(entry))}


def plain_files(stage: str, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the records of a lock entry with plain names in their contents; their paths are left to the migration."""
    return {path: plain(content.decode()).encode() for path, content in files.items()}


def unlike(stage: str, before: Mapping[str, bytes], after: Mapping[str, bytes]) -> list[str]:
    """Return the records that differ by more than their names: import paths put back must give the old bytes."""
    back = {name: old for old, name in NAMES.items()}
    named = re.compile(rf'"name": "({"|".join(map(re.escape, back))})(?=["_])')
    return [
        f"{path}: more than names of models"
        for path, content in before.items()
        if content not in (after[path], named.sub(lambda m: f'"name": "{back[m[1]]}', after[path].decode()).encode())
    ]
