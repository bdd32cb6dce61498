"""`prepare` on two processes against one process that does the same work in a plain loop; and its memory.

python benchmarks/prepare.py --source faces.zip
python benchmarks/prepare.py                       # 17,400 drawn faces as JPEG files
"""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as the command itself sets it

import numpy as np
from _pairs import arguments, pairs, report
from PIL import Image, ImageOps

from animegen_cli import console
from animegen_cli.data import cleaning, near_duplicates, pictures
from animegen_cli.prepare import faces, prepare
from animegen_cli.prepare.request import Options, Request

DRAWN = 17_400


def drawn_jpegs(path: Path, count: int = DRAWN) -> Path:
    """A zip of drawn faces, 64-pixel JPEGs; a quarter is drawn, the rest are these at other qualities."""
    from animegen_cli.prepare import drawn

    with zipfile.ZipFile(path, "w") as archive:
        for index in range(count):
            if index % 4 == 0:
                face = drawn.draw(index // 4, size=64).image
            out = io.BytesIO()
            face.save(out, "jpeg", quality=95 - 5 * (index % 4))
            archive.writestr(f"images/{index}.jpg", out.getvalue())
    return path


def plain_loop(source: Path, *, ours: bool) -> int:
    """Decode, EXIF, RGB, resize, hashes, PNG, one after the other. Nothing is written or compared.

    With `ours` every step is our own function; else Pillow's, as a script would call them.
    """
    done = 0
    if source.is_dir():
        blobs = (file.read_bytes() for file in sorted(source.rglob("*")) if file.suffix in pictures.PICTURES)
    else:
        archive = zipfile.ZipFile(source)
        names = sorted(name for name in archive.namelist() if pictures.ending(name) in pictures.PICTURES)
        blobs = (archive.read(name) for name in names)
    for data in blobs:
        if ours:
            faces.see(data, cleaning.Recipe(64), None)
        else:
            image = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
            image = image.resize((64, 64), Image.Resampling.LANCZOS)
            hashlib.sha256(np.asarray(image).tobytes()).digest()
            near_duplicates.fingerprint(image)
            image.save(io.BytesIO(), "png", compress_level=0)
        done += 1
    return done


def share_of(source: Path, path: Path, share: int) -> tuple[Path, int]:
    """A zip with one in `share` pictures of another; and how many pictures fewer it has."""
    with zipfile.ZipFile(source) as whole, zipfile.ZipFile(path, "w") as part:
        names = sorted(name for name in whole.namelist() if pictures.ending(name) in pictures.PICTURES)
        for name in names[::share]:
            part.writestr(name, whole.read(name))
    return path, len(names) - len(names[::share])


def peak_memory(command: list[str]) -> int:
    """Most bytes that a command and its children hold at once: the sum of their proportional set sizes."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    peak = 0
    while process.poll() is None:
        peak = max(peak, sum(_pss(pid) for pid in _tree(process.pid)))
        time.sleep(0.02)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return peak


def _tree(pid: int) -> list[int]:
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            for child in task.read_text().split():
                found += _tree(int(child))
        except OSError:
            continue
    return found


def _pss(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


def memory(source: Path, out: Path, workers: int) -> dict[str, int]:
    """Peak of the whole command, and what each further picture adds (zip sources only)."""

    def peak(path: Path) -> int:
        options = ["--out", str(out), "--workers", str(workers), "--quiet"]
        return peak_memory([sys.executable, "-m", "animegen_cli", "prepare", str(path), *options])

    whole = peak(source)
    found = {"peak_memory_MB": round(whole / 1e6)}
    if source.is_file():
        part, fewer = share_of(source, out.with_name("part.zip"), 4)
        found["bytes_per_further_picture"] = round((whole - peak(part)) / fewer)
    return found


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--source", type=Path, help="folder or zip of pictures; default: drawn faces")
    parser.add_argument("--count", type=int, default=DRAWN, help="how many faces are drawn without a source")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--same-functions", action="store_true", help="let the loop use our faster PNG encoder and checks too"
    )
    chosen = parser.parse_args()
    console.configure(quiet=True)
    with tempfile.TemporaryDirectory() as folder:
        source = chosen.source or drawn_jpegs(Path(folder) / "drawn.zip", chosen.count)
        out = Path(folder) / "out.zip"
        request = Request([str(source)], out, Options(size=64, workers=chosen.workers))
        facts = {"workers": chosen.workers, **memory(source, out, chosen.workers)}
        timed = pairs(
            lambda: prepare.prepare(request),
            lambda: plain_loop(source, ours=chosen.same_functions),
            chosen.pairs,
        )
        title = "prepare against a plain loop" + (" of its own functions" if chosen.same_functions else "")
        report(title, timed, target=1.7, as_json=chosen.json, **facts)


if __name__ == "__main__":
    main()
