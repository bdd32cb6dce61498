"""`prepare` on bad input: broken pictures, hostile archives, missing permissions, full disks, interruptions."""

from __future__ import annotations

import io
import itertools
import os
import resource
import signal
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytest
from pictures import ROOT, command, encoded, folder_of, hint_of, huge_png, made, picture
from PIL import Image

from animegen_cli.data import cleaning, decoding, sources
from animegen_cli.data.dataset import FaceSet
from animegen_cli.errors import DataError, MachineError
from animegen_cli.prepare import workers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


pytestmark = pytest.mark.usefixtures("quiet")


def dropped(source: Path, out: Path, **options: Any) -> dict[str, int]:
    """Prepare `source`, which holds at least one good picture, and say what was dropped."""
    return made(source, out, **options).manifest["dropped"]


def center(data: bytes) -> list[int]:
    """Decode, and give the middle pixel."""
    image = decoding.decode(data)
    assert image.mode == "RGB"
    return np.asarray(image)[image.height // 2, image.width // 2].tolist()


# ---- pictures that are odd but good ----------------------------------------------------------------------------


def test_odd_pictures_become_plain_rgb() -> None:
    red = Image.new("RGB", (8, 8), (200, 30, 40))
    assert center(encoded(red.convert("CMYK"), "tiff")) == pytest.approx([200, 30, 40], abs=1)
    assert center(encoded(red.convert("P", palette=Image.Palette.ADAPTIVE))) == [200, 30, 40]
    assert center(encoded(Image.new("L", (8, 8), 77))) == [77] * 3
    assert center(encoded(Image.new("1", (8, 8), 1))) == [255] * 3
    assert center(encoded(red, "webp", lossless=True)) == [200, 30, 40]
    cmyk = center(encoded(red.convert("CMYK"), "jpeg", quality=95))
    assert cmyk == pytest.approx([200, 30, 40], abs=6)


def test_sixteen_bits_become_eight() -> None:
    deep = np.full((8, 8), 0x8040, np.uint16)
    assert center(encoded(Image.fromarray(deep))) == [128] * 3
    assert center(encoded(Image.fromarray(deep), "tiff")) == [128] * 3
    assert center(encoded(Image.fromarray(np.full((8, 8), 0.5, np.float32)), "tiff")) == [128] * 3


def test_alpha_lies_over_white() -> None:
    assert center(encoded(Image.new("RGBA", (8, 8), (0, 0, 0, 0)))) == [255] * 3
    assert center(encoded(Image.new("RGBA", (8, 8), (255, 0, 0, 128)))) == [255, 127, 127]
    assert center(encoded(Image.new("LA", (8, 8), (0, 0)))) == [255] * 3
    holes = Image.new("P", (8, 8), 3)
    holes.putpalette([9] * 768)
    assert center(encoded(holes, transparency=3)) == [255] * 3
    assert center(encoded(Image.new("RGB", (8, 8), (1, 2, 3)), transparency=(1, 2, 3))) == [255] * 3


def test_exif_turns_the_picture_upright() -> None:
    upright = Image.new("RGB", (40, 20), "blue")
    upright.paste("yellow", (0, 0, 40, 4))
    tags = Image.Exif()
    tags[0x0112] = 6  # stored a quarter turn to the left
    stored = upright.transpose(Image.Transpose.ROTATE_90)
    decoded = decoding.decode(encoded(stored, "jpeg", quality=100, subsampling=0, exif=tags))
    assert decoded.size == (40, 20)
    assert abs(np.asarray(decoded).astype(int) - np.asarray(upright)).mean() < 8


def test_broken_exif_loses_no_picture() -> None:
    data = encoded(picture(1), "jpeg", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff\x00\x01")
    assert decoding.decode(data).size == (64, 64)


def test_animations_give_their_first_frame() -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "green", "blue")]
    for kind in ("gif", "webp", "png"):
        data = encoded(
            frames[0],
            kind,
            save_all=True,
            append_images=frames[1:],
            duration=50,
            **({"lossless": True} if kind == "webp" else {}),
        )
        assert center(data) == [255, 0, 0], kind


# ---- pictures that are dropped ---------------------------------------------------------------------------------


def test_each_bad_picture_is_dropped_with_its_reason(tmp_path: Path) -> None:
    source = folder_of(tmp_path / "faces", 3)
    whole = encoded(picture(9, (128, 128)), "jpeg", quality=95)
    bad = {
        "cut.jpg": whole[: len(whole) // 2],
        "cut.png": encoded(picture(9))[:-300],
        "empty.png": b"",
        "text.png": b"this is a text file\n" * 20,
        "page.jpg": b"<html><body>404</body></html>",
        "huge.png": huge_png(60_000, 60_000),
        "wide.png": huge_png(30_000, 4_000),
        "noise.png": b"\x89PNG\r\n\x1a\n" + os.urandom(400),
        "small.png": encoded(picture(8, (15, 40))),
    }
    for name, data in bad.items():
        (source / name).write_bytes(data)
    reasons = dropped(source, tmp_path / "out.zip")
    assert reasons.pop("not a picture", 0) + reasons.pop("damaged or cut short", 0) == 4
    assert reasons.pop("a web page, not a picture") == 1
    assert reasons == {"empty file": 1, "too many pixels": 2, "too small": 1}
    faces = FaceSet.open(tmp_path / "out.zip")
    assert len(faces) == 3
    assert {name for name, _ in faces.manifest["dropped_names"]} == set(bad)
    assert (tmp_path / "out.contact.png").is_file()


def test_a_huge_picture_takes_no_memory(tmp_path: Path) -> None:
    (tmp_path / "huge.png").write_bytes(huge_png(60_000, 60_000))
    code = (
        "import resource, sys; from animegen_cli.data import cleaning\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        f"result = cleaning.opened(open({str(tmp_path / 'huge.png')!r}, 'rb').read())\n"
        "print(result.reason, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    reason, kilobytes = done.stdout.rsplit(" ", 1)
    assert reason == "too many pixels"
    assert int(kilobytes) < 20_000


def test_min_size_decides_what_is_too_small(tmp_path: Path) -> None:
    source = folder_of(tmp_path / "faces", 3, (20, 20))
    folder_of(source, 2, (32, 32), first=10)
    assert dropped(source, tmp_path / "a.zip") == {}
    assert dropped(source, tmp_path / "b.zip", min_size=21) == {"too small": 3}
    assert dropped(source, tmp_path / "c.zip", size=64) == {"too small": 3}


def test_nothing_usable_says_why_and_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no picture in") as error:
        dropped(tmp_path / "empty", tmp_path / "out.zip")
    assert "PNG" in hint_of(error.value)
    folder_of(tmp_path / "tiny", 2, (8, 8))
    (tmp_path / "tiny" / "x.png").write_text("text")
    with pytest.raises(DataError, match="1 not a picture, 2 too small") as error:
        dropped(tmp_path / "tiny", tmp_path / "out.zip")
    assert "--min-size" in hint_of(error.value)
    done = command("empty", "--out", "out.zip", cwd=tmp_path)
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "tiny"]


def test_missing_and_foreign_sources(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr("a.png", encoded(picture(1)))
    (tmp_path / "cut.zip").write_bytes(whole.getvalue()[:-30])
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        tar.add(folder_of(tmp_path / "faces", 8), "faces")
    (tmp_path / "cut.tar.gz").write_bytes(packed.getvalue()[: len(packed.getvalue()) // 2])
    for name, message in (
        ("nothing", "there is no"),
        ("notes.txt", "neither a folder nor"),
        ("cut.zip", "damaged"),
        ("cut.tar.gz", "damaged"),
    ):
        with pytest.raises(DataError, match=message) as error:
            dropped(tmp_path / name, tmp_path / "out.zip")
        assert hint_of(error.value)
    assert not (tmp_path / "out.zip").exists()


# ---- hostile archives ------------------------------------------------------------------------------------------


def test_hostile_names_and_links_in_a_zip(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr("good.png", encoded(picture(0)))
        for name in ("../up.png", "a/../../up.png", "/etc/absolute.png", "C:/windows.png", "..\\up.png"):
            archive.writestr(name, encoded(picture(1)))
        link = zipfile.ZipInfo("link.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("__MACOSX/._good.png", b"resource fork")
    reasons = dropped(tmp_path / "evil.zip", tmp_path / "out" / "set.zip")
    assert reasons == {"unsafe name in an archive": 5, "link in an archive": 1}
    found = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")}
    assert found == {"evil.zip", "out", "out/set.zip", "out/set.contact.png"}


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_hostile_names_and_links_in_a_tar(tmp_path: Path, mode: Literal["w", "w:gz"]) -> None:
    data = encoded(picture(0))

    def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
        info = tarfile.TarInfo(name)
        info.type, info.linkname, info.size = kind, link, len(data) if kind == tarfile.REGTYPE else 0
        return info

    with tarfile.open(tmp_path / "evil.tar", mode) as tar:
        for name in ("./good.png", "../up.png", "/etc/absolute.png"):
            tar.addfile(member(name), io.BytesIO(data))
        tar.addfile(member("soft.png", tarfile.SYMTYPE, "/etc/passwd"))
        tar.addfile(member("hard.png", tarfile.LNKTYPE, "good.png"))
        tar.addfile(member("fifo.png", tarfile.FIFOTYPE))
    reasons = dropped(tmp_path / "evil.tar", tmp_path / "out.zip")
    assert reasons == {"unsafe name in an archive": 2, "link in an archive": 2, "not a regular file": 1}


def test_zip_bombs_are_never_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("good.png", encoded(picture(0)))
        with archive.open("large.png", "w", force_zip64=True) as member:
            for _ in range(200):
                member.write(bytes(2**20))
        archive.writestr("liar.png", bytes(50 * 2**20))
    data = bytearray((tmp_path / "bomb.zip").read_bytes())
    entry = data.rindex(b"liar.png") - 46  # its central directory entry: claim 1,000 bytes instead of 50 MB
    data[entry + 24 : entry + 28] = (1000).to_bytes(4, "little")
    (tmp_path / "bomb.zip").write_bytes(data)
    assert dropped(tmp_path / "bomb.zip", tmp_path / "out.zip") == {"damaged in its archive": 1, "file too large": 1}


def test_damage_inside_an_archive_costs_one_picture(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "faces.zip", "w") as archive:
        for number in range(5):
            archive.writestr(f"{number}.png", encoded(picture(number)))
        place = archive.getinfo("2.png").header_offset
    data = bytearray((tmp_path / "faces.zip").read_bytes())
    data[place + 500] ^= 0xFF
    (tmp_path / "faces.zip").write_bytes(data)
    assert dropped(tmp_path / "faces.zip", tmp_path / "out.zip") == {"damaged in its archive": 1}


@pytest.mark.parametrize("member", ["dataset.json", "manifest.json"])
def test_a_set_whose_labels_are_damaged_is_refused_before_they_are_lost(tmp_path: Path, member: str) -> None:
    made("demo", tmp_path / "faces.zip", size=16, limit=20)
    with zipfile.ZipFile(tmp_path / "faces.zip") as archive:
        place = archive.getinfo(member).header_offset
    data = bytearray((tmp_path / "faces.zip").read_bytes())
    data[place + 500] ^= 0x40
    (tmp_path / "faces.zip").write_bytes(data)
    with pytest.raises(DataError, match=f"{member} in faces.zip cannot be read: damaged in its archive") as error:
        made(tmp_path / "faces.zip", tmp_path / "out.zip")
    assert "`--labels none`" in hint_of(error.value)


def test_encrypted_members_are_dropped(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "faces.zip", "w") as archive:
        archive.writestr("good.png", encoded(picture(0)))
        archive.writestr("secret.png", encoded(picture(1)))
    data = bytearray((tmp_path / "faces.zip").read_bytes())
    data[data.rindex(b"secret.png") - 46 + 8] |= 1
    (tmp_path / "faces.zip").write_bytes(data)
    assert dropped(tmp_path / "faces.zip", tmp_path / "out.zip") == {"encrypted": 1}


# ---- folders ---------------------------------------------------------------------------------------------------


def test_links_and_special_files_in_a_folder(tmp_path: Path) -> None:
    source = folder_of(tmp_path / "faces", 3)
    (tmp_path / "elsewhere.png").write_bytes(encoded(picture(7)))
    (source / "link.png").symlink_to(tmp_path / "elsewhere.png")
    (source / "broken.png").symlink_to(tmp_path / "nothing.png")
    (source / "loop").symlink_to(source)
    os.mkfifo(source / "pipe.png")
    (source / "folder.png").mkdir()
    reasons = dropped(source, tmp_path / "out.zip")
    assert reasons == {"broken link": 1, "link loop": 1, "not a regular file": 1}
    assert len(FaceSet.open(tmp_path / "out.zip")) == 4


def as_nobody(work: Callable[[], None]) -> int:
    """Run `work` in a child process without privileges; its exit status (0 when nothing was raised)."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            if os.getuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            work()
            status = 0
        except BaseException as error:
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody may enter and write to; pytest's own is its owner's alone."""
    import shutil
    import tempfile

    path = Path(tempfile.mkdtemp())
    path.chmod(0o777)
    yield path
    for folder in path.rglob("*"):
        if folder.is_dir() and not folder.is_symlink():
            folder.chmod(0o755)
    shutil.rmtree(path)


def test_folders_and_files_without_permission_are_counted(open_folder: Path) -> None:
    source = folder_of(open_folder / "faces", 3)
    folder_of(source / "locked", 2, first=10)
    (source / "locked").chmod(0)
    (source / "001.png").chmod(0)

    def work() -> None:
        reasons = dropped(source, open_folder / "out.zip")
        assert reasons == {"file without permission": 1, "folder without permission": 1}, reasons

    assert as_nobody(work) == 0


def test_a_source_without_permission_is_an_error(open_folder: Path) -> None:
    source = folder_of(open_folder / "faces", 2)
    source.chmod(0)
    (open_folder / "faces.zip").write_bytes(b"PK")
    (open_folder / "faces.zip").chmod(0)
    (open_folder / "readonly").mkdir(mode=0o555)

    def work() -> None:
        for name in ("faces", "faces.zip"):
            with pytest.raises(DataError, match="permission"):
                dropped(open_folder / name, open_folder / "out.zip")
        good = folder_of(open_folder / "good", 2)
        with pytest.raises(DataError, match="cannot be written"):
            dropped(good, open_folder / "readonly" / "out.zip")

    assert as_nobody(work) == 0


# ---- the machine -----------------------------------------------------------------------------------------------


def test_full_disk_keeps_the_previous_set(tmp_path: Path) -> None:
    """The limit on file sizes fails a write in the middle, just as a full disk does."""
    source = folder_of(tmp_path / "faces", 200)
    (tmp_path / "set.zip").write_bytes(b"the previous set")

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))

    for count in (1, 2):
        words = (source, "--resolution", 32, "--out", "set.zip", "--workers", count)
        done = command(*words, cwd=tmp_path, before=limit)
        assert done.returncode == 5, done.stderr
        assert "disk is full" in done.stderr
        assert "Traceback" not in done.stderr
        assert (tmp_path / "set.zip").read_bytes() == b"the previous set"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["faces", "set.zip"]


@pytest.mark.skipif(not sys.platform.startswith("linux") or os.getuid() != 0, reason="mounting needs root on Linux")
def test_a_really_full_disk(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        source = folder_of(tmp_path / "faces", 200)
        with pytest.raises(MachineError, match="disk is full") as error:
            dropped(source, disk / "set.zip")
        assert "--out" in hint_of(error.value)
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_interrupt_leaves_nothing_and_no_process(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "animegen_cli", "prepare", "demo", "--limit", "20000", "--out", "set.zip"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [*words, "--workers", "2"], cwd=tmp_path, env=environment, stderr=subprocess.PIPE, start_new_session=True
    )
    begun = time.monotonic()
    while not any(path.stat().st_size > 2**20 for path in tmp_path.glob(".set.zip*")):
        assert time.monotonic() - begun < 60, "nothing was written"
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C does: parent and workers
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert b"Traceback" not in errors
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


def test_a_killed_worker_is_reported(tmp_path: Path) -> None:
    """Whether it dies at work, or while its results wait in the pipe for a parent that does not read."""
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    if not children.exists():
        pytest.skip("needs /proc")
    source = folder_of(tmp_path / "faces", 40)
    members = [sources.Member(f"{number:03d}.png") for number in range(40)]
    chunk = workers.Chunk("folder", str(source), members, cleaning.Recipe())
    results = workers.run(itertools.repeat(chunk, 500), 2)
    assert len(next(results)) == 40
    killed = 0
    for child in children.read_text().split():
        if b"prepare.workers" in Path(f"/proc/{child}/cmdline").read_bytes():
            os.kill(int(child), signal.SIGKILL)
            killed += 1
    assert killed == 2
    with pytest.raises(MachineError, match="worker process died") as error:
        list(results)
    assert "--workers 1" in hint_of(error.value)


def test_workers_end_with_the_results_that_nobody_wants(tmp_path: Path) -> None:
    source = folder_of(tmp_path / "faces", 16)
    members = [sources.Member(f"{number:03d}.png") for number in range(16)]
    chunk = workers.Chunk("folder", str(source), members, cleaning.Recipe())
    taken = 0

    def chunks() -> Iterator[workers.Chunk]:
        nonlocal taken
        for _ in range(1000):
            taken += 1
            yield chunk

    results = workers.run(chunks(), 2)
    first = next(results)
    assert [type(result) for seen in first for result in seen.results] == [cleaning.Cleaned] * 16
    assert taken == 8  # four for each worker, however long the results wait
    before = threading.active_count()
    results.close()
    assert threading.active_count() == before - 2
    assert taken == 8


def test_a_zip_behind_other_data_and_beyond_four_gigabytes(tmp_path: Path) -> None:
    """Self-extracting archives begin with a program; large ones need 64-bit offsets."""
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr("größe/1.png", encoded(picture(1)))
        archive.comment = b"PK and a comment"
    (tmp_path / "program.zip").write_bytes(b"#!/bin/sh\n" * 500 + whole.getvalue())
    dropped(tmp_path / "program.zip", tmp_path / "a.zip")
    assert FaceSet.open(tmp_path / "a.zip").origin(0) == "größe/1.png"
    with (tmp_path / "far.zip").open("wb") as file, zipfile.ZipFile(file, "w") as archive:
        archive.writestr("near.png", encoded(picture(2)))
        file.seek(2**32 + 1000)  # a hole: takes no disk
        archive.start_dir = file.tell()
        archive.writestr("far.png", encoded(picture(3)))
    assert dropped(tmp_path / "far.zip", tmp_path / "b.zip") == {}
    assert len(FaceSet.open(tmp_path / "b.zip")) == 2
