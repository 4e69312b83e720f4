"""Kill stages at random moments, run the pipeline again, and compare every output with that of an uninterrupted run.

By hand, with the project's environment, from the root of a clone: `python tests/campaigns/kills.py --kills 100`. It
works in a copy of the tracked files, on the study `smoke`. The counts go into `benchmarks/kills.md`.

Each kill makes one stage stale and starts `dvc repro` or `gapscope run -j 2`. At a random moment of that stage, SIGKILL
goes to the whole group of processes, to the stage alone, or to DVC alone. A part of the moments lies after the stage's
end, while DVC hashes the outputs and writes its lock.
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
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from gapscope import lock_copy
from gapscope.engine import locks

ROOT = Path(__file__).parents[2]
TIMES = ("wall_s", "epochs_s", "training_s", "commit")  # of provenance
MADE = re.compile(r'<caption id="table-made">.*?</table>', re.DOTALL)  # of a page: records by commit, with seconds
COMMANDS = {
    "dvc repro": ["dvc", "repro"],
    "gapscope run -j 2": ["gapscope", "run", "-j", "2"],
}
VICTIMS = ("all", "stage", "dvc")
AFTER_END = 0.3  # share of the kills that wait for the end of the stage
STARTUP_S = 3.0  # of a stage's script
WRITING_S = 1.0  # DVC hashes the outputs and writes its lock within it
STUCK_S = 600
POLL_S = 0.01


@dataclass
class Counts:
    """How many kills there were, and how they ended.

    Attributes:
        stages, commands, victims: number of kills of each.
        missed: commands that had ended before they were to be killed.
        cut: kills after which dvc.lock was cut off.
        identical, different: outcomes of the comparison.
        stuck: the second run failed or did not end.
        lost: outputs that the second run did not make.
        left: files of killed processes that were still there after the second run.
    """

    stages: Counter[str] = field(default_factory=Counter)
    commands: Counter[str] = field(default_factory=Counter)
    victims: Counter[str] = field(default_factory=Counter)
    missed: int = 0
    cut: int = 0
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


def campaign(folder: Path, kills: int, seed: int, stages: list[str] | None = None) -> Counts:
    """Kill and compare.

    Args:
        folder: a repository in which the study has run to its end; its results are changed for a while.
        kills: how many. They go over all stages in turn.
        seed: of all draws.
        stages: those to kill, by the names before the @; None: all.
    """
    draw, counts, known, asked = random.Random(seed), Counts(), outputs(folder), of_study(folder)
    entries = {name: entry for name, entry in locks.read(folder / "dvc.lock").items() if name in asked}
    names = sorted(name for name in entries if stages is None or name.partition("@")[0] in stages)
    kinds = sorted({name.partition("@")[0] for name in names})
    draw.shuffle(kinds)
    for number in range(kills):
        kind = kinds[number % len(kinds)]
        name = draw.choice([name for name in names if name.partition("@")[0] == kind])
        command, victim = draw.choice([*COMMANDS]), draw.choice(VICTIMS)
        outs = [folder / out["path"] for out in entries[name]["outs"]]
        delay = None if draw.random() < AFTER_END else draw.uniform(0, STARTUP_S + seconds_of(outs))
        make_stale(folder, outs)
        if kill(folder, kind, COMMANDS[command], victim, delay, after_s=draw.uniform(0, WRITING_S)):
            counts.stages[kind] += 1
            counts.commands[command] += 1
            counts.victims[victim if delay is not None else "all, after the stage's end"] += 1
        else:
            counts.missed += 1
        counts.cut += is_cut(folder)
        # git's own lock, if DVC was killed while it staged its lock; docs/troubleshooting.md says to remove it
        (folder / ".git/index.lock").unlink(missing_ok=True)
        compare(folder, known, counts, command, f"{name}, {command}, {victim}")
        print(f"[{number + 1}/{kills}] {name}, {command}, {victim}: {counts.identical} identical", flush=True)
    return counts


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


def make_stale(folder: Path, outs: list[Path]) -> None:
    """Remove a stage's outputs, so that it has to run; also DVC's memory of its runs, which would put them back."""
    shutil.rmtree(folder / ".dvc/cache/runs", ignore_errors=True)
    for path in outs:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def seconds_of(outs: list[Path]) -> float:
    """Return how long a stage took, by its provenance; 0 where it has none: such a stage takes little."""
    return sum(float(json.loads(path.read_text())["wall_s"]) for path in outs if "provenance" in path.parts)


def kill(folder: Path, kind: str, command: list[str], victim: str, delay: float | None, *, after_s: float) -> bool:
    """Start a command and kill it in a stage of that kind.

    Args:
        folder: of the repository.
        kind: name of the stage's script.
        command: to start.
        victim: one of `VICTIMS`.
        delay: seconds from the start of the stage to the kill; None: after its end.
        after_s: seconds from the end of the stage to the kill, if `delay` is None.

    Returns:
        Whether there was something left to kill.
    """
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + STUCK_S
    while not (found := running(folder, kind)) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(POLL_S)
    if delay is None:
        while running(folder, kind) and time.monotonic() < deadline:
            time.sleep(POLL_S)
        time.sleep(after_s)
        victim = "all"
    else:
        time.sleep(delay)
    alive = process.poll() is None
    if victim == "stage" and alive and found:
        for pid in running(folder, kind):
            signalled(pid)
        process.wait(STUCK_S)
    elif victim == "dvc" and alive:
        signalled(process.pid)  # `gapscope run` leaves its stages to the watchdog; DVC's stage runs on to its end
        wait_for_none(folder, deadline)
    for pid in in_folder(folder):
        signalled(pid)
    process.wait()
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


def compare(folder: Path, known: dict[str, str], counts: Counts, command: str, about: str) -> None:
    """Run the same command again, after `gapscope mend`, and compare."""
    for words in (["gapscope", "mend"], COMMANDS[command]):
        if how := failure(folder, words):
            counts.stuck += 1
            counts.notes.append(f"{about}: afterwards `{' '.join(words)}` {how}")
            return
    found = outputs(folder)
    lost, other = known.keys() - found.keys(), [name for name in known if found.get(name, known[name]) != known[name]]
    left = [path for path in folder.rglob(".*.tmp") if "site-packages" not in path.parts and ".dvc" not in path.parts]
    counts.lost += len(lost)
    counts.different += bool(other)
    counts.identical += not lost and not other
    counts.left += len(left)
    counts.notes += [f"{about}: {name}" for name in (*sorted(lost), *other, *map(str, left))]


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
    lines = ["# Kills at random moments", "", (__doc__ or "").split("\n\n")[2].strip(), "", machine, ""]
    lines += ["| what | number |", "|---|---|"]
    table = {
        "killed": counts.killed, "ended before the kill": counts.missed, "identical": counts.identical,
        "different": counts.different, "stuck": counts.stuck, "outputs lost": counts.lost,
        "files left behind": counts.left, "dvc.lock cut off by the kill": counts.cut,
    }  # fmt: skip
    lines += [f"| {name} | {number} |" for name, number in table.items()]
    for title, found in (("command", counts.commands), ("killed", counts.victims), ("stage", counts.stages)):
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
    parser.add_argument("--folder", type=Path, help="a finished repository to work in; default: a new one")
    parser.add_argument("--machine", default="", help="a line about the machine, for the page")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/kills.md")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gapscope-kills-") as temporary:
        folder = args.folder or Path(temporary)
        os.environ |= {"GAPSCOPE_DEVICE": "cpu", "PYTHONPATH": str(folder.resolve() / "src")}
        os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        if args.folder is None:
            make(folder, "smoke")
        counts = campaign(folder, args.kills, args.seed, args.stages)
    args.out.write_text(markdown(counts, args.machine), encoding="utf-8")
    sys.exit(not counts.clean)


if __name__ == "__main__":
    main()
