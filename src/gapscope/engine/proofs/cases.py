"""The cases of code proofs: small studies that together run every stage with every kind of network and setting.

`verified/cases.yaml` lists them, each as a study of conf/ with overrides. Each version of the code composes them from
its own conf/. An override of a renamed param has several spellings, the newest first, and a version takes the first
spelling whose params it declares. A spelling may be several overrides with ` & ` between them. It may also begin with
another param that must be declared: `runtime? sharpness.batch_norm=batch`.
"""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from gapscope.errors import InputError, did_you_mean

CASES = Path("verified/cases.yaml")
IMAGES = Path("data/tiny.npz")  # the data set `tiny`, in a version's folder
_SPELLING = re.compile(r"(?:(?P<declared>[\w.]+)\? )?(?P<override>\S.*)")


@dataclass(frozen=True)
class Case:
    """One small study.

    Attributes:
        name: as in `verified/code.csv`.
        study: name of the study in conf/study.
        overrides: each a list of spellings, the newest first.
        stages: names of the stages to compare; empty: all stages of the study.
    """

    name: str
    study: str
    overrides: tuple[tuple[str, ...], ...]
    stages: tuple[str, ...] = ()

    def overrides_for(self, declared: Collection[str]) -> list[str]:
        """Return its overrides in the spelling of a version that declares these params.

        Raises:
            InputError: the version declares none of an override's spellings.
        """
        chosen = [override for spellings in self.overrides for override in spelled(spellings, declared)]
        return [f"study={self.study}", *chosen]


def spelled(spellings: tuple[str, ...], declared: Collection[str]) -> list[str]:
    """Return the first spelling of an override whose params are declared; a single spelling is not checked.

    Raises:
        InputError: the params of no spelling are declared.

    Example:
        >>> spelled(("train.optimizer.name=adam", "train.optimizer=adam"), {"train", "train.optimizer"})
        ['train.optimizer=adam']
    """
    for spelling in spellings:
        condition, overrides = _parts(spelling)
        needed = {condition} if condition else {_key(override) for override in overrides}
        if needed <= set(declared) or (len(spellings) == 1 and not condition):
            return overrides
    raise InputError(f"{CASES}: this version declares the params of no spelling of {' | '.join(spellings)}")


def is_declared(spellings: tuple[str, ...], declared: Collection[str]) -> bool:
    """Whether a version declares the params of one of an override's spellings."""
    return any({_key(override) for override in _parts(spelling)[1]} <= set(declared) for spelling in spellings)


def _parts(spelling: str) -> tuple[str | None, list[str]]:
    parts = _SPELLING.fullmatch(spelling)
    if parts is None:
        raise InputError(f"{CASES}: {spelling!r} is not an override")
    return parts["declared"], parts["override"].split(" & ")


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+~")


def read_cases(names: Collection[str] = (), path: Path = CASES) -> list[Case]:
    """Read the cases with these names, or all.

    Raises:
        InputError: an unknown name, or a case with unknown keys.
    """
    shared, cases = yaml.safe_load(path.read_text(encoding="utf-8")), list[Case]()
    for name, case in shared["cases"].items():
        if unknown := case.keys() - {"study", "with", "overrides", "stages"}:
            raise InputError(f"{path}: case {name} has unknown keys {', '.join(sorted(unknown))}")
        own = [*case.get("overrides", [])]
        for common in (case["with"], case["study"]) if "with" in case else (case["study"],):
            keys = {key for item in own for key in _oldest(item)}
            own += [item for item in shared["common"].get(common, []) if not _oldest(item) & keys]
        overrides = tuple(tuple(item) if isinstance(item, list) else (item,) for item in own)
        cases.append(Case(name, case["study"], overrides, tuple(case.get("stages", ()))))
    known = [case.name for case in cases]
    if unknown_names := sorted({*names} - {*known}):
        raise InputError(f"unknown case {unknown_names[0]!r}; {did_you_mean(unknown_names[0], known)}")
    return [case for case in cases if not names or case.name in names]


def by_stage(cases: Iterable[Case]) -> dict[str, list[str]]:
    """Return stage -> the names of the cases that compare it."""
    found: dict[str, list[str]] = {}
    for case in cases:
        for stage in case.stages:
            found.setdefault(stage, []).append(case.name)
    return found


def _oldest(item: Any) -> frozenset[str]:
    """Return the params of an override in its oldest spelling, by which two overrides of the same param are matched."""
    return frozenset(_key(override) for override in _parts(item[-1] if isinstance(item, list) else item)[1])


def write_images(path: Path) -> None:
    """Write the data set `tiny`: 96 training and 48 test images in colour, of ten classes with a bright spot each."""
    draw, arrays = np.random.default_rng(0), dict[str, np.ndarray]()
    for split, count in (("train", 96), ("test", 48)):
        labels = np.arange(count) % 10
        images = draw.normal(100.0, 40.0, (count, 32, 32, 3))
        images[np.arange(count), 3 * labels, 3 * labels] += 100.0
        images[:, 8:24, 8:24] += 6.0 * labels[:, None, None, None]
        arrays |= {f"x_{split}": images.clip(0, 255).round().astype(np.uint8), f"y_{split}": labels}
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)  # type: ignore[arg-type]
