"""What a data set file says of itself: its identity, `dataset.json` and `manifest.json`, from one ledger per domain."""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import PIL

from animegen_cli import __version__
from animegen_cli.data import near_duplicates
from animegen_cli.data.index import Ledger, member_name
from animegen_cli.data.sources import DOMAINS

FORMAT = "animegen-faces"
VERSION = 1
Buffer = bytes | memoryview


def identity_of(digests: Iterable[bytes], *parts: object) -> str:
    """Identity of a set of images: a hash over their sorted pixel hashes, and over `parts` such as their size."""
    hashed = hashlib.sha256(json.dumps(parts).encode())
    for one in sorted(digests):
        hashed.update(one)
    return hashed.hexdigest()


def identity_of_domains(digests: Mapping[str, Iterable[bytes]], size: int) -> str:
    """Identity of a set: of its images; with two domains, also of which images are in which."""
    parts = [identity_of(own, size) for own in digests.values()]
    return parts[0] if len(parts) == 1 else identity_of((), size, *zip(digests, parts, strict=True))


def about(ledgers: Sequence[Ledger], split: float) -> dict[str, Any]:
    """The part of the manifest that the images decide: totals, and with two domains the figures of each."""
    parts = [ledger.about(split) for ledger in ledgers]
    whole: dict[str, Any] = {
        "images": sum(part["images"] for part in parts),
        "split": {"share": split, **{side: sum(part["split"][side] for part in parts) for side in ("train", "test")}},
        "near_twins": {
            **{name: sum(part["near_twins"][name] for part in parts) for name in ("clusters", "images")},
            "method": near_duplicates.METHOD,
        },
        "attributes": {name: list(values) for name, values in ledgers[0].vocabulary.items()},
        "domains": list(DOMAINS[: len(ledgers)]),
        "dropped": dict(sorted(sum((Counter(part["dropped"]) for part in parts), Counter[str]()).items())),
    }
    if len(parts) > 1:
        whole["by_domain"] = dict(zip(DOMAINS, parts, strict=True))
    return whole


def identity(ledgers: Sequence[Ledger], size: int) -> str:
    """Identity of the whole set."""
    return identity_of_domains(dict(zip(DOMAINS, (ledger.digests() for ledger in ledgers), strict=False)), size)


def dataset_json(ledgers: Sequence[Ledger]) -> Buffer:
    """`dataset.json` of StyleGAN2/3 and EDM: all attributes as one concatenated one-hot vector per image."""
    vocabulary = ledgers[0].vocabulary
    if not vocabulary:
        return b'{"labels": null}\n'
    widths = [len(values) for values in vocabulary.values()]
    starts = np.cumsum([0, *widths[:-1]])
    out = io.BytesIO()
    for ledger in ledgers:
        for index, row in enumerate(ledger.labels):
            vector = bytearray(b"0" * sum(widths))
            for start, value in zip(starts, row, strict=True):
                if value >= 0:
                    vector[start + value] = ord("1")
            out.write(b",\n" if out.tell() else b'{"labels": [\n')
            out.write(f'["{member_name(index, ledger.folder)}", [{",".join(vector.decode())}]]'.encode())
    out.write(b"\n]}\n")
    return out.getbuffer()


def manifest_json(ledgers: Sequence[Ledger], about: dict[str, Any]) -> Buffer:
    """`manifest.json`: `about`, then per image its hash, name and cluster, then what was dropped."""
    made = {"format": FORMAT, "version": VERSION, "made_with": {"animegen": __version__, "pillow": PIL.__version__}}
    test = [index + ledger.start for ledger in ledgers for index in np.flatnonzero(ledger.test).tolist()]
    clusters = [[index + ledger.start for index in group] for ledger in ledgers for group in ledger.twin_groups()]
    out = io.BytesIO()
    out.write(json.dumps({**made, **about}, indent=1)[:-2].encode())
    out.write(b',\n "test": ' + json.dumps(test, separators=(",", ":")).encode())
    out.write(b',\n "twins": ' + json.dumps(clusters, separators=(",", ":")).encode())
    _write_list(out, "sha256", (digest.hex() for ledger in ledgers for digest in ledger.digests()))
    _write_list(out, "names", (ledger.folder + name for ledger in ledgers for name in ledger.names))
    dropped = ((ledger.folder + name, why) for ledger in ledgers for name, why in sorted(ledger.dropped))
    _write_list(out, "dropped_names", dropped)
    out.write(b"\n}\n")
    return out.getbuffer()


def _write_list(out: io.BytesIO, key: str, values: Iterable[object]) -> None:
    out.write(f',\n "{key}": ['.encode())
    for number, value in enumerate(values):
        out.write((",\n" if number else "\n").encode() + json.dumps(value).encode())
    out.write(b"]")
