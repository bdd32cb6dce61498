"""The face detector of `prepare --faces` on faces pasted on pictures without faces: recall, false boxes, time.

python benchmarks/detector.py                                                            # drawn faces
python benchmarks/detector.py --illustrations 1000                                       # time and memory of prepare --faces
python benchmarks/detector.py --faces animefacedataset.zip --faces portraits-256.zip=0.5,0.43,0.74 --grounds photos/

Square crops of faces are pasted as they are, three to a picture, 24 to 300 pixels a side (even in the logarithm). The
face of a crop is an inner square, given as the shares x, y (its middle) and side; the default is that of Kaggle's crops
(`_face_figures.KAGGLE`), and another set's is read off the mean of its pictures. A face is found when a box has an
intersection over union of 0.5 with it. False boxes are counted on the pictures before anything is pasted.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import os
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as the command itself sets it

import numpy as np
from _face_figures import DRAWN, KAGGLE
from _face_grounds import background
from PIL import Image, ImageDraw
from prepare import peak_memory

from animegen_cli import drawn
from animegen_cli.prepare import face_detector, yolo

if TYPE_CHECKING:
    from collections.abc import Callable

    from animegen_cli.prepare.face_detector import Box

SMALLEST, LARGEST = 24, 300
BINS = (24, 32, 48, 96, 192, 301)
Part = tuple[float, float, float]


def grounds(folder: Path | None, count: int) -> list[Image.Image]:
    """Pictures without faces, 600 to 1,200 pixels a side: those of a folder and as many drawn ones, or drawn ones."""
    rng = np.random.default_rng(5)
    files = sorted(file for file in folder.rglob("*") if file.suffix in (".jpg", ".png")) if folder else []
    found = []
    for index in range(count):
        size = tuple(rng.integers(600, 1201, 2).tolist())
        if files and index % 2 == 0:
            image = Image.open(files[index // 2 % len(files)]).convert("RGB")
            side = rng.uniform(0.5, 1, 2) * image.size
            left, top = rng.uniform(0, 1, 2) * (np.array(image.size) - side)
            image = image.resize(size, Image.Resampling.BICUBIC, (left, top, left + side[0], top + side[1]))
        else:
            image = background(900_000 + index).resize(size, Image.Resampling.BICUBIC)
        found.append(image)
    return found


def crops(source: str) -> tuple[str, list[Image.Image], Part]:
    """Up to 1,500 crops of a zip, chosen by seed, and their inner part."""
    path, _, part = source.partition("=")
    with zipfile.ZipFile(path) as archive:
        names = sorted(name for name in archive.namelist() if name.lower().endswith((".jpg", ".png")))
        chosen = np.random.default_rng(0).permutation(len(names))[:1500]
        images = [Image.open(io.BytesIO(archive.read(names[index]))).convert("RGB") for index in chosen]
    x, y, side = map(float, part.split(",")) if part else KAGGLE
    return Path(path).stem, images, (x, y, side)


def drawn_crops() -> tuple[str, list[Image.Image], Part]:
    """Drawn faces of a seed that training does not know, whole frames; the pose is near 1.1 in the middle."""
    images = [drawn.draw(index, size=192, seed=77).image for index in range(300)]
    x, y, side = DRAWN
    return "drawn", images, (0.5 + 0.55 * x, 0.5 + 0.55 * y, 0.55 * side)


def paste(
    ground: Image.Image, images: list[Image.Image], part: Part, rng: np.random.Generator
) -> tuple[Image.Image, list[np.ndarray]]:
    """Three crops on a picture; and for each its side and the box of its face."""
    picture, taken, truth = ground.copy(), [], []
    for _ in range(3):
        side = round(np.exp(rng.uniform(np.log(SMALLEST), np.log(LARGEST))))
        left, top = (int(rng.integers(0, max(1, room - side))) for room in picture.size)
        if any(
            abs(left - a + (side - s) / 2) < (side + s) / 2 and abs(top - b + (side - s) / 2) < (side + s) / 2
            for a, b, s in taken
        ):
            continue
        crop = images[rng.integers(len(images))]
        picture.paste(crop.resize((side, side), Image.Resampling.LANCZOS), (left, top))
        taken.append((left, top, side))
        x, y, half = left + part[0] * side, top + part[1] * side, part[2] * side / 2
        truth.append(np.array([x - half, y - half, x + half, y + half, side]))
    return picture, truth


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boxes."""
    wide, high = np.minimum(a[2:4], b[2:4]) - np.maximum(a[:2], b[:2])
    shared = max(wide, 0) * max(high, 0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def measure(
    detect: Callable[[Image.Image], list[Box]],
    pictures: list[Image.Image],
    images: list[Image.Image],
    part: Part,
    sheet: Path | None,
) -> dict[str, object]:
    """Paste, detect and count."""
    rng = np.random.default_rng(6)
    hits: list[tuple[float, float]] = []
    extra = 0
    shown = []
    for ground in pictures:
        picture, truth = paste(ground, images, part, rng)
        found = [np.array(box) for box in detect(picture)]
        for face in truth:
            hits.append((face[4], max((overlap(face, box) for box in found), default=0.0)))
        extra += sum(all(overlap(face, box) < 0.2 for face in truth) for box in found)
        if sheet is not None and len(shown) < 24:
            shown.append(_marked(picture, truth, found))
    sides, shares = np.array(hits).T
    if sheet is not None:
        _sheet(shown).save(sheet)
    return {
        "faces": len(hits),
        "recall": float((shares >= 0.5).mean()),
        "mean overlap of those found": float(shares[shares >= 0.5].mean()) if (shares >= 0.5).any() else 0.0,
        "seen (overlap 0.2)": float((shares >= 0.2).mean()),
        "recall by side": {
            f"{low}-{high - 1}": round(float((shares[(sides >= low) & (sides < high)] >= 0.5).mean()), 3)
            for low, high in itertools.pairwise(BINS)
        },
        "other boxes a picture": extra / len(pictures),
    }


def illustrations(folder: Path, count: int) -> None:
    """Write pictures of 1,000 to 2,000 pixels with drawn faces on them, half JPEG and half PNG."""
    rng = np.random.default_rng(8)
    faces = [drawn.draw(index, size=192, seed=78).image for index in range(20)]
    for index in range(count):
        size = tuple(rng.integers(1000, 2001, 2).tolist())
        picture = background(950_000 + index % 100).resize(size, Image.Resampling.BICUBIC)
        for _ in range(int(rng.integers(1, 4))):
            side = int(rng.integers(100, 500))
            face = faces[rng.integers(len(faces))].resize((side, side), Image.Resampling.BICUBIC)
            picture.paste(face, (int(rng.integers(0, size[0] - side)), int(rng.integers(0, size[1] - side))))
        kind, options = (("jpg", {"quality": 92}), ("png", {"compress_level": 4}))[index % 2]
        picture.save(folder / f"{index:05d}.{kind}", **options)


def cost(count: int) -> dict[str, object]:
    """CPU seconds of `prepare` without and with `--faces` on `count` illustrations, and its peak memory."""
    report: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in").mkdir()
        illustrations(folder / "in", count)
        for words in (["--no-faces"], ["--faces"]):
            command = [sys.executable, "-m", "animegen_cli", "prepare", str(folder / "in"), "--quiet"]
            before, start = os.times(), time.perf_counter()
            peak = peak_memory([*command, *words, "--workers", "2", "--out", str(folder / "out.zip")])
            after = os.times()
            spent = after.children_user + after.children_system - before.children_user - before.children_system
            report[f"prepare {words[0]}, CPU seconds a picture"] = round(spent / count, 4)
            report[f"prepare {words[0]}, seconds"] = round(time.perf_counter() - start, 1)
            report[f"prepare {words[0]}, peak MB"] = round(peak / 1e6)
    return report


def _marked(picture: Image.Image, truth: list[np.ndarray], found: list[np.ndarray]) -> Image.Image:
    pen = ImageDraw.Draw(picture)
    for boxes, color in ((truth, "lime"), (found, "red")):
        for box in boxes:
            pen.rectangle(box[:4].tolist(), outline=color, width=3)
    picture.thumbnail((400, 400))
    return picture


def _sheet(pictures: list[Image.Image]) -> Image.Image:
    sheet = Image.new("RGB", (6 * 404, 4 * 404))
    for index, picture in enumerate(pictures):
        sheet.paste(picture, (index % 6 * 404, index // 6 * 404))
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--faces", action="append", default=[], metavar="ZIP[=X,Y,SIDE]", help="square crops of faces")
    parser.add_argument("--grounds", type=Path, help="a folder of pictures without faces")
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--weights", type=Path, default=face_detector.WEIGHTS)
    parser.add_argument("--detector", type=Path, help="an ONNX detector instead of the package's own")
    parser.add_argument("--threshold", type=float, default=face_detector.THRESHOLD)
    parser.add_argument("--sheet", type=Path, help="a picture of what was found, for each set: FILE-<set>.png")
    parser.add_argument(
        "--illustrations", type=int, help="measure `prepare --faces` on so many drawn illustrations instead"
    )
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if args.illustrations:
        show(cost(args.illustrations), as_json=args.json)
        return
    weights = face_detector.load_weights(args.weights)
    if args.detector:
        network = yolo.Detector(args.detector)
        detect: Callable[[Image.Image], list[Box]] = lambda image: network.detect(image, threshold=args.threshold)  # noqa: E731
    else:
        detect = lambda image: face_detector.detect(image, threshold=args.threshold, weights=weights)  # noqa: E731
    pictures = grounds(args.grounds, args.pictures)
    empty = [detect(picture) for picture in pictures]
    report: dict[str, object] = {
        "pictures without faces": len(pictures),
        "false boxes a picture": sum(map(len, empty)) / len(pictures),
    }
    if args.grounds:
        real = empty[::2]
        report["of those of the folder"] = sum(map(len, real)) / len(real)
    if args.sheet:
        wrong = [
            _marked(picture.copy(), [], [np.array(box) for box in boxes])
            for picture, boxes in zip(pictures, empty, strict=True)
            if boxes
        ]
        _sheet(wrong[:24]).save(args.sheet.with_name(f"{args.sheet.stem}-false.png"))
    for name, images, part in [crops(source) for source in args.faces] or [drawn_crops()]:
        sheet = args.sheet and args.sheet.with_name(f"{args.sheet.stem}-{name}.png")
        report[name] = measure(detect, pictures, images, part, sheet)
    large = pictures[0].resize((1024, 1024))
    times = []
    for _ in range(7):
        start = time.process_time()
        detect(large)
        times.append(time.process_time() - start)
    report["CPU seconds for 1,024 x 1,024"] = round(min(times), 3)
    show(report, as_json=args.json)


def show(report: dict[str, object], *, as_json: bool) -> None:
    """Print a report, nested values below their name."""
    if as_json:
        print(json.dumps(report))
        return
    for name, value in report.items():
        print(f"{name:44}" + ("" if isinstance(value, dict) else str(value)))
        for key, one in value.items() if isinstance(value, dict) else ():
            print(f"    {key:40}{one if isinstance(one, dict) else round(one, 3)}")


if __name__ == "__main__":
    main()
