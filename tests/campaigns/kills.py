"""Kill stages at random moments, run the pipeline again, and compare every output with that of an uninterrupted run.

By hand, with the project's environment, from the root of a clone: `python tests/campaigns/kills.py --kills 100`. It
works in a copy of the tracked files, on the study `smoke`. The counts go into `benchmarks/kills.md` after each kill.
With `--folder` that copy is kept, and the same command goes on with the campaign after a stop.

Each kill makes one stage stale and starts `dvc repro` or `gapscope run -j 2`. SIGKILL comes at one of three moments, in
turn. The first is a random moment of the stage; SIGKILL then goes to all processes, to the stage alone, or to DVC
alone. The second is a random moment of the second after the stage's end, when DVC hashes its outputs. The third is a
random moment while DVC writes `dvc.lock`.
"""

import argparse
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from gapscope import lock_copy
from gapscope.engine import locks
from gapscope.records.files import atomic_path

ROOT = Path(__file__).parents[2]
TIMES = ("wall_s", "epochs_s", "training_s", "commit")  # of provenance
MADE = re.compile(r'<caption id="table-made">.*?</table>', re.DOTALL)  # of a page: records by commit, with seconds
COMMANDS = {
    "dvc repro": ["dvc", "repro"],
    "gapscope run -j 2": ["gapscope", "run", "-j", "2"],
}
STAGE, END, LOCK = "in the stage", "after its end", "while dvc.lock is written"
MOMENTS = (STAGE, END, LOCK)
VICTIMS = ("all", "stage", "dvc")
STARTUP_S = 3.0  # of a stage's script
HASHING_S = 1.0  # DVC hashes the outputs of a stage within it
WRITING_S = 0.1  # DVC writes its lock within it, on an idle machine
STUCK_S = 600
POLL_S = 0.01
WATCH_S = 0.0005  # between two looks at the size of dvc.lock
PROGRESS = Path("data/kills.json")  # in the folder of the campaign: its counts so far


@dataclass
class Kill:
    """A kill to come.

    Attributes:
        name: of the stage.
        command: one of `COMMANDS`.
        moment: one of `MOMENTS`.
        victim: one of `VICTIMS`; all unless the moment is in the stage.
        fraction: of the seconds in which the kill comes.
    """

    name: str
    command: str
    moment: str
    victim: str
    fraction: float

    @property
    def kind(self) -> str:
        """The name of the stage's script."""
        return self.name.partition("@")[0]

    def __str__(self) -> str:
        return f"{self.name}, {self.command}, {self.victim} {self.moment}"


@dataclass
class Counts:
    """How many kills there were, and how they ended.

    Attributes:
        stages, commands, moments, victims: number of kills of each.
        seconds: how long each kind of stage ran when it was not killed; later kills are spread over that time.
        missed: commands that had ended before they were to be killed.
        cut: kills after which dvc.lock was cut off.
        git_locks: kills that left git's index.lock behind, from DVC telling git of its lock.
        identical, different: outcomes of the comparison.
        stuck: the second run failed or did not end.
        lost: outputs that the second run did not make.
        left: files of killed processes that were still there after the second run.
        notes: what went wrong, one line each.
    """

    stages: Counter[str] = field(default_factory=Counter)
    commands: Counter[str] = field(default_factory=Counter)
    moments: Counter[str] = field(default_factory=Counter)
    victims: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=dict)
    missed: int = 0
    cut: int = 0
    git_locks: int = 0
    identical: int = 0
    different: int = 0
    stuck: int = 0
    lost: int = 0
    left: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def killed(self) -> int:
        """The number of kills."""
        return sum(self.stages.values())

    @property
    def clean(self) -> bool:
        """Whether every kill ended as it should."""
        return self.identical == self.killed + self.missed and not self.left

    def add(self, kill: Kill) -> None:
        """Count a kill."""
        for counter, what in (
            (self.stages, kill.kind), (self.commands, kill.command), (self.moments, kill.moment),
            (self.victims, kill.victim),
        ):  # fmt: skip
            counter[what] += 1


def campaign(
    folder: Path, kills: int, seed: int, stages: list[str] | None = None, page: Callable[[Counts], None] | None = None
) -> Counts:
    """Kill and compare; go on where an earlier campaign in the folder stopped.

    Args:
        folder: a repository in which the study has run to its end; its results are changed for a while.
        kills: how many. The next one always goes to the kind of stage that has the fewest.
        seed: of all draws.
        stages: those to kill, by the names before the @; None: all.
        page: is given the counts after each kill.
    """
    counts, known = begin(folder)
    asked = of_study(folder)
    entries = {name: entry for name, entry in locks.read(folder / "dvc.lock").items() if name in asked}
    names = sorted(name for name in entries if stages is None or name.partition("@")[0] in stages)
    while counts.killed < kills and counts.missed < kills:
        kill = drawn(names, counts, random.Random(f"{seed}-{counts.killed + counts.missed}"))
        outs = [folder / out["path"] for out in entries[kill.name]["outs"]]
        longest_s = counts.seconds.get(kill.kind, STARTUP_S + seconds_of(outs))
        make_stale(folder, kill.name, outs)
        if killed(folder, kill, longest_s, counts.seconds):
            counts.add(kill)
        else:
            counts.missed += 1
        counts.cut += is_cut(folder)
        counts.git_locks += (folder / ".git/index.lock").exists()
        compare(folder, known, counts, kill)
        keep(folder, counts, known)
        print(f"[{counts.killed}/{kills}] {kill}: {counts.identical} identical", flush=True)
        if page:
            page(counts)
    return counts


def begin(folder: Path) -> tuple[Counts, dict[str, str]]:
    """Return the counts so far and the digests of an uninterrupted run's outputs; both are kept in `PROGRESS`."""
    path = folder / PROGRESS
    if not path.exists():
        return Counts(), outputs(folder)
    found = json.loads(path.read_text())
    for words in (["gapscope", "mend"], COMMANDS["gapscope run -j 2"]):  # the stop may have come within a kill
        subprocess.run(words, cwd=folder, check=True)
    counters = {name: Counter(found["counts"][name]) for name in ("stages", "commands", "moments", "victims")}
    return Counts(**found["counts"] | counters), found["known"]


def keep(folder: Path, counts: Counts, known: dict[str, str]) -> None:
    """Write the progress, for a later start."""
    with atomic_path(folder / PROGRESS) as temporary:
        temporary.write_text(json.dumps({"counts": vars(counts), "known": known}))


def drawn(names: list[str], counts: Counts, draw: random.Random) -> Kill:
    """Draw the next kill: of a kind of stage with the fewest kills so far, at the next of the moments."""
    kinds = sorted({name.partition("@")[0] for name in names})
    fewest = min(counts.stages[kind] for kind in kinds)
    kind = draw.choice([kind for kind in kinds if counts.stages[kind] == fewest])
    name = draw.choice([name for name in names if name.partition("@")[0] == kind])
    moment = MOMENTS[(counts.killed + counts.missed) % len(MOMENTS)]
    victim = draw.choice(VICTIMS) if moment == STAGE else "all"
    return Kill(name, draw.choice([*COMMANDS]), moment, victim, draw.random())


def outputs(folder: Path) -> dict[str, str]:
    """Return a digest of every declared output of the study, seconds and commits aside; a folder's files one by one."""
    entries = locks.read(folder / "dvc.lock")
    paths = [folder / out["path"] for entry in entries.values() for out in entry["outs"]]
    files = [file for path in paths for file in ([*path.rglob("*")] if path.is_dir() else [path]) if file.is_file()]
    return {file.relative_to(folder).as_posix(): digest(file) for file in files}


def digest(path: Path) -> str:
    """Return a digest of a file's content, seconds and commits aside."""
    content = path.read_bytes()
    if "provenance" in path.parts:
        content = json.dumps({k: v for k, v in json.loads(content).items() if k not in TIMES}).encode()
    elif path.suffix == ".html":
        content = MADE.sub("", content.decode()).encode()
    return hashlib.sha256(content).hexdigest()


def of_study(folder: Path) -> set[str]:
    """Return the stages that the present params ask for."""
    listed = subprocess.run(
        ["dvc", "stage", "list", "--name-only"], cwd=folder, capture_output=True, text=True, check=True
    )
    return set(listed.stdout.split())


def make_stale(folder: Path, name: str, outs: list[Path]) -> None:
    """Remove a stage's outputs and its entry in dvc.lock, so that it has to run.

    DVC's memory of its runs goes too, since it would put the outputs back.
    """
    shutil.rmtree(folder / ".dvc/cache/runs", ignore_errors=True)
    for path in outs:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    entries = locks.read(folder / locks.LOCK)
    del entries[name]
    locks.write(folder / locks.LOCK, entries)


def seconds_of(outs: list[Path]) -> float:
    """Return how long a stage took, by its provenance; 0 where it has none: such a stage takes little."""
    return sum(float(json.loads(path.read_text())["wall_s"]) for path in outs if "provenance" in path.parts)


def killed(folder: Path, kill: Kill, longest_s: float, seconds: dict[str, float]) -> bool:
    """Start a command, wait for the moment, and kill.

    Args:
        folder: of the repository.
        kill: what to start and to kill.
        longest_s: seconds after the start of the stage, before which a kill in the stage comes.
        seconds: is given how long the stage ran, if it ran to its end.

    Returns:
        Whether there was something left to kill.
    """
    size = (folder / lock_copy.LOCK).stat().st_size
    process = subprocess.Popen(
        COMMANDS[kill.command], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + STUCK_S

    def wait_while(waits: Callable[[], bool], poll_s: float = POLL_S) -> None:
        while waits() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(poll_s)

    wait_while(lambda: not running(folder, kill.kind))
    found, since = in_folder(folder), time.monotonic()  # looking for processes takes too long once the lock is written
    if kill.moment == STAGE:
        time.sleep(kill.fraction * longest_s)
    elif kill.moment == END:
        wait_while(lambda: bool(running(folder, kill.kind)))
        seconds[kill.kind] = time.monotonic() - since
        time.sleep(kill.fraction * HASHING_S)
    else:
        wait_while(lambda: (folder / lock_copy.LOCK).stat().st_size == size, WATCH_S)
        time.sleep(kill.fraction * WRITING_S)
    if not (alive := process.poll() is None):
        found = []
    elif kill.victim == "stage":
        found = running(folder, kill.kind)
    elif kill.victim == "dvc":
        found = [process.pid]  # `gapscope run` leaves its stages to the watchdog; DVC's stage runs on to its end
    for pid in found:
        signalled(pid)
    if alive and kill.victim == "stage":
        process.wait(STUCK_S)
    elif alive and kill.victim == "dvc":
        wait_for_none(folder, deadline)
    while more := in_folder(folder):
        found += more
        for pid in more:
            signalled(pid)
    process.wait()
    while any(Path(f"/proc/{pid}").exists() for pid in found) and time.monotonic() < deadline:
        time.sleep(POLL_S)  # DVC takes a process that is not yet reaped for alive
    return alive


def signalled(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def wait_for_none(folder: Path, deadline: float) -> None:
    """Wait until no process works in the folder; a runner's watchdog gives its stage time to save its state."""
    while in_folder(folder) and time.monotonic() < deadline:
        time.sleep(POLL_S)


def in_folder(folder: Path) -> list[int]:
    """Return the processes whose working directory is the folder: those of the campaign's commands and no others."""
    found = []
    for process in Path("/proc").iterdir():
        with suppress(OSError):
            if process.name.isdecimal() and (process / "cwd").resolve() == folder.resolve():
                state = (process / "stat").read_text().rpartition(")")[2].split()[0]
                found += [int(process.name)] if state != "Z" else []
    return found


def running(folder: Path, kind: str) -> list[int]:
    """Return the processes of a stage's script."""
    found = []
    for pid in in_folder(folder):
        with suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            found += [pid] if f"stages/{kind}.py".encode() in words[:3] else []
    return found


def is_cut(folder: Path) -> bool:
    """Whether dvc.lock was cut off."""
    lock, copy = folder / lock_copy.LOCK, folder / lock_copy.COPY
    return lock_copy.was_cut(lock.read_bytes(), copy.read_bytes() if copy.exists() else b"")


def compare(folder: Path, known: dict[str, str], counts: Counts, kill: Kill) -> None:
    """Run the same command again, after `gapscope mend`, and compare."""
    for words in (["gapscope", "mend"], COMMANDS[kill.command]):
        if how := failure(folder, words):
            counts.stuck += 1
            counts.notes.append(f"{kill}: afterwards `{' '.join(words)}` {how}")
            return
    found = outputs(folder)
    lost, other = known.keys() - found.keys(), [name for name in known if found.get(name, known[name]) != known[name]]
    left = [path for path in folder.rglob(".*.tmp") if "site-packages" not in path.parts and ".dvc" not in path.parts]
    counts.lost += len(lost)
    counts.different += bool(other)
    counts.identical += not lost and not other
    counts.left += len(left)
    counts.notes += [f"{kill}: {name}" for name in (*sorted(lost), *other, *map(str, left))]


def failure(folder: Path, words: list[str]) -> str:
    """Run a command, and return how it failed; empty if it did not."""
    with (folder / "second.log").open("a") as log:
        try:
            done = subprocess.run(words, cwd=folder, stdout=log, stderr=log, timeout=STUCK_S, check=False)
        except subprocess.TimeoutExpired:
            return "did not end"
    return "failed" if done.returncode else ""


def markdown(counts: Counts, machine: str) -> str:
    """Return the counts as a page."""
    lines = ["# Kills at random moments", "", (__doc__ or "").split("\n\n")[2].strip(), ""]
    lines += [machine, ""] if machine else []
    lines += ["| what | number |", "|---|---|"]
    table = {
        "killed": counts.killed, "ended before the kill": counts.missed, "identical": counts.identical,
        "different": counts.different, "stuck": counts.stuck, "outputs lost": counts.lost,
        "files left behind": counts.left, "dvc.lock cut off by the kill": counts.cut,
        "git's index.lock left by the kill": counts.git_locks,
    }  # fmt: skip
    lines += [f"| {name} | {number} |" for name, number in table.items()]
    for title, found in (
        ("command", counts.commands), ("moment", counts.moments), ("killed", counts.victims), ("stage", counts.stages),
    ):  # fmt: skip
        lines += ["", f"| {title} | kills |", "|---|---|", *(f"| {name} | {n} |" for name, n in sorted(found.items()))]
    lines += ["", *(f"- {note}" for note in counts.notes)] if counts.notes else []
    return "\n".join(lines) + "\n"


def make(folder: Path, study: str) -> None:
    """Copy the tracked files without results, and run the study to its end."""
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    left_out = ("metrics/", "plots/", "provenance/", "locks/", "weights/", "dvc.lock")
    for name in (name for name in listed if not name.startswith(left_out) and (ROOT / name).is_file()):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    for command in (["git", "init", "-q"], ["gapscope", "compose", f"study={study}"], ["gapscope", "run", "-j", "2"]):
        subprocess.run(command, cwd=folder, check=True)


def main() -> None:
    """Run the campaign."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stages", nargs="*", help="names before the @; default: all")
    parser.add_argument("--folder", type=Path, help="to work in; it is made if need be, and kept")
    parser.add_argument("--machine", default="", help="a line about the machine, for the page")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/kills.md")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gapscope-kills-") as temporary:
        folder = args.folder or Path(temporary)
        os.environ |= {"GAPSCOPE_DEVICE": "cpu", "PYTHONPATH": str(folder.resolve() / "src")}
        os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        if not (folder / lock_copy.LOCK).exists():
            make(folder, "smoke")

        def page(counts: Counts) -> None:
            args.out.write_text(markdown(counts, args.machine), encoding="utf-8")

        counts = campaign(folder, args.kills, args.seed, args.stages, page)
    sys.exit(not counts.clean)


if __name__ == "__main__":
    main()
