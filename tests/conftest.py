"""What many tests share: one thread (so that sums are exact), a cache and presets of their own, one small drawn data set."""

from __future__ import annotations

import os
import shutil
import tempfile
from typing import TYPE_CHECKING, Any

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported, and for every process that tests start

import pytest
from browsing import chromium

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


LONGEST = (
    "test_slurm.py",
    "test_readme.py",
    "test_resume.py",
    "test_ui.py",
    "test_onnx.py",
    "test_study.py",
    "test_survey.py",
    "test_training.py",
)
"""The files whose tests take longest. They come first, so that no worker is left with one of them while the others are done."""


def pytest_configure() -> None:
    os.environ["XDG_CONFIG_HOME"] = tempfile.mkdtemp(
        prefix="animegen-tests-"
    )  # tests are made for all presets found now


def pytest_unconfigure() -> None:
    shutil.rmtree(os.environ["XDG_CONFIG_HOME"], ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))
    os.environ.pop("ANIMEGEN_WEIGHTS", None)
    import torch

    torch.set_num_threads(1)


@pytest.fixture
def quiet() -> Iterator[None]:
    """No notes and no progress while a test runs in this process."""
    from animegen_cli import console

    console.configure(quiet=True)
    yield
    console.configure()


@pytest.fixture(scope="session")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """96 drawn faces of 16 pixels with ten labels, 77 or so of them for training."""
    from pictures import made

    return made("demo", tmp_path_factory.mktemp("datasets") / "faces.zip", size=16, limit=96).path


@pytest.fixture(scope="session")
def two_domains(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """96 drawn anime faces with ten labels and 64 drawn photographs of 16 pixels, about four fifths for training."""
    from animegen_cli.prepare import drawn, prepare
    from animegen_cli.prepare.request import Options, Request

    folder = tmp_path_factory.mktemp("domains")
    (folder / "photos").mkdir()
    for number in range(64):
        drawn.photo(number, size=16).save(folder / "photos" / f"{number:02d}.png")
    options = Options(size=16, limit=96, workers=1)
    return prepare.prepare(Request(["demo"], folder / "two.zip", options, [str(folder / "photos")])).path


@pytest.fixture(scope="session")
def trained(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A tiny run of a family after 64 images, trained when first asked for; tests that write copy it."""
    root = tmp_path_factory.mktemp("trained")

    def run(family: str) -> Path:
        from chain import done, train_words

        if not (root / family).exists():
            done(*train_words(family, faces, root / family, duration="64 images"))
        return root / family

    return run


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium; see `browsing.opened`."""
    with chromium() as running:
        yield running
