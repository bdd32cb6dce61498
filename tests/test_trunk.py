"""The package's own trunk: its file, its features, and that distances between them order damage as a person would."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image, ImageFilter
from torch import Tensor

import animegen_cli
from animegen_cli.errors import DataError, MachineError
from animegen_cli.metrics.extractors import Extractor, open_extractor
from animegen_cli.metrics.frechet import frechet_distance, moments
from animegen_cli.model.nets import trunk
from animegen_cli.prepare.drawn import draw


@pytest.fixture(scope="module")
def net() -> trunk.Trunk:
    return trunk.load_trunk()


@pytest.fixture(scope="module")
def extractor() -> Extractor:
    return open_extractor("faces")


@pytest.fixture(scope="module")
def drawn() -> Tensor:
    faces = [np.asarray(draw(index, size=64, seed=5).image) for index in range(240)]
    return torch.from_numpy(np.stack(faces)).permute(0, 3, 1, 2).contiguous()


def test_the_weights_are_small_lie_in_the_package_and_are_the_ones_that_protocols_name() -> None:
    assert trunk.WEIGHTS.is_relative_to(Path(animegen_cli.__file__).parent)  # hatchling packs that folder whole
    assert trunk.WEIGHTS.stat().st_size < 2_000_000
    assert hashlib.sha256(trunk.WEIGHTS.read_bytes()).hexdigest() == trunk.SHA


def test_broken_weights_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cut = tmp_path / "faces_trunk.safetensors"
    cut.write_bytes(trunk.WEIGHTS.read_bytes()[:100_000])
    monkeypatch.setattr(trunk, "WEIGHTS", cut)
    with pytest.raises(MachineError, match="faces_trunk") as caught:
        trunk.load_trunk()
    assert "pip install" in (caught.value.hint or "")


def test_features_are_the_same_each_time_and_for_any_company(net: trunk.Trunk, drawn: Tensor) -> None:
    first = net(drawn[:12])
    assert first.shape == (12, trunk.DIMS)
    assert first.dtype == torch.float32
    assert torch.equal(first, trunk.load_trunk()(drawn[:12]))
    torch.testing.assert_close(net(drawn[5:6]), first[5:6], rtol=1e-3, atol=1e-3)


def test_features_are_scaled_over_drawn_faces(extractor: Extractor, drawn: Tensor) -> None:
    features = extractor.features(drawn)
    assert features.mean(0).abs().mean() < 0.2
    assert 0.8 < features.std(0).median() < 1.2
    assert features.std(0).max() < 3


@pytest.mark.parametrize(("height", "width"), [(16, 16), (32, 32), (65, 64), (200, 150)])
def test_any_size_is_brought_to_the_networks_own(net: trunk.Trunk, height: int, width: int) -> None:
    images = torch.randint(0, 256, (2, 3, height, width), dtype=torch.uint8)
    features = net(images)
    assert features.shape == (2, trunk.DIMS)
    assert features.isfinite().all()


def test_a_large_picture_is_seen_as_its_antialiased_small_one(net: trunk.Trunk) -> None:
    large = draw(3, size=256, seed=5).image
    other = draw(4, size=64, seed=5).image

    def features(image: Image.Image) -> Tensor:
        return net(torch.from_numpy(np.array(image)).permute(2, 0, 1)[None])[0]

    seen = features(large)
    alias = (seen - features(large.resize((64, 64), Image.Resampling.NEAREST))).norm()
    close = (seen - features(large.resize((64, 64), Image.Resampling.BICUBIC))).norm()
    assert close < 0.1 * alias
    assert alias < (seen - features(other)).norm()


def test_too_small_pictures_are_refused(net: trunk.Trunk) -> None:
    with pytest.raises(DataError, match="16 pixels"):
        net(torch.zeros(1, 3, 15, 64, dtype=torch.uint8))


def test_drawn_faces_are_ordered_as_a_person_would(extractor: Extractor, drawn: Tensor) -> None:
    distance = distances(extractor, drawn, {"shapes": shapes(120)})
    check_order(distance, "shapes")


@pytest.mark.slow
@pytest.mark.skipif("ANIMEGEN_REAL_FACES" not in os.environ, reason="ANIMEGEN_REAL_FACES names no zip of faces")
def test_real_faces_are_ordered_as_a_person_would(extractor: Extractor, drawn: Tensor) -> None:
    real = pictures(Path(os.environ["ANIMEGEN_REAL_FACES"]), 2000)
    distance = distances(extractor, real, {"drawn": drawn, "shapes": shapes(240)})
    check_order(distance, "shapes")
    assert distance["drawn"] > 3 * distance["floor"]


def distances(extractor: Extractor, images: Tensor, others: dict[str, Tensor]) -> dict[str, float]:
    """Fréchet distance from one half of `images` to the other, and to what became of it."""
    reference, rest = images.chunk(2)
    noise = torch.randn(rest.shape, generator=torch.Generator().manual_seed(0))
    kinds = {
        "floor": rest,
        "blur 0.5": blurred(rest, 0.5),
        "blur 1": blurred(rest, 1),
        "blur 2": blurred(rest, 2),
        "noise 5": (rest + 5 * noise).round().clamp(0, 255).byte(),
        "noise 20": (rest + 20 * noise).round().clamp(0, 255).byte(),
        "repeated": rest[:6].repeat(len(rest) // 6, 1, 1, 1),
        **others,
    }
    known = moments(extractor.features(reference))
    return {name: frechet_distance(known, moments(extractor.features(kind))) for name, kind in kinds.items()}


def check_order(distance: dict[str, float], foreign: str) -> None:
    floor = distance["floor"]
    assert 1.3 * floor < distance["blur 0.5"] < distance["blur 1"] / 1.5
    assert distance["blur 1"] < distance["blur 2"] / 1.3
    assert 1.02 * floor < distance["noise 5"] < distance["noise 20"] / 2
    assert distance["repeated"] > 2 * floor
    assert distance[foreign] > 5 * floor


def blurred(images: Tensor, sigma: float) -> Tensor:
    rows = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]
    soft = [np.asarray(row.filter(ImageFilter.GaussianBlur(sigma))) for row in rows]
    return torch.from_numpy(np.stack(soft)).permute(0, 3, 1, 2).contiguous()


def shapes(count: int) -> Tensor:
    """Pictures of colors and edges but no face: a few random colors, parted by smooth curves."""
    generator = torch.Generator().manual_seed(1)
    maps = F.interpolate(torch.randn(count, 4, 5, 5, generator=generator), (64, 64), mode="bicubic")
    colors = torch.randint(0, 256, (count, 4, 3), generator=generator)
    chosen = maps.argmax(1).flatten(1)[..., None].expand(-1, -1, 3)
    return colors.gather(1, chosen).view(count, 64, 64, 3).permute(0, 3, 1, 2).byte().contiguous()


def pictures(path: Path, count: int) -> Tensor:
    with zipfile.ZipFile(path) as archive:
        names = sorted(name for name in archive.namelist() if name.lower().endswith((".jpg", ".png")))
        chosen = np.random.default_rng(0).permutation(len(names))[:count]
        read = [Image.open(io.BytesIO(archive.read(names[index]))).convert("RGB") for index in chosen]
    stacked = np.stack([np.asarray(image.resize((64, 64), Image.Resampling.BICUBIC)) for image in read])
    return torch.from_numpy(stacked).permute(0, 3, 1, 2).contiguous()
