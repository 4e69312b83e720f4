"""Which stages a study runs, from the measures that it lists. DVC and `gapscope compose` let Hydra import this."""

from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from gapscope.errors import InputError

DECLARED = Path(__file__).parents[1] / "conf/config.yaml"
DERIVED = ("pipelines", "records")  # groups of params that follow from `measures`
TRAINED = ("evaluation", "warm_start")  # measures that train networks
RECORDS = {"evaluation": "train", "warm_start": "warmstart", "random_matrices": "random_matrices"}  # in metrics/STUDY


def asked(*names: str, _root_: DictConfig) -> ListConfig:
    """Return the study's name in a list if it lists one of the measures, else an empty list: a stage's matrix."""
    listed: Any = _root_.measures
    return ListConfig([str(_root_.study)] if set(names) & set(listed) else [])


def measured(name: str, place: str, *, _root_: DictConfig) -> str:
    """Return the place of a measure's records, or that of another measure's if the study does not list it.

    A stage cannot depend on a folder that does not exist, and a dependency that is listed twice counts once.
    """
    listed: Any = _root_.measures
    return place if name in listed else next((RECORDS[one] for one in RECORDS if one in listed), "params.yaml")


def verdicts(*, _root_: DictConfig) -> str:
    """Return where in metrics/ the study's verdicts are; its own folder, which exists anyway, if it tests no claims."""
    return f"claims/{_root_.study}.csv" if asked(*TRAINED, _root_=_root_) else str(_root_.study)


def refuse_set(*, _root_: DictConfig) -> str:
    """Refuse a study or a command line that has set a param that follows from `measures`; else return a constant."""
    own: dict[str, Any] = {"study": _root_.study, "measures": _root_.measures}
    derived: Any = OmegaConf.create(own | _declared())
    for group in DERIVED:
        for name, value in derived[group].items():
            if _root_[group].get(name) != value:
                raise InputError(f"{group}.{name} follows from measures and cannot be set; change measures instead")
    return "derived"


@cache
def _declared() -> dict[str, Any]:
    """Return the derived groups as they are declared; `gapscope studies` composes all studies in one process."""
    declared: Any = OmegaConf.load(DECLARED)
    return {group: declared[group] for group in DERIVED}


OmegaConf.register_new_resolver("gapscope.asked", asked, replace=True)
OmegaConf.register_new_resolver("gapscope.verdicts", verdicts, replace=True)
OmegaConf.register_new_resolver("gapscope.measured", measured, replace=True)
OmegaConf.register_new_resolver("gapscope.refuse_set", refuse_set, replace=True)
