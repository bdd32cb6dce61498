"""Scores of held-out images and of translators, and what drawing cost, by real runs and real commands."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from chain import done, refused, sets, train_words

from animegen_cli import disk
from animegen_cli.data.dataset import FaceSet
from animegen_cli.metrics.protocol import Denoising
from animegen_cli.model import diffusion
from animegen_cli.model.noise import Noise
from animegen_cli.model.pixels import to_uint8
from animegen_cli.model.schedules import KarrasSchedule
from animegen_cli.paths import Run
from animegen_cli.sample.trained import open_trained

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

FACES = ["--extractor", "faces", "--device", "cpu", "--json"]


@pytest.fixture
def autoencoder(trained: Callable[[str], Path], tmp_path: Path) -> Path:
    """A run of one's own, as scores are written into it."""
    return Path(shutil.copytree(trained("vae"), tmp_path / "vae"))


def scores(run: Path, *words: object) -> dict[str, dict[str, Any]]:
    return {score["name"]: score for score in json.loads(done("eval", run, *FACES, *words).out)["scores"]}


def test_reconstructions_are_scored_on_the_test_split(autoencoder: Path, faces: Path) -> None:
    found = scores(autoencoder, "--n", "24")
    assert {"mse", "psnr", "ssim", "bpd-elbo", "fd-faces"} <= set(found)
    opened = FaceSet.open(faces)
    held_out = opened.indices("test")
    protocol = found["mse"]["protocol"]
    assert (protocol["reference_split"], protocol["n_real"]) == ("test", min(len(held_out), 24))
    assert protocol["extractor"] == ""
    opened_run = open_trained(Run(autoencoder), device=torch.device("cpu"))
    pixels = opened.pixels(held_out, size=16)[:: max(len(held_out) // 24, 1)][:24]
    with torch.no_grad():
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
        back = to_uint8(opened_run.model.reconstruct(images)).permute(0, 2, 3, 1).numpy()  # type: ignore[operator]
    assert found["mse"]["value"] == pytest.approx(float(((back / 255.0 - pixels / 255.0) ** 2).mean()), rel=0.02)
    again = scores(autoencoder, "--n", "24", "--metrics", "mse")
    assert again["mse"]["value"] == found["mse"]["value"]


def test_what_a_family_lacks_is_said(faces: Path, tmp_path: Path) -> None:
    done(*train_words("ddim", faces, tmp_path / "run", duration="16 images"))
    assert "way to reconstruct" in refused(2, "eval", tmp_path / "run", "--metrics", "mse", "--n", "8", *FACES[:-1])
    assert "likelihood" in refused(2, "eval", tmp_path / "run", "--metrics", "bpd", "--n", "8", *FACES[:-1])


def test_the_cost_of_drawing_stands_in_the_comparison(autoencoder: Path, tmp_path: Path) -> None:
    scores(autoencoder, "--n", "24", "--metrics", "fd", "--force")
    drawing = disk.unsealed(json.loads((autoencoder / "eval.json").read_text()))["drawing"]
    assert drawing["seconds_per_100"] > 0
    assert drawing["peak_memory"] > 1 << 20
    done("compare", autoencoder, "--out", tmp_path / "comparison")
    table = json.loads((tmp_path / "comparison" / "table.json").read_text())
    text = json.dumps(table)
    assert "seconds_per_100" in text
    assert str(drawing["seconds_per_100"]) in text


def test_translators_are_scored_on_translated_photos(two_domains: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    done(*train_words("cyclegan", two_domains, run, *sets("train.batch=1"), duration="4 images"))
    found = scores(run, "--n", "8", "--metrics", "fd,kid")
    protocol = found["fd-faces"]["protocol"]
    assert protocol["sampling"] == "test photos translated"
    assert protocol["n_fake"] == min(len(FaceSet.open(two_domains).indices("test", "photos")), 8)
    assert np.isfinite(found["fd-faces"]["value"])


def test_the_network_behind_a_loss_is_named_in_every_report(two_domains: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    done(*train_words("animegan", two_domains, run, duration="8 images"))
    (said,) = [value for value in Run(run).about["notes"].values() if "faces-trunk" in value]
    assert said in (run / "report.html").read_text()
    done("compare", run, "--out", tmp_path / "comparison")
    assert said in (tmp_path / "comparison" / "table.md").read_text()
    page = (tmp_path / "comparison" / "index.html").read_text()
    assert said in page
    assert "<img" in page  # its previews, with the photographs in them
    done("compare", run, "--no-reals", "--out", tmp_path / "shared")
    assert "<img" not in (tmp_path / "shared" / "index.html").read_text()


# ---- noise taken away -------------------------------------------------------------------------------------------


def test_denoising_is_scored_over_noise_and_over_the_levels_of_a_hierarchy(
    trained: Callable[[str], Path], tmp_path: Path
) -> None:
    run = Path(shutil.copytree(trained("mhvae"), tmp_path / "run"))
    found = scores(run, "--n", "8", "--metrics", "denoise")
    levels = open_trained(Run(run), device=torch.device("cpu")).model.levels()  # type: ignore[operator]
    tops = [*(1 << power for power in range(8) if 1 << power < levels), levels]
    assert len(tops) > 1
    for measure in ("psnr", "ssim"):
        for deviation in ("0.1", "0.2", "0.4"):
            names = [f"denoise-{measure}-{deviation}", *(f"denoise-{measure}-{deviation}-top-{top}" for top in tops)]
            assert {*names} <= {*found}
    assert found["denoise-psnr-0.1"]["value"] == found[f"denoise-psnr-0.1-top-{levels}"]["value"]
    ids = [score["protocol_id"] for score in found.values()]
    assert len({*ids}) == len(ids) == 6 * (1 + len(tops))
    assert {score["protocol"]["reference_split"] for score in found.values()} == {"test"}
    again = scores(run, "--n", "8", "--metrics", "denoise-psnr", "--force")
    assert [again[name]["value"] for name in again] == [found[name]["value"] for name in again]
    page = (run / "report.html").read_text()
    assert "denoised: PSNR (dB)" in page
    assert "top levels kept: SSIM" in page


def test_a_denoising_score_is_that_of_the_images_the_run_finds(
    trained: Callable[[str], Path], faces: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(trained("ddim"), tmp_path / "run"))
    found = scores(run, "--n", "6", "--metrics", "denoise")
    opened = open_trained(Run(run), device=torch.device("cpu"))
    held_out = FaceSet.open(faces)
    test = held_out.indices("test")
    pixels = held_out.pixels(test[:: max(len(test) // 6, 1)][:6], size=16)
    clean = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
    noisy = clean + 0.2 * Noise(range(6))(3, 16, 16)
    with torch.no_grad():
        back = opened.model.denoised(noisy, 0.2, opened.config.sample)  # type: ignore[operator]
    error = ((back.clamp(-1, 1) - clean) / 2).square().mean((1, 2, 3))
    assert found["denoise-psnr-0.2"]["value"] == pytest.approx((-10 * error.log10()).mean().item(), abs=0.05)
    assert found["denoise-psnr-0.2"]["interval"][0] < found["denoise-psnr-0.2"]["value"]


def test_noise_that_a_perfect_denoiser_knows_is_taken_away_by_the_right_amount() -> None:
    """A model of normal pixels of deviation 0.5, whose best guess is known: x times 0.25 / (0.25 + sigma^2)."""

    def denoise(x: Tensor, sigma: Tensor, _: Tensor | None) -> Tensor:
        return x * (0.25 / (0.25 + sigma.square())).view(-1, 1, 1, 1)

    noisy = torch.full((2, 3, 4, 4), 0.6)
    plain = diffusion.DiffusionModel(KarrasSchedule(), denoise)
    assert torch.allclose(plain.denoised(noisy, 0.5), noisy * 0.5)
    scaled = diffusion.DiffusionModel(KarrasSchedule(), denoise, into=lambda x: x * 2 + 1, out=lambda x: (x - 1) / 2)
    expected = (noisy * 2 + 1) * (0.25 / (0.25 + 1)) / 2 - 0.5  # the noise is stretched as the pixels are
    assert torch.allclose(scaled.denoised(noisy, 0.5), expected, atol=1e-6)


def test_families_that_cannot_denoise_are_told_which_can(trained: Callable[[str], Path], tmp_path: Path) -> None:
    run = Path(shutil.copytree(trained("gan"), tmp_path / "run"))
    said = refused(2, "eval", run, "--metrics", "denoise", "--n", "8", *FACES[:-1])
    assert "a gan run cannot find the image behind noise" in said
    assert "families that can: ddim, ddpm, edm, flow, mhvae, sde, vae" in said
    assert not any(name.startswith("denoise") for name in scores(run, "--n", "8"))


def test_names_of_denoising_scores_are_read_back() -> None:
    for score in (Denoising("psnr", 0.1), Denoising("ssim", 0.25, 4)):
        assert Denoising.parse(score.metric) == score
    assert Denoising.parse("denoise-psnr-0.2-top-2") == ("psnr", 0.2, 2)
    assert Denoising.parse("psnr") is Denoising.parse("denoise-psnr") is Denoising.parse("denoise-psnr-much") is None
