"""`python -m animegen_cli` is the command `animegen`."""

from __future__ import annotations

from animegen_cli.cli import main

if __name__ == "__main__":
    main()
