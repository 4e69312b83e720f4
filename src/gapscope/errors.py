"""The one exception for input that a user can mend: it becomes one line and a non-zero exit."""

from collections.abc import Iterable
from difflib import get_close_matches


class InputError(ValueError):
    """What was wrong, the value, and the remedy, in one line."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a hint that names the nearest of the known names, else all of them."""
    names = sorted(known)
    near = get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names)}."
