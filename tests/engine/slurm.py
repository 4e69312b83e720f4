"""A real SLURM of two hosts on this machine: its own munged, slurmctld, and two slurmd on two ports of loopback."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

HOSTS = ("h1", "h2")
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scancel", "sinfo")
FOLDERS = f"/usr/sbin{os.pathsep}/usr/local/sbin"
START_S = 300  # a machine that runs several test suites is slow
CONFIG = """
ClusterName=test
SlurmctldHost={name}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=2,bf_interval=2
ReturnToService=2
SlurmdTimeout=10
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmdSpoolDir={folder}/spool-%n
StateSaveLocation={folder}/state
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
NodeName=h1 NodeHostname={name} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=1 RealMemory=4000
NodeName=h2 NodeHostname={name} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=1 RealMemory=4000
PartitionName=all Nodes=h1,h2 Default=YES MaxTime=INFINITE State=UP
"""  # cred_expire: so long a job of a lost host waits before it starts again, 120 s by default


def programs() -> dict[str, str | None]:
    return {name: shutil.which(name, path=f"{os.environ['PATH']}{os.pathsep}{FOLDERS}") for name in PROGRAMS}


class Slurm:
    """Daemons whose files are in `folder`; the environment variable SLURM_CONF makes its commands ask them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._programs = folder, programs()
        self._daemons: list[subprocess.Popen[bytes]] = []
        self._slurmd: dict[str, subprocess.Popen[bytes]] = {}
        for name in ("state", *(f"spool-{host}" for host in HOSTS)):
            (folder / name).mkdir(parents=True)
        folder.chmod(0o755)  # munged wants no other's hand on its files
        (folder / "munge.key").write_bytes(os.urandom(128))
        (folder / "munge.key").chmod(0o600)
        user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
        name = subprocess.run(["hostname", "-s"], capture_output=True, text=True, check=True).stdout.strip()
        config = CONFIG.format(folder=folder, name=name, user=user, ports=_free_ports(3))
        (folder / "slurm.conf").write_text(config)
        os.environ["SLURM_CONF"] = str(folder / "slurm.conf")

    def __enter__(self) -> "Slurm":
        parts = {"socket": "munge.socket", "key-file": "munge.key", "pid-file": "munge.pid", "log-file": "munge.log",
                 "seed-file": "munge.seed"}  # fmt: skip
        own = [f"--{option}={self.folder / name}" for option, name in parts.items()]
        self._daemons.append(self._start("munged", "--foreground", "--force", *own))
        until((self.folder / "munge.socket").exists)
        self._daemons.append(self._start("slurmctld", "-D", "-i"))
        for host in HOSTS:
            self.revive(host)
        return self

    def __exit__(self, *_: object) -> None:
        for host in HOSTS:
            self.kill(host)
        for daemon in self._daemons[::-1]:
            daemon.terminate()
            with suppress(subprocess.TimeoutExpired):
                daemon.wait(20)
            daemon.kill()
            daemon.wait()

    def _start(self, name: str, *arguments: str) -> "subprocess.Popen[bytes]":
        program = self._programs[name]
        assert program is not None
        return subprocess.Popen(
            [program, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )

    def revive(self, host: str) -> None:
        """Start a host, and wait until jobs can run on it."""
        self._slurmd[host] = self._start("slurmd", "-D", "-N", host)
        until(lambda: "idle" in self.ask("sinfo", "--noheader", f"--nodes={host}", "--format=%T"))

    def kill(self, host: str) -> None:
        """Kill a host: its slurmd, its jobs' slurmstepd, and all that gapscope or Dask runs in them.

        The processes that gapscope's attempts have started live on, as they do when SLURM is killed.
        """
        killed = [
            int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal() and self._runs(path, host)
        ]
        for process in (self._slurmd[host].pid, *(pid for each in killed for pid in _ancestors(each)), *killed):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self._slurmd[host].wait()

    def _runs(self, process: Path, host: str) -> bool:
        """Whether a process runs in a job of a host: gapscope's attempt, or one of a Dask worker's two."""
        try:
            words = (process / "cmdline").read_bytes().decode(errors="replace")
            environment = (process / "environ").read_bytes().split(b"\0")
        except OSError:
            return False
        ours = any(name in words for name in ("gapscope.engine.cluster.attempt", "distributed", "spawn_main"))
        own = {f"SLURMD_NODENAME={host}", f"SLURM_CONF={self.folder}/slurm.conf"}
        return ours and {name.encode() for name in own} <= set(environment)

    def ask(self, name: str, *arguments: str) -> str:
        """Return what a command of SLURM's prints."""
        return subprocess.run([name, *arguments], capture_output=True, text=True, check=False).stdout


def _ancestors(process: int) -> list[int]:
    """Return the processes above one, up to the first of the system: a job's script and its slurmstepd."""
    with suppress(OSError):
        above = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
        return [above, *_ancestors(above)] if above > 1 else []
    return []


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def until(seen: Callable[[], bool], seconds: float = START_S) -> None:
    end = time.monotonic() + seconds
    while not seen():
        assert time.monotonic() < end
        time.sleep(0.2)
