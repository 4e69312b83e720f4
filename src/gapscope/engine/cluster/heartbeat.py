"""The sign that a controller lives: a number in a file that changes every few seconds.

A worker compares what it reads now with what it read before, by its own clock. So the machines' clocks need not agree.
"""

import time
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread

BEAT_S = 3.0
DEAD_S = 25.0  # unchanged for so long: the controller has ended. With the time to save a state it is below a minute


class Heart:
    """Beats in a thread of its own until the block ends, and calls `each` at every beat."""

    def __init__(self, path: Path, each: Callable[[], None]) -> None:
        self._path, self._each, self._ended = path, each, Event()
        self._thread = Thread(target=self._beat, daemon=True)

    def __enter__(self) -> "Heart":
        self._path.write_text("0")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _beat(self) -> None:
        count = 0
        while not self._ended.wait(BEAT_S):
            count += 1
            self._path.write_text(str(count))  # in place: on NFS, opening a changed file shows the change
            self._each()


class Pulse:
    """Tells whether another machine's heart still beats."""

    def __init__(self, path: Path) -> None:
        self._path, self._last, self._since = path, _read(path), time.monotonic()

    def lost(self, after: float = DEAD_S) -> bool:
        """Return whether it has not beaten for `after` seconds, or its file is gone."""
        now = _read(self._path)
        if now != self._last:
            self._last, self._since = now, time.monotonic()
        return now is None or time.monotonic() - self._since > after


def beats(path: Path) -> bool:
    """Look for a few beats' time, and return whether the heart beats."""
    pulse, first = Pulse(path), _read(path)
    while not pulse.lost(4 * BEAT_S):
        if _read(path) != first:
            return True
        time.sleep(0.2)
    return False


def _read(path: Path) -> str | None:
    try:
        return path.read_text()
    except OSError:
        return None
