"""Seeds: lists of them as they are typed and spelled, and numbers that follow from words."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from animegen_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence


def seed_for(*key: int | str) -> int:
    """A 63-bit seed that depends on every part of `key` and on nothing else."""
    import hashlib  # with OpenSSL, which `--help` does not need

    return int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=8).digest(), "little") >> 1


MOST_SEEDS = 10_000_000


def parse_seeds(text: str, example: str = "--seeds 0-63,100") -> list[int]:
    """`0-63,100` -> [0, ..., 63, 100]; UsageError when it is no such list, with `example` as what to write."""
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or (dash and int(last) < int(first)):
            raise UsageError(f"`{text}` is no list of seeds", hint=f"write `{example}`")
        if int(last or first) - int(first) >= MOST_SEEDS:
            raise UsageError(
                f"`{part.strip()}` is more than {MOST_SEEDS:,} seeds", hint="draw them in several commands"
            )
        seeds += range(int(first), int(last or first) + 1)
    return seeds


def spell_seeds(seeds: Sequence[int]) -> str:
    """Seeds as they are typed: [0, 1, 2, 9] -> `0-2,9`."""
    parts = []
    for _, group in itertools.groupby(enumerate(seeds), key=lambda pair: pair[1] - pair[0]):
        run = [seed for _, seed in group]
        parts.append(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}")
    return ",".join(parts)
