"""Leaves params at their no-op value out of params.yaml, wherever it is composed. DVC has Hydra import this module.

The last line of conf/config.yaml calls the resolver. Only the list in `gapscope.noops` decides what is left out.
"""

from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from gapscope import noops
from gapscope.errors import InputError


def leave_out(_checked: str = "", *, _root_: DictConfig) -> str:
    """Delete each param at its no-op value from the composed tree, and return a constant text."""
    groups = {
        name: OmegaConf.to_container(_root_[name], resolve=True)
        for name in noops.NOOPS
        if isinstance(_root_.get(name), DictConfig)
    }
    with open_dict(_root_):
        for name in noops.present(groups):
            *path, last = name.split(".")
            holder: Any = _root_
            for part in path:
                holder = holder[part]
            del holder[last]
    return "left out"


def refuse_environment(*names: str) -> str:
    """Refuse `${oc.env:NAME}`: a study does not depend on variables that its records do not name."""
    raise InputError(f"${{oc.env:{','.join(names)}}} is refused: params hold values, write the value itself")


OmegaConf.register_new_resolver("gapscope.leave_out", leave_out, replace=True)
OmegaConf.register_new_resolver("oc.env", refuse_environment, replace=True)
