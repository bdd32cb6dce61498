"""The options that every command has: how it prints."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperOption

from animegen_cli import console


class Command(TyperCommand):
    """A command that also takes `--json` and `--quiet`, and sets the console by them before it runs."""

    def __init__(self, name: str | None, **options: Any) -> None:  # noqa: ANN401  # what Typer's own class takes
        super().__init__(name, **options)
        self.params += [
            TyperOption(
                param_decls=["--json", "as_json"], is_flag=True, default=False, show_default=False,
                help="Print the result as JSON.",
            ),
            TyperOption(
                param_decls=["--quiet", "-q", "quiet"], is_flag=True, default=False, show_default=False,
                help="No notes and no progress.",
            ),
        ]  # fmt: skip

    def get_short_help_str(self, limit: int = 45) -> str:  # noqa: ARG002  # a longer sentence goes on in the next line
        """The first sentence of the help, whole, for the list of commands."""
        return super().get_short_help_str(1000)

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401  # Typer's own context is not public
        """Set the console, then run the command with its own options."""
        console.configure(quiet=ctx.params.pop("quiet"), as_json=ctx.params.pop("as_json"))
        return super().invoke(ctx)
