"""Labels that nobody asked for come from the training set's own distribution, for each image by its own seed."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from chain import done, inside
from tiny_runs import python_of
from torch import Tensor

from animegen_cli import paths
from animegen_cli.errors import DataError
from animegen_cli.model import checkpoint, conditioning
from animegen_cli.model.families.gan import GAN, GANSampling
from animegen_cli.model.families.gan import Model as GANModel
from animegen_cli.model.families.stylegan2 import Model as StyleModel
from animegen_cli.model.families.stylegan2 import StyleGAN2, StyleGAN2Sampling
from animegen_cli.model.family import DataSpec
from animegen_cli.model.noise import Blend, Noise
from animegen_cli.sample.trained import open_trained, spec_from_dict, spec_to_dict

if TYPE_CHECKING:
    from pathlib import Path

ATTRIBUTES = {"hair": ("pink", "blue", "aqua"), "eyes": ("red", "green")}
TRAINED = torch.tensor([[0, 0]] * 60 + [[1, 0]] * 30 + [[1, 1]] * 10)
"""Pink hair comes with red eyes alone, and aqua hair does not come."""
SPEC = DataSpec(16, 100, attributes=ATTRIBUTES, requests=conditioning.requests_of(TRAINED))


def drawn(labels: Tensor | None, count: int, names: tuple[str, ...] = ("hair", "eyes")) -> Tensor:
    found = conditioning.drawn_labels(labels, names, Noise(range(count)), SPEC)
    assert found is not None
    return found


def test_what_nobody_asks_for_comes_as_often_as_in_the_training_set() -> None:
    counts = Counter(map(tuple, drawn(None, 2000).tolist()))
    assert counts.keys() == {(0, 0), (1, 0), (1, 1)}
    # five standard deviations of a share of 2,000 draws are at most 0.056
    assert counts[0, 0] / 2000 == pytest.approx(0.6, abs=0.056)
    assert counts[1, 1] / 2000 == pytest.approx(0.1, abs=0.056)


def test_what_is_left_open_fits_what_is_asked_for() -> None:
    blue = torch.tensor([[1, -1]]).expand(2000, -1)
    found = drawn(blue, 2000)
    assert (found[:, 0] == 1).all()
    assert float(found[:, 1].float().mean()) == pytest.approx(0.25, abs=0.056)
    pink = drawn(torch.tensor([[0, -1]]).expand(50, -1), 50)
    assert pink.tolist() == [[0, 0]] * 50


def test_a_request_that_no_training_image_has_stays_as_it_is() -> None:
    assert drawn(torch.tensor([[2, -1], [0, 1]]), 2).tolist() == [[2, -1], [0, 1]]


def test_labels_depend_on_the_seed_alone_and_use_up_no_draw() -> None:
    together, noise = drawn(None, 40), Noise([7])
    assert conditioning.drawn_labels(None, ("hair", "eyes"), noise, SPEC).equal(together[7:8])  # type: ignore[union-attr]
    assert noise(3).equal(Noise([7])(3))
    assert drawn(None, 40, ("eyes",)).equal(together[:, 1:])


def test_a_walk_between_seeds_changes_its_labels_half_way() -> None:
    start, end = (
        next(i for i, row in enumerate(drawn(None, 99).tolist()) if row == wanted) for wanted in ([0, 0], [1, 1])
    )
    walk = Blend([start] * 4, [end] * 4, [0.0, 0.4, 0.6, 1.0])
    found = conditioning.drawn_labels(None, ("hair", "eyes"), walk, SPEC)
    assert found is not None
    assert found.tolist() == [[0, 0], [0, 0], [1, 1], [1, 1]]


def test_many_labels_are_thinned_out_evenly() -> None:
    torch.manual_seed(0)
    labels = torch.cat([torch.zeros(9000, 2, dtype=torch.int64), torch.ones(3000, 2, dtype=torch.int64)])
    found = Counter(conditioning.requests_of(labels[torch.randperm(12_000)]))
    assert found == {(0, 0): 3072, (1, 1): 1024}


@pytest.mark.parametrize(
    "model",
    [
        lambda data: GAN(GANModel(layout="skip", latent=8, width=8, critic_width=8, max_width=16, labels="all"), data),
        lambda data: StyleGAN2(StyleModel(width=16, channel_base=128, channel_max=16), data),
    ],
)
def test_faces_without_a_request_are_those_of_their_drawn_labels(model: Any) -> None:
    torch.manual_seed(0)
    knowing = model(SPEC).eval()
    sampling = GANSampling() if isinstance(knowing, GAN) else StyleGAN2Sampling()
    seeds = list(range(6))
    labels = drawn(None, 6)
    assert len(labels.unique(dim=0)) > 1
    with torch.no_grad():
        faces = knowing.sample(Noise(seeds), None, sampling)
        assert faces.equal(knowing.sample(Noise(seeds), labels, sampling))
        knowing.data = replace(SPEC, requests=())
        unknown = knowing.sample(Noise(seeds), None, sampling)
    assert not faces.allclose(unknown)


def test_a_data_spec_keeps_them_and_one_of_before_has_none() -> None:
    plain = json.loads(json.dumps(spec_to_dict(SPEC)))
    assert plain["requests"] == [[[0, 0], 60], [[1, 0], 30], [[1, 1], 10]]
    assert spec_from_dict(plain) == replace(SPEC, attributes=ATTRIBUTES)
    del plain["requests"]
    assert spec_from_dict(plain).requests == ()


@pytest.mark.parametrize("found", [[[[0, 2], 1]], [[[0], 1]], [[[0, 0], 0]], [[[0, 0], 10**9]], [[[0, 0.5], 1]], [3]])
def test_labels_that_cannot_be_are_refused(found: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        spec_from_dict(spec_to_dict(SPEC) | {"requests": found})


def test_a_run_and_its_export_know_the_labels_of_the_training_split(faces: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    done("train", "gan", "--preset", "smoke", "--data", faces, "--duration", "64 images", "--out", run, "-q")
    trained = open_trained(paths.open_run(str(run)), device=torch.device("cpu"))
    assert len(trained.data.requests) == trained.data.count
    done("export", run, "--to", "onnx", "--n", "0", "--out", tmp_path / "out")
    found: dict[str, Any] = {}
    with inside(tmp_path / "out"):
        exec(python_of((tmp_path / "out" / "README.md").read_text()), found)
    assert {tuple(row) for row in found["given"]["labels"].tolist()} <= set(trained.data.requests)
    assert found["pixels"].std() > 1
    tensors, about = checkpoint.load_weights(run / "weights.safetensors")
    about["data"]["requests"] = [[[99], 1]]
    checkpoint.save_weights(run / "weights.safetensors", tensors, about)
    with pytest.raises(DataError, match="cannot be"):
        open_trained(paths.open_run(str(run)), device=torch.device("cpu"))
