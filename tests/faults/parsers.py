"""Whatever a file holds, who reads it answers or refuses with the file named. Hypothesis writes the files."""

from __future__ import annotations

import contextlib
import copy
import csv
import io
import json
import struct
import zipfile
from typing import TYPE_CHECKING, Any

import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from animegen_cli import disk, paths
from animegen_cli.compare import compare
from animegen_cli.compare.survey import results, votes
from animegen_cli.config import Layer
from animegen_cli.data.dataset import FaceSet
from animegen_cli.data.labels import search
from animegen_cli.data.sources import listed
from animegen_cli.errors import AnimegenError
from animegen_cli.evaluate.evaluate import read_stored
from animegen_cli.model import checkpoint
from animegen_cli.paths import Run
from animegen_cli.report import page
from animegen_cli.sample.trained import open_trained
from animegen_cli.train import train
from animegen_cli.train.request import Request

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NUMBERS = st.one_of(
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.sampled_from([0, -1, 2**31, 2**40, 2**63, 2**64, 10**400, 1e308, -1e308, float("nan"), float("inf")]),
)
TEXTS = st.one_of(
    st.text(max_size=12), st.sampled_from(["", "\x1b]0;x\x07", "../../x", "nan", "1e999", "\0", "\ud800"])
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS),
    lambda inside: st.one_of(st.lists(inside, max_size=4), st.dictionaries(TEXTS, inside, max_size=4)),
    max_leaves=8,
)


def places(value: object, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value inside."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place] * bool(place) + [found for key, part in inside for found in places(part, (*place, key))]


@st.composite
def changed(draw: st.DrawFn, whole: Any) -> Any:  # JSON
    """The document with some of its values gone, doubled or replaced by whatever JSON can say."""
    value = copy.deepcopy(whole)
    for _ in range(draw(st.integers(1, 3))):
        ways = places(value)
        if not ways:
            return draw(VALUES)
        *above, last = draw(st.sampled_from(ways))
        parent = value
        for key in above:
            parent = parent[key]
        kind = draw(st.sampled_from(["gone", "other", "other", "other"]))
        if kind == "gone":
            del parent[last]
        else:
            parent[last] = draw(VALUES)
    return value


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """Bytes with pieces changed, cut out or doubled."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, max(len(data) - 1, 0)))
        end = start + draw(st.integers(0, 40))
        piece = draw(
            st.one_of(st.binary(max_size=6), st.sampled_from([b"[" * 300, b"\0", b"\xff\xfe", b'"', b"&a *a", b"\n"]))
        )
        data[start:end] = data[start:end] * 2 if draw(st.integers(0, 4)) == 0 else piece
    return bytes(data)


def documents(whole: Any) -> st.SearchStrategy[bytes]:  # JSON
    """JSON like `whole`: with other values, or with damaged bytes."""
    text = json.dumps(whole).encode()
    return st.one_of(changed(whole).map(lambda value: json.dumps(value).encode()), damaged(text))


def refuses_or_answers(read: Callable[[], object]) -> None:
    """An error of ours is an answer, any other is what is looked for."""
    with contextlib.suppress(AnimegenError):
        read()


# ---- one for each kind of file ------------------------------------------------------------------------------------


class Parsers:
    """The readers under test, each fed with the files of a whole set and run."""

    def __init__(self, faces: Path, run: Path, work: Path) -> None:
        self.faces = faces
        self.run = Run(run)
        self.work = work
        self.original = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
        with zipfile.ZipFile(faces) as archive:
            self.members = {name: archive.read(name) for name in archive.namelist()}

    def _write(self, file: Path, data: bytes) -> Path:
        file.write_bytes(data)
        return file

    def preset(self) -> tuple[st.SearchStrategy[bytes], Callable[[bytes], None]]:
        whole = paths.preset_file("ddpm", "smoke").read_bytes()
        values = yaml.safe_load(whole)

        def read(data: bytes) -> None:
            file = self._write(self.work / "preset.yaml", data)
            refuses_or_answers(lambda: train.read_config(Request(family="ddpm", preset="smoke", configs=[file])))

        texts = changed(values).map(lambda value: yaml.safe_dump(value).encode())
        return st.one_of(texts, damaged(whole)), read

    def _set(self, name: str) -> tuple[st.SearchStrategy[bytes], Callable[[bytes], None]]:
        few = {"images": 4, "sha256": [f"{n:064x}" for n in range(4)], "test": [3]}
        whole = json.loads(self.members[name])
        pictures = sorted(member for member in self.members if member.endswith(".png"))[:4]
        if name == "manifest.json":
            whole = {key: value[:4] if isinstance(value, list) else value for key, value in whole.items()} | few
        else:
            whole["labels"] = [pair for pair in whole["labels"] if pair[0] in pictures]

        def read(data: bytes) -> None:
            file = self.work / "set.zip"
            with zipfile.ZipFile(file, "w") as archive:
                for picture in pictures:
                    archive.writestr(picture, self.members[picture])
                archive.writestr(name, data)

            def use() -> None:
                faces = FaceSet.open(file)
                for split in ("train", "test", "all"):
                    faces.labels(faces.indices(split))
                    faces.split_identity(split)
                faces.origin(0)

            refuses_or_answers(use)
            refuses_or_answers(lambda: search.find_labels(listed(file), None))

        return documents(whole), read

    def manifest(self) -> tuple[st.SearchStrategy[bytes], Callable[[bytes], None]]:
        return self._set("manifest.json")

    def labels(self) -> tuple[st.SearchStrategy[bytes], Callable[[bytes], None]]:
        return self._set("dataset.json")

    def tables(self) -> tuple[st.SearchStrategy[bytes], Callable[[bytes], None]]:
        pictures = sorted(member for member in self.members if member.endswith(".png"))[:6]
        folder = self.work / "pictures"
        for number, picture in enumerate(pictures):
            folder.mkdir(exist_ok=True)
            (folder / f"{number}.png").write_bytes(self.members[picture])
        rows = [[f"{number}.png", ("pink", "blue")[number % 2], str(number % 3)] for number in range(len(pictures))]
        texts = [
            separator.join(["file", "hair", "n"]) + "\n" + "\n".join(separator.join(row) for row in rows)
            for separator in ",;\t "
        ]
        records = [dict(zip(("file", "hair", "n"), row, strict=True)) for row in rows]
        texts += [json.dumps(records), "\n".join(map(json.dumps, records))]

        def read(data: bytes) -> None:
            for name in ("labels.csv", "labels.json"):
                self._write(folder / name, data)
                refuses_or_answers(lambda: search.find_labels(listed(folder), None))
                refuses_or_answers(lambda name=name: search.find_labels(listed(folder), str(folder / name)))  # type: ignore[misc]
                (folder / name).unlink()

        cells = st.lists(st.lists(TEXTS.filter(lambda text: "\ud800" not in text), max_size=4), max_size=6).map(_as_csv)
        return st.one_of(
            cells, *(damaged(text.encode()) for text in texts), changed(records).map(lambda v: json.dumps(v).encode())
        ), read

    def _of_run(self, file: Path, *, seal: bool = False) -> tuple[st.SearchStrategy[bytes], Callable[[bytes], None]]:
        whole = disk.unsealed(json.loads(self.original[file]))

        def read(data: bytes) -> None:
            self._write(file, data)
            try:
                refuses_or_answers(lambda: read_stored(self.run))
                refuses_or_answers(lambda: paths.open_run(self.run.path, able_to="samples"))
                refuses_or_answers(lambda: page.comparison_page(compare.compare([self.run])))
                refuses_or_answers(lambda: page.run_page(self.run))
            finally:
                file.write_bytes(self.original[file])

        sealed = changed(whole).map(lambda v: json.dumps(disk.sealed(v) if isinstance(v, dict) else v).encode())
        return st.one_of(documents(whole), sealed), read

    def scores(self) -> tuple[st.SearchStrategy[bytes], Callable[[bytes], None]]:
        return self._of_run(self.run.scores)

    def facts(self) -> tuple[st.SearchStrategy[bytes], Callable[[bytes], None]]:
        return self._of_run(self.run.facts)

    def votes(self) -> tuple[st.SearchStrategy[bytes], Callable[[bytes], None]]:
        key = votes.Key(
            "s", ("one", "two"), (None, None), {str(n): ("better", 0, 1) for n in range(4)}, {"c": ("better", "a")}
        )
        rows = [["s", f"r{n % 2}", pair, "a", "left", "900"] for n, pair in enumerate([*key.pairs, "c"] * 2)]
        text = "\n".join(",".join(row) for row in [list(votes.COLUMNS), *[row[: len(votes.COLUMNS)] for row in rows]])

        def read(data: bytes) -> None:
            file = self._write(self.work / "votes.csv", data)

            def use() -> None:
                found, _ = votes.read_votes([file], key)
                results.as_json(results.weigh(found, key))

            refuses_or_answers(use)

        cells = st.lists(st.lists(TEXTS.filter(lambda text: "\ud800" not in text), max_size=6), max_size=6)
        more = cells.map(lambda found: text.encode() + b"\n" + _as_csv(found))
        return st.one_of(damaged(text.encode()), more), read

    def weights(self) -> tuple[st.SearchStrategy[bytes], Callable[[bytes], None]]:
        data = self.original[self.run.weights]
        length = struct.unpack("<Q", data[:8])[0]
        header, tensors = json.loads(data[8 : 8 + length]), data[8 + length :]
        head = json.loads(header["__metadata__"]["animegen"])
        about = disk.unsealed(head)

        def of_header(value: object) -> bytes:
            text = json.dumps(value).encode()
            return struct.pack("<Q", len(text)) + text + tensors

        def of_about(value: object) -> bytes:
            said = json.dumps(disk.sealed(about | {"about": value}))
            return of_header(header | {"__metadata__": {"animegen": said}})

        def read(data: bytes) -> None:
            self._write(self.run.weights, data)
            try:
                refuses_or_answers(lambda: open_trained(self.run, device=_cpu(), precision="fp32"))
            finally:
                self.run.weights.write_bytes(self.original[self.run.weights])

        beginning = damaged(data[: 8 + length]).map(lambda found: found + tensors)
        return st.one_of(changed(header).map(of_header), changed(about["about"]).map(of_about), beginning), read

    def state(self) -> tuple[st.SearchStrategy[bytes], Callable[[bytes], None]]:
        folder = self.run.states()[-1]
        file = folder / "state.json"
        whole = disk.unsealed(json.loads(self.original[file]))

        def read(data: bytes) -> None:
            self._write(file, data)
            try:
                refuses_or_answers(lambda: checkpoint.load_state(folder))
            finally:
                file.write_bytes(self.original[file])

        sealed = changed(whole).map(lambda v: json.dumps(disk.sealed(v) if isinstance(v, dict) else v).encode())
        return st.one_of(documents(whole), sealed), read

    def study(self) -> tuple[st.SearchStrategy[bytes], Callable[[bytes], None]]:
        from animegen_cli.compare.study_file import load

        whole = paths.study_file("smoke").read_bytes()

        def read(data: bytes) -> None:
            file = self._write(self.work / "study.yaml", data)
            refuses_or_answers(lambda: load(file))
            refuses_or_answers(lambda: Layer.from_yaml(file))

        texts = changed(yaml.safe_load(whole)).map(lambda value: yaml.safe_dump(value).encode())
        return st.one_of(texts, damaged(whole)), read


NAMES = ("preset", "study", "manifest", "labels", "tables", "scores", "facts", "votes", "weights", "state")


def _as_csv(rows: list[list[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode(errors="replace")


def _cpu() -> Any:  # torch is imported late
    import torch

    return torch.device("cpu")


def attack(parsers: Parsers, name: str, *, examples: int, seconds: float | None = None, seed: int | None = None) -> int:
    """Read files that Hypothesis writes until one is answered by a crash or by more than five seconds of silence.

    Args:
        parsers: the readers.
        name: one of `NAMES`.
        examples: how many files, or how many at once where `seconds` says how long to go on.
        seconds: how long in all, of the processor's time.
        seed: other files for another one.

    Returns:
        How many files were read.
    """
    import time

    from hypothesis import seed as seeded

    strategy, read = getattr(parsers, name)()
    count = 0

    def test(data: bytes) -> None:
        nonlocal count
        count += 1
        read(data)

    began, round_number = time.process_time(), 0
    while True:
        chosen = settings(
            max_examples=examples, deadline=5000, database=None, suppress_health_check=list(HealthCheck),
            phases=(Phase.generate, Phase.shrink), print_blob=False, report_multiple_bugs=False,
        )  # fmt: skip
        seeded((seed or 0) + round_number)(chosen(given(data=strategy)(test)))()
        round_number += 1
        if seconds is None or time.process_time() - began > seconds:
            return count
