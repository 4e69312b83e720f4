"""Objects by import path, `package.module:name`: a user's own network, task, optimiser or observer."""

import importlib
import sys
from pathlib import Path
from typing import Any

from gapscope.errors import InputError


def imported(path: str, what: str) -> Any:
    """Return the object at an import path; the current folder is searched too.

    Args:
        path: e.g. "torch.optim:AdamW".
        what: what it should be, for the message.

    Raises:
        InputError: there is no such module, or nothing of that name in it.
    """
    module, _, attribute = path.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # Python adds the folder of the script, not the study's
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise InputError(f"{what} {path!r} cannot be imported from {Path.cwd().name}/: {error}") from error
