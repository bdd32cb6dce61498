"""Numbers as a reader wants them: 35.7M, 13 min, 1.4 GiB."""

from __future__ import annotations


def amount(value: float) -> str:
    """A count with three or four digits: 950, 12.8k, 35.75M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{letter}"
    return f"{value:.4g}"


def duration(seconds: float) -> str:
    """A time in the unit that suits it: 45 s, 13.5 min, 2.25 h, 3.1 days."""
    for size, unit in ((172_800, "days"), (7_200, "h"), (120, "min")):
        if seconds >= size:
            return f"{seconds / {'days': 86_400, 'h': 3_600, 'min': 60}[unit]:.3g} {unit}"
    return f"{seconds:.3g} s"


def memory(size: float) -> str:
    """Bytes in binary units: 512 MiB, 1.4 GiB."""
    return f"{size / 2**30:.3g} GiB" if size >= 2**30 else f"{size / 2**20:.3g} MiB"


def cut(text: str, letters: int) -> str:
    """Shorten text to at most so many letters, the last of which is then an ellipsis."""
    return text if len(text) <= letters else text[: letters - 1] + "…"
