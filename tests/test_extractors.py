"""Resizing, networks and weights files, against clean-fid's own pipeline and torchvision's networks."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import threading
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import squeezenet_weights
import torch
import torch.nn.functional as F
import torchvision
from chain import done, refused
from PIL import Image
from torch import Tensor, nn

from animegen_cli import disk
from animegen_cli.errors import DataError, MachineError, UsageError
from animegen_cli.evaluate import clean_fid, evaluate
from animegen_cli.metrics import weights
from animegen_cli.metrics.extractors import Extractor, for_kid75, inception_extractor, open_extractor
from animegen_cli.metrics.protocol import metric_name
from animegen_cli.metrics.resize import resize
from animegen_cli.metrics.scores import score_features
from animegen_cli.metrics.weights import download_weights, find_inception, open_inception
from animegen_cli.model.nets.squeezenet import load_squeezenet

if TYPE_CHECKING:
    from collections.abc import Iterator

    from animegen_cli.model.nets.inception import Inception

clean_resize = pytest.importorskip("cleanfid.resize")
clean_script = pytest.importorskip("cleanfid.inception_torchscript")
clean_pytorch = pytest.importorskip("cleanfid.inception_pytorch")


def pictures(n: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """uint8 (n, H, W, 3): smooth colors, hard edges and noise."""
    random = np.random.default_rng(seed)
    small = random.integers(0, 256, (n, 5, 5, 3), dtype=np.uint8)
    smooth = np.stack(
        [np.asarray(Image.fromarray(one).resize((width, height), Image.Resampling.BICUBIC)) for one in small]
    )
    drawn = smooth.astype(int) + random.normal(0, 12, smooth.shape).round().astype(int)
    drawn[:, height // 3 : height // 2, width // 4 :] = (255, 0, 255)
    return drawn.clip(0, 255).astype(np.uint8)


def as_batch(images: np.ndarray) -> Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2)


# resize

SIZES = [(64, 64), (96, 96), (128, 128), (256, 256), (299, 299), (512, 512), (800, 800), (65, 197), (480, 300), (1, 7)]


@pytest.mark.parametrize("mode", ["clean", "legacy_pytorch"])
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_resize_is_clean_fids(mode: str, size: tuple[int, int]) -> None:
    images = pictures(3, *size)
    resizer = clean_resize.build_resizer(mode)
    expected = np.stack([resizer(image) for image in images])
    found = resize(as_batch(images), 299, mode).permute(0, 2, 3, 1).numpy()  # type: ignore[arg-type]
    assert np.abs(found - expected).max() < 0.001  # gray levels


def test_resize_is_clean_fids_on_real_faces() -> None:
    path = os.environ.get("ANIMEGEN_REAL_FACES")
    if not path:
        pytest.skip("ANIMEGEN_REAL_FACES names no zip")
    resizer = clean_resize.build_resizer("clean")
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.lower().endswith((".jpg", ".png"))][:20]
        for name in names:
            with archive.open(name) as file:
                image = np.asarray(Image.open(file).convert("RGB"))
            found = resize(as_batch(image[None].copy()), 299)[0].permute(1, 2, 0).numpy()
            assert np.abs(found - resizer(image)).max() < 0.001


def test_resize_of_tensorflow_one_steps_from_the_corner() -> None:
    images = pictures(2, 10, 7).astype(np.float64)
    expected = np.empty((2, 299, 299, 3))
    for y in range(299):
        for x in range(299):
            at_y, at_x = y * 10 / 299, x * 7 / 299
            top, left = int(at_y), int(at_x)
            bottom, right = min(top + 1, 9), min(left + 1, 6)
            upper = images[:, top, left] * (1 - at_x + left) + images[:, top, right] * (at_x - left)
            lower = images[:, bottom, left] * (1 - at_x + left) + images[:, bottom, right] * (at_x - left)
            expected[:, y, x] = upper * (1 - at_y + top) + lower * (at_y - top)
    found = resize(as_batch(images), 299, "legacy_tensorflow").permute(0, 2, 3, 1)
    np.testing.assert_allclose(found, expected, atol=1e-3)


# Inception, from a file made as clean-fid's was


class ScriptedLayer(nn.Module):
    """A convolution that carries its batch norm under the names of the original file."""

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        self.stride, self.padding = conv.stride, conv.padding
        self.weight = nn.Parameter(conv.weight.detach())
        self.beta = nn.Parameter(norm.bias.detach())
        self.mean = nn.Parameter(norm.running_mean.detach())  # type: ignore[union-attr]
        self.var = nn.Parameter(norm.running_var.detach())  # type: ignore[union-attr]

    def forward(self, x: Tensor) -> Tensor:
        x = F.conv2d(x, self.weight, stride=self.stride, padding=self.padding)
        return F.relu(F.batch_norm(x, self.mean, self.var, bias=self.beta, eps=1e-3))


class Scripted(nn.Module):
    """What NVIDIA's file answers: resizes like TensorFlow 1, then features or class probabilities."""

    def __init__(self, layers: nn.Module, output: nn.Linear, wrong: float = 1.0) -> None:
        super().__init__()
        self.layers, self.output, self.wrong = layers, output, wrong

    def forward(
        self,
        img: Tensor,
        return_features: bool = False,  # noqa: FBT002  the file's own signature, as for the next two
        use_fp16: bool = False,  # noqa: FBT002
        no_output_bias: bool = False,  # noqa: FBT002
    ) -> Tensor:
        n, channels, height, width = img.shape
        theta = torch.eye(2, 3)
        theta[0, 2] += 1.0 / width - 1.0 / 299
        theta[1, 2] += 1.0 / height - 1.0 / 299
        grid = F.affine_grid(theta.unsqueeze(0).repeat(n, 1, 1), [n, channels, 299, 299], align_corners=False)
        x = F.grid_sample(img.to(torch.float32), grid, "bilinear", "border", False)
        features = self.layers((x - 128) / 128).reshape(-1, 2048) * self.wrong
        if return_features:
            return features
        logits = F.linear(features, self.output.weight) if no_output_bias else self.output(features)
        return F.softmax(logits, dim=1)


class Pooled(nn.Module):
    def __init__(self, blocks: nn.ModuleList) -> None:
        super().__init__()
        self.blocks = blocks

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x


@dataclass
class Files:
    """The same random network as clean-fid's TorchScript and as pytorch-fid's state dict."""

    script: Path
    wrong: Path
    state: Path
    reference: nn.Module

    @property
    def known(self) -> set[str]:
        return {disk.sha256(path) for path in (self.script, self.wrong, self.state)}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("weights")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clean_pytorch, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(torchvision.models.Inception3, "load_state_dict", lambda *_: None)
        net = clean_pytorch.fid_inception_v3()
        fill(net)
        patch.setattr(clean_pytorch, "fid_inception_v3", lambda: net)
        reference = clean_pytorch.InceptionV3(output_blocks=[3], resize_input=False).eval()
    net.eval()
    files = Files(folder / "inception-2015-12-05.pt", folder / "wrong.pt", folder / "pt_inception.pth", reference)
    torch.save(net.state_dict(), files.state)
    for module in list(net.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, torchvision.models.inception.BasicConv2d):
                setattr(module, name, ScriptedLayer(child.conv, child.bn))
    with torch.no_grad():
        layers = torch.jit.trace(Pooled(reference.blocks), torch.rand(2, 3, 299, 299), check_trace=False)
        torch.jit.script(Scripted(layers, net.fc).eval()).save(str(files.script))
        torch.jit.script(Scripted(layers, net.fc, wrong=1.01).eval()).save(str(files.wrong))
    return files


def fill(net: nn.Module) -> None:
    """Weights under which every layer passes on signals of its own."""
    generator = torch.Generator().manual_seed(0)
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            fan_in = module.weight[0].numel()
            module.weight.data.normal_(0, (2 / fan_in) ** 0.5, generator=generator)
            if module.bias is not None:
                module.bias.data.normal_(0, 0.1, generator=generator)
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.fill_(1.0)  # the network of 2015 has no scale
            module.bias.data.normal_(0, 0.05, generator=generator)
            module.running_mean.normal_(0, 0.05, generator=generator)  # type: ignore[union-attr]
            module.running_var.uniform_(0.3, 1.5, generator=generator)  # type: ignore[union-attr]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, and no weights in the environment."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("ANIMEGEN_WEIGHTS", raising=False)
    return tmp_path / "cache" / "animegen"


@pytest.fixture(scope="module")
def opened(files: Files, tmp_path_factory: pytest.TempPathFactory) -> tuple[Inception, str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        return open_inception(files.script, known=files.known)


def test_clean_features_are_those_of_clean_fids_pipeline(files: Files, opened: tuple[Inception, str]) -> None:
    images = pictures(5, 64, 64)
    resizer = clean_resize.build_resizer("clean")
    resized = torch.from_numpy(np.stack([resizer(image) for image in images])).permute(0, 3, 1, 2)
    with torch.no_grad():
        expected = clean_script.InceptionV3W(str(files.script.parent), download=False)(resized)
    extractor = inception_extractor(*opened, micro_batch=4)
    found = extractor.features(as_batch(images))
    assert found.shape == (5, 2048) == (5, extractor.dims)
    assert expected.std(0).mean() > 0.02 * expected.mean()  # the random network tells pictures apart
    assert (found - expected).abs().max() < 1e-3 * expected.std(0).mean()
    assert (extractor.name, extractor.resize) == ("inception", "clean-299")
    assert extractor.sha == disk.sha256(files.script)


def test_legacy_modes_are_those_of_clean_fid(files: Files, cache: Path) -> None:
    images = pictures(2, 96, 96)
    resizer = clean_resize.build_resizer("legacy_pytorch")
    resized = torch.from_numpy(np.stack([resizer(image) for image in images])).permute(0, 3, 1, 2)
    with torch.no_grad():
        expected = files.reference(resized / 255)[0].flatten(1)
        script = clean_script.InceptionV3W(str(files.script.parent), download=False, resize_inside=True)
        inside = script(as_batch(images).float())
    net, sha = open_inception(files.state, known=files.known)
    found = inception_extractor(net, sha, mode="legacy_pytorch", micro_batch=2).features(as_batch(images))
    assert (found - expected).abs().max() < 1e-3 * expected.std(0).mean()
    tensorflow = inception_extractor(net, sha, mode="legacy_tensorflow", micro_batch=2)
    assert (tensorflow.features(as_batch(images)) - inside).abs().max() < 1e-3 * inside.abs().max()
    with pytest.raises(UsageError, match="no resize `legacy_torch`"):
        inception_extractor(net, sha, mode="legacy_torch")


def test_logits_leave_the_output_bias_out(files: Files, opened: tuple[Inception, str]) -> None:
    images = pictures(2, 299, 299)
    with torch.no_grad():
        expected = torch.jit.load(str(files.script))(as_batch(images), no_output_bias=True)
    extractor = inception_extractor(*opened, micro_batch=2)
    found = extractor.logits(extractor.features(as_batch(images)))
    assert found.shape == (2, 1008)
    torch.testing.assert_close(found.softmax(1), expected, rtol=2e-3, atol=1e-6)


def test_bf16_is_close_to_fp32(opened: tuple[Inception, str]) -> None:
    images = as_batch(pictures(4, 64, 64))
    exact = inception_extractor(*opened, micro_batch=4).features(images)
    rough = inception_extractor(*opened, micro_batch=4, precision="bf16").features(images)
    assert rough.dtype == torch.float32
    assert not torch.equal(rough, exact)
    assert F.cosine_similarity(rough, exact).min() > 0.99


def test_a_converted_copy_is_kept_and_made_anew_when_damaged(files: Files, cache: Path) -> None:
    _, sha = open_inception(files.state, known=files.known)
    copy = cache / f"inception-{sha[:12]}.safetensors"
    first = copy.stat().st_mtime_ns
    again, same = open_inception(files.state, known=files.known)
    assert (same, copy.stat().st_mtime_ns) == (sha, first)
    assert not again.training
    direct, source = open_inception(copy, known=files.known)
    assert source == sha
    assert all(torch.equal(a, b) for a, b in zip(direct.parameters(), again.parameters(), strict=True))
    whole = copy.read_bytes()
    copy.write_bytes(whole[: len(whole) // 2])
    repaired, _ = open_inception(files.state, known=files.known)
    assert copy.read_bytes() == whole
    assert all(torch.equal(a, b) for a, b in zip(direct.parameters(), repaired.parameters(), strict=True))


def test_a_file_that_answers_otherwise_is_refused(files: Files, cache: Path) -> None:
    with pytest.raises(DataError, match=r"is another network: features differ by 1\.0%"):
        open_inception(files.wrong, known=files.known)
    assert not list(cache.glob("*.safetensors"))


def test_an_unknown_file_is_refused_before_it_is_read(files: Files, cache: Path) -> None:
    with pytest.raises(DataError, match="not the network that FID is defined by") as caught:
        open_inception(files.script)
    assert "animegen weights" in str(caught.value.hint)


@pytest.mark.parametrize("content", ["cut", "text", "pickle", "other"])
def test_files_that_are_no_network(files: Files, cache: Path, tmp_path: Path, content: str) -> None:
    path = tmp_path / "file.pt"
    if content == "cut":
        path.write_bytes(files.script.read_bytes()[:100_000])
    elif content == "text":
        path.write_text("not weights")
    elif content == "pickle":
        torch.save({"weight": Path}, path)  # an object where tensors belong
    else:
        torch.save(torchvision.models.squeezenet1_1().state_dict(), path)
    with pytest.raises(DataError, match=r"file\.pt"):
        open_inception(path, known={disk.sha256(path)})


def test_where_weights_are_sought(files: Files, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MachineError, match="need Inception's weights: none in") as caught:
        open_extractor("inception")
    for words in ("animegen weights", "--weights", "fd-faces", "fd-squeezenet"):
        assert words in str(caught.value.hint)
    cache.mkdir(parents=True)
    (cache / "inception-2015-12-05.pt").write_bytes(b"in the cache")
    assert find_inception() == cache / "inception-2015-12-05.pt"
    monkeypatch.setenv("ANIMEGEN_WEIGHTS", str(files.script.parent))
    assert find_inception() == files.script
    monkeypatch.setenv("ANIMEGEN_WEIGHTS", str(files.state))
    assert find_inception() == files.state
    assert find_inception(files.script) == files.script
    with pytest.raises(MachineError, match="`nowhere` is neither"):
        find_inception("nowhere")


def test_a_cache_that_cannot_be_written_is_no_error(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert open_inception(files.state, known=files.known)[1] == disk.sha256(files.state)


# SqueezeNet and the interface


@pytest.fixture(scope="module")
def squeezenet_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of random weights of SqueezeNet."""
    return squeezenet_weights.write(tmp_path_factory.mktemp("squeezenet") / "trunk.npz")


def test_squeezenet_is_the_papers(squeezenet_file: Path) -> None:
    """In float64, layer by layer from the file: BGR minus ImageNet's means, pooled after conv1, fire3 and fire5."""
    weights = {name: torch.from_numpy(tensor).double() for name, tensor in np.load(squeezenet_file).items()}

    def convolved(x: Tensor, name: str, **options: int) -> Tensor:
        return F.relu(F.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], **options))

    images = pictures(3, 64, 64)
    resized = clean_resize.make_resizer("PIL", False, "bicubic", (224, 224))
    bgr = np.stack([resized(image)[..., ::-1] for image in images]) - np.array([103.939, 116.779, 123.68])
    x = F.max_pool2d(convolved(torch.from_numpy(bgr).permute(0, 3, 1, 2), "conv1", stride=2), 3, 2)
    for number in squeezenet_weights.FIRES:
        x = convolved(x, f"fire{number}.squeeze1x1")
        halves = [convolved(x, f"fire{number}.expand1x1"), convolved(x, f"fire{number}.expand3x3", padding=1)]
        x = torch.cat(halves, 1)
        if number in (3, 5):
            x = F.max_pool2d(x, 3, 2)
    expected = x.mean((2, 3)).float()
    extractor = open_extractor(f"squeezenet:{squeezenet_file}")
    found = extractor.features(as_batch(images))
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max(), "float32 against float64"
    assert (extractor.name, extractor.dims, extractor.resize) == ("squeezenet", 512, "clean-224")
    assert extractor.sha == hashlib.sha256(squeezenet_file.read_bytes()).hexdigest()
    assert open_extractor(str(squeezenet_file)).sha == extractor.sha


def test_a_squeezenet_file_that_does_not_fit_says_which_tensor(squeezenet_file: Path, tmp_path: Path) -> None:
    tensors = dict(np.load(squeezenet_file))
    for change, says in (
        ({"fire4.squeeze1x1.bias": None}, "lacks `fire4.squeeze1x1.bias`"),
        ({"classifier.weight": np.zeros(3)}, "has an unknown `classifier.weight`"),
        ({"conv1.weight": np.zeros((96, 3, 7, 7))}, "has `conv1.weight` as 96x3x7x7, not 64x3x3x3"),
    ):
        kept: dict[str, Any] = {name: tensor for name, tensor in (tensors | change).items() if tensor is not None}
        np.savez(tmp_path / "wrong.npz", **kept)
        with pytest.raises(DataError, match=r"does not hold SqueezeNet 1\.1") as caught:
            load_squeezenet(tmp_path / "wrong.npz")
        assert says in caught.value.message
        assert "fire9.expand3x3.bias" in str(caught.value.hint)


def test_features_do_not_depend_on_the_company(squeezenet_file: Path) -> None:
    extractor = Extractor(
        load_squeezenet(squeezenet_file),
        name="squeezenet",
        sha="",
        resize="clean-224",
        prepare=lambda images: resize(images, 224),
        micro_batch=4,
    )
    images = as_batch(pictures(11, 64, 64))
    whole = extractor.features(images)
    assert whole.shape == (11, 512)
    for parts in ([1] * 11, [3, 8], [5, 0, 6]):
        assert torch.equal(torch.cat([extractor.features(part) for part in images.split(parts)]), whole)
    order = torch.randperm(11, generator=torch.Generator().manual_seed(0))
    assert torch.equal(extractor.features(images[order]), whole[order])


def test_features_do_not_depend_on_the_process_settings(squeezenet_file: Path) -> None:
    extractor = open_extractor(str(squeezenet_file))
    images = as_batch(pictures(3, 64, 64))
    expected = extractor.features(images)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(extractor.features(images), expected)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_features_on_a_gpu_are_those_of_the_cpu(opened: tuple[Inception, str], squeezenet_file: Path) -> None:
    images = as_batch(pictures(5, 64, 64))
    cpu = open_extractor(str(squeezenet_file)).features(images)
    gpu = open_extractor(str(squeezenet_file), device="cuda").features(images).cpu()
    assert (cpu - gpu).abs().max() < 1e-4 * cpu.abs().max()
    cpu = inception_extractor(*opened).features(images)
    gpu = inception_extractor(*opened, device="cuda").features(images).cpu()
    assert (cpu - gpu).abs().max() < 1e-3 * cpu.abs().max()


def test_only_uint8_pictures_are_taken(squeezenet_file: Path) -> None:
    extractor = open_extractor(str(squeezenet_file))
    with pytest.raises(ValueError, match="must be uint8"):
        extractor.features(torch.rand(2, 3, 64, 64))
    with pytest.raises(UsageError, match="Inception score needs Inception"):
        extractor.logits(torch.rand(2, 512))


def test_kid75_looks_at_75_pixels(opened: tuple[Inception, str]) -> None:
    """As `tf.image.resize` does: bilinear between pixel centers, not antialiased; then [-1, 1]."""
    net, sha = opened
    images = as_batch(pictures(3, 64, 64))
    found = for_kid75(inception_extractor(net, sha, micro_batch=4))
    scaled = F.interpolate(images.float(), (75, 75), mode="bilinear", align_corners=False)
    with torch.inference_mode():
        expected = net(scaled / 127.5 - 1)
    assert (found.features(images) - expected).abs().max() < 1e-3 * expected.abs().max()
    assert (found.dims, found.resize, found.sha) == (2048, "bilinear-75", sha)
    assert metric_name("kid75", found.name, found.resize) == "kid75"
    faces = open_extractor("faces")
    assert for_kid75(faces) is faces


def test_mistyped_networks_get_a_suggestion(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no feature network `incepton`") as caught:
        open_extractor("incepton")
    assert caught.value.hint == "did you mean `inception`?"
    with pytest.raises(UsageError, match=r"no SqueezeNet weights at `missing\.npz`"):
        open_extractor("squeezenet:missing.npz")
    with pytest.raises(UsageError, match="needs the path"):
        open_extractor("squeezenet")
    np.savez(tmp_path / "stats.npz", mu=np.zeros(3), sigma=np.eye(3))
    with pytest.raises(DataError, match=r"does not hold SqueezeNet 1\.1"):
        open_extractor(str(tmp_path / "stats.npz"))
    (tmp_path / "text.npz").write_text("not weights")
    with pytest.raises(DataError, match=r"cannot be read as \.npz"):
        open_extractor(str(tmp_path / "text.npz"))


# download

CONTENT = np.random.default_rng(0).bytes(700_000)


class Server(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT, honors Range, and breaks off after `stop_after` bytes of an answer."""

    stop_after: int | None = None
    asked: list[str | None]

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.asked.append(wanted)
        if self.path != "/weights.pt":
            self.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        if start >= len(CONTENT):
            self.send_error(416)
            return
        body = CONTENT[start:]
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self.stop_after])

    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.fixture
def server() -> Iterator[tuple[str, type[Server]]]:
    handler = type("Handler", (Server,), {"asked": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}/weights.pt", handler
        running.shutdown()
        thread.join()


def test_download_is_whole_checked_and_done_once(server: tuple[str, type[Server]], tmp_path: Path) -> None:
    url, handler = server
    dest, sha = tmp_path / "new" / "weights.pt", hashlib.sha256(CONTENT).hexdigest()
    assert download_weights(url, dest, sha256=sha) == dest
    assert dest.read_bytes() == CONTENT
    assert [path.name for path in dest.parent.iterdir()] == ["weights.pt"]
    download_weights(url, dest, sha256=sha)
    assert handler.asked == [None]


def test_an_interrupted_download_goes_on(server: tuple[str, type[Server]], tmp_path: Path) -> None:
    url, handler = server
    dest, sha = tmp_path / "weights.pt", hashlib.sha256(CONTENT).hexdigest()
    handler.stop_after = 300_000
    with pytest.raises(MachineError, match="download stopped") as caught:
        download_weights(url, dest, sha256=sha)
    assert "goes on from there" in str(caught.value.hint)
    assert not dest.exists()
    handler.stop_after = None
    download_weights(url, dest, sha256=sha)
    assert dest.read_bytes() == CONTENT
    assert handler.asked == [None, "bytes=300000-"]


def test_a_download_that_was_complete_but_not_renamed(server: tuple[str, type[Server]], tmp_path: Path) -> None:
    url, _ = server
    (tmp_path / "weights.pt.part").write_bytes(CONTENT)
    dest = download_weights(url, tmp_path / "weights.pt", sha256=hashlib.sha256(CONTENT).hexdigest())
    assert dest.read_bytes() == CONTENT


def test_a_wrong_file_is_thrown_away(server: tuple[str, type[Server]], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="another file than expected"):
        download_weights(server[0], tmp_path / "weights.pt")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("what", ["missing", "offline"])
def test_no_server_no_traceback(server: tuple[str, type[Server]], tmp_path: Path, what: str) -> None:
    url = server[0].replace("weights", "other") if what == "missing" else "http://127.0.0.1:9/weights.pt"
    with pytest.raises(MachineError, match="cannot be fetched") as caught:
        download_weights(url, tmp_path / "weights.pt")
    assert str(tmp_path / "weights.pt") in str(caught.value.hint)


def test_the_default_place_is_the_one_that_is_searched(
    server: tuple[str, type[Server]], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "INCEPTION_SHA256", hashlib.sha256(CONTENT).hexdigest())
    assert download_weights(server[0], sha256=weights.INCEPTION_SHA256) == find_inception()


# clean-fid's own code beside ours


def test_a_reviewers_check_gives_clean_fids_numbers_for_the_same_images(
    files: Files, opened: tuple[Inception, str], cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seed in (("drawn", 1), ("real", 2)):
        (tmp_path / name).mkdir()
        for number, image in enumerate(pictures(6, 24, 24, seed)):
            Image.fromarray(image).save(tmp_path / name / f"{number}.png")
    monkeypatch.setattr(evaluate, "open_extractor", lambda *_, **__: inception_extractor(*opened, micro_batch=6))
    words = ["eval", tmp_path / "drawn", "--against", tmp_path / "real", "--device", "cpu", "--weights", files.script]
    answer = done(*words, "--backend", "clean-fid", "--metrics", "kid", "--json")
    found = json.loads(answer.out)
    (score,), (check,) = found["scores"], found["check"]["scores"]
    assert (found["check"]["backend"], check["name"], check["ours"]) == ("clean-fid", "kid", score["value"])
    assert check["theirs"] == pytest.approx(score["value"], rel=1e-3)
    assert abs(score["value"]) > 1e-3  # the random network tells the two apart
    said = refused(2, *words, "--backend", "clean-fid", "--metrics", "precision")
    assert "clean-fid has no `precision`" in said
    wrong = [files.state if word == files.script else word for word in words]
    assert "type `animegen weights`" in refused(5, *wrong, "--backend", "clean-fid", "--metrics", "kid")
    assert "no backend `torch-fidelity`" in refused(2, *words, "--backend", "torch-fidelity")


def test_clean_fids_distances_are_ours() -> None:
    numbers = np.random.default_rng(0)
    real, drawn = numbers.normal(0, 1, (300, 24)), numbers.normal(0.2, 1.3, (300, 24))
    ours = score_features(torch.from_numpy(real), torch.from_numpy(drawn), ["fd", "kid"])
    theirs = [clean_fid.distance(metric, real, drawn) for metric in ("fd", "kid")]
    assert theirs == pytest.approx([score.value for score in ours], rel=1e-6)
    moments = real.mean(0), np.cov(real, rowvar=False)
    assert clean_fid.distance("fd", moments, drawn) == pytest.approx(ours[0].value, rel=1e-6)
    np.random.seed(5)
    expected = np.random.random()
    np.random.seed(5)
    clean_fid.distance("kid", real, drawn)
    assert np.random.random() == expected, "the subsets left a trace in other random numbers"


def test_a_check_without_weights_asks_for_them(cache: Path, tmp_path: Path) -> None:
    Image.new("RGB", (16, 16)).save(tmp_path / "one.png")
    said = refused(5, "eval", tmp_path, "--against", tmp_path, "--backend", "clean-fid", "--device", "cpu")
    assert "type `animegen weights`" in said
