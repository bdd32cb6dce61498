"""Where Inception's weights come from: a path, ANIMEGEN_WEIGHTS or the cache folder; never fetched unasked.

A TorchScript or state-dict file is read once; the cache folder then holds it as safetensors.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import urllib.error
import urllib.request
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open

from animegen_cli import console, disk
from animegen_cli.errors import DataError, MachineError
from animegen_cli.model.checkpoint import write_tensors
from animegen_cli.model.nets.inception import Inception, from_tensors, from_torchscript
from animegen_cli.paths import cache

if TYPE_CHECKING:
    from collections.abc import Collection

INCEPTION_URL = "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/inception-2015-12-05.pt"
INCEPTION_SHA256 = "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4"
"""clean-fid's network file, a TorchScript by NVIDIA (91 MB)."""
PYTORCH_FID_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
"""pytorch-fid's state dict of the same network."""
KNOWN = frozenset({INCEPTION_SHA256, PYTORCH_FID_SHA256})

FILE_NAMES = (
    "inception-2015-12-05.pt",
    "pt_inception-2015-12-05-6726825d.pth",
    "weights-inception-2015-12-05-6726825d.pth",
)


def find_inception(weights: str | Path | None = None) -> Path:
    """Find the weights file: at `weights`, else at ANIMEGEN_WEIGHTS (either a file or a folder), else in the cache folder.

    Raises:
        MachineError: there is none; its hint says what to type.
    """
    given = weights or os.environ.get("ANIMEGEN_WEIGHTS")
    place = Path(given).expanduser() if given else cache()
    if place.is_file():
        return place
    converted = [_converted_name(sha) for sha in (INCEPTION_SHA256, PYTORCH_FID_SHA256)]
    for name in (*FILE_NAMES, *converted):
        if (place / name).is_file():
            return place / name
    where = f"`{given}` is neither such a file nor a folder with one" if given else f"none in `{place}`"
    raise MachineError(
        f"FID, KID and IS need Inception's weights: {where}",
        hint="type `animegen weights` to fetch them once (91 MB), or add `--weights PATH` to"
        " clean-fid's `inception-2015-12-05.pt`; fd-faces and fd-squeezenet work without them",
    )


def open_inception(weights: str | Path | None = None, *, known: Collection[str] = KNOWN) -> tuple[Inception, str]:
    """Open the network; a converted copy is left in the cache folder where that can be written.

    Args:
        weights: a file or its folder, see `find_inception`.
        known: sha256 of the files that may be opened.

    Returns:
        The network, and the sha256 of the file that its weights came from.

    Raises:
        MachineError: there is no file.
        DataError: its sha256 is not `known`, or it cannot be read.
    """
    path = find_inception(weights)
    if path.suffix == ".safetensors":
        net, sha = _load_converted(path)
        _check(path, sha, known)
        return net, sha
    sha = disk.sha256(path)
    _check(path, sha, known)
    converted = cache() / _converted_name(sha)
    if converted.is_file():
        with contextlib.suppress(DataError):  # a damaged copy is simply made anew
            return _load_converted(converted)
    net = from_torchscript(path) if _is_torchscript(path) else _from_state_dict(path)
    with contextlib.suppress(OSError):  # a cache folder that cannot be written costs only time
        _save_converted(converted, net, sha)
    return net, sha


def download_weights(
    url: str = INCEPTION_URL, dest: Path | None = None, *, sha256: str | None = INCEPTION_SHA256
) -> Path:
    """Fetch the weights, unless they are there, and return their file.

    An interrupted download goes on where it stopped. The file appears under its name only when it is whole
    and its sha256 is right.

    Args:
        url: where they are fetched from.
        dest: the file to write; by default in the cache folder.
        sha256: what the file must have; None takes any.

    Raises:
        MachineError: the network or the disk fails.
        DataError: it is another file.
    """
    dest = dest or cache() / FILE_NAMES[0]
    if dest.is_file() and (sha256 is None or disk.sha256(dest) == sha256):
        return dest
    part = dest.with_name(dest.name + ".part")
    try:
        dest.parent.mkdir(parents=True, exist_ok=True)
        _fetch(url, part)
    except urllib.error.URLError as problem:
        raise MachineError(
            f"`{url}` cannot be fetched: {problem.reason}",
            hint=f"fetch it on another machine and put it at `{dest}`",
        ) from problem
    except OSError as problem:
        raise MachineError(
            f"the download stopped: {problem}", hint="type the same command again; it goes on from there"
        ) from problem
    if sha256 is not None and (found := disk.sha256(part)) != sha256:
        part.unlink()
        raise DataError(
            f"`{url}` gave another file than expected: sha256 {found[:12]}…, not {sha256[:12]}…",
            hint="try again; if it stays so, the server or a proxy changes the file",
        )
    disk.sync(part)
    part.replace(dest)
    return dest


def _fetch(url: str, part: Path) -> None:
    """Append to `part` what is still missing of `url`."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=60)
    except urllib.error.HTTPError as problem:
        if problem.code != 416:  # 416: nothing is missing
            raise
        return
    with response:
        resumed = have and response.status == 206
        have = have if resumed else 0
        missing = int(response.headers.get("Content-Length") or 0)
        with part.open("ab" if resumed else "wb") as file, _bar(have, missing) as bar:
            while chunk := response.read(1 << 18):
                file.write(chunk)
                bar.advance(len(chunk))
        if missing and part.stat().st_size != have + missing:
            raise OSError(f"{part.stat().st_size - have:,} of {missing:,} bytes came")


def _bar(have: int, missing: int) -> contextlib.AbstractContextManager[console.Progress]:
    return console.progress("weights", have + missing, done=have)


def _check(path: Path, sha: str, known: Collection[str]) -> None:
    if sha not in known:
        raise DataError(
            f"`{path}` is not the network that FID is defined by (sha256 {sha[:12]}…)",
            hint="type `animegen weights` to fetch the right one, or give clean-fid's or pytorch-fid's file",
        )


def _is_torchscript(path: Path) -> bool:
    """TorchScript archives hold code; state dicts do not."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any("/code/" in name for name in archive.namelist())
    except zipfile.BadZipFile:
        return False


def _from_state_dict(path: Path) -> Inception:
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, KeyError, ValueError) as problem:
        reason = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
        raise DataError(f"`{path}` holds no weights: {reason}", hint="fetch it again") from problem
    if not isinstance(tensors, dict) or not all(isinstance(value, torch.Tensor) for value in tensors.values()):
        raise DataError(f"`{path}` is no plain state dict", hint="give pytorch-fid's own file")
    return from_tensors(tensors, path)


def _converted_name(sha: str) -> str:
    return f"inception-{sha[:12]}.safetensors"


def _save_converted(path: Path, net: Inception, sha: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.contiguous() for name, tensor in net.state_dict().items()}
    with disk.replacing(path) as temporary:
        write_tensors(temporary, tensors, {"source_sha256": sha})


def _load_converted(path: Path) -> tuple[Inception, str]:
    try:
        with safe_open(path, framework="pt") as file:
            sha = (file.metadata() or {}).get("source_sha256", "unknown")
            # clones, because the file may be rewritten under a mapping of it
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        with torch.device("meta"):
            net = Inception()
        net.load_state_dict(tensors, assign=True)
    except (SafetensorError, RuntimeError, OSError) as problem:
        raise DataError(
            f"`{path}` is damaged: {str(problem).splitlines()[0]}", hint="delete it; it is made anew"
        ) from problem
    return net.eval().requires_grad_(False), sha
