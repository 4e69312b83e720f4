"""Parts of a network by name: which of its trainable parameters belong to a module."""

from collections.abc import Iterable, Iterator

from torch import nn

from gapscope.errors import InputError, did_you_mean

EACH = "*"  # each module that has parameters of its own


def parameters_within(model: nn.Module, names: Iterable[str], asked_by: str) -> list[str]:
    """Return the names of the trainable parameters that have one of the names, or lie in a module of that name.

    A parameter that several modules share belongs to each of them, by its first name.

    Args:
        model: the network.
        names: of parameters as `named_parameters` gives them, or of modules ("encoder.layer1").
        asked_by: what gives the names, for the message.

    Raises:
        InputError: a name that is of no trainable parameter and of no module with one.
    """
    own = {parameter: name for name, parameter in model.named_parameters() if parameter.requires_grad}
    every = {name: own[p] for name, p in model.named_parameters(remove_duplicate=False) if p in own}
    for name in (names := list(names)):
        if not any(_is_within(one, name) for one in every):
            modules = {".".join(one.split(".")[:depth]) for one in every for depth in range(1, one.count(".") + 2)}
            raise InputError(f"{asked_by}: no trainable parameter or module {name!r}; {did_you_mean(name, modules)}")
    chosen = {first for one, first in every.items() if any(_is_within(one, name) for name in names)}
    return [name for name in own.values() if name in chosen]


def blocks(model: nn.Module, layers: Iterable[str], asked_by: str) -> dict[str, list[str]]:
    """Return the trainable parameters of each layer: name -> names.

    Args:
        model: the network.
        layers: names of modules or parameters. `EACH` stands for each module that has parameters of its own, in their
            order; where modules share all of them, for the first.
        asked_by: what gives the names, for messages.

    Raises:
        InputError: as `parameters_within`.
    """
    found: dict[str, list[str]] = {}
    for layer in layers:
        for name, within in _each(model) if layer == EACH else [(layer, [layer])]:
            parameters = parameters_within(model, within, asked_by)
            if layer != EACH or parameters not in found.values():
                found[name] = parameters
    return found


def _each(model: nn.Module) -> Iterator[tuple[str, list[str]]]:
    """Yield each module that has trainable parameters of its own, and their names; of the network itself, each one."""
    for name, module in model.named_modules():
        own = [own for own, p in module.named_parameters(prefix=name, recurse=False) if p.requires_grad]
        yield from [(name, own)] if name and own else [(parameter, [parameter]) for parameter in own]


def _is_within(parameter: str, name: str) -> bool:
    return parameter == name or parameter.startswith(f"{name}.")
