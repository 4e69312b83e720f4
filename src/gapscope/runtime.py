"""What a stage script needs of the machine: device, threads, memory, progress, and errors of one line."""

import argparse
import ctypes
import errno
import math
import os
import platform
import shlex
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TypeVar

from tqdm import tqdm

from gapscope import lock_copy
from gapscope.errors import InputError, StoppedError, lacks_memory, reason, where_raised

T = TypeVar("T")
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # on the disk, in a quota, in one file
SAY_S = 3.0  # seconds between two lines of progress, at least
ARGUMENTS: dict[str, tuple[type, str]] = {  # that several stages have: type, what it is
    "data": (Path, ".npz of the download stage"),
    "model": (str, "one of the study's models"),
    "seed": (int, "root seed of the run"),
    "weights": (Path, ".safetensors of the train stage"),
}


@dataclass(frozen=True)
class RuntimeSettings:
    """Params of the group `runtime`: no number depends on them, so no stage does."""

    checkpoint_epochs: int
    launcher: str | None
    workers: int | None

    def __post_init__(self) -> None:
        for name in ("checkpoint_epochs", "workers"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise InputError(f"runtime.{name} must be at least 1, got {value}")
        try:
            empty = self.launcher is not None and not shlex.split(self.launcher)
        except ValueError as error:
            raise InputError(f"runtime.launcher is no command line ({error}): {self.launcher}") from error
        if empty:
            raise InputError("runtime.launcher is empty; name a command, or set it to null")


def pick_device() -> str:
    """Return `cuda` where there is a GPU, else `cpu`; the environment variable GAPSCOPE_DEVICE overrides the choice.

    Raises:
        InputError: the variable names no device of this machine.
    """
    import torch  # here, so that --help answers without the seconds that torch takes to import

    wanted = os.environ.get("GAPSCOPE_DEVICE")
    if wanted is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(wanted).type
    except RuntimeError:
        kind = "unknown"
    if kind not in ("cpu", "cuda"):
        raise InputError(f"GAPSCOPE_DEVICE must be cpu, cuda or cuda:N, got {wanted!r}")
    if kind == "cuda" and not torch.cuda.is_available():
        raise InputError(f"GAPSCOPE_DEVICE={wanted}, but torch finds no GPU here; unset it or use cpu")
    if kind == "cuda" and (torch.device(wanted).index or 0) >= torch.cuda.device_count():
        raise InputError(f"GAPSCOPE_DEVICE={wanted}, but torch finds {torch.cuda.device_count()} GPUs, from cuda:0 on")
    return wanted


def memory() -> int:
    """Return the bytes of memory that this machine has; a very large number where it does not say."""
    names = ("SC_PHYS_PAGES", "SC_PAGE_SIZE")
    return math.prod(map(os.sysconf, names)) if hasattr(os, "sysconf") else 2**62


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_threads(threads: int) -> None:
    """Fix torch's thread count (part of what determines a result's bits), and keep freed memory with the process."""
    import torch

    torch.set_num_threads(threads)
    _keep_freed_memory()
    if torch.cuda.is_available():
        _fix_gpu_arithmetic()


def _keep_freed_memory() -> None:
    # glibc returns big freed blocks to the system and faults them in again at every step: at batch 8192 a LeNet-5
    # epoch took two to three times as long. mallopt's names: M_TRIM_THRESHOLD -1, M_TOP_PAD -2, M_MMAP_THRESHOLD -3.
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        for option, value in ((-3, 1 << 30), (-1, (1 << 31) - 1), (-2, 1 << 28)):
            libc.mallopt(option, value)


def _fix_gpu_arithmetic() -> None:
    # the same sums in the same order in every run, and float32 where float32 is asked for, not TF32 of ten bits
    import torch

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it at its first call
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # it takes a kernel each


def describe_device(device: str) -> str:
    """Return the device's kind for the record of a run, e.g. `cpu (x86_64)` or `cuda (NVIDIA H200)`.

    Which one of several GPUs it was is left out: a run may go on on another.
    """
    import torch

    if device.startswith("cuda"):
        return f"cuda ({torch.cuda.get_device_name(device)})"
    return f"cpu ({platform.machine()})"


def progress(
    items: Iterable[T], label: str, total: int | None = None, *, facts: Callable[[], str] = str
) -> Iterator[T]:
    """Yield the items under a progress bar on a terminal; elsewhere print a plain line every few seconds.

    Args:
        items: what takes time is to make one of them.
        label: what they are items of.
        total: their number, if they do not know it.
        facts: what to say beside the count, such as the loss; asked after an item is made.
    """
    if sys.stderr.isatty():
        bar = tqdm(items, desc=label, total=total, leave=False)
        for item in bar:
            bar.set_postfix_str(facts())
            yield item
        return
    count = total if total is not None else len(items) if isinstance(items, Sized) else 0
    said = time.monotonic()
    for index, item in enumerate(items, 1):
        yield item
        if index == count or time.monotonic() - said >= SAY_S:
            said = time.monotonic()
            print(", ".join(filter(None, (f"{label}: {index}/{count}", facts()))), flush=True)


@contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """Yield a function that says whether SIGINT or SIGTERM has come; a second SIGINT stops at once, as ever."""
    asked = False

    def note(number: int, _frame: object) -> None:
        nonlocal asked
        if asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked = True

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def check_disk(folder: Path, needed_bytes: int) -> str:
    """Return how much disk is needed and free, in words.

    Raises:
        InputError: less is free than is needed.
    """
    free = shutil.disk_usage(folder).free
    line = f"needs {needed_bytes / 1e9:.1f} GB of disk, {free / 1e9:.1f} GB free"
    if free < needed_bytes:
        raise InputError(f"not enough disk: the study {line}; free some, or measure fewer or smaller cells")
    return line


def arguments(about: str | None, *shared: str, **own: tuple[type, str]) -> argparse.Namespace:
    """Return the arguments of a stage's script; all of them are required.

    Args:
        about: the script's docstring, for `--help`.
        shared: names in `ARGUMENTS`.
        own: further names, each with its type and what it is.
    """
    parser = argparse.ArgumentParser(description=about)
    for name, (kind, meaning) in ({name: ARGUMENTS[name] for name in shared} | own).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, required=True, help=meaning)
    return parser.parse_args()


def run_stage(main: Callable[[], None]) -> None:
    """Call a stage's main as `run_command` does, after a copy of dvc.lock is kept."""

    def keep_and_run() -> None:
        lock_copy.keep()
        main()

    run_command(keep_and_run)


def run_command(main: Callable[[], object]) -> None:
    """Call a main; an error that the user can correct ends as one line on stderr and exit status 2.

    Any other exception keeps its traceback, below a line that says whose code raised it.
    """
    name = Path(sys.argv[0]).stem
    try:
        main()
    except StoppedError as stopped:
        print(f"{name}: {stopped}", file=sys.stderr)
        sys.exit(130)
    except InputError as error:
        _end(name, str(error))
    except (Exception, SystemExit) as error:
        if lacks_memory(error):
            _end(name, f"not enough memory ({reason(error)}); take fewer images at a time (micro_batch, forward_batch, "
                 "eval_batch, train.batch.micro_batch), or a smaller network")  # fmt: skip
        if place := where_raised(error):  # before all else: also a file that their code does not find is theirs
            _end(name, f"your own code raised {type(error).__name__} in {place}:", error)
        if isinstance(error, SystemExit):
            raise
        if isinstance(error, OSError):
            full = "; make room and run it again: nothing half-written is left" if error.errno in NO_ROOM else ""
            _end(name, f"{error}{full}")
        _end(
            name,
            f"an error of gapscope, or of a library that it uses ({type(error).__name__}); please report it:",
            error,
        )


def _end(name: str, line: str, error: BaseException | None = None) -> NoReturn:
    """Print a line, and the traceback of an error that is not the input's; end with status 2, or 1."""
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in " ".join(line.split()))  # no terminal's commands
    print(f"{name}: {shown}", file=sys.stderr)
    if error is not None:
        traceback.print_exception(error)
    sys.exit(1 if error is not None else 2)
