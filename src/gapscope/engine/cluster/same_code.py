"""Whether a worker runs the controller's code: the version of gapscope, and a hash of its files."""

import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).parents[2]
VERSION: str = sys.modules[PACKAGE.name].__version__


@dataclass(frozen=True)
class Code:
    """The gapscope that a Python imports.

    Attributes:
        version: of gapscope.
        digest: hash of its Python files.
        place: its folder.
    """

    version: str
    digest: str
    place: str

    @classmethod
    def imported(cls, package: Path = PACKAGE) -> "Code":
        """Return this process's own."""
        digest = hashlib.sha256()
        for path in sorted(package.rglob("*.py")):
            digest.update(f"{path.relative_to(package).as_posix()}\n".encode() + path.read_bytes())
        return cls(VERSION, digest.hexdigest()[:16], str(package))

    def difference(self, controller: "Code", host: str) -> str | None:
        """Return what a user must know if this is not the controller's code, in one line; None if it is."""
        if self.version != controller.version:
            return (
                f"the worker {host} has gapscope {self.version} (in {self.place}), the controller {controller.version} "
                f"(in {controller.place}); give both the same environment: `python` in the cluster's file names it"
            )
        if self.digest != controller.digest:
            return (
                f"the worker {host} has other code of gapscope (in {self.place}) than the controller (in "
                f"{controller.place}); give both the same files, and do not edit them while a study runs"
            )
        return None
