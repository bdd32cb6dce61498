"""Readers of files that anybody may have written, fed by Hypothesis; `python tests/faults --full` feeds them for longer."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from chain import done

pytest.importorskip("hypothesis")
sys.path.append(str(Path(__file__).parent / "faults"))

import parsers

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("name", parsers.NAMES)
def test_whatever_a_file_holds_its_reader_answers_or_refuses(
    name: str, faces: Path, trained: Callable[[str], Path], tmp_path: Path
) -> None:
    import shutil

    run = Path(shutil.copytree(trained("ddpm"), tmp_path / "run"))
    words = ("--n", 8, "--repeats", 2, "--extractor", "faces", "--metrics", "kid", "--device", "cpu")
    if name == "scores":
        done("eval", run, *words)
    assert parsers.attack(parsers.Parsers(faces, run, tmp_path), name, examples=25) >= 10
