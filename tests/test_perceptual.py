"""The feature networks: VGG19 read from a file against torchvision's own, and the package's trunk."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from animegen_cli.errors import DataError
from animegen_cli.model.nets import trunk
from animegen_cli.model.nets.perceptual import VGG_CONVS, Perceptual, open_features


def smooth(count: int = 2, size: int = 64) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    small = torch.rand(count, 3, 8, 8, generator=generator) * 2 - 1
    return torch.nn.functional.interpolate(small, (size, size), mode="bicubic").clamp(-1, 1)


@pytest.fixture(scope="module")
def vgg(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, torch.nn.Module]:
    """A VGG19 of torchvision's with random weights, without its classifier of half a gigabyte."""
    from torchvision.models.vgg import cfgs, make_layers

    torch.manual_seed(0)
    features = make_layers(cfgs["E"])
    path = tmp_path_factory.mktemp("vgg") / "vgg19.pth"
    torch.save({f"features.{name}": tensor for name, tensor in features.state_dict().items()}, path)
    return path, features.eval()


def test_vgg_is_torchvisions(vgg: tuple[Path, torch.nn.Module]) -> None:
    path, features = vgg
    net, images = open_features(path), smooth(2, 32)
    x = (images * 0.5 + 0.5 - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor(
        [0.229, 0.224, 0.225]
    ).view(3, 1, 1)
    expected = []
    with torch.no_grad():
        for place, layer in enumerate(features):
            x = layer(x)
            if place in (2, 7, 16, 25):
                expected.append(x.clone())  # the ReLU that follows works in place
        found = net(images)
    assert [tuple(level.shape[1:]) for level in found] == [(64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4)]
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)
    assert (net.name, net.sha) == ("vgg19", hashlib.sha256(path.read_bytes()).hexdigest())


def test_safetensors_hold_the_same(vgg: tuple[Path, torch.nn.Module], tmp_path: Path) -> None:
    state = torch.load(vgg[0], weights_only=True)
    save_file(state, tmp_path / "vgg.safetensors")
    pair = [open_features(path)(smooth(1, 16))[-1] for path in (vgg[0], tmp_path / "vgg.safetensors")]
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


def test_a_vgg_file_that_is_not_vgg(vgg: tuple[Path, torch.nn.Module], tmp_path: Path) -> None:
    assert "no file" in refusal(tmp_path / "vgg19.pth").message
    text = tmp_path / "text.pth"
    text.write_text("not weights")
    assert "cannot be read as weights" in refusal(text).message
    wrong = tmp_path / "wrong.safetensors"
    wrong.write_bytes(b"123")
    assert "cannot be read as weights" in refusal(wrong).message
    torch.save([1, 2, 3], tmp_path / "list.pth")
    assert "features.0.weight" in refusal(tmp_path / "list.pth").message
    state = torch.load(vgg[0], weights_only=True)
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
    assert len(VGG_CONVS) == 12
