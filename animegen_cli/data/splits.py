"""Which images are for training and which for testing: the parts that a source states, else an exact share.

A source states its parts by folders (`train/`, `test/`, `val/`, CycleGAN's `trainA/` and `testB/`), by CelebA's
`list_eval_partition.txt`, by a column `split` of its labels, or by the manifest of a data set file. `val/` is for
testing where there is nothing else to test with; beside `test/` it is for training, as scores against `test/` must
mean the official test part and nothing more.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from animegen_cli import disk
from animegen_cli.data import part_names
from animegen_cli.data.part_names import KINDS, NONE, TEST, TRAIN, VAL
from animegen_cli.data.reading import read_text
from animegen_cli.data.sources import FORMAT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from animegen_cli.data.labels.labels import Labels
    from animegen_cli.data.sources import Source

_PARTITION = re.compile(r"(?:^|/)list_eval_partition\.(?:txt|csv)$", re.IGNORECASE)
_ROW = re.compile(r"([^\s,]+)[\s,]+([012])\s*")


class Parts(NamedTuple):
    """What the members of one source are stated to be for."""

    kinds: np.ndarray
    """`NONE`, `TRAIN`, `VAL` or `TEST` for each member, int8 (n,)."""
    names: dict[str, int]
    """How many members each stated part has, by its name in the source."""


class Given(NamedTuple):
    """A split that is kept as the sources state it."""

    test: list[np.ndarray]
    """For each source which members are for testing, (n,) bool."""
    counts: dict[str, int]
    """How many pictures each part has, by its name; those outside of all parts under an empty name."""
    val_beside_test: bool
    """Whether there is a `val` that is for training, as there is a `test`."""

    @property
    def said(self) -> str:
        """`train/ 80, test/ 20`."""
        named = [f"{name} {count:,}" for name, count in self.counts.items() if name]
        if outside := self.counts.get(""):
            named.append(f"outside of them {outside:,}, for training")
        if self.val_beside_test:
            named.append("what is for validation trains, as there is a test part")
        return ", ".join(named)


def given(sources: Sequence[Source], columns: Sequence[Parts | None] = ()) -> tuple[Given | None, str]:
    """Find the split that the sources of one domain state.

    Args:
        sources: where the pictures come from.
        columns: for each source what `of_column` found in its labels, where these were read.

    Returns:
        The split, None without one; and, where there is a part for training but none for testing, its name.
    """
    found = [
        (columns[number] if number < len(columns) else None) or _stated_by(source)
        for number, source in enumerate(sources)
    ]
    if all(parts is None for parts in found):
        found = [_by_own_name(source) for source in sources]
    kinds = [
        np.full(len(source.members), NONE, np.int8) if parts is None else parts.kinds
        for source, parts in zip(sources, found, strict=True)
    ]
    whole = np.concatenate(kinds) if kinds else np.empty(0, np.int8)
    has = {kind: bool((whole == kind).any()) for kind in (TRAIN, VAL, TEST)}
    held = TEST if has[TEST] else VAL
    if not has[held] or (whole == held).all():
        lonely = next((name for parts in found if parts for name in parts.names), "") if has[TRAIN] else ""
        return None, lonely
    counts = Counter[str]()
    for parts in found:
        counts.update(parts.names if parts else {})
    ordered = dict(sorted(counts.items(), key=lambda one: (_kind(one[0]), one[0])))
    if outside := int((whole == NONE).sum()):
        ordered[""] = outside
    return Given([one == held for one in kinds], ordered, has[VAL] and has[TEST]), ""


def of_column(table: Labels) -> tuple[Parts | None, Labels]:
    """Take a column that names parts out of labels.

    Returns:
        What it states, None without such a column; and the other labels.
    """
    for place, (name, values) in enumerate(table.attributes.items()):
        numbers = name.lower() == "partition" and set(values) <= {"0", "1", "2"}
        if name.lower() in part_names.COLUMNS and (numbers or all(value.lower() in KINDS for value in values)):
            known = np.array([int(value) if numbers else KINDS[value.lower()] for value in values] + [NONE], np.int8)
            named = Counter(values[row] for row in table.rows[:, place].tolist() if row >= 0)
            counts = {f"{name} {value}": count for value, count in named.items()}
            attributes = {other: of for other, of in table.attributes.items() if other != name}
            rest = replace(table, attributes=attributes, rows=np.delete(table.rows, place, axis=1))
            return Parts(known[table.rows[:, place]], counts), rest
    return None, table


def by_share(hashes: np.ndarray, clusters: np.ndarray, share: float) -> np.ndarray:
    """Choose the images for testing, (n,) bool, so that the share for training is met as nearly as whole clusters allow.

    Clusters come in the order of the smallest hash in each, those with the largest first; one that would overfill the
    test part is passed over. Of two clusters and more neither side stays empty, unless the share is 1.

    Args:
        hashes: of the contents of the images, uint64 (n,).
        clusters: for each image the smallest index of those that it must not be parted from, (n,).
        share: of the images that are for training, in (0, 1].
    """
    count = len(hashes)
    sizes = np.bincount(clusters, minlength=count)
    heads = np.flatnonzero(sizes)
    chosen = np.zeros(count, bool)
    if share >= 1 or len(heads) < 2:
        return chosen
    lead = np.full(count, 2**64 - 1, np.uint64)
    np.minimum.at(lead, clusters, hashes)
    order = heads[np.argsort(lead[heads], kind="stable")][::-1]
    wanted = min(max(1, round(count * (1 - share))), count - 1)
    free = wanted
    for head in order.tolist():
        if sizes[head] <= free:
            chosen[head] = True
            free -= sizes[head]
    rest = [head for head in order.tolist() if not chosen[head]]
    if free and len(rest) > 1:  # too full by one more cluster may be nearer than too empty
        small = min(rest, key=sizes.__getitem__)
        chosen[small] = free == wanted or sizes[small] - free < free
    return chosen[clusters]


# ---- what a source states --------------------------------------------------------------------------------------


def _stated_by(source: Source) -> Parts | None:
    """By its folders, a manifest of ours or CelebA's list."""
    return _by_folders(source) or _by_manifest(source) or _by_partition(source)


def _by_folders(source: Source) -> Parts | None:
    kinds = np.full(len(source.members), NONE, np.int8)
    counts = Counter[str]()
    folders: dict[str, tuple[str, part_names.PartName] | None] = {}
    for place, name in enumerate(source.members.names):
        folder = name.rpartition("/")[0]
        if folder not in folders:
            folders[folder] = part_names.part_of(folder)
        if found := folders[folder]:
            kinds[place] = found[1].kind
            counts[f"{found[0]}/"] += 1
    return Parts(kinds, counts) if counts else None


def _by_own_name(source: Source) -> Parts | None:
    """Of several sources one may be called `train` and another `test`."""
    found = None if source.drawn else part_names.read(source.name)
    if found is None:
        return None
    kinds = np.full(len(source.members), found.kind, np.int8)
    return Parts(kinds, {source.name: len(kinds)})


def _by_manifest(source: Source) -> Parts | None:
    """The test images of a data set file, whose manifest counts the images in the order of their names."""
    text = next((member for member in source.texts if member.name == "manifest.json"), None)
    if text is None:
        return None
    try:
        about = disk.parse_json(read_text(source, text, source.most_json), most=source.most_json // 16)
        if about["format"] != FORMAT or (first := _first(about, source)) is None:
            return None
        held = {int(index) - first for index in about["test"]} & set(range(len(source.members)))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    if not held:
        return None
    kinds = np.full(len(source.members), TRAIN, np.int8)
    kinds[list(held)] = TEST
    counts = Counter("test" if kind == TEST else "train" for kind in kinds.tolist())
    return Parts(kinds, {f"{name} of {source.name}": count for name, count in counts.items()})


def _first(about: dict[str, Any], source: Source) -> int | None:
    """The number that a manifest gives to the first member of a source, which may be one domain; None where they do not fit."""
    sizes = {f"{name}/": part["images"] for name, part in about.get("by_domain", {}).items()} or {"": about["images"]}
    if not source.half:
        return 0 if len(source.members) == sum(sizes.values()) else None
    first = 0
    for folder, size in sizes.items():
        if source.members[0].name.startswith(folder):
            return first if len(source.members) == size else None
        first += size
    return None


def _by_partition(source: Source) -> Parts | None:
    """CelebA's list: a file's name and 0, 1 or 2."""
    text = next((member for member in source.texts if _PARTITION.search(member.name)), None)
    if text is None:
        return None
    lines = read_text(source, text).decode("utf-8", "replace").splitlines()
    stated = {found[1]: int(found[2]) for line in lines if (found := _ROW.fullmatch(line))}
    kinds = np.array([stated.get(name.rpartition("/")[2], NONE) for name in source.members.names], np.int8)
    counts = {
        name: count
        for kind, name in ((TRAIN, "train"), (VAL, "val"), (TEST, "test"))
        if (count := int((kinds == kind).sum()))
    }
    return Parts(kinds, counts) if counts else None


def _kind(name: str) -> int:
    """The order of parts in what is said of them: `train of faces` before `testB/`."""
    found = (part_names.read(word) for word in re.findall(r"[A-Za-z]+", name))
    return next((one.kind for one in found if one), NONE)
