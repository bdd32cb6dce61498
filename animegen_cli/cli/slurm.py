"""Commands as SLURM jobs: `--slurm` writes a batch file and submits it; a job that was stopped asks to be started again.

The job is the command that was typed. Nothing stays alive between the two: what is trained stands in run folders, so a
job that starts again goes on, and the workers of an array share a study or a sweep by the locks of its runs.
"""

from __future__ import annotations

import difflib
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from animegen_cli import console, disk, paths
from animegen_cli.errors import MachineError, UsageError
from animegen_cli.ranks import MEETING

if TYPE_CHECKING:
    from animegen_cli.config import RunConfig

EXAMPLE = "partition=gpu,gpus=4,time=04:00:00"
FOLDER = paths.RUNS / "slurm"
"""Where batch files and the output of jobs lie."""
MOST_WORKERS = 8
"""Workers of a study or sweep unless `array=` says another number."""
NOTICE = 180
"""Seconds before the time limit at which a job is told to stop; SLURM looks every half minute, so it may be up to a minute more."""

_FLAGS = {"contiguous", "exclusive", "hold", "no-kill", "no-requeue", "overcommit", "oversubscribe", "reboot", "spread-job",
          "use-min-nodes"}  # fmt: skip
"""Options of sbatch that stand without a value."""
_LISTS = {
    "constraint",
    "dependency",
    "exclude",
    "gres",
    "licenses",
    "mail-type",
    "nodelist",
    "partition",
    "prefer",
    "reservation",
}
"""Options whose value may have commas."""
_REFUSED = {"wrap", "parsable", "test-only", "help", "usage", "version", "chdir", "export-file"}
_KNOWN = (
    "account", "acctg-freq", "array", "batch", "bb", "bbf", "begin", "chdir", "cluster-constraint", "clusters", "comment",
    "constraint", "container", "container-id", "contiguous", "core-spec", "cores-per-socket", "cpu-freq", "cpus-per-gpu",
    "cpus-per-task", "deadline", "delay-boot", "dependency", "distribution", "error", "exclude", "exclusive", "export",
    "extra", "extra-node-info", "get-user-env", "gid", "gpu-bind", "gpu-freq", "gpus", "gpus-per-node", "gpus-per-socket",
    "gpus-per-task", "gres", "gres-flags", "hint", "hold", "ignore-pbs", "input", "job-name", "kill-on-invalid-dep",
    "licenses", "mail-type", "mail-user", "mcs-label", "mem", "mem-bind", "mem-per-cpu", "mem-per-gpu", "mincpus",
    "network", "nice", "no-kill", "no-requeue", "nodefile", "nodelist", "nodes", "ntasks", "ntasks-per-core",
    "ntasks-per-gpu", "ntasks-per-node", "ntasks-per-socket", "open-mode", "output", "overcommit", "oversubscribe",
    "partition", "power", "prefer", "priority", "profile", "propagate", "qos", "reboot", "requeue", "reservation",
    "segment", "signal", "sockets-per-node", "spread-job", "stepmgr", "switches", "thread-spec", "threads-per-core",
    "time", "time-min", "tmp", "tres-bind", "tres-per-task", "uid", "use-min-nodes", "wait", "wait-all-nodes",
    "wait-for-switch", "wckey",
)  # fmt: skip
"""Options of sbatch; a site's plug-ins may have others, so that only a word near one of these is taken for a slip."""
_VALUE = re.compile(r"[A-Za-z0-9_.,:%@/+=*&|()\[\]<>!~-]+")


# ---- the words of --slurm ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wish:
    """What `--slurm` asks of SLURM."""

    options: Mapping[str, str | None]
    """Options of sbatch; None for those without a value."""

    @classmethod
    def parse(cls, text: str) -> Wish:
        """Read `partition=gpu,gpus=4,time=04:00:00`; UsageError for what no line of a batch file can hold."""
        options: dict[str, str | None] = {}
        last = ""
        for part in text.split(","):
            key, equals, value = part.strip().partition("=")
            key = key.replace("_", "-")
            if not equals and last in _LISTS and _VALUE.fullmatch(key):  # partition=a,b
                options[last] = f"{options[last]},{part.strip()}"
                continue
            if key in options:
                raise UsageError(f"`--slurm` says `{key}` twice", hint=f"write `--slurm {EXAMPLE}`")
            _check(text, key, value if equals else None)
            options[key] = value if equals else None
            last = key
        return cls(options)

    def get(self, key: str) -> str | None:
        """The value of an option, None without one."""
        return self.options.get(key)

    @property
    def gpus(self) -> int:
        """GPUs of a node of the job; 0 where none are asked for."""
        for key in ("gpus-per-node", "gpus", "gres"):
            found = re.fullmatch(r"(?:gpu:)?(?:[A-Za-z][^:,]*:)?(\d+)|gpu", self.get(key) or "")
            if found:
                return int(found[1] or 1) // (self.nodes if key == "gpus" else 1)
        return 0

    @property
    def nodes(self) -> int:
        """Machines of the job."""
        nodes = self.get("nodes") or "1"
        return int(nodes) if nodes.isdigit() else 1

    @property
    def is_started_by_srun(self) -> bool:
        """Whether the job has several tasks, which only srun starts."""
        return self.nodes > 1 or any((self.get(key) or "1") != "1" for key in ("ntasks", "ntasks-per-node"))

    @property
    def processes(self) -> int:
        """Processes that the job starts for one training: tasks of srun, else one for each GPU."""
        if not self.is_started_by_srun:
            return max(self.gpus, 1)
        tasks, each = self.get("ntasks"), self.get("ntasks-per-node")
        if tasks and tasks.isdigit():
            return int(tasks)
        return self.nodes * (int(each) if each and each.isdigit() else max(self.gpus, 1))

    @property
    def seconds(self) -> int | None:
        """The time limit; None where none is asked for, or one that only SLURM understands."""
        found = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", self.get("time") or "")
        if not found:
            return None
        days, *clock = found.groups()
        first, *rest = [int(part) for part in clock if part is not None]
        if days is not None:  # days-hours[:minutes[:seconds]]
            return int(days) * 86400 + sum(n * unit for n, unit in zip([first, *rest], (3600, 60, 1), strict=False))
        if len(rest) == 2:  # hours:minutes:seconds
            return first * 3600 + rest[0] * 60 + rest[1]
        return first * 60 + (rest[0] if rest else 0)  # minutes[:seconds]


def _check(text: str, key: str, value: str | None) -> None:
    """UsageError for a key or value that cannot stand in a batch file."""
    hint = f"write `--slurm {EXAMPLE}`: options of sbatch and their values"
    if not re.fullmatch(r"[a-z][a-z0-9-]+", key):
        what = f"`{key}`" if key else "an empty word"
        if not key.isprintable():
            what = "a word with control characters"
        raise UsageError(f"`--slurm` has {what} where the name of an option of sbatch belongs", hint=hint)
    if key in _REFUSED:
        raise UsageError(f"`--slurm` cannot take `{key}`: the job is the command that was typed", hint=hint)
    if value is None and key not in _FLAGS:
        raise UsageError(f"`{key}` in `--slurm` has no value", hint=hint)
    if key not in (*_KNOWN, *_FLAGS) and (close := difflib.get_close_matches(key, _KNOWN, 1, 0.8)):
        raise UsageError(f"sbatch has no option `{key}`", hint=f"did you mean `{close[0]}`?")
    if value is not None and not _VALUE.fullmatch(value):
        why = "no value" if not value else "a value with spaces, quotes or signs that a batch file cannot hold"
        raise UsageError(f"`{key}` in `--slurm` has {why}", hint=hint)
    if key == "time" and not re.fullmatch(r"(\d+-)?\d+(:\d+){0,2}|(?i:unlimited|infinite)", value or ""):
        raise UsageError(
            f"`time={value}` in `--slurm` is no time", hint="write `time=04:00:00`, or minutes: `time=240`"
        )
    if key == "gpus" and not re.fullmatch(r"([A-Za-z][^:]*:)?\d+", value or ""):
        raise UsageError(f"`gpus={value}` in `--slurm` is no number", hint=hint)
    if key == "array" and not re.fullmatch(r"[1-9]\d*|\d[\d,:-]*(%\d+)?", value or ""):
        raise UsageError(f"`array={value}` in `--slurm` is no number of workers", hint="write `array=4`")


# ---- the batch file ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a job is to do."""

    name: str
    """Of the job and its files."""
    pinned: Sequence[str] = ()
    """Words behind the typed ones, for what could mean something else when the job starts, such as the newest data set."""
    runs: int = 1
    """Trainings that workers can share."""
    goes_on: bool = True
    """Whether the command saves when it is told to stop, and goes on when it is started again."""
    shares: bool = False
    """Whether several workers may be started on it."""
    takes_nproc: bool = False
    """Whether the command has `--nproc`."""


def checked(text: str | None, *, dry_run: bool = False) -> str:
    """The words of `--slurm`; UsageError where they are missing, wrong, or there is nothing to submit."""
    if text is None:
        raise UsageError("`--slurm-dry-run` prints the batch file of `--slurm`", hint="type both")
    if dry_run:
        raise UsageError("`--dry-run` has no work for a job", hint="print the batch file with `--slurm-dry-run`")
    Wish.parse(text)
    return text


def submit(text: str, work: Work, *, dry_run: bool) -> None:
    """Write the batch file of a command and hand it to sbatch, or print it.

    Args:
        text: the words of `--slurm`.
        work: what the job is to do; the command itself is that of `sys.argv`.
        dry_run: print the file; write and submit nothing.

    Raises:
        UsageError: words that cannot stand in a batch file.
        MachineError: no sbatch here, or it refuses the job.
    """
    wish = Wish.parse(text)
    script = batch_file(wish, work, [*program(), *typed(sys.argv[1:]), *work.pinned])
    if dry_run:
        console.result({"script": script}, script.rstrip("\n"))
        return
    paths.make_folder(FOLDER)
    file = _free(FOLDER / f"{work.name}.sbatch", script)
    disk.write_text(file, script)
    number = _sbatch(file)
    console.note(f"written: {file}")
    console.note(f"output:  {FOLDER / work.name}-{number}{'_*' if '--array=' in script else ''}.out")
    console.note(f"job {number} is submitted; `squeue` shows it, `scancel {number}` ends it")
    console.result({"job": number, "script": str(file)}, number)


def typed(words: Sequence[str]) -> list[str]:
    """The words of a command line without those of `--slurm`."""
    kept: list[str] = []
    rest = iter(words)
    for word in rest:
        if word == "--slurm":
            next(rest, None)
        elif word != "--slurm-dry-run" and not word.startswith("--slurm="):
            kept.append(word)
    return kept


def program() -> list[str]:
    """How this program was started, so that a job starts the same: the script beside its interpreter, or the module."""
    script = Path(sys.argv[0])
    if script.name == "animegen" and script.is_absolute() and os.access(script, os.X_OK):
        return [str(script)]
    return [sys.executable, "-m", "animegen_cli"]


def batch_file(wish: Wish, work: Work, command: Sequence[str]) -> str:
    """The text of a batch file.

    Args:
        wish: what is asked of SLURM.
        work: what the job is to do.
        command: its words.

    Raises:
        UsageError: several workers for one training, or a working directory that no batch file can hold.
    """
    here = Path.cwd()
    if not str(here).isprintable():
        raise UsageError("the name of this folder has control characters", hint="type the command in another folder")
    options: dict[str, str | None] = {"job-name": work.name}
    array = _array(wish, work)
    output = str(here / FOLDER / work.name).replace("%", "%%")
    options["output"] = f"{output}-{'%A_%a' if array else '%j'}.out"
    options["open-mode"] = "append"
    options["requeue"] = None
    if work.goes_on:
        notice = NOTICE if wish.seconds is None else max(1, min(NOTICE, wish.seconds // 4))
        # to the batch script alone, which is the command itself; srun passes on what it gets
        options["signal"] = f"B:USR1@{notice}"
    asked = dict(wish.options)
    if "no-requeue" in asked:
        del options["requeue"]
    asked.pop("array", None)
    if array:
        options["array"] = array
    if wish.nodes > 1 and not {"ntasks", "ntasks-per-node"} & asked.keys():
        options["ntasks-per-node"] = str(max(wish.gpus, 1))
    lines = [
        f"#SBATCH --{key}" + ("" if value is None else f"={_quoted(value)}") for key, value in (options | asked).items()
    ]
    command = [*command, *_nproc(wish, work, command)]
    return "\n".join(["#!/bin/bash", *lines, "", *_commands(wish, here, command), ""])


def _nproc(wish: Wish, work: Work, command: Sequence[str]) -> Sequence[str]:
    """`--nproc` for as many processes as there are GPUs, where nobody said how many and srun starts none."""
    if wish.gpus < 2 or wish.is_started_by_srun:
        return ()
    if not work.takes_nproc:
        console.warn(
            f"this command uses one GPU of {wish.gpus}; ask for `gpus=1`" + (" and more workers" if work.shares else "")
        )
        return ()
    typed_already = any(word == "--nproc" or word.startswith("--nproc=") for word in command)
    return () if typed_already else ("--nproc", str(wish.gpus))


def _commands(wish: Wish, here: Path, command: Sequence[str]) -> list[str]:
    lines = [f"cd {shlex.quote(str(here))} || exit 5"]
    if path := os.environ.get("PYTHONPATH"):
        lines.append(f"export PYTHONPATH={shlex.quote(path)}")
    words = list(command)
    if wish.is_started_by_srun:
        cores = wish.get("cpus-per-task")
        words = ["srun", "--kill-on-bad-exit=1", *([f"--cpus-per-task={cores}"] if cores else []), *words]
    lines.append("# exec: the command takes the place of this shell, so that SLURM's signals reach it")
    return [*lines, f"exec {shlex.join(words)}"]


def _quoted(value: str) -> str:
    """A value of a `#SBATCH` line, in quotes where it has spaces or signs that sbatch reads as something else."""
    if _VALUE.fullmatch(value):
        return value
    return '"' + re.sub(r'(["\\])', r"\\\1", value) + '"'


def _array(wish: Wish, work: Work) -> str | None:
    """The array of workers; None for one job."""
    asked = wish.get("array")
    if not work.shares:
        if asked not in (None, "1"):
            raise UsageError(
                "`array` in `--slurm` is for studies and sweeps, whose runs several workers share",
                hint="leave it out, or train several at once: `animegen train ddim --seeds 0-4`",
            )
        return None
    if asked is None:
        return f"1-{min(max(work.runs, 1), MOST_WORKERS)}"
    return f"1-{asked}" if asked.isdigit() else asked


def _free(file: Path, text: str) -> Path:
    """`file`, or that name with a number where another job's file has it."""
    number = 1
    found = file
    while found.is_file() and found.read_text(encoding="utf-8", errors="replace") != text:
        number += 1
        found = file.with_stem(f"{file.stem}-{number}")
    return found


def _sbatch(file: Path) -> str:
    """Submit a batch file; the job's number."""
    try:
        done = subprocess.run(["sbatch", "--parsable", str(file)], capture_output=True, text=True, errors="replace")
    except OSError as error:
        raise MachineError(
            f"the job was not submitted: no sbatch here ({error.strerror or error})",
            hint=f"type this where SLURM's commands are, or take {file} there",
        ) from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip() or f"exit code {done.returncode}"
        raise MachineError(
            f"sbatch refused the job: {said}",
            hint=f"change the words of `--slurm` and type the command again; see {file}",
        )
    return done.stdout.strip().partition(";")[0]


def job_name(*words: str | None) -> str:
    """A name for a job and its files, such as `train-ddpm-fast`."""
    name = "-".join(word for word in words if word)
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-.")[:80]


def warn_of_limit(text: str, run_config: RunConfig) -> None:
    """Say where no state is saved before a job's time is over, so that all hangs on the stop before it."""
    from animegen_cli.config import Amount

    limit = Wish.parse(text).seconds
    every = Amount.parse(run_config.train.save_every).seconds
    if limit is not None and every is not None and every >= limit:
        oftener = f"{limit // 240} min" if limit >= 240 else f"{limit // 4} s"
        console.warn(
            f"a state is saved every {run_config.train.save_every}, and the job's time is {limit // 60} min: only the stop before "
            f'its end saves (`--save-every "{oftener}"` saves in between)'
        )


# ---- in a job ---------------------------------------------------------------------------------------------------


def speaks_for_all() -> bool:
    """Whether this process was started alone, or is the first of several and no `--nproc` waits for them."""
    if MEETING in os.environ:
        return False
    return (os.environ.get("RANK") or os.environ.get("SLURM_PROCID") or "0") == "0"


def ask_for_requeue() -> None:
    """Ask SLURM to start this job again, after the command was stopped and has saved; nothing outside of a batch job.

    A job that was cancelled, or that may not start again, is left as it is.
    """
    from animegen_cli.train import job

    own = job.here()
    if own is None or not speaks_for_all():
        return
    said = job.ask(own.number)
    if said is None:
        console.warn(
            f"job {own.number} cannot be started again from here: SLURM does not answer; `scontrol requeue {own.number}` does it"
        )
        return
    if said.get("BatchFlag") != "1":  # somebody sits at it
        return
    if said.get("Requeue") != "1":
        console.note(
            f"job {own.number} may not start again (it was submitted with `no-requeue`); submit it again to go on"
        )
        return
    if int(said.get("Restarts") or 0) > own.restarts:
        console.note(f"SLURM starts job {own.number} again by itself")
        return
    if not (said["JobState"] == "RUNNING" or said.get("Reason") == "TimeLimit"):
        return  # cancelled
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # SLURM ends what is left of a job that it puts back
    console.note(f"asking SLURM to start job {own.number} again")
    done = subprocess.run(["scontrol", "requeue", own.number], capture_output=True, text=True, errors="replace")
    if done.returncode:
        console.warn(f"SLURM does not start job {own.number} again: {done.stderr.strip()}; submit it again to go on")
