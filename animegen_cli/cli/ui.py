"""`animegen ui`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from animegen_cli import paths
from animegen_cli.cli.options import Device


def ui(
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port of this machine; 0: any free one.")
    ] = 7860,
    runs: Annotated[Path, typer.Option("--runs", help="Folder of the runs.")] = paths.RUNS,
    no_open: Annotated[bool, typer.Option("--no-open", help="Print the address, open no browser.")] = False,
    device: Device = None,
) -> None:
    """Play with your runs in the browser.

    Draw, walk between faces, redraw pictures, watch a training.

    Needs `pip install 'animegen[ui]'`. The page is served to this machine alone and fetches nothing from elsewhere; what
    you upload lies in a temporary folder that is removed when you stop with Ctrl-C.

    Examples:

      animegen ui

      animegen ui --runs experiments --port 7861 --no-open
    """
    from animegen_cli.ui.ui import Request
    from animegen_cli.ui.ui import ui as show

    show(Request(runs=runs, port=port, device=device, open_browser=not no_open))
