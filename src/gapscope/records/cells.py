"""A study's cells, each of which is one training run, and the paths of their files."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from gapscope.config import Params
from gapscope.errors import InputError

WIDENED = re.compile(r"(?P<name>[\w.-]+)_w(?P<width>\d+(\.\d+)?)", re.ASCII)  # lenet5_w2: lenet5, twice as wide


@dataclass(frozen=True)
class Cell:
    """One training run of a study."""

    study: str
    model: str
    dataset: str
    batch_size: int
    seed: int

    @property
    def name(self) -> str:
        """The file name of its records; dvc.yaml spells the same."""
        return f"{self.model}-{self.dataset}-b{self.batch_size}-s{self.seed}"

    def columns(self) -> dict[str, object]:
        """Return the columns that identify it in a table."""
        return {"model": self.model, "dataset": self.dataset, "batch_size": self.batch_size, "seed": self.seed}

    def run(self, stage: str) -> Path:
        """Path of its large output of a stage, without suffix; not in git."""
        return Path("data/runs") / self.study / stage / self.name

    def record(self, stage: str, suffix: str) -> Path:
        """Path of one of its records in git."""
        return Path("metrics") / self.study / stage / f"{self.name}{suffix}"


def seed_records(params: Params, stage: str, seeds: Iterable[int]) -> list[tuple[dict[str, Any], Path]]:
    """Return the records of a stage that has one record per model, data set and seed.

    Returns:
        For each record the columns that identify it, and its path without suffix.
    """
    folder = Path("metrics") / params.study / stage
    return [
        ({"model": model, "dataset": dataset, "seed": seed}, folder / f"{model}-{dataset}-s{seed}")
        for model, dataset, seed in product(params.models, params.datasets, dict.fromkeys(seeds))
    ]


def cells(params: Params) -> list[Cell]:
    """Return the study's cells in the order of its lists; a value that is listed twice gives one cell.

    Raises:
        InputError: a list is empty, as in a study that trains nothing.
    """
    for name in ("models", "datasets", "batch_sizes", "seeds"):
        if not getattr(params, name):
            raise InputError(f"{name} is empty; give at least one")
    models, datasets, sizes, seeds = (
        dict.fromkeys(params.models), dict.fromkeys(params.datasets), dict.fromkeys(params.batch_sizes),
        dict.fromkeys(params.seeds),
    )  # fmt: skip
    return [Cell(params.study, *values) for values in product(models, datasets, sizes, seeds)]
