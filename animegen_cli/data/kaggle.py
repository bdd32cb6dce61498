"""Downloads from Kaggle, with the extra `animegen[kaggle]` and the user's own credentials."""

from __future__ import annotations

import importlib.util
import os
import re
from pathlib import Path

from animegen_cli import console, paths
from animegen_cli.errors import MachineError, UsageError


def download(spec: str, folder: Path) -> Path:
    """Download the archive of `kaggle:OWNER/NAME` into `folder`, once, and give its path.

    Raises:
        UsageError: `spec` is spelled otherwise.
        MachineError: the extra or the credentials are missing, or Kaggle refuses.
    """
    match = re.fullmatch(r"kaggle:([\w-]+)/([\w.-]+)", spec)
    if match is None:
        raise UsageError(f"`{spec}` is no Kaggle data set", hint="write `kaggle:OWNER/NAME`, as in its web address")
    owner, name = match.groups()
    archive = folder / f"{owner}-{name}.zip"
    if archive.is_file():
        console.note(f"using {archive}, downloaded before (delete it to download again)")
        return archive
    if importlib.util.find_spec("kaggle") is None:
        raise MachineError(
            f"{spec} needs the Kaggle client",
            hint="`pip install 'animegen[kaggle]'`, or download the archive in a browser and name the file",
        )
    if not _has_credentials():
        raise MachineError(
            f"{spec} needs your Kaggle credentials",
            hint="save an API token as ~/.kaggle/kaggle.json, or set KAGGLE_USERNAME and KAGGLE_KEY",
        )
    console.note(f"downloading {spec} to {archive}")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        _fetch(f"{owner}/{name}", folder)
        (folder / f"{name}.zip").replace(archive)
    except (Exception, SystemExit) as error:  # the client raises many kinds, and exits on a bad token
        raise MachineError(
            f"Kaggle did not send {owner}/{name}: {error}",
            hint="check the name and accept the data set's terms in a browser, or download it there",
        ) from error
    return archive


def _has_credentials() -> bool:
    home = Path(os.environ.get("KAGGLE_CONFIG_DIR") or (paths.home() or Path("/")) / ".kaggle")
    in_environment = {"KAGGLE_USERNAME", "KAGGLE_KEY"} <= os.environ.keys() or "KAGGLE_API_TOKEN" in os.environ
    return in_environment or (home / "kaggle.json").is_file() or (home / "access_token").is_file()


def _fetch(name: str, folder: Path) -> None:
    """Download `folder`/<name>.zip with the client's own code."""
    from kaggle.api.kaggle_api_extended import KaggleApi

    api = KaggleApi()
    api.authenticate()
    api.dataset_download_files(name, path=str(folder), unzip=False, quiet=console.is_quiet())
