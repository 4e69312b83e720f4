"""The exceptions that become one line and a non-zero exit: input that a user can mend, and a signal to stop."""

from collections.abc import Iterable
from difflib import get_close_matches


class InputError(ValueError):
    """What was wrong, the value, and the remedy, in one line."""


class StoppedError(RuntimeError):
    """A signal asked a run to stop, and it has: in one line, what is kept."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a hint that names the nearest of the known names, else all of them."""
    names = sorted(known)
    near = get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names)}"
