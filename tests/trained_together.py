"""Run by several processes at once: trains a list of commands, one after the other, in each of them.

    RANK=0 WORLD_SIZE=2 python tests/trained_together.py PLAN.json

Loading torch once for all of them is what keeps `test_processes.py` short.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from animegen_cli import cli
from animegen_cli.ranks import MEETING


def main(plan: Path) -> None:
    """Train each command of the plan, [{"words": [...], "meeting": file}, ...]."""
    for entry in json.loads(plan.read_text()):
        os.environ[MEETING] = entry["meeting"]
        sys.argv = ["animegen", *entry["words"]]
        try:
            cli.main()
        except SystemExit as end:
            if end.code:
                raise


if __name__ == "__main__":
    main(Path(sys.argv[1]))
