"""The feature networks: VGG19 from a file against the paper's layers in float64, and the package's own trunk."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from animegen_cli.errors import DataError
from animegen_cli.model.nets import trunk
from animegen_cli.model.nets.perceptual import Perceptual, open_features


def smooth(count: int = 2, size: int = 64) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    small = torch.rand(count, 3, 8, 8, generator=generator) * 2 - 1
    return F.interpolate(small, (size, size), mode="bicubic").clamp(-1, 1)


VGG = {0: (3, 64), 2: (64, 64), 5: (64, 128), 7: (128, 128), 10: (128, 256), 12: (256, 256), 14: (256, 256),
       16: (256, 256), 19: (256, 512), 21: (512, 512), 23: (512, 512), 25: (512, 512)}  # fmt: skip
"""Index in torchvision's `features` -> channels in and out, up to conv4_4 (Simonyan & Zisserman 2015, configuration E)."""


@pytest.fixture(scope="module")
def vgg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VGG19 file in torchvision's layout with random weights, without its classifier of half a gigabyte."""
    generator = torch.Generator().manual_seed(0)
    state = {}
    for index, (inputs, outputs) in VGG.items():
        deviation = (2 / (9 * inputs)) ** 0.5
        state[f"features.{index}.weight"] = torch.randn(outputs, inputs, 3, 3, generator=generator) * deviation
        state[f"features.{index}.bias"] = torch.randn(outputs, generator=generator) * 0.1
    path = tmp_path_factory.mktemp("vgg") / "vgg19.pth"
    torch.save(state, path)
    return path


def test_vgg_is_the_papers(vgg: Path) -> None:
    """In float64, layer by layer from the file: conv1_2, conv2_2, conv3_4 and conv4_4 before their ReLU."""
    net = open_features(vgg)
    images = smooth(2, 32).double()
    weights = {name: tensor.double() for name, tensor in torch.load(vgg, weights_only=True).items()}
    mean, std = (torch.tensor(values, dtype=torch.float64).view(3, 1, 1) for values in (
        [0.485, 0.456, 0.406], [0.229, 0.224, 0.225],
    ))  # fmt: skip
    x = (images * 0.5 + 0.5 - mean) / std
    expected = []
    for index in VGG:
        if index in (5, 10, 19):
            x = F.max_pool2d(x, 2)
        x = F.conv2d(x, weights[f"features.{index}.weight"], weights[f"features.{index}.bias"], padding=1)
        if index in (2, 7, 16, 25):
            expected.append(x)
        x = F.relu(x)
    found = net.double()(images)
    assert [tuple(level.shape[1:]) for level in found] == [(64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4)]
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)  # the constants are stored in float32
    assert (net.name, net.sha) == ("vgg19", hashlib.sha256(vgg.read_bytes()).hexdigest())


def test_opening_a_vgg_draws_no_random_number(vgg: Path) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    open_features(vgg)
    assert torch.equal(torch.get_rng_state(), before)


def test_safetensors_hold_the_same(vgg: Path, tmp_path: Path) -> None:
    state = torch.load(vgg, weights_only=True)
    save_file(state, tmp_path / "vgg.safetensors")
    pair = [open_features(path)(smooth(1, 16))[-1] for path in (vgg, tmp_path / "vgg.safetensors")]
    assert torch.equal(*pair)


def test_without_a_file_the_trunk_that_scores_see() -> None:
    net, images = open_features(None), smooth(2, 64)
    assert (net.name, net.sha) == ("faces-trunk", trunk.SHA)
    maps = net(images)
    assert [tuple(level.shape[1:]) for level in maps] == [(16, 64, 64), (32, 32, 32), (64, 16, 16), (128, 8, 8)]
    means = torch.cat([level.relu().mean((2, 3)) for level in maps], 1)
    torch.testing.assert_close(means, trunk.load_trunk().pooled(images)[:, : means.shape[1]])


@pytest.mark.parametrize("size", [16, 40, 64, 128])
def test_embedding_orders_changes_and_has_gradients(size: int) -> None:
    net, image = open_features(None), smooth(2, size)
    slight, strong = (image + scale * torch.randn(image.shape) for scale in (0.02, 0.3))
    code = net.embed(image)
    assert code.shape[0] == 2
    assert code.ndim == 2
    near, far = ((code - net.embed(other)).square().sum(1) for other in (slight, strong))
    assert (near < far).all()
    assert (far <= 4).all(), "a mean of squared distances of unit vectors"
    moving = strong.clone().requires_grad_()
    (code - net.embed(moving)).square().sum().backward()
    assert moving.grad is not None
    assert moving.grad.abs().max() > 0
    assert all(p.grad is None and not p.requires_grad for p in net.parameters())


def test_one_image_does_not_see_another() -> None:
    net, images = open_features(None), smooth(3, 32)
    torch.testing.assert_close(net.embed(images)[1:2], net.embed(images[1:2]))


def refusal(path: Path) -> DataError:
    with pytest.raises(DataError) as caught:
        open_features(path)
    assert caught.value.hint
    return caught.value


def test_a_vgg_file_that_is_not_vgg(vgg: Path, tmp_path: Path) -> None:
    assert "no file" in refusal(tmp_path / "vgg19.pth").message
    text = tmp_path / "text.pth"
    text.write_text("not weights")
    assert "cannot be read as weights" in refusal(text).message
    wrong = tmp_path / "wrong.safetensors"
    wrong.write_bytes(b"123")
    assert "cannot be read as weights" in refusal(wrong).message
    torch.save([1, 2, 3], tmp_path / "list.pth")
    assert "features.0.weight" in refusal(tmp_path / "list.pth").message
    state = torch.load(vgg, weights_only=True)
    smaller = {name: tensor for name, tensor in state.items() if ".16." not in name}
    torch.save(smaller, tmp_path / "vgg16.pth")
    found = refusal(tmp_path / "vgg16.pth")
    assert "features.16.weight" in found.message
    assert "lacks it" in found.message
    assert "vgg16" in str(found.hint)
    torch.save(state | {"features.25.weight": torch.zeros(3, 3)}, tmp_path / "shape.pth")
    assert "512x512x3x3" in refusal(tmp_path / "shape.pth").message


def test_a_pickle_runs_nothing(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "sprung",))  # type: ignore[return-value]

    torch.save({"features.0.weight": Trap()}, tmp_path / "trap.pth")
    refusal(tmp_path / "trap.pth")
    assert not (tmp_path / "sprung").exists()


def test_nothing_of_it_is_trained() -> None:
    net = open_features(None)
    assert isinstance(net, Perceptual)
    assert not net.training
    assert not any(parameter.requires_grad for parameter in net.parameters())
