"""Train the classifier on a labeled set, and print how often it is right on the test split, how long that took, and
what it confuses.

    python benchmarks/attributes.py --data tagged-64.zip
    python benchmarks/attributes.py --data tagged-64.zip --preset fast --threads 2 --set train.duration="10 epochs"
    python benchmarks/attributes.py --data tagged-64.zip --run runs/00003-attributes-fast-tagged-64

The training is `animegen train attributes`, in a process of its own. CPU seconds count the work of all its threads: where
other work runs too, they say more than the clock. The accuracies are measured afterwards, in fp32, from the weights.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from animegen_cli.data.dataset import FaceSet
from animegen_cli.evaluate import classifier

MOST = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="a data set file with labels")
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--set", action="append", default=[], help="as in `animegen train`")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--run", type=Path, help="a trained run: measure it instead")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        cost = {} if args.run else train(args, Path(folder) / "run")
        found = measure(args.run or Path(folder) / "run", FaceSet.open(args.data), torch.device(args.device))
    if args.json:
        print(json.dumps({"data": str(args.data), "preset": args.preset, **cost, "attributes": found}, indent=2))
        return
    for name, about in found.items():
        print(f"{name:12}{about['accuracy']:7.2%} of {about['images']:,} (commonest value {about['commonest']:.1%})")
        print("            " + ", ".join(f"{truth} taken for {guess} {n}" for truth, guess, n in about["confusions"]))
    if cost:
        print("{seconds:.0f} s, {cpu_seconds:.0f} CPU seconds on {threads} threads".format(**cost))


def train(args: argparse.Namespace, out: Path) -> dict[str, Any]:
    """Train into `out`; what it cost, start of the program and validations included."""
    words = ["train", "attributes", "--preset", args.preset, "--data", args.data, "--out", out, "--device", args.device]
    words += [word for setting in args.set for word in ("--set", setting)]
    began = time.perf_counter()
    before = _of_children()
    environment = os.environ | {"OMP_NUM_THREADS": str(args.threads)}
    subprocess.run(
        [sys.executable, "-m", "animegen_cli", *map(str, words)], check=True, env=environment, stdout=sys.stderr
    )
    return {
        "seconds": time.perf_counter() - began, "cpu_seconds": _of_children() - before, "threads": args.threads,
        "images": json.loads((out / "run.json").read_text())["images"],
    }  # fmt: skip


def _of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(run: Path, faces: FaceSet, device: torch.device) -> dict[str, dict[str, Any]]:
    """Per attribute: share of the test images named right, and the commonest confusions."""
    recognizer = classifier.open_recognizer(str(run), device=device)
    test = faces.indices("test")
    pixels = torch.from_numpy(faces.pixels(test)).permute(0, 3, 1, 2)
    found = recognizer.values(recognizer.features(pixels))
    labels = torch.from_numpy(faces.labels(test))
    columns = list(faces.attributes)
    return {
        name: _score(values, labels[:, columns.index(name)], faces.attributes[name]) for name, values in found.items()
    }


def _score(guess: Tensor, truth: Tensor, values: tuple[str, ...]) -> dict[str, Any]:
    known = truth >= 0
    guess = guess[known]
    truth = truth[known]
    pairs = torch.stack([truth, guess], 1)[guess != truth].unique(dim=0, return_counts=True)
    confused = sorted(zip(pairs[1].tolist(), pairs[0].tolist(), strict=True), reverse=True)[:MOST]
    return {
        "accuracy": (guess == truth).double().mean().item(), "images": len(truth),
        "commonest": truth.bincount().max().item() / len(truth),
        "confusions": [(values[a], values[b], n) for n, (a, b) in confused],
    }  # fmt: skip


if __name__ == "__main__":
    main()
