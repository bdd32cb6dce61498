"""The command as a person or a script meets it: real processes, their output, their exit codes."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from chain import on_terminal, refused

from animegen_cli import errors
from animegen_cli.cli import errors as manners
from animegen_cli.cli import reference

COMMANDS = [context.command_path.removeprefix("animegen ") for context in reference.commands()]
PLAIN = {key: value for key, value in os.environ.items() if key not in {"NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"}}


PREPARE = "prepare demo --limit 24 --resolution 16 --out a.zip"


def started(line: str) -> list[str]:
    return [sys.executable, "-m", "animegen_cli", *shlex.split(line)]


def animegen(line: str, *, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(started(line), cwd=cwd, env=PLAIN | env, capture_output=True, text=True, timeout=120)


def on_a_terminal(line: str, *, cwd: Path, **env: str) -> str:
    """What the command writes when all its streams are a terminal."""
    return on_terminal(started(line), cwd=cwd, env=PLAIN | {"TERM": "xterm"} | env)[1]


# ---- help -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", COMMANDS, ids=str)
def test_help_has_examples_that_run_the_command(words: str, tmp_path: Path) -> None:
    done = animegen(f"{words} --help", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    shown = manners.examples(done.stdout)
    assert shown, "no example"
    assert all(f"{command} ".startswith(f"animegen {words} ") for command, _ in shown)
    assert "--json" in done.stdout
    assert "--quiet" in done.stdout


def test_the_examples_use_words_that_exist() -> None:
    """Each parses: its options are known and their values are of the right kind."""
    for context in reference.commands():
        for command, _ in manners.examples(context.command.help):
            words = shlex.split(command.removeprefix(context.command_path))
            context.command.make_context(context.command_path, words, resilient_parsing=False)


def test_both_ways_to_start_say_the_same(tmp_path: Path) -> None:
    module = animegen("--help", cwd=tmp_path)
    script = Path(sys.executable).with_name("animegen")
    if not script.exists():
        pytest.skip("the package is not installed")
    installed = subprocess.run([script, "--help"], cwd=tmp_path, env=PLAIN, capture_output=True, text=True, check=True)
    assert module.stdout == installed.stdout
    assert "Usage: animegen " in module.stdout


def test_nothing_typed_shows_the_commands(tmp_path: Path) -> None:
    done = animegen("", cwd=tmp_path)
    assert done.returncode == 2
    assert "prepare" in done.stderr
    assert "error" not in done.stderr


# ---- wrong words ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("trian", "did you mean `train`?"),
        ("presets shwo", "did you mean `show`?"),
        ("xyzzy", "choose one of `compare`, `completion`, `demo`"),
        ("train --prset fast", "did you mean `--preset`?"),
        ("prepare x --resolutoin 32", "did you mean `--resolution`?"),
        ("train --wxzzw", "see `animegen train --help`"),
        ("prepare", "for example `animegen prepare ./kaggle`"),
        ("presets show", "for example `animegen presets show ddpm/ho2020`"),
        ("presets list ddmp", "did you mean `ddpm`?"),
        ("presets show ddpm/ho202", "did you mean `ho2020`?"),
        ("presets show ho202", "did you mean `ddpm/ho2020`?"),
        ("compare --format latx", "did you mean `latex`?"),
        ("demo --size 900", "see `animegen demo --help`"),
        ("demo --size big", "see `animegen demo --help`"),
        ("sample one two", "see `animegen sample --help`"),
        ("sample --n", "see `animegen sample --help`"),
        ("sample --mix 3-1 4", "write `--mix 0-4 10-14`"),
        ("sample --cut 2", "add `--mix"),
        ("sample --amount 0.3", "add `--vary 3`"),
        ("sample --vary 3 --amount 1.5", "such as `--amount 0.3`"),
        ("sample --vary 3 --amount nan", "such as `--amount 0.3`"),
        ("sample --vary 3 --seeds 0-9", "write others: `--seeds 4-11`"),
        ("sample --vary 3 --interpolate 1 2", "write two commands: `animegen sample --vary 3`"),
        ("sample --vary 3 --mix 1 2", "then the one with `--mix`"),
        ("sample --inpaint mask.png", "--image face.png"),
        ("sample --project x.png --project-loss l3", "use perceptual or pixels"),
        ("translate", "for example `animegen translate photo.jpg --out anime`"),
        ("translate a b c", "name the folder they lie in"),
        ("translate . --noize 1", "did you mean `--noise`?"),
        ("translate . --strength 0", "see `animegen translate --help`"),
        ("translate . --fit crpo", "use crop, pad or stretch"),
        ("compare --seeds 9-3", "write `--seeds 0-7,100`"),
        ("prepare demo --fit crpo", "crop"),
    ],
)
def test_wrong_words_exit_2_and_say_what_to_type(words: str, hint: str, tmp_path: Path) -> None:
    done = animegen(words, cwd=tmp_path)
    assert done.returncode == 2
    assert hint in done.stderr.splitlines()[-1]
    assert "error: " in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        ("ddmp", "no family `ddmp`", "did you mean `ddpm`?"),
        ("ddpm --preset ho202", "`ddpm` has no preset `ho202`", "did you mean `ho2020`?"),
        ("ddim --preset smoke --set train.bach=3", "unknown key `bach` in `train`", "did you mean `batch`?"),
        ("ddim --preset smoke --set model.widht=3", "unknown key `widht` in `model`", "did you mean `width"),
        ("ddim --preset smoke --set train.batch=many", "`train.batch`", "animegen presets show ddim/"),
        ("ddim --preset smoke --set train.batch", "has no `=`", "write `--set train.batch=32`"),
        ("ddim --preset smoke --duration long", "is not an amount such as `200 epochs`", "animegen presets show ddim/"),
    ],
)
def test_wrong_settings_of_a_run(words: str, message: str, hint: str, faces: Path, tmp_path: Path) -> None:
    done = animegen(f"train {words} --data {shlex.quote(str(faces))} --dry-run", cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert hint in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faces")
    done = animegen(PREPARE, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "a.zip"


# ---- wrong files ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        "prepare nosuch",
        "prepare broken.zip",
        "prepare empty",
        "sample runs/00001-nothing",
        "sample",
        "compare nosuch",
        "compare",
        "train ddim --data broken.zip --dry-run",
        "train ddim --data nosuch.zip --dry-run",
        "train ddim --config nosuch.yaml --dry-run --data broken.zip",
        "eval nosuch",
        "translate nosuch",
        "translate empty",
        "translate runs/00001-nothing empty",
    ],
)
def test_wrong_files_exit_3_with_a_hint(words: str, tmp_path: Path) -> None:
    (tmp_path / "broken.zip").write_bytes(b"PK\x03\x04 and no more")
    (tmp_path / "empty").mkdir()
    done = animegen(words, cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    *_, said, hint = done.stderr.splitlines()
    assert said.startswith("error: ")
    assert hint.startswith("  ")
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_mistyped_run_gets_the_nearest(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "00000-ddim-smoke-faces-32"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text("{}")
    for typo in ("runs/0000-ddim-smoke-faces-32", "00000-ddim-smok-faces"):
        done = animegen(f"compare {typo} --no-images", cwd=tmp_path)
        assert done.returncode == 3
        assert "00000-ddim-smoke-faces-32`?" in done.stderr.splitlines()[-1]


def test_errors_of_the_system_are_sentences() -> None:
    """A full disk is the machine's (5), a file out of reach the user's (3), and anything else stays our bug."""
    full = manners.explained(OSError(28, "No space left on device", "runs/a/state"))
    assert isinstance(full, errors.MachineError)
    assert full.message == "runs/a/state: no space left on device"
    denied = manners.explained(PermissionError(13, "Permission denied", "/root/faces.zip"))
    assert isinstance(denied, errors.DataError)
    assert denied.message == "/root/faces.zip: permission denied"
    assert isinstance(manners.explained(MemoryError()), errors.MachineError)
    inside = Path(manners.__file__).with_name("nothing")
    for bug in (KeyError("x"), OSError("no name"), FileNotFoundError(2, "No such file", str(inside))):
        assert manners.explained(bug) is None


# ---- streams --------------------------------------------------------------------------------------------------


def test_a_pipe_is_plain(tmp_path: Path) -> None:
    done = animegen(PREPARE, cwd=tmp_path)
    listed = animegen("presets list", cwd=tmp_path)
    wrong = animegen("presets show ddpm/ho202", cwd=tmp_path)
    for text in (done.stdout, done.stderr, listed.stdout, wrong.stderr):
        assert text
        assert not set(text) & set("\x1b\r━│┃█▏╸")
    smoke = next(line for line in listed.stdout.splitlines() if line.startswith("ddpm/smoke "))
    assert len(smoke.split()) > 3, "a preset and its words stand on one line, for grep"


def test_no_color_makes_a_terminal_plain(tmp_path: Path) -> None:
    assert "\x1b[" in on_a_terminal("presets show ddpm/ho202", cwd=tmp_path)
    assert "\x1b" not in on_a_terminal("presets show ddpm/ho202", cwd=tmp_path, NO_COLOR="1")
    assert "\x1b" not in on_a_terminal(PREPARE, cwd=tmp_path, NO_COLOR="1")


def test_json_is_the_whole_standard_output(tmp_path: Path) -> None:
    done = animegen(f"{PREPARE} --json", cwd=tmp_path)
    assert json.loads(done.stdout)["images"] == 24
    assert "preparing" in done.stderr
    assert len(json.loads(animegen("presets list --json", cwd=tmp_path).stdout)) > 10
    shown = json.loads(animegen("presets show ddpm/ho2020 --json", cwd=tmp_path).stdout)
    assert shown["values"]["optim"]["model"]["lr"] == pytest.approx(2e-4)
    wrong = animegen("presets show ddpm/ho202 --json", cwd=tmp_path)
    assert (wrong.returncode, wrong.stdout) == (2, "")


def test_quiet_says_nothing_but_the_result(tmp_path: Path) -> None:
    done = animegen(f"{PREPARE} --quiet", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "a.zip" in done.stdout
    assert animegen("prepare nosuch --quiet", cwd=tmp_path).stderr.startswith("error: ")


def test_nobody_reads_on(tmp_path: Path) -> None:
    """`animegen presets show ... | head -1` ends without a word of complaint."""
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.Popen(
        started("presets show ddpm/ho2020"),
        cwd=tmp_path, env=PLAIN, stdout=writer, stderr=subprocess.PIPE,
    )  # fmt: skip
    os.close(writer)
    _, complaint = process.communicate(timeout=60)
    assert (process.returncode, complaint) == (0, b"")


def test_a_terminal_without_unicode(tmp_path: Path) -> None:
    done = animegen("presets show ddpm/ho2020", cwd=tmp_path, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("whole_group", [False, True], ids=["the command alone", "as Ctrl-C does"])
def test_ctrl_c_while_preparing(whole_group: bool, tmp_path: Path) -> None:
    process = subprocess.Popen(
        started("prepare demo --limit 50000 --workers 2 --out a.zip"), cwd=tmp_path, env=PLAIN, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    assert process.stderr is not None
    while "labels of demo" not in process.stderr.readline():
        assert process.poll() is None
    time.sleep(1)
    os.killpg(process.pid, signal.SIGINT) if whole_group else process.send_signal(signal.SIGINT)
    written, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert written == ""
    assert "Traceback" not in said
    assert not (tmp_path / "a.zip").exists()
    with pytest.raises(ProcessLookupError):  # no worker is left behind
        os.killpg(process.pid, 0)


def test_ctrl_c_that_a_library_swallowed(tmp_path: Path) -> None:
    """Interrupted in the middle of its import, numpy raises an ImportError; the person still pressed Ctrl-C."""
    (tmp_path / "library.py").write_text(
        "import os, signal\n"
        "try:\n    os.kill(os.getpid(), signal.SIGINT)\n    [n for n in range(10**8)]\n"
        "except KeyboardInterrupt:\n    raise ImportError('cannot load twice') from None\n"
    )
    script = (
        "import typer\nfrom animegen_cli.cli import errors\napp = typer.Typer()\n"
        "@app.command()\ndef command() -> None:\n    import library\nerrors.run(app)"
    )
    env = PLAIN | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (130, "")
    (tmp_path / "library.py").write_text("raise ImportError('a bug')")
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "ImportError: a bug" in done.stderr


# ---- speed ----------------------------------------------------------------------------------------------------

QUICK = [
    ("--help", ""),
    ("train --help", ""),
    ("translate --help", ""),
    ("presets list", ""),
    ("presets show ddpm/ho2020", ""),
    ("train dd", "bash"),
    ("sample ''", "fish"),
    ("train ddpm --preset ''", "zsh"),
]


@pytest.mark.parametrize(("words", "tab"), QUICK)
def test_torch_is_not_imported(words: str, tab: str, tmp_path: Path) -> None:
    """Python itself lists what it imports."""
    done = animegen(words, cwd=tmp_path, PYTHONPROFILEIMPORTTIME="1", _ANIMEGEN_COMPLETE=tab)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "animegen_cli.cli" in imported
    assert not imported & {"torch", "torchvision", "scipy", "PIL", "numpy"}
    if not words.startswith("presets"):
        assert not imported & {"rich", "yaml", "pydantic"}
    assert done.returncode == 0


# ---- names with control characters ----------------------------------------------------------------------------


def test_a_name_cannot_rule_the_terminal(tmp_path: Path) -> None:
    """An escape sequence in a folder's name could set the window's title or clear the screen."""
    name = "a\x1b]0;title\x07\x1b[2J\u202eb"
    folder = tmp_path / "runs" / f"00000-{name}"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text('{"abilities": []}')
    for words in (["sample", str(folder)], ["sample", name], ["train", "ddpm", "--data", name]):
        said = refused(2 if words[1] == str(folder) else 3, *words, cwd=tmp_path)
        assert "\\x1b]0;title\\x07" in said
        assert not {"\x1b", "\x07", "\u202e"} & set(said)
