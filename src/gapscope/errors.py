"""The exceptions that become one line and a non-zero exit: input that a user can mend, and a signal to stop.

`reading` is the one place that turns what goes wrong with a file into such a line.
"""

import sys
import sysconfig
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path

LONGEST = 300  # characters of a library's message
# in messages of PyTorch on a CPU, C++, cuBLAS, pandas and Python
NO_MEMORY = (
    "can't allocate memory", "std::bad_alloc", "STATUS_ALLOC_FAILED", "out of memory", "can't start new thread",
)  # fmt: skip
OURS = (str(Path(__file__).parent), sys.prefix, sys.base_prefix, *sysconfig.get_paths().values())


class InputError(ValueError):
    """What was wrong, the value, and the remedy, in one line."""


class StoppedError(RuntimeError):
    """A signal asked a run to stop, and it has: in one line, what is kept."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a hint that names the nearest of the known names, else all of them."""
    names = sorted(known)
    near = get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names)}"


@contextmanager
def reading(path: Path, what: str, remedy: str, missing: str | None = None) -> Iterator[None]:
    """Turn every exception within the block, which reads a file, into an InputError.

    Args:
        path: the file, or folder.
        what: what it should be, such as "a complete JSON record".
        remedy: what to do about a file that is damaged.
        missing: what to do about a file that is missing; None: the same.
    """
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):  # to open a pipe would wait for ever
            raise InputError(f"{path} is no regular file; {remedy}")
        yield
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing; {missing or remedy}") from error
    except Exception as error:
        if lacks_memory(error):
            raise InputError(
                f"{path} does not fit into memory, or is damaged and says that it is larger; if there is memory enough "
                f"for it, {remedy}"
            ) from error
        raise InputError(f"{path} is not {what} ({reason(error)}); {remedy}") from error


def lacks_memory(error: BaseException) -> bool:
    """Whether an exception says that there is not enough memory; libraries have classes and words of their own."""
    said = str(error)
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or any(sign in said for sign in NO_MEMORY)


def reason(error: BaseException) -> str:
    """Return a library's message on one line; its advice to load Python objects is not passed on."""
    said = " ".join(str(error).split())
    if "pickle" in said:
        return "it holds Python objects, which are never loaded"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, KeyError):
        return f"it lacks {said}"
    said = said if len(said) <= LONGEST else f"{said[:LONGEST]} ..."
    return said or type(error).__name__


def where_raised(error: BaseException) -> str | None:
    """Return the innermost line of a user's own code that an exception passed through; None if there is none.

    Their code is a file outside gapscope, outside installed packages and Python, and not the script that runs.
    """
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    lines = [line for _, line in traceback.walk_tb(error.__traceback__)]
    for frame, line in zip(reversed(frames), reversed(lines), strict=True):
        path = frame.f_code.co_filename
        script = frame.f_globals.get("__name__") == "__main__"
        if Path(path).is_file() and not script and not path.startswith(OURS) and "hydra_plugins" not in path:
            return f"{Path(path).name}, line {line}"
    return None
