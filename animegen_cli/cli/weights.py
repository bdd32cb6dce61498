"""`animegen weights`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def weights(
    url: Annotated[
        str | None, typer.Option("--url", help="Fetch from a mirror; the checksum must still match.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="File to write; by default in the cache folder.")] = None,
) -> None:
    """Fetch Inception's weights once, for FID, KID and IS.

    `eval` finds them then. Nothing else ever downloads.

    Example:

      animegen weights
    """
    from animegen_cli import console
    from animegen_cli.metrics.weights import INCEPTION_URL, download_weights

    path = download_weights(url or INCEPTION_URL, dest=out)
    console.result({"weights": str(path)}, str(path))
