"""One stage on a bare machine: its command, and then its mark.

Usage: python -m gapscope.engine.half_hour.stage JOB, a JSON object with the keys of `Job`, in the folder that holds the
stage's params.yaml.
"""

import json
import shlex
import shutil
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from gapscope.config import build, revision
from gapscope.engine.half_hour.marks import digest, mark_of
from gapscope.records.closure import closure_hash
from gapscope.records.tables import write_record

INTERRUPTED = 130  # exit status after SIGINT


@dataclass(frozen=True)
class Job:
    """What to run; the fields are those of `Stage`, and the commit that the code is from."""

    addressing: str
    commit: str
    command: str
    outs: tuple[str, ...]
    scratch: tuple[str, ...]

    def text(self) -> str:
        """Return it as the argument of this script."""
        return json.dumps(asdict(self))


def main() -> int:
    """Run the stage and return its exit status."""
    for number in (signal.SIGINT, signal.SIGTERM):  # they reach the command too, whose end is this process's end
        signal.signal(number, lambda *_: None)
    job = build(Job, json.loads(sys.argv[1]), "job")
    python, *arguments = shlex.split(job.command)
    status = subprocess.run([sys.executable if python == "python" else python, *arguments], check=False).returncode
    name = job.addressing.partition("@")[0]
    is_stage = Path("stages", f"{name}.py").exists()
    stopped = status < 0 or status == INTERRUPTED
    if status and (is_stage or stopped):  # a check that fails is done: its output says why
        return 128 - status if status < 0 else status
    facts = {"code": closure_hash(name), "revision": revision(name)} if is_stage else {}
    outs = {out: digest(Path(out)) for out in job.outs}
    write_record(mark_of(job.addressing), {"commit": job.commit, "command": job.command, **facts, "outs": outs})
    for folder in job.scratch:
        shutil.rmtree(folder, ignore_errors=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
