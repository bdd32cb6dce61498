"""The classifier: what it learns, what it ignores, what it reports, and what it cannot do."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from chain import done, log_of, refused, sets, train_words
from pictures import made
from PIL import Image

from animegen_cli import disk
from animegen_cli.data.dataset import FaceSet
from animegen_cli.errors import ConfigError, DataError
from animegen_cli.model import checkpoint
from animegen_cli.model.families.attributes import Attributes, Model
from animegen_cli.model.family import Batch, DataSpec
from animegen_cli.paths import Run
from animegen_cli.report import page
from animegen_cli.sample.trained import open_trained

if TYPE_CHECKING:
    from pathlib import Path

TWO = {"hair": ("black", "pink"), "eyes": ("blue", "green", "red")}


def tiny(**settings: object) -> Attributes:
    torch.manual_seed(0)
    return Attributes(Model(widths=(8, 16), **settings), DataSpec(16, 10, attributes=TWO))  # type: ignore[arg-type]


def batch(labels: list[list[int]]) -> Batch:
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(len(labels), 3, 16, 16, generator=generator) * 2 - 1
    return Batch(images, labels=torch.tensor(labels))


@pytest.fixture(scope="module")
def labeled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """500 drawn faces of 16 pixels."""
    return made("demo", tmp_path_factory.mktemp("labeled") / "labeled.zip", size=16, limit=500).path


@pytest.fixture(scope="module")
def learned(labeled: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A classifier of hair and skin after some seconds, and what its training said."""
    run = tmp_path_factory.mktemp("runs") / "learned"
    settings = ["model.labels=[hair,skin]", "train.validate.images=1000", "train.preview=9", "augment.crop=1"]
    answer = done(
        "train", "attributes", "--preset", "smoke", "--data", labeled, "--out", run, "--device", "cpu",
        "--duration", "12k images", *sets(*settings),
    )  # fmt: skip
    return run, answer.err


# ---- the objective ----------------------------------------------------------------------------------------------


def test_an_unknown_label_costs_and_teaches_nothing() -> None:
    model = tiny().eval()  # running statistics: each image counts for itself
    known = model.loss(batch([[0, 1], [1, 2]]))
    mixed = model.loss(batch([[0, -1], [1, 2]]))
    assert mixed["hair"] == known["hair"]
    assert 0 < mixed["eyes"] < known["eyes"]
    model.loss(batch([[-1, 1], [-1, 2]]))["loss"].backward()
    hair, eyes = (next(linear.parameters()).grad for linear in model.heads.linears)
    assert hair is not None
    assert eyes is not None
    assert not hair.any()
    assert eyes.any()
    nothing = model.loss(batch([[-1, -1], [-1, -1]]))["loss"]
    assert nothing.item() == 0


def test_micro_batches_average_to_the_whole_however_the_unknown_ones_fall() -> None:
    model = tiny().eval()
    labels = [[0, 1], [-1, -1], [1, -1], [-1, 0]]
    whole = batch(labels)
    parts = [replace(whole, images=whole.images[i : i + 2], labels=torch.tensor(labels[i : i + 2])) for i in (0, 2)]
    mean = sum(model.loss(part)["loss"] for part in parts) / 2
    torch.testing.assert_close(mean, model.loss(whole)["loss"], rtol=1e-4, atol=0)


def test_accuracy_counts_known_labels_only() -> None:
    model = tiny().eval()
    found = batch([[0, 0]] * 6)
    guess = model.classify(model.embed(found.images))["hair"].argmax(1)
    labels = torch.stack([guess, torch.zeros_like(guess)], 1)
    labels[0, 0], labels[1, 0] = -1, 1 - guess[1]
    accuracy = model.validate(replace(found, labels=labels))["accuracy-hair"]
    assert accuracy[0].isnan()
    assert accuracy[1:].tolist() == [0, 1, 1, 1, 1]


def test_chosen_labels_keep_their_columns() -> None:
    model = tiny(labels=("eyes",)).eval()
    assert {name: tuple(value.shape) for name, value in model.classify(torch.zeros(2, 16)).items()} == {"eyes": (2, 3)}
    assert set(model.loss(batch([[-1, 2], [-1, 0]]))) == {"loss", "eyes"}
    assert model.notes["recognises"] == "eyes (3 values)"


@pytest.mark.parametrize("size", [16, 18, 30, 64])
def test_any_even_size(size: int) -> None:
    model = Attributes(Model(widths=(8, 12, 16)), DataSpec(size, 10, attributes=TWO)).eval()
    assert model.embed(torch.zeros(1, 3, size, size)).shape == (1, 16)


def test_what_it_cannot_be_built_for() -> None:
    with pytest.raises(DataError, match="no labels"):
        Attributes(Model(), DataSpec(16, 10))
    with pytest.raises(ConfigError, match="odd size of 17"):
        Attributes(Model(), DataSpec(17, 10, attributes=TWO))
    with pytest.raises(ConfigError, match="no label `hat`"):
        tiny(labels=("hat",))


# ---- a run ------------------------------------------------------------------------------------------------------


def test_it_learns_drawn_hair_and_reports_it(learned: tuple[Path, str], labeled: Path) -> None:
    run, said = learned
    about = disk.unsealed(json.loads((run / "run.json").read_text()))
    accuracy = about["validation"]["accuracy-hair"]
    assert accuracy > 0.8  # the commonest of twelve colors has a tenth
    assert list(about["validation"]) == ["accuracy-hair", "accuracy-skin", "loss"]
    assert log_of(run)[-1]["validation"] == about["validation"]
    last = said.split("held out at 12,000 images: ")[1]
    assert last.startswith(f"accuracy-hair {accuracy:.4g}, accuracy-skin ")
    assert f"eval --attributes {run}" in said
    # measured anew, outside of the training
    faces = FaceSet.open(labeled)
    test = faces.indices("test")
    opened = open_trained(Run(run), device=torch.device("cpu"), precision="fp32")
    pixels = torch.from_numpy(faces.pixels(test)).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        guess = opened.model.classify(opened.model.embed(pixels))["hair"].argmax(1)  # type: ignore[operator]
    hair = list(faces.attributes).index("hair")
    right = (guess.numpy() == faces.labels(test)[:, hair]).mean()
    assert right == pytest.approx(accuracy, abs=0.02)  # training validates in bf16 where the machine has it


def test_its_page_shows_held_out_faces_with_their_recognized_values(learned: tuple[Path, str], labeled: Path) -> None:
    run, _ = learned
    sheet = np.asarray(Image.open(run / "samples" / "ema-000000012000.png"))
    faces = FaceSet.open(labeled)
    test = faces.indices("test")
    first = faces.pixels(test[:1])[0].repeat(8, 0).repeat(8, 1)
    assert np.array_equal(sheet[:128, :128], first)
    assert sheet[128:150, :128].min() < 128  # its caption
    text = page.run_page(Run(run))
    assert "recognizes in held-out faces" in text
    assert "accuracy-hair" in text
    assert "hair (12 values), skin" in text
    assert "animegen eval" not in text  # nothing of its own can be scored


def test_the_state_with_the_best_accuracy_stays(faces: Path, tmp_path: Path) -> None:
    """Of two figures the higher one, other than for losses."""
    words = train_words(
        "attributes", faces, tmp_path / "run", "--keep", "1",
        *sets("train.validate.images=100", "train.validate.every=64 images", "optim.model.lr=0.02"), duration="512 images",
    )  # fmt: skip
    done(*words)
    lines = [line for line in log_of(tmp_path / "run") if "validation" in line]
    figures = {line["images"]: line["validation"]["accuracy-gender"] for line in lines}
    stored = [int(state.name) for state in Run(tmp_path / "run").states()]
    assert stored[-1] == 512
    assert max(figures[images] for images in stored) == max(figures.values())


def test_its_weights_name_the_attributes(learned: tuple[Path, str]) -> None:
    _, about = checkpoint.load_weights(learned[0] / "weights.safetensors")
    assert {"classifies", "embeds"} <= set(about["abilities"])
    assert len(about["data"]["attributes"]["hair"]) == 12


# ---- bad input --------------------------------------------------------------------------------------------------


def test_it_neither_draws_nor_translates_nor_is_scored(learned: tuple[Path, str], faces: Path, tmp_path: Path) -> None:
    run, _ = learned
    assert "cannot draw from noise" in refused(2, "sample", run)
    Image.new("RGB", (16, 16)).save(tmp_path / "face.png")
    assert "cannot translate" in refused(2, "translate", run, tmp_path / "face.png")
    assert "no `samples`" in refused(2, "eval", run)
    said = refused(3, "sample", cwd=run.parents[1])  # no other run there
    assert "no run under runs/" in said


def test_a_set_without_labels(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    for number in range(20):
        pixels = np.random.default_rng(number).integers(0, 255, (40, 40, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "plain" / f"{number}.png")
    done("prepare", tmp_path / "plain", "--resolution", "16", "--out", tmp_path / "plain.zip")
    said = refused(3, "train", "attributes", "--preset", "smoke", "--data", tmp_path / "plain.zip", cwd=tmp_path)
    assert "no labels to learn" in said
    assert "--labels" in said


def test_a_comparison_leaves_it_out_unless_it_is_named(learned: tuple[Path, str], tmp_path: Path) -> None:
    run, _ = learned
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "learned").symlink_to(run)
    assert "no runs to compare" in refused(3, "compare", cwd=tmp_path)
    answer = done("compare", run, "--out", tmp_path / "out", "--no-images")
    assert not re.search(r"not scored yet", answer.err)
    assert (tmp_path / "out" / "index.html").is_file()
