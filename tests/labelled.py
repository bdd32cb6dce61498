"""Listed sources whose labels the tests look for: files with the names of pictures, which nobody decodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from animegen_cli.data import sources
from animegen_cli.data.labels.search import find_labels

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from animegen_cli.data.labels.labels import Labels


TWENTY = [f"{number}.png" for number in range(20)]
TWO = ("pink", "blue")
HAIR = [TWO[int(name.removesuffix(".png")) % 2] for name in sorted(TWENTY)]


def rows(form: str, names: list[str] | None = None) -> str:
    """A line for each of twenty pictures; `form` takes `name`, `hair` and `n`."""
    return "".join(
        form.format(name=name, hair=TWO[number % 2], n=number) for number, name in enumerate(names or TWENTY)
    )


def source_of(folder: Path, pictures: Iterable[str], files: Mapping[str, str | bytes] | None = None) -> sources.Source:
    """A folder with these pictures and label files, as `prepare` lists it."""
    for name, content in [*((name, b"") for name in pictures), *(files or {}).items()]:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    (source,) = sources.find([str(folder)], downloads=folder)
    return source


def labels_of(
    folder: Path,
    pictures: Iterable[str],
    files: Mapping[str, str | bytes] | None = None,
    *,
    wanted: str | None = None,
    encoding: str | None = None,
) -> Labels:
    """The labels of a folder with these pictures and label files."""
    return find_labels(source_of(folder, pictures, files), wanted, encoding)


def column(labels: Labels, name: str) -> list[str | None]:
    """The values of one attribute in the order of the pictures' names; None is unknown."""
    at = list(labels.attributes).index(name)
    values = labels.attributes[name]
    return [values[number] if number >= 0 else None for number in labels.rows[:, at]]
