"""Labels of another data set file: `dataset.json` as StyleGAN2/3 and EDM write it, with the names of our manifest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from animegen_cli import disk
from animegen_cli.data.labels.labels import MAX_VALUES, Labels
from animegen_cli.data.labels.matching import Names
from animegen_cli.data.reading import read_texts
from animegen_cli.data.sources import Unusable
from animegen_cli.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from animegen_cli.data.sources import Source

NAMES = ("dataset.json", "manifest.json")
"""The files of a data set."""


def set_file(source: Source) -> Labels | None:
    """Give the labels of a source that is a data set file, None where it is none or has none.

    Raises:
        DataError: its labels cannot be.
    """
    wanted = [text for text in source.texts if text.name in NAMES]
    if not any(text.name == "dataset.json" for text in wanted):
        return None
    if too_large := [text.name for text in wanted if text.size > source.most_json]:
        raise DataError(
            f"{too_large[0]} in {source.name} is larger than {source.most_json >> 20} MB",
            hint="check who packed the archive, or leave its labels out with `--labels none`",
        )
    files: dict[str, dict[str, object]] = {}
    for text, data in read_texts(source, wanted):
        if isinstance(data, Unusable):
            raise DataError(
                f"{text.name} in {source.path.name} cannot be read: {data}",
                hint="make or copy the set again, or leave its labels out with `--labels none`",
            )
        files[text.name] = _json(data, source.most_json // 16)
    listed = files["dataset.json"].get("labels")
    if not isinstance(listed, list) or not listed:
        return None
    try:
        names = [str(name) for name, _ in listed]
        attributes, numbers = unpack([label for _, label in listed], files.get("manifest.json", {}).get("attributes"))
    except (TypeError, ValueError) as error:
        raise DataError(
            f"the labels in dataset.json of {source.name} cannot be used: {error}",
            hint="leave them out with `--labels none`",
        ) from None
    if not attributes:
        return None
    pictures = Names(source.members.names)
    rows = np.full((len(source.members), len(attributes)), -1, np.int16)
    for name, row in zip(names, numbers, strict=True):
        place = pictures.find(name).place
        if place >= 0 and (not source.half or source.members[place].name == name):  # the other half has the same bases
            rows[place] = row
    return Labels(attributes, rows, "dataset.json", int((rows >= 0).any(axis=1).sum()))


def _json(data: bytes, most: int) -> dict[str, object]:
    try:
        value = disk.parse_json(data, most=most)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def unpack(listed: Sequence[object], attributes: object) -> tuple[dict[str, tuple[str, ...]], np.ndarray]:
    """Read the labels of `dataset.json`: integers, one-hot vectors, or several of these concatenated.

    Args:
        listed: the label of each image.
        attributes: the names of attributes and values as in our manifest; without it a vector is one attribute named
            `class` where it is one-hot, and one yes/no attribute for each number where several of them are 1.

    Returns:
        The attributes, and the label numbers int64 (n, A), -1 unknown. Vectors of measures, such as the cameras of EG3D,
        are no labels: then there are no attributes.

    Raises:
        ValueError: the labels are of another kind, do not fit the attributes, or are too many.
    """
    table = np.asarray(listed)
    if table.ndim == 1 and table.dtype.kind in "iu" and len(table):
        least, most = int(table.min()), int(table.max())
        if least < 0 or most >= MAX_VALUES:
            wrong = least if least < 0 else most
            raise ValueError(f"class {wrong} is not between 0 and {MAX_VALUES - 1:,}")
        return {"class": tuple(map(str, range(most + 1)))}, table[:, None].astype(np.int64)
    if table.ndim != 2 or table.dtype.kind not in "iuf":
        raise ValueError("labels are neither integers nor vectors")
    width = table.shape[1]
    if width > MAX_VALUES:
        raise ValueError(f"vectors of {width:,} numbers; at most {MAX_VALUES:,} are possible")
    if not np.isin(table, (0, 1)).all():
        return {}, np.empty((len(table), 0), np.int64)
    if isinstance(attributes, dict):
        named = {str(name): tuple(map(str, values)) for name, values in attributes.items()}
    elif (table.sum(axis=1) <= 1).all():
        named = {"class": tuple(map(str, range(width)))}
    else:
        return {f"label{column}": ("no", "yes") for column in range(width)}, table.astype(np.int64)
    if sum(map(len, named.values())) != width:
        raise ValueError("labels do not fit the attributes")
    columns = []
    start = 0
    for values in named.values():
        part = table[:, start : start + len(values)]
        columns.append(np.where(part.any(axis=1), part.argmax(axis=1), -1))
        start += len(values)
    return named, np.stack(columns, 1).astype(np.int64)
