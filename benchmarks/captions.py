"""`prepare` of pictures with a caption beside each, against the same with `--labels none`; CPU seconds of whole commands.

python benchmarks/captions.py --pictures 10000
python benchmarks/captions.py --pictures 20000 --pairs 1 --memory     # and the peak of all processes, beside half as many
"""

from __future__ import annotations

import io
import json
import random
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from _pairs import arguments
from prepare import peak_memory

TAGS = (
    *("solo", "smile", "hat", "ribbon", "blush", "bow", "hairband", "jewelry", "necktie", "glasses"),
    *("ponytail", "braid", "hood", "scarf", "fang"),
)
COLORS = ("black", "brown", "blonde", "red", "pink", "blue", "green")


def pairs_of_files(folder: Path, count: int) -> Path:
    """A folder of drawn faces, 64-pixel JPEGs, each with 17 tags in a text beside it; a twentieth is drawn, the rest are copies."""
    from animegen_cli.prepare import drawn

    folder.mkdir()
    chance = random.Random(0)
    for index in range(count):
        if index % 20 == 0:
            face = drawn.draw(index // 20, size=64).image
        out = io.BytesIO()
        face.save(out, "jpeg", quality=95 - 4 * (index % 20))
        (folder / f"{index:06d}.jpg").write_bytes(out.getvalue())
        own = [f"{chance.choice(COLORS)} hair", f"{chance.choice(COLORS)} eyes", *chance.sample(TAGS, 7)]
        own += [f"tag {chance.randrange(5000)}" for _ in range(8)]
        (folder / f"{index:06d}.txt").write_text(", ".join(own))
    return folder


def command(folder: Path, *options: str) -> list[str]:
    """Prepare the folder in one process, so that the time of the process is all of it."""
    words = ["prepare", str(folder), "--out", str(folder.with_suffix(".zip")), "--workers", "1", "--quiet", *options]
    return [sys.executable, "-m", "animegen_cli", *words]


def user_seconds(words: list[str]) -> float:
    """CPU seconds that a command spends outside the system."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--memory", action="store_true", help="measure the peak of memory too")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = pairs_of_files(Path(temporary) / "pairs", chosen.pictures)
        with_, without = [], []
        for _ in range(chosen.pairs):
            with_.append(user_seconds(command(folder)))
            without.append(user_seconds(command(folder, "--labels", "none")))
        ratio = statistics.median(a / b for a, b in zip(with_, without, strict=True))
        found = {
            "pictures": chosen.pictures,
            "user_seconds": round(statistics.median(with_), 2),
            "user_seconds_without_labels": round(statistics.median(without), 2),
            "ratio": round(ratio, 2),
            "target": 1.5,
        }
        if chosen.memory:
            half = pairs_of_files(Path(temporary) / "half", chosen.pictures // 2)
            whole, part = peak_memory(command(folder)), peak_memory(command(half))
            found["peak_memory_MB"] = round(whole / 1e6)
            found["bytes_per_further_picture"] = round((whole - part) / (chosen.pictures - chosen.pictures // 2))
    print(
        json.dumps(found, indent=2) if chosen.json else "\n".join(f"{name}: {value}" for name, value in found.items())
    )


if __name__ == "__main__":
    main()
