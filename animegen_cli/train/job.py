"""The SLURM job that this process works in, and what SLURM says of jobs."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_ENDED = {
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "DEADLINE",
    "FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PENDING",
    "PREEMPTED",
    "TIMEOUT",
}
"""States of a job none of whose processes is left; while some are, SLURM says COMPLETING."""


@dataclass(frozen=True)
class Job:
    """One start of a job: SLURM starts a job again under the same number, and counts."""

    cluster: str
    number: str
    """`123`, or `120_3` for a task of an array: a bare number would mean the whole array to `scontrol`."""
    restarts: int

    def __str__(self) -> str:
        """One word, which `Job.read` understands."""
        return f"{self.cluster}/{self.number}/{self.restarts}"

    @classmethod
    def read(cls, text: str) -> Job | None:
        """The job that `str` made a word of; None for any other text."""
        found = re.fullmatch(r"([^/\s]*)/(\d+(?:_\d+)?)/(\d+)", text)
        return cls(found[1], found[2], int(found[3])) if found else None

    @property
    def is_over(self) -> bool:
        """Whether this start of the job is certainly over, so that none of its processes is left; False where nobody knows."""
        now = here()
        if now is not None and (now.cluster, now.number) == (self.cluster, self.number):
            return self.restarts < now.restarts
        if self.cluster != os.environ.get("SLURM_CLUSTER_NAME", self.cluster):
            return False
        said = ask(self.number)
        if said is None:
            return False
        return not said or said["JobState"] in _ENDED or int(said.get("Restarts", 0)) > self.restarts


def here() -> Job | None:
    """The job that this process works in; None outside of SLURM."""
    number = os.environ.get("SLURM_JOB_ID", "")
    if not number.isdigit():
        return None
    array, task = (os.environ.get(f"SLURM_ARRAY_{word}_ID", "") for word in ("JOB", "TASK"))
    if array.isdigit() and task.isdigit():
        number = f"{array}_{task}"
    restarts = os.environ.get("SLURM_RESTART_COUNT", "0")
    return Job(os.environ.get("SLURM_CLUSTER_NAME", ""), number, int(restarts) if restarts.isdigit() else 0)


def ask(number: str) -> Mapping[str, str] | None:
    """What `scontrol show job` says of a job, by its words (`JobState`, `Requeue`, ...).

    Returns:
        Nothing (an empty mapping) for a job that SLURM no longer knows; None where SLURM cannot be asked.
    """
    try:
        done = subprocess.run(
            ["scontrol", "--oneliner", "show", "job", number],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=60,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode:
        return {} if "Invalid job id" in done.stderr else None
    said = dict(re.findall(r"(\S+?)=(\S*)", done.stdout))
    return said if "JobState" in said else None
