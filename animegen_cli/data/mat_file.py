"""One array out of a MATLAB file (level 5, as MATLAB 5 to 7.2 write it): enough for a list of labels, without scipy.

The format is that of "MAT-File Format" (The MathWorks, chapter 1): a header of 128 bytes, then elements, each with a tag of
its type and its length, and padded to 8 bytes. Lengths of up to 4 bytes lie in the tag itself.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_MATRIX, _COMPRESSED = 14, 15
_HEADER = 128
_MOST = 2**27  # bytes that an element may unpack to


def read_array(data: bytes, name: str) -> np.ndarray:
    """Give the numbers of the real array `name`, flat and in the order of the file (column by column).

    Raises:
        ValueError: this is no such file, it is damaged, or it holds no array of that name.
    """
    order = {b"IM": "<", b"MI": ">"}.get(data[126:128])
    if order is None:
        raise ValueError("not a MATLAB file of level 5")
    try:
        for kind, content in _elements(data[_HEADER:], order):
            if kind == _COMPRESSED:
                unpacked = zlib.decompressobj().decompress(content, _MOST)
                kind, content = next(_elements(unpacked, order))
            if kind == _MATRIX:
                _flags, _shape, (_, label), (number, values), *_ = _elements(content, order)
                if label.decode("ascii", "replace") == name:
                    return np.frombuffer(values, order + _NUMBERS[number])
    except (struct.error, zlib.error, StopIteration, KeyError) as error:
        raise ValueError("a damaged MATLAB file") from error
    raise ValueError(f"the file holds no array `{name}`")


def _elements(data: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Give the type and the content of each element."""
    place = 0
    while place < len(data):
        kind, length = struct.unpack_from(order + "2I", data, place)
        if kind >> 16:  # a small element: the upper half of the type is its length, and the content follows at once
            kind, length = kind & 0xFFFF, kind >> 16
            start, after = place + 4, place + 8
        else:
            start = place + 8
            after = start + (length if kind == _COMPRESSED else -(-length // 8) * 8)
        if start + length > len(data):
            raise ValueError("a MATLAB file that is cut short")
        yield kind, data[start : start + length]
        place = after
