"""The notebooks run from their first cell to their last in a kernel, with smaller numbers in the cell of parameters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
SMALL: dict[str, str] = {
    "first-steps": """
PICTURES, RESOLUTION, FACES, SCORED = "demo", 16, 60, 12
VAE = {"duration": "32 images", "batch": 8, "parts": 1, "model": {"widths": [8, 16], "latent": 8}}
GAN = {"duration": "16 images", "batch": 8, "parts": 1, "model": {"width": 4, "critic_width": 4, "labels": []}}
""",
    "document-003": """
PICTURES, FACES, STUDY, BUDGET = "demo", 60, "small.yaml", None
""",
}
"""What takes the place of a notebook's parameters."""
STUDY = """
title: Four kinds
about: as small as they come
size: 16
runs:  # one part each: to choose their number costs more than these trainings
  vae: {family: vae, preset: smoke, duration: 16 images, settings: {train.batch: 8, train.parts: 1, model.widths: [8, 16]}}
  gan: {family: gan, preset: smoke, duration: 16 images, settings: {train.batch: 8, train.parts: 1, model.width: 4}}
  stylegan2: {family: stylegan2, preset: smoke, duration: 16 images, settings: {train.batch: 8, train.parts: 1}}
  ddpm: {family: ddpm, preset: smoke, duration: 16 images, settings: {train.batch: 8, train.parts: 1, sample.steps: 2}}
scores: {split: test, metrics: [fd], extractors: [faces], n: 12, repeats: 1}
"""


def ran(name: str, folder: Path) -> Any:
    """The notebook after all its cells have run in `folder`."""
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    (parameters,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ())]
    names = {line.partition(" = ")[0] for line in parameters.source.splitlines()}
    assert all(each in SMALL[name] for each in names), "a parameter that this test does not know"
    parameters.source = SMALL[name]
    NotebookClient(
        notebook, timeout=240, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute()
    return notebook


def shown(notebook: Any, kind: str) -> list[str]:
    """Everything of one MIME type that the cells show."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return [output.data[kind] for output in outputs if kind in output.get("data", {})]


def test_the_first_steps_lead_to_faces_and_numbers(tmp_path: Path) -> None:
    notebook = ran("first-steps", tmp_path)
    install = next(cell for cell in notebook.cells if "find_spec" in cell.source)
    assert install.outputs == []  # animegen is here already
    assert len(shown(notebook, "image/png")) >= 3
    assert any("fd-faces" in table and "<table" in table for table in shown(notebook, "text/html"))
    assert shown(notebook, "application/vnd.jupyter.widget-view+json"), "progress is a bar that moves"
    assert len(list((tmp_path / "vae-faces").glob("*.png"))) == 16
    assert (tmp_path / "comparison" / "index.html").is_file()


def test_document_003_is_compared_by_a_study(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(STUDY, encoding="utf-8")
    notebook = ran("document-003", tmp_path)
    tables = [table for table in shown(notebook, "text/html") if "fd-faces" in table]
    assert all(family in table for table in tables for family in ("vae", "gan", "stylegan2", "ddpm"))
    assert len(tables) == 2  # the comparison, and its data frame
    assert (tmp_path / "studies" / "document-003" / "comparison" / "index.html").is_file()


@pytest.mark.parametrize("name", list(SMALL))
def test_a_notebook_is_kept_without_what_it_showed(name: str) -> None:
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    nbformat.validate(notebook)
    assert not [cell for cell in notebook.cells if cell.get("outputs") or cell.get("execution_count")]
    assert {file.stem for file in NOTEBOOKS.glob("*.ipynb")} == set(SMALL)
