"""A SLURM of one node for tests: its own keys, ports and folder, started in seconds and ended without a trace."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol")
SYSTEM = "/usr/sbin:/sbin"
"""Where daemons lie; a user's PATH may leave it out."""

# A job that is put back waits until its credentials have expired, two minutes by default: here the shortest time.
CONFIG = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={daemon}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=30
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=1,sched_interval=1,bf_interval=1
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory=1000 State=UNKNOWN
PartitionName=low Nodes={host} Default=YES PriorityTier=1 PreemptMode=REQUEUE GraceTime=0
PartitionName=high Nodes={host} PriorityTier=10 PreemptMode=OFF
"""


class DoesNotStart(Exception):
    """There are daemons, and they do not work here; with what they say."""


def missing() -> str | None:
    """Why no SLURM can be started here; None where one can."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "only root can start a SLURM"
    lacking = [name for name in PROGRAMS if shutil.which(name, path=_path()) is None]
    return f"no {', '.join(lacking)} here (`apt-get install slurm-wlm munge`)" if lacking else None


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:{SYSTEM}"


@dataclass(frozen=True)
class Cluster:
    """A SLURM of one node with the partitions `low` and `high`, of which the second pre-empts the first."""

    folder: Path
    environment: dict[str, str]
    """What a user's shell has here, taken once: a thread asks SLURM while the tests beside it change their own."""

    def call(self, *words: str) -> str:
        """What a command of SLURM prints; it must succeed."""
        done = subprocess.run(words, env=self.environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}{self.logs()}"
        return done.stdout

    def about(self, job: str) -> dict[str, str]:
        """What `scontrol` says of a job, by its words: `JobState`, `Restarts`, ..."""
        return dict(re.findall(r"(\S+?)=(\S*)", self.call("scontrol", "--oneliner", "show", "job", job)))

    def wait(self, job: str, *states: str, seconds: float = 120) -> dict[str, str]:
        """Look until the job is in one of the states."""
        deadline = time.monotonic() + seconds
        while (about := self.about(job))["JobState"] not in states:
            assert time.monotonic() < deadline, f"job {job} is still {about['JobState']}: {about}{self.logs()}"
            time.sleep(0.1)
        return about

    def logs(self) -> str:
        """The ends of the daemons' logs, for the message of a test that fails."""
        files = sorted(self.folder.glob("slurm*.log"))
        return "".join(f"\n--- {file.name}\n{file.read_text(errors='replace')[-2000:]}" for file in files)


@contextmanager
def started(cores: int = 2) -> Iterator[Cluster]:
    """Start the daemons in a folder of their own, and end them with all that they started.

    Args:
        cores: that SLURM may give away, however many there are.

    Raises:
        DoesNotStart: the daemons do not work here.
    """
    folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))  # a socket's path has 107 bytes at most
    folder.chmod(0o755)
    own = {key: value for key, value in os.environ.items() if not key.startswith("SLURM_")}  # tests may run in a job
    cluster = Cluster(folder, own | {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": _path()})
    try:
        try:
            _start(cluster, cores)
        except (AssertionError, OSError, subprocess.TimeoutExpired) as error:
            raise DoesNotStart(f"no SLURM starts here: {error}{cluster.logs()}") from error
        yield cluster
    finally:
        _end(cluster)
        shutil.rmtree(folder, ignore_errors=True)


def _start(cluster: Cluster, cores: int) -> None:
    folder = cluster.folder
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    controller, daemon = _free_ports(2)
    host = socket.gethostname().partition(".")[0]
    text = CONFIG.format(folder=folder, host=host, controller=controller, daemon=daemon, cores=cores)
    (folder / "slurm.conf").write_text(text)
    cluster.call(
        "munged", "--force", f"--key-file={key}", f"--socket={folder}/munge.socket", f"--pid-file={folder}/munged.pid",
        f"--log-file={folder}/munged.log", f"--seed-file={folder}/munged.seed",
    )  # fmt: skip
    cluster.call("slurmctld", "-c")
    cluster.call("slurmd")
    deadline = time.monotonic() + 30
    while "idle" not in _quiet(cluster, "sinfo", "-h", "-o", "%T"):
        assert time.monotonic() < deadline, f"no node became idle{cluster.logs()}"
        time.sleep(0.1)


def _quiet(cluster: Cluster, *words: str) -> str:
    return subprocess.run(words, env=cluster.environment, capture_output=True, text=True).stdout


def _end(cluster: Cluster) -> None:
    if (cluster.folder / "slurmctld.pid").is_file():
        subprocess.run(
            ["scancel", "--signal=KILL", "--full", "--user=root"],
            env=cluster.environment,
            capture_output=True,
            timeout=60,
        )
    for name in ("slurmd", "slurmctld", "munged"):
        with suppress(OSError, ValueError):
            number = int((cluster.folder / f"{name}.pid").read_text())
            os.kill(number, signal.SIGTERM)
            deadline = time.monotonic() + 10
            while _runs(number) and time.monotonic() < deadline:
                time.sleep(0.05)


def _runs(number: int) -> bool:
    """Whether a process works; one that ended and whose parent has not looked does not."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
