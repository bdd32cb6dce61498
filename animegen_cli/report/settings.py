"""How runs were made: their settings, the differences marked, and the commands that make them again."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from animegen_cli.report import tables
from animegen_cli.report.columns import eval_options
from animegen_cli.report.numbering import Commands, Folded, Numbering, Part, TablePart, Words
from animegen_cli.report.records import Record, flattened
from animegen_cli.report.tables import Cell, Column, Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def settings(records: Sequence[Record], names: Sequence[str], numbering: Numbering) -> list[Part]:
    """Show the settings in which the runs differ and, folded away, those that they share."""
    flat = [dict(flattened({**record.config, **_chosen(record)})) for record in records]
    keys = [key for key in dict.fromkeys(k for one in flat for k in one) if key not in {"about", "warning"}]
    if not keys:
        return []
    differ = [key for key in keys if len({one.get(key) for one in flat}) > 1]
    same = [key for key in keys if key not in differ]
    parts: list[Part] = []
    if differ:
        table = _differences(flat, differ, names)
        text = f"The {len(differ)} settings in which the runs differ; tinted where a run is unlike the first one."
        parts.append(
            Folded(f"The {len(differ)} settings that differ", [numbering.table("settings", table, text, wrap=True)])
        )
    if same:
        rows = [[key, flat[0][key]] for key in same]
        title = f"The {len(same)} settings that all runs share" if len(records) > 1 else f"All {len(same)} settings"
        table = tables.text_table(title, ("setting", "value"), rows)
        parts.append(Folded(title, [TablePart(0, table, f"{title}.", wrap=True)]))
    return parts


def _differences(flat: Sequence[Mapping[str, str]], keys: Sequence[str], names: Sequence[str]) -> Table:
    columns = (Column("setting", "setting", right=False), *(Column(name, name, right=False) for name in names))
    rows = [
        (
            Cell(key, key),
            *(Cell(one.get(key, tables.DASH), one.get(key), odd=one.get(key) != flat[0].get(key)) for one in flat),
        )
        for key in keys
    ]
    return Table("Settings that differ", columns, tuple(rows))


def _chosen(record: Record) -> dict[str, Any]:
    """What the run settled at its start, which belongs to its settings."""
    return {key: record.about[key] for key in ("resolved", "versions", "animegen") if record.about.get(key)}


def commands(records: Sequence[Record], names: Sequence[str], page: str | None = None) -> list[Part]:
    """Show what to type to get each run and its scores again, with the data, the code and the machine of the first time.

    `page` makes all of it again, where a study did; else the runs are laid side by side.
    """
    parts: list[Part] = []
    for name, record in zip(names, records, strict=True):
        data = record.data.get("path")
        folder = str(record.run.path)
        train = ["animegen", "train", str(record.about.get("family", "FAMILY")), "--config", str(record.run.config)]
        train += [*(["--data", str(data)] if data else []), "--resume", "none"]
        ways = eval_options(record) or ([] if record.classifies else [[]])
        scored = [["animegen", "eval", folder, *options] for options in ways]
        lines = [shlex.join(words) for words in (["animegen", "reproduce", folder], train, *scored)]
        facts = [
            f"data {record.data.get('name')}, identity {record.data.get('identity')}" if record.data else None,
            f"code {record.about['git']}" if record.about.get("git") else None,
            f"on {record.about['device']}" if record.about.get("device") else None,
        ]
        parts.append(Commands(name, lines, "; ".join(filter(None, facts))))
    if not parts:
        return []
    lead = Words(
        "The first line trains and scores again and says what differs; the others are its two steps by themselves."
    )
    if len(records) == 1:
        return [lead, *parts]
    page = page or shlex.join(["animegen", "compare", *(str(record.run.path) for record in records)])
    return [Commands("This page", [page]), Folded("Each run", [lead, *parts])]
