"""Exported networks in onnxruntime: what they draw and translate is what the run draws and translates."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import yaml
from chain import ROOT, done, inside, refused
from tiny_runs import ATTRIBUTES, make, python_of

from animegen_cli.errors import DataError
from animegen_cli.export import onnx
from animegen_cli.model import abilities
from animegen_cli.model.family import Edit, Input, Network
from animegen_cli.model.noise import Noise
from animegen_cli.sample.trained import open_trained

if TYPE_CHECKING:
    from pathlib import Path

    from animegen_cli.paths import Run

SMALL = {
    "edm": ["model.multipliers=[1]"],
    "flow": ["model.multipliers=[1]"],
    "sde": ["model.multipliers=[1]", "model.labels=[eyes]"],
    "mhvae": ["model.cnn.encoder=/1x1,/1d16,1x1", "model.cnn.decoder=1x1,16m1"],
    "gan": ["model.labels=[eyes]", "sample.temperature=0.8"],
    "ddpm": ["model.labels=all", "model.predicts=noise"],
    "stylegan2": ["sample.truncation=0.7"],
}
"""Fewer layers, since exporting takes time for each; and settings that an export must not forget."""
SEEDS = [0, 7, 12345, 99, 5]


@pytest.fixture(scope="module")
def session_of() -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return lambda file: onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def exported(family: str, folder: Path) -> tuple[Run, Path, dict[str, Any]]:
    run = make(family, folder / "run", *SMALL.get(family, []))
    done("export", run.path, "--to", "onnx", "--n", "0", "--out", folder / "out")
    return run, folder / "out", json.loads((folder / "out" / "pipeline.json").read_text())


def test_every_family_that_draws_or_translates_can_be_exported() -> None:
    able = set(abilities.families_able("samples")) | set(abilities.families_able("translates"))
    assert able
    assert able == set(abilities.families_able("exports"))


@pytest.mark.parametrize("family", abilities.families_able("exports"))
def test_onnxruntime_does_what_the_run_does(family: str, session_of: Any, tmp_path: Path) -> None:
    run, folder, index = exported(family, tmp_path)
    trained = open_trained(run, device=torch.device("cpu"), precision="fp32")
    files = {entry["file"]: session_of(folder / entry["file"]) for entry in index["networks"]}
    assert sorted(files) == sorted(file.name for file in folder.glob("*.onnx"))
    assert all(0 <= entry["largest_difference"] <= 1e-4 for entry in index["networks"])
    model: Any = trained.model
    labels = torch.tensor([[0, 1], [1, -1], [-1, 2], [-1, -1], [0, 0]])
    asked = labels[:, [list(ATTRIBUTES).index(name) for name in index["labels"]]].numpy() if index["labels"] else None
    if "samples" in run.about["abilities"]:
        sampling = trained.config.sample
        if "sigmas" in index["recipe"]:
            sampling = replace(sampling, sampler="ddim", eta=0.0)
            got = walked(index, files["denoiser.onnx"], asked)
        else:
            got = passed(index["networks"][0], files[index["networks"][0]["file"]], asked)
        with torch.no_grad():
            expected = model.sample(Noise(SEEDS), labels if asked is not None else None, sampling).numpy()
        assert expected.std() > 0.02
        assert np.abs(expected - expected[:1]).max() > 0.02
        np.testing.assert_allclose(got, expected, atol=1e-4)
    translated(model, files)
    for file in folder.iterdir():
        content = file.read_bytes()
        assert str(tmp_path).encode() not in content, file.name
        assert str(ROOT).encode() not in content, file.name
    found: dict[str, Any] = {}
    with inside(folder):
        exec(python_of((folder / "README.md").read_text()), found)
    assert found["pixels"].dtype == np.uint8
    assert found["pixels"].shape[3] == 3
    assert found["pixels"].std() > 1


def walked(index: dict[str, Any], denoiser: Any, asked: np.ndarray | None) -> np.ndarray:
    """Deterministic DDIM (Song et al. 2021, eq. 12) in NumPy, from our own noise."""
    recipe, count = index["recipe"], len(SEEDS)
    x = Noise(SEEDS)(3, 16, 16).numpy() * np.float32(recipe["start"])
    for now, then in zip(recipe["sigmas"], recipe["sigmas"][1:], strict=False):
        given = {"x": x, "sigma": np.full(count, now, np.float32)}
        (clean,) = denoiser.run(None, given | ({} if asked is None else {"labels": asked}))
        x = clean + (x - clean) * np.float32(then / now)
    return np.clip(x * np.reshape(recipe["std"], (3, 1, 1)) + np.reshape(recipe["mean"], (3, 1, 1)), -1, 1)


def passed(network: dict[str, Any], session: Any, asked: np.ndarray | None) -> np.ndarray:
    """One pass, each noise input the next draw of our own noise."""
    noise, given = Noise(SEEDS), {}
    for entry in network["inputs"]:
        if entry["kind"] == "noise":
            given[entry["name"]] = noise(*entry["shape"][1:]).numpy() * np.float32(entry["scale"])
        elif entry["kind"] == "labels":
            assert asked is not None
            given[entry["name"]] = asked
        else:
            given[entry["name"]] = np.full(len(SEEDS), entry["scale"], np.float32)
    return session.run(None, given)[0]


def translated(model: Any, files: dict[str, Any]) -> None:
    """Networks from pictures to pictures, at sizes that they were not exported with where the family takes any."""
    ways = {
        "to_anime.onnx": lambda x: model.translate(x, Noise([0] * len(x)), Edit(), None),
        "to_photo.onnx": lambda x: model.translate(x, Noise([0] * len(x)), Edit(reverse=True), None),
        "autoencoder.onnx": lambda x: model.reconstruct(x),
    }
    shapes = [(5, 3, 16, 16), *([(1, 3, 72, 24), (2, 3, 24, 104)] if getattr(model, "any_size", False) else [])]
    for file in ways.keys() & files.keys():
        for shape in shapes:
            x = torch.rand(shape, generator=torch.Generator().manual_seed(1)) * 2 - 1
            with torch.no_grad():
                expected = ways[file](x).numpy()
            assert expected.std() > 0.01
            np.testing.assert_allclose(files[file].run(None, {"image": x.numpy()})[0], expected, atol=1e-4)
    if getattr(model, "any_size", False):
        assert {"to_anime.onnx"} | ({"to_photo.onnx"} if "reverse" in model.edits else set()) == files.keys()


def test_a_network_that_differs_is_an_error(tmp_path: Path) -> None:
    """One that forgets what an exporter cannot see: each call adds one more."""
    model = torch.nn.Linear(1, 1)
    calls: list[int] = []

    def drifting(x: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return x + 0.001 * len(calls)

    network = Network("drifting", drifting, {"x": Input("noise", "", (2,))}, "")
    with pytest.raises(DataError, match=r"drifting\.onnx differs .* by"):
        onnx.write(model, [network], tmp_path)  # type: ignore[arg-type]


def test_without_the_extra_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make("vae", tmp_path / "run")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    said = refused(5, "export", run.path, "--n", "0")
    assert "pip install '" in said
    assert "[onnx]'" in said
    assert not (run.path / "export" / "onnx").exists()


def test_the_example_of_the_documentation_runs(tmp_path: Path) -> None:
    run = make("ddim", tmp_path / "run")
    text = (ROOT / "docs" / "export.md").read_text()
    assert "format: onnx" in done("export", run.path, "--out", tmp_path / "faces-onnx", "--n", "4").err
    code = python_of(text)
    assert "torch" not in code
    assert "animegen" not in code
    found: dict[str, Any] = {}
    with inside(tmp_path):
        exec(code, found)
    assert found["pixels"].shape == (4, 16, 16, 3)
    assert found["pixels"].std() > 1
    head = yaml.safe_load((tmp_path / "faces-onnx" / "README.md").read_text().split("---")[1])
    assert head["library_name"] == "onnx"
