"""A process between the runner and a stage's DVC: when the runner has ended, however it did, it ends the stage.

Usage: python watchdog.py SECONDS COMMAND... Its standard input is a pipe whose other end only the runner holds. The
system closes that end even if the runner was killed with SIGKILL. All processes of the stage then get SIGINT, on which
training saves its state. Those that remain after SECONDS are killed. A pipe works on every POSIX system; a
parent-death signal (prctl) is Linux only, and would reach DVC but not the stage that DVC has started.

The watchdog leads its process group, to which the command and all that it starts belong. The ranks of torchrun are
groups of their own; torchrun ends them.
"""

import os
import signal
import subprocess
import sys
from threading import Event, Thread


def main() -> int:
    """Run the command and return its exit status."""
    for number in (signal.SIGINT, signal.SIGTERM):  # these are for the command: only its end ends this process
        signal.signal(number, lambda *_: None)
    seconds, *command = sys.argv[1:]
    runner_ended = Event()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    Thread(target=end, args=(runner_ended, float(seconds), process), daemon=True).start()
    status = process.wait()
    if runner_ended.is_set():
        os.killpg(0, signal.SIGKILL)  # what the command has left, and this process
    return status if status >= 0 else 128 - status


def end(runner_ended: Event, seconds: float, process: "subprocess.Popen[bytes]") -> None:
    """Wait for the runner's end, and then end the command."""
    os.read(0, 1)  # nobody writes: it returns at the end of the pipe. sys.stdin would block this process at its end
    runner_ended.set()
    os.killpg(0, signal.SIGINT)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
