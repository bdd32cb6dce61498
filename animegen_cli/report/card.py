"""The model card: a README.md for people and for model hubs, without a path of the machine that made it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

import animegen_cli
from animegen_cli.report import tables
from animegen_cli.report.columns import columns_of, eval_options, identity
from animegen_cli.report.records import Record, flattened
from animegen_cli.report.units import amount, duration

if TYPE_CHECKING:
    from animegen_cli.report.tables import Table

LICENSE = "unknown"
"""What the card says where nobody named one; hubs know this word."""
_MATTER = re.compile(r"(model|sample|augment)\.|optim\.\w+\.(name|lr)$|train\.(batch|duration|seed|ema\.decay)$")
_OFF = {"null", "0", "0.0", "[]", "0 images"}


class Facts(NamedTuple):
    """What a card says that the run's folder does not tell."""

    library: str
    """Which program reads the files: diffusers or onnx."""
    use: str
    """Python that draws with them from inside the folder."""
    license: str
    classes: str = ""
    """Name of the pipeline's class, a tag of its own."""
    draws: bool = True
    """From noise; else it translates pictures."""
    picture: str | None = None
    """File name of a sheet of results; `caption` says what it shows."""
    caption: str = ""
    notes: Sequence[str] = ()
    """In what the files differ from the run."""


def card(record: Record, facts: Facts) -> str:
    """Write the whole README.md of an exported run."""
    picture = f"![{facts.caption}]({facts.picture})\n\n{facts.caption}." if facts.picture else None
    sections = {
        "How to use": _use(facts),
        "Samples": picture,
        "Training data": _data(record),
        "Settings that matter": tables.markdown(_settings(record)),
        "Scores": _scores(record),
        "Limits": _list(_limits(record, facts)),
        "How to reproduce": _reproduce(record),
    }
    blocks = [f"---\n{yaml.safe_dump(_head(record, facts), sort_keys=False, allow_unicode=True)}---"]
    blocks += [f"# {_plain(record.name)}", _lead(record, facts)]
    blocks += [f"## {title}\n\n{text.strip()}" for title, text in sections.items() if text]
    blocks.append(f"Written by animegen {animegen_cli.__version__}.")
    return "\n\n".join(blocks) + "\n"


def without_paths(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Cut every path in the settings, nested ones included, to its last name."""
    return {key: _without_path(value) for key, value in settings.items()}


def _without_path(value: object) -> object:
    if isinstance(value, Mapping):
        return without_paths(value)
    if isinstance(value, list | tuple):
        return [_without_path(item) for item in value]
    if isinstance(value, str) and " " not in value and ("/" in value or "\\" in value):
        return PurePath(value.replace("\\", "/")).name
    return value


def _head(record: Record, facts: Facts) -> dict[str, Any]:
    family, data = str(record.about.get("family")), record.data.get("name")
    return {
        "license": facts.license,
        "library_name": facts.library,
        "pipeline_tag": "unconditional-image-generation" if facts.draws else "image-to-image",
        "tags": [
            "anime",
            "faces",
            "animegen",
            family,
            *([f"{facts.library}:{facts.classes}"] if facts.classes else []),
        ],
        **({"datasets": [str(data)]} if data else {}),
    }


def _lead(record: Record, facts: Facts) -> str:
    size, count = record.data.get("size", "?"), record.parameters
    what = "draws anime faces from noise" if facts.draws else "translates pictures of faces"
    weights = f" with {amount(count)} parameters" if count else ""
    about = _plain(record.config.get("about") or "").rstrip(".")
    text = f"A `{record.about.get('family')}` network{weights} that {what} at {size} x {size} pixels, averaged over its training"
    return f"{text} ({record.state}, {amount(record.images)} images seen).{f' Preset: {about}.' if about else ''}"


def _use(facts: Facts) -> str:
    needs = {"onnx": "onnxruntime numpy"}.get(facts.library, f"{facts.library} torch")
    return f"```bash\npip install {needs}\n```\n\nInside this folder:\n\n```python\n{facts.use.strip()}\n```"


def _data(record: Record) -> str:
    data = record.data
    if not data:
        return "Not recorded."
    found = [
        f"name: {_plain(data.get('name'))}",
        f"images: {data.get('count', '?')} of the split `{data.get('split', 'train')}`",
        f"size: {data.get('size')} x {data.get('size')} pixels"
        + (
            f", scaled down from {data['scaled_from']}"
            if data.get("scaled_from") not in (None, data.get("size"))
            else ""
        ),
        f"identity (hash of all pixels): `{data.get('identity')}`",
    ]
    attributes = data.get("attributes")
    if isinstance(attributes, Mapping) and attributes:
        said = "; ".join(f"{name}: {', '.join(map(str, values))}" for name, values in attributes.items())
        found.append(f"labels: {_plain(said)}")
    return _list(found)


def _settings(record: Record) -> Table:
    config = without_paths(dict(record.config))
    rows = [("preset", f"{config.get('family')}/{config.get('preset') or 'custom'}")]
    rows += [(key, value) for key, value in flattened(config) if _MATTER.match(key) and value not in _OFF]
    rows += [(f"{name} (note)", value) for name, value in record.notes.items()]
    return tables.text_table("All settings, also those that are off, are in config.yaml", ("setting", "value"), rows)


def _scores(record: Record) -> str:
    if not record.scores:
        return "Not scored. `animegen eval` scores a run against its data set."
    protocol_texts = {column.identity: column.protocol_text for column in columns_of([record])}
    rows = [
        (
            score.name + tables.ARROWS[score.better],
            score.text,
            str(score.protocol.get("sampling") or tables.DASH),
            protocol_texts[identity(score)],
        )
        for score in record.scores
    ]
    table = tables.text_table("Each score with its protocol", ("score", "value", "drawn by", "protocol"), rows)
    return (
        tables.markdown(table)
        + "\nOnly scores of one protocol may be compared; those not on Inception with none that is published."
    )


def _limits(record: Record, facts: Facts) -> Iterator[str]:
    if record.config.get("warning"):
        yield f"The preset's own warning: {_plain(record.config['warning'])}"
    for finding in record.diagnoses:
        yield f"Found by the doctor at the end of training: {_plain(finding)}"
    if record.about.get("findings") == []:
        yield "The doctor found no failure at the end of training (blank pictures, collapse, a critic that wins)."
    yield from (_plain(note) for note in facts.notes)
    count = record.data.get("count")
    yield (
        f"It has seen {count or 'few'} pictures of one kind: it knows no other subject, repeats the set's habits "
        "(styles, poses, hair, the share of each gender), and may come close to single pictures of it."
    )
    if record.state != "finished":
        yield f"Training did not come to its end: {record.state}."
    yield "Whether the pictures it learned from allow a use is for the user to check; the card's license is that of the weights."


def _reproduce(record: Record) -> str:
    about, name = record.about, str(record.data.get("name") or "faces")
    size = record.data.get("scaled_from") or record.data.get("size")
    lines = [["animegen", "prepare", "SOURCE", "--resolution", str(size), "--out", f"{name}.zip"]]
    lines.append(
        [
            "animegen",
            "train",
            str(about.get("family")),
            "--config",
            "config.yaml",
            "--data",
            f"{name}.zip",
            "--out",
            record.name,
        ]
    )
    lines += [["animegen", "eval", record.name, *options] for options in eval_options(record)]
    said = [
        f"animegen {about.get('animegen', animegen_cli.__version__)}"
        + (f", commit `{about['git']}`" if about.get("git") else ""),
        *(f"{key} {value}" for key, value in (about.get("versions") or {}).items() if key != "animegen"),
        f"on {about.get('device')}" if about.get("device") else "",
        duration(about["seconds"]) if isinstance(about.get("seconds"), int | float) else "",
    ]
    text = "```bash\n" + "\n".join(shlex.join(line) for line in lines) + "\n```"
    return f"{text}\n\nMade with {', '.join(filter(None, said))}. The set is the same when its identity is."


def _list(lines: Sequence[str] | Iterator[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _plain(text: object) -> str:
    """One line in which nothing opens a tag."""
    return " ".join(str(text).split()).replace("<", "&lt;")
