"""Which stages a study runs, from the measures that it lists. DVC and `gapscope compose` let Hydra import this."""

from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

TRAINED = ("evaluation", "warm_start")  # measures that train networks; the records of each are there if it is listed
RECORDS = {"evaluation": "train", "warm_start": "warmstart", "random_matrices": "random_matrices"}


def asked(*names: str, _root_: DictConfig) -> ListConfig:
    """Return the study's name in a list if it lists one of the measures, else an empty list: a stage's matrix."""
    listed: Any = _root_.measures
    return ListConfig([str(_root_.study)] if set(names) & set(listed) else [])


def measured(name: str, place: str, *, _root_: DictConfig) -> str:
    """Return where the records of a measure lie, or those of another one if the study does not list it.

    A stage cannot depend on a folder that is not there, and a dependency that is listed twice counts once.
    """
    listed: Any = _root_.measures
    return place if name in listed else next((RECORDS[one] for one in RECORDS if one in listed), "params.yaml")


def verdicts(*, _root_: DictConfig) -> str:
    """Return where in metrics/ the study's verdicts are; its own folder, which exists anyway, if it tests no claims."""
    return f"claims/{_root_.study}.csv" if asked(*TRAINED, _root_=_root_) else str(_root_.study)


OmegaConf.register_new_resolver("gapscope.asked", asked, replace=True)
OmegaConf.register_new_resolver("gapscope.verdicts", verdicts, replace=True)
OmegaConf.register_new_resolver("gapscope.measured", measured, replace=True)
