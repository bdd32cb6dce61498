"""The generated words are fresh, say everything, and TAB works in real shells."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from animegen_cli.cli import app, completion, reference

ROOT = Path(__file__).resolve().parents[1]
SHELLS = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], "source {folder}/animegen.bash"),
    "zsh": (["zsh", "-f", "-i"], "bindkey -e; autoload -Uz compinit; compinit -u -d ./dump; source {folder}/_animegen"),
    "fish": (["fish", "--no-config", "-i"], "source {folder}/animegen.fish"),
}


def test_the_checked_in_files_are_fresh() -> None:
    assert reference.stale(ROOT) == [], "run `python -m animegen_cli.cli.reference --write`"


def test_a_changed_file_is_noticed_and_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "ROOT", tmp_path)
    (tmp_path / "pyproject.toml").touch()
    assert reference.main(["--write"]) == 0
    assert reference.stale(tmp_path) == []
    manual = tmp_path / "docs/cli.md"
    manual.write_text(manual.read_text(encoding="utf-8").replace("--preset", "--preste"), encoding="utf-8")
    (tmp_path / "completions/_animegen").unlink()
    assert reference.stale(tmp_path) == ["docs/cli.md", "completions/_animegen"]
    assert reference.main([]) == 1
    assert reference.main(["--write"]) == 0
    assert reference.main([]) == 0


def test_the_manual_has_every_option_and_an_example_of_every_command() -> None:
    text = reference.manual()
    seen = 0
    for context in reference.commands():
        page = text.partition(f"## {context.command_path}\n")[2].partition("\n## ")[0]
        assert f"\n{context.command_path}" in page.partition("Examples:")[2], f"{context.command_path}: no example"
        for item in context.command.get_params(context):
            if item.param_type_name == "option" and "--help" not in item.opts:
                assert all(name in page for name in item.opts), f"{context.command_path} {item.opts}"
                assert item.help, f"{context.command_path} {item.opts}: no help"
                seen += 1
    assert seen > 50
    assert "| 85 |" in text


def test_no_screen_width_changes_the_manual(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    wide = reference.manual()
    monkeypatch.setenv("COLUMNS", "50")
    assert reference.manual() == wide


# ---- what TAB offers ------------------------------------------------------------------------------------------


def offered(*words: str, shell: str = "bash") -> list[str]:
    return completion.answer(app, shell, words).splitlines()


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    names = ["00000-ddim-smoke-faces-32", "00001-ddpm-fast-faces-64"]
    for age, name in enumerate(names):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        (folder / "run.json").write_text("{}")
        os.utime(folder / "run.json", (1e9 + age, 1e9 + age))
    return names


def test_commands_options_families_and_presets() -> None:
    assert {"prepare", "train", "sample", "eval", "compare", "presets", "demo"} <= set(offered(""))
    assert offered("tr") == ["train", "translate"]
    assert offered("presets", "s") == ["show"]
    assert offered("train", "--pres") == ["--preset"]
    assert "ddim" in offered("train", "")
    assert "ho2020" in offered("train", "ddpm", "--preset", "")
    assert "ho2020" not in offered("train", "ddim", "--preset", "")
    assert "ho2020" in offered("train", "--preset", "ho")
    assert offered("presets", "show", "ddpm/ho2020-l") == ["ddpm/ho2020-lsun256"]
    assert offered("compare", "--format", "") == ["markdown", "csv", "latex"]
    assert offered("frobnicate", "x") == []
    assert offered("prepare", "") == []  # so the shell offers files


def test_runs_come_newest_first_by_path_and_by_name(runs: list[str]) -> None:
    assert offered("sample", "") == [f"runs/{name}" for name in runs[::-1]]
    assert offered("eval", "runs/00000") == [f"runs/{runs[0]}"]
    assert offered("compare", runs[1], "00000") == [runs[0]]


def test_an_option_joined_to_its_value() -> None:
    """Bash hands `=` over as a word of its own, the others the whole word."""
    assert offered("train", "ddim", "--preset", "=", "smo") == ["smoke"]
    assert offered("train", "ddim", "--preset", "=") == offered("train", "ddim", "--preset", "")
    assert offered("train", "ddim", "--preset=smo", shell="zsh") == ["--preset=smoke"]
    assert offered("train", "ddim", "--preset=smo", shell="fish") == ["--preset=smoke"]


def test_quotes_may_be_open() -> None:
    assert offered("presets", "show", '"ddpm/ho2020-l') == ["ddpm/ho2020-lsun256"]
    assert offered("train", "--duration", '"200 epochs"', "dd") == offered("train", "dd")


def test_help_stands_beside_the_words_where_the_shell_shows_it() -> None:
    assert offered("tr", shell="zsh")[0].startswith("train:Train a family")
    assert offered("tr", shell="fish")[0].startswith("train\tTrain a family")


TERMINAL = """
import os, pty, sys, termios, threading, time

os.environ["SHELL"] = "/bin/sh"
shell, terminal = pty.fork()
if shell == 0:
    os.execvp(sys.argv[1], sys.argv[1:])

def swallow():
    try:
        while os.read(terminal, 65536):
            pass
    except OSError:  # the shell is gone
        os._exit(0)

threading.Thread(target=swallow, daemon=True).start()
while keys := os.read(0, 65536):
    while termios.tcgetattr(terminal)[3] & termios.ICANON:  # until the shell's line editor reads keys one by one
        time.sleep(0.01)
    os.write(terminal, keys)
"""
"""A program that runs a shell in a terminal of its own and types what comes on standard input when a prompt is there."""


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("animegen presets show ddpm/ho2020-l\t", "animegen presets show ddpm/ho2020-lsun256"),
        ("animegen trai\tddim --preset=smo\t", "animegen train ddim --preset=smoke"),
        ("animegen sample runs/00001\t", "animegen sample runs/00001-ddpm-fast-faces-64"),
        ("animegen eval --against fac\t", "animegen eval --against faces.zip"),
    ],
)
def test_tab_in_a_real_shell(shell: str, typed: str, meant: str, runs: list[str], tmp_path: Path) -> None:
    """The keys go through a pseudo-terminal; then the line as it stands is quoted and written to a file."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    (tmp_path / "faces.zip").touch()
    program = tmp_path / "bin" / "animegen"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m animegen_cli "$@"\n')
    program.chmod(0o755)
    command, start = SHELLS[shell]
    environment = os.environ | {
        "PATH": f"{program.parent}:{os.environ['PATH']}", "HOME": str(tmp_path), "TERM": "xterm", "COLUMNS": "200",
        "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    terminal = subprocess.Popen(
        [sys.executable, "-c", TERMINAL, *command], cwd=tmp_path, env=environment, bufsize=0,
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert terminal.stdin is not None
    try:
        terminal.stdin.write((start.format(folder=ROOT / "completions") + "\ntouch ready\n").encode())
        appears(tmp_path / "ready")
        # Line editors read one key after the other: what follows TAB waits until the candidates are there.
        terminal.stdin.write(typed.encode() + b"\x01printf %s '\x05' > line; touch written\n")
        appears(tmp_path / "written")
        assert (tmp_path / "line").read_text().rstrip() == meant
    finally:
        terminal.kill()
        terminal.wait()


def appears(file: Path, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not file.exists():
        assert time.monotonic() < end, f"{file.name} never came"
        time.sleep(0.05)
