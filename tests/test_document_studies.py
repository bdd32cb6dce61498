"""The study of each document: its names, its runs, what it prints beside what is measured; each run at a tiny scale."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaml
from chain import SHORT, TINY, done, refused
from preset_config import resolved

from animegen_cli import disk, paths
from animegen_cli.cli.options import complete_study
from animegen_cli.compare import compare, printed, study_file, study_plan
from animegen_cli.errors import UsageError
from animegen_cli.evaluate import features
from animegen_cli.metrics.extractors import for_kid75, inception_extractor
from animegen_cli.metrics.kernel import mmd2
from animegen_cli.model.nets.inception import Inception
from animegen_cli.model.pixels import channels_first
from animegen_cli.paths import Run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from animegen_cli.report.tables import Table

DOCUMENTS = {"000": "tse-hku", "001": "kumari2024", "002": "begum2025", "003": "xmu2023", "004": "info8010"}
ROOMY = {
    **TINY,
    "ddpm": [*TINY["ddpm"], "model.multipliers=[1,2]", "model.blocks=1", "model.head_width=null", "model.timesteps=50"],
    "ddim": [*TINY["ddim"], "model.attention=0"],
    "sde": [*TINY["sde"], "model.multipliers=[1,2]", "model.blocks=1", "model.attention=[8]"],
    "gan": [*TINY["gan"], "model.max_width=16"],
    "cyclegan": [*TINY["cyclegan"], "augment.load=18", "model.critic_layers=2"],
    "mhvae": [
        "model.cnn.width=8", 'model.cnn.encoder="16x1,16d2,8x1,8d2,4x1,4d4,1x1"', "model.cnn.channels=[8,4,3,2]",
        'model.cnn.decoder="1x1,4m1,4x2,8p1,16p1"', "model.vit.width=16", "model.vit.depth=2", "model.vit.tokens=4",
        "model.vit.latents=[32,24,16,8]", "model.mlp.widths=[32,16]", "model.mlp.latents=[8,7,6,5]",
    ],
}  # fmt: skip
"""Networks of some thousand parameters for the documents' presets at 16 pixels."""


def shrunk(spec: str, folder: Path, *settings: str, duration: str = "16 images", only: Sequence[str] = ()) -> Path:
    """The shipped study as a file of its own, all its runs or `only` some, each with a tiny network at 16 pixels; what the
    study varies it still varies."""
    values = yaml.safe_load(paths.study_file(spec).read_text(encoding="utf-8"))
    values["runs"] = {name: run for name, run in values["runs"].items() if name in (only or values["runs"])}
    for run in values["runs"].values():
        small = dict(word.split("=", 1) for word in [*ROOMY[run["family"]], *SHORT, *settings])
        varied = run.get("settings", {})
        run["settings"] = {key: yaml.safe_load(value) for key, value in small.items()} | {
            key: value for key, value in varied.items() if key not in ("model.attention", "augment.load")
        }
        run["duration"] = duration
    values |= {"size": 16, "scores": values["scores"] | {"n": 4, "repeats": 1, "metrics": ["fd"]}}
    if only:  # what the study plots or sets beside the runs that are left out goes with them
        values["plots"] = []
        for one in values.get("printed", []):
            kept = {row: [run for run in runs if run in only] for row, runs in one.get("rows", {}).items()}
            one["rows"] = {row: runs for row, runs in kept.items() if runs}
    file = folder / f"{spec}.yaml"
    file.write_text(yaml.safe_dump(values, sort_keys=False))
    return file


def page_of(file: Path, data: Path, out: Path) -> tuple[dict[str, Any], str, str]:
    """Run a study; what the command says as JSON, what it warns of, and its page."""
    answer = done(
        "compare", "--study", file, "--data", data, "--out", out, "--device", "cpu", "--json", "--picture-seeds", "0-1"
    )
    return json.loads(answer.out), answer.err, (out / "comparison" / "index.html").read_text(encoding="utf-8")


# ---- names ------------------------------------------------------------------------------------------------------


def test_a_document_is_named_by_its_number() -> None:
    assert paths.documents() == DOCUMENTS
    for number, name in DOCUMENTS.items():
        assert paths.study_file(number) == paths.study_file(name)
        assert study_file.load(number).document == number
    _, _, commands = study_plan.plan_of(study_plan.Request(study="003"))
    assert all("--out studies/xmu2023/runs/" in command for command in commands)


def test_tab_and_mistakes_know_the_numbers() -> None:
    assert complete_study("00") == list(DOCUMENTS)
    assert complete_study("kum") == ["kumari2024", "kumari2024-laptop"]
    assert "did you mean `00" in refused(2, "compare", "--study", "0001")
    assert "did you mean `kumari2024`" in refused(2, "compare", "--study", "kumari")


# ---- what they hold ---------------------------------------------------------------------------------------------


def presets_of(name: str) -> list[str]:
    return [f"{run.family}/{run.preset}" for run in study_file.load(name).runs.values()]


def test_every_document_has_its_models() -> None:
    assert presets_of("000")[:2] == ["ddpm/tse-hku", "ddpm/tse-hku-sane"]
    assert presets_of("001")[0] == "ddim/kumari2024-danbooru"
    assert {"gan/begum2025", "stylegan2/auto", "cyclegan/begum2025-128"} <= set(presets_of("002"))
    families = ("vae", "gan", "stylegan2", "ddpm")
    assert presets_of("003") == [f"{family}/xmu2023{twin}" for family in families for twin in ("", "-sane")]
    assert {"mhvae/info8010-cnn", "mhvae/info8010-vit", "mhvae/info8010-mlp", "ddpm/info8010", "sde/vp"} == set(
        presets_of("004")
    )
    sizes = {number: study_file.load(number).size for number in DOCUMENTS}
    assert sizes == {"000": 128, "001": 64, "002": 64, "003": 64, "004": 64}


def test_document_004_trades_reconstruction_for_diversity() -> None:
    fourth = study_file.load("004")
    assert [run.settings["model.beta"] for run in fourth.runs.values() if run.settings] == [0.5, 2.0, 4.0, 10.0]
    assert [(plot.x, plot.y) for plot in fourth.plots] == [("mse", "diversity")]


def test_what_a_study_prints_must_be_printed_somewhere(tmp_path: Path) -> None:
    def refusal(**changes: Any) -> str:
        values = yaml.safe_load(paths.study_file("003").read_text(encoding="utf-8"))
        values["printed"][0] |= changes
        file = tmp_path / "study.yaml"
        file.write_text(yaml.safe_dump(values))
        with pytest.raises(UsageError) as caught:
            study_file.load(file)
        return f"{caught.value.message} {caught.value.hint}"

    assert "did you mean `song2023-table-1`" in refusal(table="song2023-table-2")
    assert "prints no figure `KID`" in refusal(figures={"KID": ["kid"]})
    assert "prints no row `Vanila-VAE` did you mean `Vanilla-VAE`" in refusal(rows={"Vanila-VAE": ["vae"]})
    assert "printed name runs that it does not have: gam" in refusal(rows={"Vanilla-GAN": ["gam"]})


# ---- each of them, small ----------------------------------------------------------------------------------------


def columns_of(tables: list[Table]) -> list[dict[str, list[Any]]]:
    """The values of tables by their columns' headings."""
    return [
        {column.title: [row[i].value for row in table.rows] for i, column in enumerate(table.columns)}
        for table in tables
    ]


def test_document_001_stands_beside_its_tables_epoch_by_epoch(faces: Path, tmp_path: Path) -> None:
    """Three epochs of the 35: the printed rows 1 and 5 to 35 stay, ours fill the first."""
    validating = ["train.validate.images=8", "train.validate.kid_images=8", "train.validate.every=1 epochs"]
    file = shrunk("001", tmp_path, *validating, duration="3 epochs", only=["faithful"])
    _, _, page = page_of(file, faces, tmp_path / "out")
    assert "Beside the document" in page
    assert "NIT Hamirpur 2024, Table II" in page
    compared = compare.compare([Run(tmp_path / "out/runs/faithful")])
    over_epochs, at_the_end = columns_of(printed.tables(study_file.load(file), compared))
    assert over_epochs["epoch"] == [1, 5, 10, 15, 20, 25, 30, 35]
    assert over_epochs["KID, printed"] == [1.8, 1.1, 0.6, 0.2, 0.2, 0.2, 0.1, 0.1]
    assert over_epochs["noise loss, printed"][:3] == [0.7, 0.3, 0.1]
    log = [disk.from_line(line) for line in (tmp_path / "out/runs/faithful/log.jsonl").read_text().splitlines()]
    validated = [line["validation"] for line in log if "validation" in line]
    assert len(validated) == 3
    for name in ("kid-faces", "noise_loss", "image_loss"):
        assert over_epochs[f"{name} of faithful"] == [validated[0][name], *[None] * 7]
        if name != "kid-faces":
            assert at_the_end[f"{name}, here"] == [validated[-1][name]]
    assert at_the_end["printed"] == ["DDIM, Danbooru portraits"]
    assert [at_the_end[f"{name}, printed"] for name in ("KID", "noise loss", "image loss")] == [[0.12], [0.13], [0.21]]


def test_training_validates_with_document_001s_distance_where_inception_is(monkeypatch: pytest.MonkeyPatch) -> None:
    chance = np.random.default_rng(0)
    real, fake = (chance.integers(0, 256, (6, 16, 16, 3), np.uint8) for _ in range(2))
    features._kid75_extractor.cache_clear()
    monkeypatch.setenv("ANIMEGEN_WEIGHTS", "/nowhere")
    assert list(features.in_run_scores(real, fake, kid75=True)) == ["kid-faces"]
    net = Inception().eval()
    behind = for_kid75(inception_extractor(net, "ab" * 32))
    monkeypatch.setattr(features, "_kid75_extractor", lambda: behind)
    found = features.in_run_scores(real, fake, kid75=True)
    assert list(found) == ["kid75", "kid-faces"]
    sides = [behind.features(channels_first(images)) for images in (real, fake)]
    assert found["kid75"] == pytest.approx(float(mmd2(*sides)), rel=1e-6), "fewer than 64 images make one batch"
    assert list(features.in_run_scores(real, fake)) == ["kid-faces"]


def test_document_003_stands_beside_its_table_with_what_is_there(faces: Path, tmp_path: Path) -> None:
    """Of eight runs two: the rows of the others stay, without a value of ours."""
    _, _, page = page_of(shrunk("003", tmp_path, only=["gan-printed", "gan"]), faces, tmp_path / "out")
    beside = page.partition('id="beside-the-document"')[2].partition("</section>")[0]
    assert "Xiamen University 2023, Table 1" in beside
    assert "222.64" in beside
    assert "Adam at the document" in page, "the preset's own warning"
    config = study_file.load("003")
    runs = [Run(tmp_path / "out" / "runs" / name) for name in ("gan-printed", "gan")]
    (table,) = columns_of(printed.tables(config, compare.compare(runs)))
    assert table["run"] == list(config.runs)
    assert table["FID, printed"] == [198.35, 198.35, 222.64, 222.64, 4.17, 4.17, 19.07, 19.07]
    scores = [json.loads(run.scores.read_text())["scores"][0]["value"] for run in runs]
    assert table["fd-faces, here"] == [None, None, *scores, None, None, None, None]


def test_document_003_has_the_printed_rate_and_one_below_it() -> None:
    for name, run in study_file.load("003").runs.items():
        rates = {optimizer.lr for optimizer in resolved(run.family, run.preset).optim.values()}
        assert rates == {0.005} if name.endswith("-printed") else max(rates) < 0.005


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "only"),
    [
        ("000", ["sane", "attention-16"]),
        ("002", ["labels", "stylegan2", "cyclegan"]),
        ("004", ["cnn", "vit", "mlp", "score"]),
    ],
)
def test_the_others_run_to_their_page(number: str, only: list[str], two_domains: Path, tmp_path: Path) -> None:
    said, warned, page = page_of(shrunk(number, tmp_path, only=only), two_domains, tmp_path / "out")
    assert [row["values"]["run"] for row in said["quality"]["rows"]] == only
    assert "is not finished" not in warned
    assert study_file.load(number).title in page


def test_a_run_that_needs_photographs_is_left_out_without_them(faces: Path, tmp_path: Path) -> None:
    file = shrunk("002", tmp_path, only=["dcgan", "cyclegan"])
    said, warned, _ = page_of(file, faces, tmp_path / "out")
    assert [row["values"]["run"] for row in said["quality"]["rows"]] == ["dcgan"]
    assert "cyclegan is not finished: the set has no photos, which cyclegan needs" in warned
