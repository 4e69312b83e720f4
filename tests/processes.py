"""Processes that a test starts in order to kill them, or to train together.

They are forked from a server process that has imported torch once, so that starting one takes milliseconds where a new
interpreter takes seconds. The server has one thread; pytest's own process may have several, and is never forked.
"""

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["torch", "torch.distributed", "torchvision", "gapscope.training.loop"])
PATIENCE_S = 300  # a machine that runs several test suites is slow


class Forked:
    """A function that runs in a process of its own; what it prints is in `output`."""

    def __init__(self, output: Path, function: Callable[..., None], *arguments: Any, **environment: str) -> None:
        self.output = output
        output.write_text("")
        self.process = CONTEXT.Process(target=_run, args=(output, environment, function, arguments))
        self.process.start()

    def wait_for(self, seen: Callable[[], bool]) -> None:
        """Wait until `seen` holds; the process must not end before."""
        deadline = time.monotonic() + PATIENCE_S
        while not seen():
            assert self.process.is_alive() or seen(), self.output.read_text()
            assert time.monotonic() < deadline, self.output.read_text()
            time.sleep(0.002)

    def wait_for_output(self, text: str) -> None:
        self.wait_for(lambda: text in self.output.read_text())

    def send_signal(self, number: int) -> None:
        with suppress(ProcessLookupError):  # it has ended by itself
            os.kill(self.process.pid, number)

    def end(self) -> int:
        """Wait for its end, and return its exit status: minus the signal's number where a signal ended it."""
        self.process.join(PATIENCE_S)
        if self.process.exitcode is None:
            self.send_signal(signal.SIGKILL)
        return self.process.exitcode


def _run(output: Path, environment: dict[str, str], function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    os.environ.update(environment)
    with output.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
    function(*arguments)
