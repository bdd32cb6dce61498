"""`animegen presets list|show`."""

from __future__ import annotations

from typing import Annotated

import typer

from animegen_cli.cli.command import Command
from animegen_cli.cli.options import complete_family, complete_full_preset

presets = typer.Typer(
    name="presets",
    no_args_is_help=True,
    help="The shipped presets and the source of each number.",
    rich_markup_mode=None,
)


@presets.command("list", cls=Command)
def list_presets(
    family: Annotated[str | None, typer.Argument(help="Only this family.", autocompletion=complete_family)] = None,
) -> None:
    """All presets with a line on each.

    Example:

      animegen presets list ddpm
    """
    import yaml

    from animegen_cli import console, paths
    from animegen_cli.errors import UsageError, did_you_mean

    if family is not None and family not in paths.families():
        raise UsageError(f"no family `{family}`", hint=did_you_mean(family, paths.families()))
    names = [name for name in paths.presets() if family is None or name.split("/")[0] == family]
    rows = []
    for name in names:
        values = yaml.safe_load(paths.preset_file(*name.split("/")).read_text(encoding="utf-8"))
        rows.append(
            {
                "preset": name,
                "about": values.get("about", ""),
                "size": values.get("size"),
                "warning": values.get("warning"),
            }
        )
    console.table(
        "", ["preset", "pixels", "about"], [(r["preset"], r["size"] or "the set's", r["about"]) for r in rows]
    )
    console.result(rows)


@presets.command("show", cls=Command)
def show(
    name: Annotated[str, typer.Argument(help="Such as ddpm/ho2020.", autocompletion=complete_full_preset)],
) -> None:
    """A preset with the source of each value.

    Example:

      animegen presets show ddpm/ho2020
    """
    import yaml

    from animegen_cli import console, paths
    from animegen_cli.errors import UsageError, did_you_mean

    family, slash, preset = name.partition("/")
    if not slash:
        raise UsageError(f"`{name}` is no preset", hint=did_you_mean(name, paths.presets()))
    text = paths.preset_file(family, preset).read_text(encoding="utf-8")
    console.result({"preset": name, "text": text, "values": yaml.safe_load(text)}, text)
