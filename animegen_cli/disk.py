"""Files that are whole or absent, and that say whether they are as they were written; JSON and YAML within limits.

Whatever a run, a set or a colleague leaves on a disk may be cut short, changed or made by somebody who means harm. What
is read here is refused with a `ValueError` instead of a crash, a hang or a wrong number.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import time
import zlib
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    import yaml

MOST_JSON = 2**26
"""Bytes of the largest JSON file of a run."""
MOST_JSON_VALUES = 2_000_000
"""Values of a JSON text at most: about 200 bytes of memory each."""
MOST_YAML = 2**20
"""Bytes of the largest YAML file."""
MOST_VALUES = 100_000
"""Values of a YAML file at most, with what its aliases stand for counted each time: nine lines can spell a billion."""
_DAY = 86_400  # seconds
_SEAL = "# The sha256 of these values as animegen wrote them: "
_SEALED_LINE = re.compile(r', "crc": "([0-9a-f]{8})"\}$')


# ---- whole or absent ------------------------------------------------------------------------------------------


@contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Give a temporary path beside `path`; what is written there takes its place when the context ends, else it is removed.

    The bytes reach the disk before the new name does, so that a power cut leaves the old file or the new one. Without
    `durable` nobody waits for the disk, which takes some milliseconds a file: for pictures that a command makes by the
    thousand and can make again. A kill leaves them whole or absent too.
    """
    temporary = temporary_beside(path)
    try:
        yield temporary
        if durable:
            sync(temporary)
        os.replace(temporary, path)
        if durable:
            sync(path.parent)
    except OSError as error:
        error.filename = str(path)  # not the temporary name, or none at all
        raise
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def temporary_beside(path: Path) -> Path:
    """What a file or folder is called while this process writes it: `sweep` removes it when the process is dead."""
    return path.with_name(f".{path.name}.{_host()}-{os.getpid()}.tmp")


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, whole or not at all."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Write bytes, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk; folders only where the system can open them."""
    try:
        handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)  # Windows flushes what it may write
    except OSError:
        if path.is_dir():
            return
        raise
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sweep(folder: Path) -> None:
    """Remove what killed processes left half-written in a folder: of this machine's dead ones, and all that is a day old."""
    for file in folder.glob(".*.tmp"):
        found = re.search(r"\.([^.]+)-(\d+)\.tmp$", file.name)
        if found is None:
            continue
        host, number = found[1], int(found[2])
        with suppress(OSError):
            if (host == _host() and not is_alive(number)) or time.time() - file.stat().st_mtime > _DAY:
                shutil.rmtree(file) if file.is_dir() else file.unlink()


@contextmanager
def only_one(path: Path, *, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Wait until no other process is inside `only_one` of the same path; the kernel lets go of what a killed one held.

    Args:
        path: the file or folder that is read, changed and written inside; its lock is a hidden file beside it.
        on_wait: called once when another process is inside.
    """
    from filelock import FileLock, Timeout

    held = FileLock(path.with_name(f".{path.name}.lock"))
    try:
        held.acquire(timeout=0)
    except Timeout:
        on_wait()
        held.acquire()
    try:
        yield
    finally:
        held.release()


def _host() -> str:
    import socket  # slow to load, and `--help` needs no host

    return re.sub(r"[^A-Za-z0-9_-]", "_", socket.gethostname())


def is_alive(number: int) -> bool:
    """Whether this machine has a process of that number."""
    if sys.platform == "win32":  # where signal 0 is Ctrl-C
        return _is_alive_on_windows(number)
    try:
        os.kill(number, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def _is_alive_on_windows(number: int) -> bool:
    import ctypes

    may_look, running = 0x1000, 259  # PROCESS_QUERY_LIMITED_INFORMATION, STILL_ACTIVE
    kernel: Any = getattr(ctypes, "windll").kernel32  # noqa: B009  # of Windows alone
    handle = kernel.OpenProcess(may_look, False, number)
    if not handle:
        return bool(kernel.GetLastError() == 5)  # ERROR_ACCESS_DENIED: somebody else's
    code = ctypes.c_ulong()
    known = kernel.GetExitCodeProcess(handle, ctypes.byref(code))
    kernel.CloseHandle(handle)
    return bool(known) and code.value == running


# ---- as it was written ----------------------------------------------------------------------------------------


def sha256(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    import hashlib

    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def check_png(data: bytes) -> None:
    """ValueError for a PNG one of whose chunks does not match its CRC-32: Pillow looks at few of them."""
    place = 8
    while place < len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        end = place + 8 + length
        if data[end : end + 4] != zlib.crc32(data[place + 4 : end]).to_bytes(4, "big"):
            raise ValueError("it does not match its own checksums")
        place = end + 4


def sealed(value: Mapping[str, Any]) -> dict[str, Any]:
    """The same values as plain JSON, and a checksum of them under `checksum`."""
    plain = json.loads(json.dumps(dict(value), default=str))
    return plain | {"checksum": _checksum(plain)}


def unsealed(value: dict[str, Any]) -> dict[str, Any]:
    """The values without their checksum; ValueError where they do not match it. Values that never had one pass."""
    plain = {key: item for key, item in value.items() if key != "checksum"}
    if "checksum" in value and value["checksum"] != _checksum(plain):
        raise ValueError("it does not match its own checksum")
    return plain


def _checksum(value: object) -> str:
    try:
        text = json.dumps(value, sort_keys=True, default=str)
    except TypeError:  # keys of several kinds: nothing that we write
        text = repr(value)
    import hashlib

    return hashlib.sha256(text.encode()).hexdigest()


def to_line(entry: Mapping[str, Any]) -> str:
    """One line of a log: JSON that ends with a CRC-32 of all before it."""
    text = json.dumps(entry)
    return f'{text[:-1]}, "crc": "{zlib.crc32(text.encode()):08x}"}}\n'


def from_line(line: str) -> dict[str, Any]:
    """What a line of a log holds; ValueError where it is damaged. Lines of earlier versions have no CRC."""
    seal = _SEALED_LINE.search(line)
    text = line[: seal.start()] + "}" if seal else line
    if seal and zlib.crc32(text.encode()) != int(seal[1], 16):
        raise ValueError("it does not match its own checksum")
    entry = parse_json(text)
    if not isinstance(entry, dict):
        raise ValueError("it holds no JSON object")
    return entry


def seal_yaml(text: str) -> str:
    """The same YAML with a comment at its end that holds a checksum of its values: comments and layout may change."""
    return f"{text}{_SEAL}{_checksum(parse_yaml(text)[0])}\n"


def is_as_written(text: str, value: object) -> bool:
    """Whether a YAML text, which means `value`, holds what `seal_yaml` sealed, or was never sealed."""
    _, seal, rest = text.rpartition(_SEAL)
    return not seal or rest.strip() == _checksum(value)


# ---- JSON -----------------------------------------------------------------------------------------------------


def parse_json(text: str | bytes, *, most: int = MOST_JSON_VALUES) -> Any:  # noqa: ANN401  # whatever the file holds
    """Read JSON; ValueError for all that is none, that is nested so deeply that Python gives up, or that may hold more than
    `most` values (three bytes can spell a list of a hundred)."""
    count = text.encode(errors="replace").count if isinstance(text, str) else text.count
    if sum(map(count, (b",", b"[", b"{"))) > most:
        raise ValueError(f"it holds more than {most:,} values")
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def write_json(path: Path, value: Mapping[str, Any], *, seal: bool = False) -> None:
    """Write JSON, whole or not at all; `seal` adds the checksum that `paths.read_json` looks at."""
    write_text(path, json.dumps(sealed(value) if seal else value, indent=1, default=str) + "\n")


# ---- YAML -----------------------------------------------------------------------------------------------------


def parse_yaml(text: str) -> tuple[Any, yaml.Node | None]:
    """Read YAML of plain values.

    Returns:
        The value, and its node, which knows the lines; None for an empty text.

    Raises:
        yaml.YAMLError: it is none, too large, nested too deeply, or means more than `MOST_VALUES` values.
    """
    import yaml

    if len(text) > MOST_YAML:
        raise yaml.YAMLError(f"more than {MOST_YAML // 2**20} MB")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)  # ten times as fast, where libyaml is
    try:
        node = loader.get_single_node()
        if node is None:
            return None, None
        if _values(node, {}) > MOST_VALUES:
            raise yaml.YAMLError(f"more than {MOST_VALUES:,} values, with those that aliases stand for")
        return loader.construct_document(node), node
    except RecursionError:
        raise yaml.YAMLError("nested too deeply") from None
    except ValueError as error:  # a month 13, an integer of 5,000 digits
        raise yaml.YAMLError(str(error)) from None
    finally:
        loader.dispose()


def _values(node: yaml.Node, known: dict[int, float]) -> float:
    """How many values a node means with every alias spelled out; infinite for one that holds itself."""
    if id(node) not in known:
        known[id(node)] = float("inf")
        parts = node.value if isinstance(node.value, list) else ()
        children = [child for part in parts for child in (part if isinstance(part, tuple) else (part,))]
        known[id(node)] = 1 + sum(_values(child, known) for child in children)
    return known[id(node)]
