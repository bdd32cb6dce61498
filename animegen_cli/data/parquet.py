"""Parquet files: pictures in a column, as Hugging Face's `datasets` writes them, and tables of labels.

Needs pyarrow (extra `hf`), which is imported when the first Parquet file is met. The standard library cannot read the
format; pandas and polars would read it through pyarrow or as whole columns, and pictures must come a few at a time.
"""

from __future__ import annotations

import io
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from animegen_cli import disk
from animegen_cli.errors import DataError, MachineError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    import pyarrow

_AT_A_TIME = 16  # pictures
_PICTURES = re.compile(r"(image|img|picture|photo|face|png|jpe?g|webp|bytes)", re.IGNORECASE)


@contextmanager
def _opened(file: Path | bytes, name: str) -> Iterator[Any]:
    """Open a Parquet file; what goes wrong until it is closed is an error with a hint."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise MachineError(
            f"{name} is a Parquet file, and reading these needs an extra", hint="type `pip install 'animegen[hf]'`"
        ) from None
    try:
        with parquet.ParquetFile(io.BytesIO(file) if isinstance(file, bytes) else file, pre_buffer=False) as opened:
            yield opened
    except (pyarrow.ArrowException, OSError, ValueError) as error:  # Thrift's errors arrive as OSError
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{name} is damaged: {said}", hint="download or write it again") from None


def holds_pictures(path: Path) -> bool:
    """Whether a column of the file holds pictures.

    Raises:
        DataError: the file is damaged.
        MachineError: pyarrow is not installed.
    """
    with _opened(path, str(path)) as file:
        return _picture_column(file.schema_arrow) is not None


def picture_names(path: Path) -> list[str]:
    """Name the pictures of a file, one for each row: by the path that is stored with each, else by the row's number.

    Raises:
        DataError: the file is damaged, or no column holds pictures.
        MachineError: pyarrow is not installed.
    """
    with _opened(path, str(path)) as file:
        column = _picture_column(file.schema_arrow)
        if column is None:
            listed = ", ".join(file.schema_arrow.names[:8])
            raise DataError(
                f"{path} has no column of pictures, only {listed}",
                hint="name the folder that holds its pictures: `animegen prepare FOLDER --labels TABLE`",
            )
        count = file.metadata.num_rows
        names = [f"{row:08d}" for row in range(count)]
        if _is_struct_with(file.schema_arrow.field(column).type, "path"):
            row = 0
            for batch in file.iter_batches(batch_size=4096, columns=[f"{column}.path"]):
                for cell in batch.column(0).to_pylist():
                    if cell and cell.get("path"):
                        names[row] = str(cell["path"]).replace("\\", "/").lstrip("/")
                    row += 1
        return names


def pictures(path: Path, wanted: Collection[int]) -> Iterator[tuple[int, bytes]]:
    """Read the pictures of some rows in the order of the file, each with the number of its row; empty where there is none.

    Raises:
        DataError: the file is damaged.
        MachineError: pyarrow is not installed.
    """
    with _opened(path, str(path)) as file:
        column = _picture_column(file.schema_arrow)
        packed = _is_struct_with(file.schema_arrow.field(column).type, "bytes")
        row = 0
        for batch in file.iter_batches(batch_size=_AT_A_TIME, columns=[f"{column}.bytes" if packed else column]):
            for cell in batch.column(0):
                if row in wanted:
                    value = cell.as_py()
                    yield row, (value.get("bytes") if isinstance(value, dict) else value) or b""
                row += 1


def _picture_column(schema: pyarrow.Schema) -> str | None:
    """The first column of struct{bytes, path}, or of bytes under a name that speaks of pictures."""
    import pyarrow

    for field in schema:
        if _is_struct_with(field.type, "bytes"):
            return str(field.name)
    for field in schema:
        binary = pyarrow.types.is_binary(field.type) or pyarrow.types.is_large_binary(field.type)
        if binary and _PICTURES.search(field.name):
            return str(field.name)
    return None


def _is_struct_with(kind: pyarrow.DataType, name: str) -> bool:
    import pyarrow

    return pyarrow.types.is_struct(kind) and kind.get_field_index(name) >= 0


class Columns:
    """The columns of a file that can be labels: no pictures, nothing nested but lists of words."""

    def __init__(self, file: Path | bytes, name: str) -> None:
        """Read the schema.

        Raises:
            DataError: the file is damaged.
            MachineError: pyarrow is not installed.
        """
        self._file, self._name = file, name
        with _opened(file, name) as opened:
            import pyarrow

            schema = opened.schema_arrow
            self.rows = int(opened.metadata.num_rows)
            self.pictures = _picture_column(schema) is not None
            self.header = [
                str(field.name)
                for field in schema
                if not (
                    pyarrow.types.is_struct(field.type)
                    or pyarrow.types.is_binary(field.type)
                    or pyarrow.types.is_large_binary(field.type)
                )
            ]
            self._classes = _class_names(schema.metadata or {})

    def records(self) -> Iterator[dict[str, object]]:
        """Give each row by its titles; class numbers by the names that Hugging Face keeps in the file.

        Raises:
            DataError: the file is damaged.
        """
        if not self.header:
            yield from ({} for _ in range(self.rows))
            return
        with _opened(self._file, self._name) as opened:
            for batch in opened.iter_batches(batch_size=1024, columns=self.header):
                for record in batch.to_pylist():
                    for title, names in self._classes.items():
                        number = record.get(title)
                        if isinstance(number, int):
                            record[title] = names[number] if 0 <= number < len(names) else None
                    yield record


def _class_names(metadata: dict[bytes, bytes]) -> dict[str, list[str]]:
    """The names of the classes of each column of kind ClassLabel, from what `datasets` writes beside the schema."""
    try:
        features = disk.parse_json(metadata[b"huggingface"])["info"]["features"]
        return {
            str(title): [str(name) for name in feature["names"]]
            for title, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and feature.get("names")
        }
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}
