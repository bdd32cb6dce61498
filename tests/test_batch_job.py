"""The surroundings of a batch job: a user id without a name, no HOME, folders that cannot be written, no terminal."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from pictures import ROOT, folder_of

from animegen_cli import paths
from animegen_cli.data import kaggle
from animegen_cli.errors import MachineError


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No home, as `Path.home` says for a user id without a name; temporary files in a folder of their own, which is returned."""

    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_the_cache_is_where_it_was_asked_for_or_below_the_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "chosen"))
    assert paths.cache() == tmp_path / "chosen" / "animegen"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert paths.cache() == tmp_path / ".cache" / "animegen"
    assert list(tmp_path.iterdir()) == []


def test_without_a_home_the_cache_is_a_private_temporary_folder(homeless: Path) -> None:
    cache = paths.cache()
    assert cache == homeless / f"animegen-{os.getuid()}"
    assert cache.stat().st_mode & 0o777 == 0o700
    assert paths.cache() == cache
    assert paths.home() is None
    assert not kaggle._has_credentials()


def test_a_temporary_folder_of_somebody_else_is_not_used(
    homeless: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (homeless / f"animegen-{os.getuid()}").symlink_to(tmp_path_factory.mktemp("elsewhere"))
    with pytest.raises(MachineError, match="no folder to keep downloads in") as error:
        paths.cache()
    assert error.value.hint
    assert "XDG_CACHE_HOME" in error.value.hint
    assert error.value.exit_code == 5


@pytest.mark.parametrize("home", ["/proc/nowhere", "/dev/null"])
def test_a_home_that_cannot_be_written_is_passed_over(
    home: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", home)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).startswith(("/proc", "/dev")))
    assert paths.cache() == tmp_path / f"animegen-{os.getuid()}"


def test_eval_by_a_user_without_a_name(tmp_path: Path) -> None:
    """As in a container that was started with a user id alone."""
    names = ["unshare", "--user", "--map-user=54321", "--map-group=54321"]
    try:
        allowed = subprocess.run([*names, "true"], capture_output=True).returncode == 0
    except FileNotFoundError:
        allowed = False
    if not allowed:
        pytest.skip("users cannot be mapped here")
    folder_of(tmp_path / "in", 24, (16, 16))
    environment = {
        key: value for key, value in os.environ.items() if key not in ("HOME", "USER", "LOGNAME", "XDG_CACHE_HOME")
    }
    environment |= {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    words = ["eval", "in", "--against", "in", "--metrics", "fd-faces", "--device", "cpu"]
    done = subprocess.run(
        [*names, sys.executable, "-m", "animegen_cli", *words], cwd=tmp_path, env=environment, capture_output=True, text=True,
        stdin=subprocess.DEVNULL, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "fd-faces" in done.stdout
    assert (tmp_path / "animegen-54321" / "features").is_dir()
