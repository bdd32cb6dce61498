"""What a data set file says of itself: its identity, `dataset.json` and `manifest.json`, from one index for each domain."""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL

from animegen_cli import __version__
from animegen_cli.data import near_duplicates
from animegen_cli.data.index import DatasetIndex, member_name
from animegen_cli.data.sources import DOMAINS, FORMAT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

VERSION = 1
EXAMPLES = 2
"""How many dropped pictures of each reason are named beside the counts."""
Buffer = bytes | memoryview


def identity_of(digests: Iterable[bytes], *parts: object) -> str:
    """Hash a set of images: their sorted pixel hashes, and `parts` such as their size. Gives 64 hexadecimal digits."""
    hashed = hashlib.sha256(json.dumps(parts).encode())
    for one in sorted(digests):
        hashed.update(one)
    return hashed.hexdigest()


def identity_of_domains(digests: Mapping[str, Iterable[bytes]], size: int) -> str:
    """Hash the images of all domains; with two, also which images are in which."""
    parts = [identity_of(own, size) for own in digests.values()]
    return parts[0] if len(parts) == 1 else identity_of((), size, *zip(digests, parts, strict=True))


def manifest_problem(manifest: Mapping[str, Any], count: int) -> str | None:
    """What is wrong with a manifest of a set of `count` images, in words; None where it can be used."""
    digests, names = manifest.get("sha256"), manifest.get("names", [])
    attributes, domains = manifest.get("attributes", {}), manifest.get("domains", list(DOMAINS[:1]))
    test = manifest.get("test", [])
    if type(manifest.get("version", VERSION)) is not int:
        return "the `version` of its manifest is no number"
    if manifest.get("images") != count or not isinstance(digests, list) or len(digests) != count:
        return f"it holds {count} images, its manifest says {manifest.get('images')}"
    if not all(isinstance(digest, str) and re.fullmatch("[0-9a-f]{64}", digest) for digest in digests):
        return "its manifest holds `sha256` that are none"
    if not isinstance(names, list) or len(names) not in (0, count):
        return "its manifest does not name each image"
    if not (isinstance(attributes, dict) and all(map(_is_list_of_text, attributes.values()))):
        return "the `attributes` of its manifest are not lists of values"
    if not _is_list_of_text(domains) or tuple(domains) not in (DOMAINS, DOMAINS[:1], DOMAINS[1:]):
        return "the `domains` of its manifest are not those of a set"
    if not isinstance(test, list) or not all(type(index) is int and 0 <= index < count for index in test):
        return "the `test` of its manifest does not count its images"
    return None


def _is_list_of_text(values: object) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


def about(indexes: Sequence[DatasetIndex], split: float) -> dict[str, Any]:
    """Give the part of the manifest that the images decide: totals, and with two domains the figures of each."""
    parts = [dataset_index.about(split) for dataset_index in indexes]
    whole: dict[str, Any] = {
        "images": sum(part["images"] for part in parts),
        "split": _split(parts, split),
        "near_twins": {
            **{name: sum(part["near_twins"][name] for part in parts) for name in ("clusters", "images")},
            "method": near_duplicates.METHOD,
        },
        "attributes": {name: list(values) for name, values in indexes[0].vocabulary.items()},
        "domains": list(DOMAINS[: len(indexes)]),
        **{
            key: dict(sorted(sum((Counter(part[key]) for part in parts), Counter[str]()).items()))
            for key in ("noticed", "dropped")
        },
    }
    whole["dropped_examples"] = _examples(indexes)
    whole["other_files"] = sum(dataset_index.others for dataset_index in indexes)
    frames = [pair for dataset_index in indexes for pair in dataset_index.animations]
    if frames:
        least, most = (end(count for _, count in frames) for end in (min, max))
        whole["animations"] = {"pictures": len(frames), "frames": [least, most], "such_as": [frames[0][0]]}
    if len(parts) > 1:
        whole["by_domain"] = dict(zip(DOMAINS, parts, strict=True))
    return whole


def _examples(indexes: Sequence[DatasetIndex]) -> dict[str, list[str]]:
    """The first names of dropped pictures for each reason."""
    found: dict[str, list[str]] = {}
    for dataset_index in indexes:
        for name, reason in sorted(dataset_index.dropped):
            if len(names := found.setdefault(reason, [])) < EXAMPLES:
                names.append(dataset_index.folder + name)
    return found


def _split(parts: Sequence[dict[str, Any]], share: float) -> dict[str, Any]:
    """The split of all domains together; with the parts that sources state, and what leaks between them."""
    found = [part["split"] for part in parts]
    whole: dict[str, Any] = {"share": share if all("given" not in one for one in found) else None}
    whole |= {side: sum(one[side] for one in found) for side in ("train", "test")}
    given = [one for one in found if "given" in one]
    if given:
        whole["given"] = dict(sum((Counter(one["given"]) for one in given), Counter[str]()))
        whole["leaks"] = {key: sum(one["leaks"][key] for one in given) for key in ("images", "mirrored")}
    return whole


def identity(indexes: Sequence[DatasetIndex], size: int) -> str:
    """Give the identity of the whole set, whose images are `size` pixels high and wide."""
    return identity_of_domains(
        dict(zip(DOMAINS, (dataset_index.digests() for dataset_index in indexes), strict=False)), size
    )


def dataset_json(indexes: Sequence[DatasetIndex]) -> Buffer:
    """Write `dataset.json` of StyleGAN2/3 and EDM: all attributes as one concatenated one-hot vector for each image."""
    vocabulary = indexes[0].vocabulary
    if not vocabulary:
        return b'{"labels": null}\n'
    widths = [len(values) for values in vocabulary.values()]
    starts = np.cumsum([0, *widths[:-1]])
    out = io.BytesIO()
    for dataset_index in indexes:
        for index, row in enumerate(dataset_index.labels):
            vector = bytearray(b"0" * sum(widths))
            for start, value in zip(starts, row, strict=True):
                if value >= 0:
                    vector[start + value] = ord("1")
            out.write(b",\n" if out.tell() else b'{"labels": [\n')
            out.write(f'["{member_name(index, dataset_index.folder)}", [{",".join(vector.decode())}]]'.encode())
    out.write(b"\n]}\n")
    return out.getbuffer()


def manifest_json(indexes: Sequence[DatasetIndex], about: dict[str, Any]) -> Buffer:
    """Write `manifest.json`: `about`, then the hash, name and cluster of each image, then what was dropped."""
    made = {"format": FORMAT, "version": VERSION, "made_with": {"animegen": __version__, "pillow": PIL.__version__}}
    test = [
        index + dataset_index.start
        for dataset_index in indexes
        for index in np.flatnonzero(dataset_index.test).tolist()
    ]
    clusters = [
        [index + dataset_index.start for index in group]
        for dataset_index in indexes
        for group in dataset_index.near_duplicate_groups()
    ]
    out = io.BytesIO()
    out.write(json.dumps({**made, **about}, indent=1)[:-2].encode())
    out.write(b',\n "test": ' + json.dumps(test, separators=(",", ":")).encode())
    out.write(b',\n "twins": ' + json.dumps(clusters, separators=(",", ":")).encode())
    _write_list(out, "sha256", (digest.hex() for dataset_index in indexes for digest in dataset_index.digests()))
    _write_list(
        out, "names", (dataset_index.folder + name for dataset_index in indexes for name in dataset_index.names)
    )
    dropped = (
        (dataset_index.folder + name, why) for dataset_index in indexes for name, why in sorted(dataset_index.dropped)
    )
    _write_list(out, "dropped_names", dropped)
    _write_list(
        out,
        "animation_frames",
        ((dataset_index.folder + name, count) for dataset_index in indexes for name, count in dataset_index.animations),
    )
    noticed = (
        (what, [index + dataset_index.start for index in found])
        for dataset_index in indexes
        for what, found in sorted(dataset_index.noticed.items())
    )
    _write_list(out, "noticed_images", noticed)
    if any(face for dataset_index in indexes for face in dataset_index.faces):
        faces = (face and face._asdict() for dataset_index in indexes for face in dataset_index.faces)
        _write_list(out, "faces", faces)
    out.write(b"\n}\n")
    return out.getbuffer()


def _write_list(out: io.BytesIO, key: str, values: Iterable[object]) -> None:
    out.write(f',\n "{key}": ['.encode())
    for number, value in enumerate(values):
        out.write((",\n" if number else "\n").encode() + json.dumps(value).encode())
    out.write(b"]")
