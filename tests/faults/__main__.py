"""The full suite of faults, by one command: `python tests/faults --full`. Prints the table of docs/reliability.md."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
os.environ["OMP_NUM_THREADS"] = "1"  # sums in one order, and forks without threads
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parent)]


def row(*cells: object) -> None:
    """A line of the table."""
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def head(*cells: str) -> None:
    """The first lines of a table."""
    print()
    row(*cells)
    row(*("---" for _ in cells))


def change_bytes(asked: argparse.Namespace, base: Path, work: Path) -> list[str]:
    """One byte at a time, in every file."""
    import flips

    head("changed byte in", "changed", "same result", "refused", "said", "silent", "traceback")
    found = list[str]()
    count = asked.bytes or (2000 if asked.full else 20)
    for kind, tally in flips.change(base, work, count, seed=asked.seed, kinds=asked.of).items():
        found += tally.silent + tally.crashed
        row(kind, tally.changed, tally.same, tally.refused, tally.said, len(tally.silent), len(tally.crashed))
    return found


def kill_trainings(asked: argparse.Namespace, base: Path, work: Path) -> list[str]:
    """SIGKILL at random moments."""
    import kills

    head("killed", "processes", "kills", "inside a save", "trainings ended", "other bits")
    found, count = list[str](), asked.kills or (50 if asked.full else 2)
    for family in kills.FAMILIES:
        killed = kills.kill(base / "faces.zip", work, family, count, seed=asked.seed, processes=asked.nproc)
        found += killed.wrong
        row(family, asked.nproc, killed.killed, killed.inside, killed.runs, len(killed.wrong))
    return found


def spoil_disks(asked: argparse.Namespace, base: Path, work: Path) -> list[str]:
    """Full disks, and what happens around a run."""
    import disks

    head("fault", "tries", "wrong")
    data = base / "faces.zip"
    calls = range(1, disks.writes_of(data, work) + 1, 1 if asked.full else 20)
    found = [one for call in calls for one in disks.fill(data, work, call)]
    row("disk full from some write on", len(calls), len(found))
    for name, fault in (
        ("set replaced under a run", disks.replace_set),
        ("clock set back", disks.turn_back_the_clock),
        ("loss not a number, infinite", disks.diverge),
    ):
        wrong = fault(data, work)
        row(name, 1, len(wrong))
        found += wrong
    return found


def feed_parsers(asked: argparse.Namespace, base: Path, work: Path) -> list[str]:
    """Files that Hypothesis writes."""
    import parsers

    head("parser", "files", "seconds", "crashes and hangs")
    readers, found = parsers.Parsers(base / "faces.zip", base / "run", work), list[str]()
    seconds = asked.seconds or (600 if asked.full else 5)
    for name in asked.of or parsers.NAMES:
        started, count = time.process_time(), 0
        try:
            count = parsers.attack(readers, name, examples=300, seconds=seconds, seed=asked.seed)
        except Exception as error:
            found.append("\n".join([f"{name}: {type(error).__name__}: {error}", *getattr(error, "__notes__", ())]))
        row(name, f"{count:,}", round(time.process_time() - started), int(not count))
    return found


PARTS = {"bytes": change_bytes, "kills": kill_trainings, "disks": spoil_disks, "parsers": feed_parsers}


def main() -> int:
    """Run the parts that were asked for; 1 where one of them found something."""
    words = argparse.ArgumentParser(prog="python tests/faults", description=__doc__)
    words.add_argument("--full", action="store_true", help="2,000 bytes, 200 kills, every write, 10 minutes a parser")
    words.add_argument("--only", choices=PARTS, help="one part alone")
    words.add_argument(
        "--of", nargs="+", default=[], help="with --only bytes or parsers: these rows of its table alone"
    )
    words.add_argument("--nproc", type=int, default=1, help="processes of the trainings that are killed (default 1)")
    words.add_argument("--seed", type=int, default=0, help="other bytes, moments and files (default 0)")
    words.add_argument("--bytes", type=int, help="changed bytes (default 20, full 2,000)")
    words.add_argument("--kills", type=int, help="kills of each of four families (default 2, full 50)")
    words.add_argument("--seconds", type=float, help="of each parser (default 5, full 600)")
    asked = words.parse_args()
    place = Path(tempfile.mkdtemp(prefix="animegen-faults-"))
    os.environ["XDG_CACHE_HOME"] = str(place / "cache")
    import flips
    import parsers
    import torch

    from animegen_cli import console

    rows = {"bytes": [*flips.DOORS], "parsers": [*parsers.NAMES]}.get(asked.only, [])
    if unknown := [name for name in asked.of if name not in rows]:
        words.error(f"no row {unknown[0]}; there are {', '.join(rows) or 'none without --only bytes or parsers'}")
    torch.set_num_threads(1)
    console.configure(quiet=True)
    base, found, began = place / "base", list[str](), time.monotonic()
    base.mkdir()
    flips.make(base)
    for name, part in PARTS.items():
        if asked.only in (None, name):
            (place / name).mkdir()
            found += part(asked, base, place / name)
    print(f"\n{time.monotonic() - began:.0f} s; {len(found)} found")
    for one in found:
        print(f"- {one}")
    shutil.rmtree(place, ignore_errors=True)
    return min(len(found), 1)


if __name__ == "__main__":
    sys.exit(main())
