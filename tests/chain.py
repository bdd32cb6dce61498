"""`animegen` as a user types it, in this process or in one of its own, and tiny networks to type it with."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import pty
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest import mock

import torch

from animegen_cli import cli, disk
from animegen_cli.model import checkpoint
from animegen_cli.paths import Run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[1]
TIMES = {"seconds", "images_per_second", "loader/waited"}

TINY = {
    "animegan": ["model.channels=4", "model.blocks=1", "model.critic_channels=4"],
    "attributes": ["model.widths=[8,16]"],
    "cyclegan": ["model.channels=4", "model.blocks=1", "model.critic_channels=4"],
    "ddim": ["model.widths=[8,16]", "sample.steps=4"],
    "ddpm": ["model.channels=8", "model.groups=4", "model.attention=[8]", "sample.steps=4"],
    "ect": ["model.channels=8"],
    "edm": ["model.channels=8", "sample.steps=3"],
    "flow": ["model.channels=8", "sample.steps=3"],
    "gan": ["model.width=4", "model.critic_width=4"],
    "mhvae": ["model.cnn.width=8", "model.cnn.channels=2"],
    "sde": ["model.channels=8", "sample.steps=3"],
    "stylegan2": [
        "model.width=16",
        "model.channel_base=128",
        "model.channel_max=16",
        "model.path_every=2",
        "model.r1_every=2",
    ],
    "vae": ["model.widths=[8,16]", "model.latent=8"],
}
SHORT = [
    "train.batch=8", "train.preview=4", "train.preview_every=100k images", "train.validate.images=0",
    "train.log_every=3 steps", "train.save_every=64 images",
]  # fmt: skip


class Answer(NamedTuple):
    """The exit code of a command and what it wrote to its two streams."""

    code: int
    out: str
    err: str


def sets(*settings: str) -> list[str]:
    """`--set` words."""
    return [word for setting in settings for word in ("--set", setting)]


def train_words(family: str, data: Path, out: Path, *more: object, duration: str = "256 images") -> list[str]:
    """A training command on a network of some thousand parameters."""
    settings = sets(*TINY[family], *SHORT)
    return ["train", family, "--preset", "smoke", "--data", str(data), "--out", str(out), "--device", "cpu",
            "--duration", duration, *settings, *map(str, more)]  # fmt: skip


@contextlib.contextmanager
def inside(folder: Path | None) -> Iterator[None]:
    """Work in another folder."""
    before = Path.cwd()
    if folder is not None:
        os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def here(*words: object, cwd: Path | None = None) -> Answer:
    """Run a command in this process, which saves the seconds of importing torch."""
    out, err = io.StringIO(), io.StringIO()
    code: Any = 0
    with (
        mock.patch.object(sys, "argv", ["animegen", *map(str, words)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        inside(cwd),
    ):
        try:
            cli.main()
        except SystemExit as end:
            code = end.code or 0
    return Answer(code, out.getvalue(), err.getvalue())


def done(*words: object, cwd: Path | None = None) -> Answer:
    """Like `here`, for commands that must succeed."""
    answer = here(*words, cwd=cwd)
    assert answer.code == 0, answer.err
    return answer


def refused(code: int, *words: object, cwd: Path | None = None) -> str:
    """Run a command that must fail with this code; its one-line error and its hint."""
    answer = here(*words, cwd=cwd)
    assert answer.code == code, (answer.code, answer.err)
    assert "Traceback" not in answer.err
    lines = answer.err.rstrip().splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("error: "))
    assert lines[-1].startswith("  "), "no hint says what to type next"
    return "\n".join(lines[first:])


def start(*words: object, cwd: Path | None = None, **options: Any) -> subprocess.Popen[str]:
    """Start a command in a process of its own."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    line = [sys.executable, "-m", "animegen_cli", *map(str, words)]
    return subprocess.Popen(
        line, cwd=cwd, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, **options
    )


def on_terminal(
    line: list[str], *, env: dict[str, str], typed: str = "", columns: int = 0, **options: Any
) -> tuple[int, str]:
    """Run a command whose streams are a terminal, unless `options` say otherwise; its exit code and all that the terminal was told.

    Args:
        line: program and words.
        env: the command's environment.
        typed: what somebody has typed before it starts.
        columns: width of the terminal; 0 leaves it unknown.
        **options: of `subprocess.Popen`.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24 if columns else 0, columns, 0, 0))
    os.write(ours, typed.encode())
    streams = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
    process = subprocess.Popen(line, env=env, **streams | options)
    os.close(theirs)
    told = b""
    with contextlib.suppress(OSError):  # the terminal is gone with its process
        while piece := os.read(ours, 65536):
            told += piece
    os.close(ours)
    return process.wait(), told.decode()


def wait_until(condition: Callable[[], bool], *, of: subprocess.Popen[str], seconds: float = 240) -> None:
    """Look again and again until a running process has brought something about; it must not end before."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert of.poll() is None, f"ended before it could be disturbed: {of.communicate()[1]}"
        assert time.monotonic() < deadline, f"nothing came about in {seconds:g} s"
        time.sleep(0.002)
    assert of.poll() is None, f"ended before it could be disturbed: {of.communicate()[1]}"


def log_of(folder: Path) -> list[dict[str, Any]]:
    """The whole lines of a log that may be being written."""
    file = folder / "log.jsonl"
    lines = file.read_text().split("\n")[:-1] if file.is_file() else []
    return [disk.from_line(line) for line in lines]


def timeless(folder: Path) -> list[dict[str, Any]]:
    """The log without what depends on how fast the machine was."""
    return [{key: value for key, value in line.items() if key not in TIMES} for line in log_of(folder)]


def newest(folder: Path) -> int:
    """Images seen at the newest state, 0 without one."""
    states = Run(folder).states()
    return int(states[-1].name) if states else 0


def assert_same_tensors(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    """Equal names, types and every bit."""
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert tensor.dtype == second[name].dtype, name
        assert torch.equal(tensor, second[name]), name


def assert_same_state(first: Path, second: Path) -> None:
    """Equal newest states (networks, averages, moments, counters) and weights."""
    (state, about), (other_state, other_about) = (
        checkpoint.load_state(Run(path).states()[-1]) for path in (first, second)
    )
    assert state.keys() == other_state.keys()
    assert {"method", "ema"} < state.keys()
    for part, tensors in state.items():
        assert_same_tensors(tensors, other_state[part])
    for key in ("images", "step", "figures", "resolved", "config", "identity"):
        assert about[key] == other_about[key], key
    assert_same_tensors(*(checkpoint.load_weights(Run(path).weights)[0] for path in (first, second)))


def assert_same_run(first: Path, second: Path) -> None:
    """Equal newest states, weights, last pictures and logs."""
    assert_same_state(first, second)
    assert timeless(first) == timeless(second)
    last = f"ema-{newest(first):012d}.png"
    assert (first / "samples" / last).read_bytes() == (second / "samples" / last).read_bytes()
