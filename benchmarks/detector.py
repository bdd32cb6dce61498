"""The face detector of `prepare --faces` on faces pasted on pictures without faces: recall, false boxes, time.

python benchmarks/detector.py                                                            # drawn faces
python benchmarks/detector.py --illustrations 1000                                       # time and memory of prepare --faces
python benchmarks/detector.py --faces animefacedataset.zip --faces portraits-256.zip=benchmarks/portraits.csv --grounds photos/
python benchmarks/detector.py --choose --grounds photos/                                 # how THRESHOLD was chosen

Square crops of faces are pasted as they are, three to a picture, 24 to 300 pixels a side (even in the logarithm). The
face of a crop is an inner square, given as the shares x, y (its middle) and side; the default is that of Kaggle's crops
(`_face_figures.KAGGLE`). Where the faces of a set lie in different places, a table gives them for some of its pictures
(`labelled`). A face is found when a box has an intersection over union of 0.5 with it. False boxes are counted on the
pictures before anything is pasted.

The threshold is chosen on other pictures than those that are measured: `--choose` takes another third of the folder
and drawn grounds of another seed.
"""

from __future__ import annotations

import argparse
import csv
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
from _face_grounds import background, parted
from _face_sketches import sketched_figure
from PIL import Image, ImageDraw
from prepare import peak_memory

from animegen_cli.prepare import drawn, face_detector, yolo

if TYPE_CHECKING:
    from collections.abc import Callable

    from animegen_cli.prepare.face_detector import Box

SMALLEST, LARGEST = 24, 300
HEADS = {"coins.png"}
"""Pictures of scikit-image that show faces after all: these coins bear heads."""
BINS = (24, 32, 48, 96, 192, 301)
Part = tuple[float, float, float]


def grounds(folder: Path | None, count: int, *, choosing: bool = False) -> list[Image.Image]:
    """Pictures without faces, 600 to 1,200 pixels a side: those of a folder and as many drawn ones, or drawn ones.

    Of the folder's files, sorted by name, every third is measured, another third chooses the threshold, and the last may
    have been trained on.
    """
    rng = np.random.default_rng(4 if choosing else 5)
    files = [file for file in parted(folder)[1 if choosing else 2] if file.name not in HEADS] if folder else []
    found = []
    for index in range(count):
        size = tuple(rng.integers(600, 1201, 2).tolist())
        if files and index % 2 == 0:
            image = Image.open(files[index // 2 % len(files)]).convert("RGB")
            side = rng.uniform(0.5, 1, 2) * image.size
            left, top = rng.uniform(0, 1, 2) * (np.array(image.size) - side)
            image = image.resize(size, Image.Resampling.BICUBIC, (left, top, left + side[0], top + side[1]))
        else:
            image = background((800_000 if choosing else 900_000) + index).resize(size, Image.Resampling.BICUBIC)
        found.append(image)
    return found


def crops(source: str) -> tuple[str, list[Image.Image], list[Part]]:
    """Up to 1,500 crops of a zip, chosen by seed, and where their faces are; those of a table if it is given."""
    path, _, part = source.partition("=")
    with zipfile.ZipFile(path) as archive:
        names = sorted(name for name in archive.namelist() if name.lower().endswith((".jpg", ".png")))
        if part.endswith(".csv"):
            known = labelled(Path(part))
            names = [name for name in names if name in known]
            parts = [known[name] for name in names]
        else:
            names = [names[index] for index in np.random.default_rng(0).permutation(len(names))[:1500]]
            x, y, side = map(float, part.split(",")) if part else KAGGLE
            parts = [(x, y, side)] * len(names)
        images = [Image.open(io.BytesIO(archive.read(name))).convert("RGB") for name in names]
    return Path(path).stem, images, parts


def labelled(path: Path) -> dict[str, Part]:
    """Read where faces are: `file, left, right, brows, chin`, the last four in shares of the picture.

    These were read off by eye: the cheeks at both sides (or what is farthest out of a turned face), the upper edge of the
    brows and the chin. The square that is asked for stands on the chin and is 1.1 times as wide as the face is wide or
    high, as `KAGGLE` is for the mean of Kaggle's crops.
    """
    found = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            left, right, brows, chin = (float(row[name]) for name in ("left", "right", "brows", "chin"))
            side = 1.1 * max(right - left, chin - brows)
            found[row["file"]] = ((left + right) / 2, chin - side / 2, side)
    return found


def drawn_crops() -> tuple[str, list[Image.Image], list[Part]]:
    """Drawn faces of a seed that training does not know, whole frames; the pose is near 1.1 in the middle."""
    images = [drawn.draw(index, size=192, seed=77).image for index in range(300)]
    x, y, side = DRAWN
    return "drawn", images, [(0.5 + 0.55 * x, 0.5 + 0.55 * y, 0.55 * side)] * len(images)


def paste(
    ground: Image.Image, images: list[Image.Image], parts: list[Part], rng: np.random.Generator
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
        chosen = rng.integers(len(images))
        crop, part = images[chosen], parts[chosen]
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
    parts: list[Part],
    sheet: Path | None,
) -> dict[str, object]:
    """Paste, detect and count."""
    rng = np.random.default_rng(6)
    hits: list[tuple[float, float]] = []
    extra = 0
    shown = []
    for ground in pictures:
        picture, truth = paste(ground, images, parts, rng)
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


def choose(weights: face_detector.Weights, folder: Path | None, count: int) -> dict[str, object]:
    """False boxes a picture by threshold, on pictures that are not measured."""
    scores = [
        box.score
        for picture in grounds(folder, count, choosing=True)
        for box in face_detector.detect(picture, threshold=0.2, weights=weights)
    ]
    levels = [level / 100 for level in range(50, 80, 2)]
    return {
        f"false boxes a picture at {level:.2f}": sum(score >= level for score in scores) / count for level in levels
    }


def illustrations(folder: Path, count: int) -> None:
    """Write pictures of 1,000 to 2,000 pixels, three in four with drawn figures on them, half JPEG and half PNG."""
    rng = np.random.default_rng(8)
    faces = [drawn.draw(index, size=192, seed=78).image.convert("RGBA") for index in range(20)]
    faces += [sketched_figure(index, 78).image for index in range(40)]
    for index in range(count):
        size = tuple(rng.integers(1000, 2001, 2).tolist())
        picture = background(950_000 + index % 100).resize(size, Image.Resampling.BICUBIC)
        for _ in range(int(rng.integers(0, 4))):
            side = int(rng.integers(100, 500))
            face = faces[rng.integers(len(faces))].resize((side, side), Image.Resampling.BICUBIC)
            picture.paste(face, (int(rng.integers(0, size[0] - side)), int(rng.integers(0, size[1] - side))), face)
        kind, options = (("jpg", {"quality": 92}), ("png", {"compress_level": 1}))[index % 2]
        picture.save(folder / f"{index:05d}.{kind}", **options)


def cost(count: int) -> dict[str, object]:
    """CPU seconds of `prepare` without and with `--faces` on `count` illustrations, twice in turn, and its peak memory."""
    spent: dict[str, list[float]] = {"--no-faces": [], "--faces": []}
    clock: dict[str, list[float]] = {"--no-faces": [], "--faces": []}
    peak = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in").mkdir()
        illustrations(folder / "in", count)
        for word in ("--no-faces", "--faces") * 2:
            command = [sys.executable, "-m", "animegen_cli", "prepare", str(folder / "in"), "--quiet", word]
            before, start = os.times(), time.perf_counter()
            peak[word] = peak_memory([*command, "--workers", "2", "--out", str(folder / "out.zip")])
            after = os.times()
            user, system = after.children_user - before.children_user, after.children_system - before.children_system
            spent[word].append(user + system)
            clock[word].append(time.perf_counter() - start)
    report: dict[str, object] = {}
    for word, seconds in spent.items():
        report[f"prepare {word}, CPU seconds a picture"] = round(min(seconds) / count, 4)
        report[f"prepare {word}, seconds"] = round(min(clock[word]), 1)
        report[f"prepare {word}, peak MB"] = round(peak[word] / 1e6)
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
    parser.add_argument(
        "--faces", action="append", default=[], metavar="ZIP[=X,Y,SIDE|CSV]", help="square crops of faces"
    )
    parser.add_argument("--grounds", type=Path, help="a folder of pictures without faces")
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--weights", type=Path, default=face_detector.WEIGHTS)
    parser.add_argument("--detector", type=Path, help="an ONNX detector instead of the package's own")
    parser.add_argument("--threshold", type=float, default=face_detector.THRESHOLD)
    parser.add_argument("--sheet", type=Path, help="a picture of what was found, for each set: FILE-<set>.png")
    parser.add_argument(
        "--illustrations", type=int, help="measure `prepare --faces` on so many drawn illustrations instead"
    )
    parser.add_argument("--choose", action="store_true", help="false boxes by threshold on other grounds")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if args.illustrations:
        show(cost(args.illustrations), as_json=args.json)
        return
    weights = face_detector.load_weights(args.weights)
    if args.choose:
        show(choose(weights, args.grounds, args.pictures), as_json=args.json)
        return
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
        "share of them with a false box": sum(map(bool, empty)) / len(pictures),
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
    for name, images, parts in [crops(source) for source in args.faces] or [drawn_crops()]:
        sheet = args.sheet and args.sheet.with_name(f"{args.sheet.stem}-{name}.png")
        report[name] = measure(detect, pictures, images, parts, sheet)
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
