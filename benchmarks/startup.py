"""How long a person waits for help and for TAB: the wall clock of whole processes against 150 ms.

    python benchmarks/startup.py

The commands are timed in turn, so that a slow moment of the machine falls on all of them; what counts is the median.
A bare `python -c pass` stands beside them: the part that is not ours.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

TARGET = 0.150
PROGRAM = Path(sys.executable).with_name("animegen")
WAITS: dict[str, tuple[list[str], dict[str, str]]] = {
    "animegen --help": (["--help"], {}),
    "animegen train --help": (["train", "--help"], {}),
    "animegen train <TAB>": (["train", ""], {"_ANIMEGEN_COMPLETE": "bash"}),
    "animegen train ddpm --preset <TAB>": (["train", "ddpm", "--preset", ""], {"_ANIMEGEN_COMPLETE": "zsh"}),
    "animegen sample <TAB>, 100 runs": (["sample", ""], {"_ANIMEGEN_COMPLETE": "fish"}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15, help="processes per command (default: 15)")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of a table")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(100):
            run = Path(folder, "runs", f"{number:05d}-a-b-c-64")
            run.mkdir(parents=True)
            (run / "run.json").write_text("{}")
        timed = measure(Path(folder), options.repeats)
    if options.json:
        facts = {"repeats": options.repeats, "target": TARGET, "python": platform.python_version()}
        print(json.dumps({"what": "startup", **facts, "seconds": timed}, indent=2))
        return
    print(f"{'what':<36} {'median':>8} {'least':>8} {'most':>8}   against {1000 * TARGET:.0f} ms")
    for name, found in timed.items():
        reached = "" if name == "python -c pass" else "reached" if found["median"] <= TARGET else "NOT reached"
        numbers = " ".join(f"{1000 * found[key]:5.0f} ms" for key in ("median", "least", "most"))
        print(f"{name:<36} {numbers}   {reached}")


def measure(folder: Path, repeats: int) -> dict[str, dict[str, Any]]:
    """Seconds of each command, run in `folder`: median, least, most and all."""
    program = [str(PROGRAM)] if PROGRAM.exists() else [sys.executable, "-m", "animegen_cli"]
    commands: dict[str, tuple[list[str], dict[str, str]]] = {"python -c pass": ([sys.executable, "-c", "pass"], {})}
    commands |= {name: ([*program, *words], environment) for name, (words, environment) in WAITS.items()}
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(repeats + 1):
        for name, (command, environment) in commands.items():
            start = time.perf_counter()
            subprocess.run(command, cwd=folder, env=os.environ | environment, capture_output=True, check=True)
            if turn > 0:  # the first warms the disk cache and the bytecode
                seconds[name].append(time.perf_counter() - start)
    return {
        name: {"median": statistics.median(all_), "least": min(all_), "most": max(all_), "all": all_}
        for name, all_ in seconds.items()
    }


if __name__ == "__main__":
    main()
