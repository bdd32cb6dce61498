"""What only a CUDA device can show; skipped without one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from chain import done, refused, train_words

from animegen_cli import paths
from animegen_cli.data.loading import RawBatch
from animegen_cli.errors import DivergedError
from animegen_cli.model import checkpoint, families
from animegen_cli.model.families import ddpm
from animegen_cli.model.family import Batch, DataSpec, Losses
from animegen_cli.model.noise import Noise
from animegen_cli.paths import Run
from animegen_cli.sample.trained import open_trained
from animegen_cli.train.options import ResolvedOptions
from animegen_cli.train.trainer import Trainer

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def on_gpu(words: list[str]) -> list[str]:
    """A training command of `chain` on the GPU."""
    return ["cuda" if word == "cpu" else word for word in words]


def newest_state(run: Path) -> tuple[dict[str, dict[str, torch.Tensor]], int]:
    """The tensors of a run's newest state, and the images seen."""
    tensors, about = checkpoint.load_state(Run(run).states()[-1])
    return tensors, about["images"]


def test_noise_is_the_cpus_bit_for_bit() -> None:
    seeds = [0, 1, 2**40 + 7]
    cpu, gpu = Noise(seeds), Noise(seeds, "cuda")
    for _ in range(3):
        assert torch.equal(cpu(3, 64, 64), gpu(3, 64, 64).cpu())


@pytest.mark.parametrize("family", ["ddim", "ddpm"])
def test_deterministic_training_goes_on_exactly(family: str, faces: Path, tmp_path: Path) -> None:
    more = ["--deterministic", "--set", "train.precision=bf16"]
    done(*on_gpu(train_words(family, faces, tmp_path / "whole", *more, duration="128 images")))
    done(*on_gpu(train_words(family, faces, tmp_path / "parts", *more, duration="64 images")))
    done(*on_gpu(train_words(family, faces, tmp_path / "parts", *more, duration="128 images")))
    one, seen = newest_state(tmp_path / "whole")
    other, also = newest_state(tmp_path / "parts")
    assert seen == also == 128
    for part, tensors in one.items():
        for name, tensor in tensors.items():
            assert torch.equal(tensor, other[part][name]), f"{part} {name}"


@pytest.mark.parametrize("family", paths.families())
def test_every_family_trains_compiled_and_draws(
    family: str, request: pytest.FixtureRequest, faces: Path, tmp_path: Path
) -> None:
    both = "photos" in families.load(family).domains
    data, run = request.getfixturevalue("two_domains") if both else faces, tmp_path / "run"
    done(*on_gpu(train_words(family, data, run, "--set", "train.precision=bf16", duration="64 images")))
    assert Run(run).about["resolved"]["channels_last"]
    assert Run(run).about["state"] == "finished"
    if both:
        picture = next(data.parent.glob("*.contact.png"))
        done("translate", run, picture, "--out", tmp_path / "out", "--device", "cuda")
    else:
        done("sample", run, "--n", "4", "--out", tmp_path / "out", "--device", "cuda")


def test_the_compiled_network_computes_what_the_plain_one_does() -> None:
    torch.manual_seed(0)
    model = ddpm.DDPM(ddpm.Model(channels=32, groups=8, multipliers=(1, 2), attention=(8,)), DataSpec(16, 8))
    net = model.get_submodule("unet").cuda()
    torch.nn.init.normal_(net.get_parameter("head.weight"), std=0.1)
    x = torch.randn(4, 3, 16, 16, device="cuda")
    t = torch.arange(4, device="cuda") * 100
    plain = net(x, t)
    net.compile()
    assert torch.allclose(net(x, t), plain, atol=1e-4)
    assert not any("_orig_mod" in name for name in net.state_dict())


def test_a_step_that_is_not_finite_is_skipped_on_the_device(faces: Path, tmp_path: Path) -> None:
    words = on_gpu(train_words("ddpm", faces, tmp_path / "run", duration="64 images"))
    done(*words)
    trained = open_trained(Run(tmp_path / "run"), device=torch.device("cuda"), precision="fp32")

    class Broken:
        def batch(self, images_seen: int, count: int | None = None) -> RawBatch:
            images = torch.zeros(8, 3, 16, 16, dtype=torch.uint8, device="cuda")
            return RawBatch(images, torch.zeros(8, 0, dtype=torch.int64, device="cuda"))

    model = trained.model.requires_grad_(True)
    loop = Trainer(
        model, Broken(), trained.config, ResolvedOptions("fp32", 1, False, False), device=trained.device, count=8
    )
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    def nothing(batch: Batch) -> Losses:
        return {"mse": model.get_submodule("unet")(batch.images, torch.zeros(8, device="cuda")).mean() * torch.nan}

    loop.phases = (replace(loop.phases[0], loss=nothing),)
    loop.train_step()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert loop.bad.item() == 1
    with pytest.raises(DivergedError):
        loop.check()


def test_more_than_the_device_holds_is_refused_with_what_to_type(faces: Path, tmp_path: Path) -> None:
    assert "cuda:99" in refused(
        5, "train", "ddpm", "--preset", "smoke", "--data", faces, "--device", "cuda:99", "--out", tmp_path / "x"
    )
