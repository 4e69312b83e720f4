"""Two hosts on this machine, each a network namespace with a cable to it, which can be pulled.

A host reaches this machine as `HERE`, and by nothing but its cable.
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

HERE = "10.77.0.1"


class Cables:
    """The hosts 1 and 2."""

    def __init__(self) -> None:
        self._own = f"gs{os.getpid() % 10**6}"

    def _host(self, number: int) -> str:
        return f"{self._own}-{number}"

    def into(self, number: int) -> list[str]:
        """Return what to put before a command that runs on a host."""
        return ["nsenter", f"--net=/var/run/netns/{self._host(number)}"]

    def pull(self, number: int) -> None:
        _ip(f"link set {self._host(number)} down")

    def put_in(self, number: int) -> None:
        _ip(f"link set {self._host(number)} up")

    def lay(self) -> None:
        _ip(f"address add {HERE}/32 dev lo")
        for number in (1, 2):
            host, address = self._host(number), f"10.77.{number}"
            _ip(f"netns add {host}")
            _ip(f"link add {host} type veth peer name far netns {host}")
            _ip(f"address add {address}.1/24 dev {host}")
            _ip(f"link set {host} up")
            for command in (f"address add {address}.2/24 dev far", "link set far up", "link set lo up",
                            f"route add default via {address}.1"):  # fmt: skip
                _ip(f"-netns {host} {command}")

    def remove(self) -> None:
        for number in (1, 2):
            _ip(f"netns delete {self._host(number)}", fails=True)  # with its end of the cable, the other one goes
        _ip(f"address delete {HERE}/32 dev lo", fails=True)


def _ip(command: str, *, fails: bool = False) -> None:
    subprocess.run(["ip", *command.split()], capture_output=True, text=True, check=not fails)


@contextmanager
def cables() -> Iterator[Cables]:
    """Lay the cables.

    Raises:
        OSError, CalledProcessError: that is not allowed here.
    """
    found = Cables()
    try:
        found.lay()
        yield found
    finally:
        found.remove()
