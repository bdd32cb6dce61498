"""diffusers folders: the real diffusers opens them, draws the same images, and its own networks come in."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import yaml
from chain import assert_same_tensors, done, inside, refused, sets, train_words
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_runs import ATTRIBUTES, Drawn, make, python_of, shake
from torch import Tensor

from animegen_cli.errors import DataError
from animegen_cli.model import checkpoint, diffusers
from animegen_cli.paths import Run
from animegen_cli.report import card
from animegen_cli.sample.trained import open_trained

if TYPE_CHECKING:
    from pathlib import Path

NO_LABELS = "model.labels=[]"
WEIGHTS = "diffusion_pytorch_model.safetensors"


def opened(run: Run) -> Any:
    return open_trained(run, device=torch.device("cpu"), precision="fp32")


def folder_of(run: Run) -> Path:
    done("export", run.path, "--to", "diffusers", "--n", "0")
    return run.path / "export" / "diffusers"


def outputs(model: Any, unet: Any, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Of both networks at three times, classes one above our indices."""
    x, time = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 400, 999])
    classes = {} if labels is None else {"class_labels": labels[:, 0] + 1}
    with torch.no_grad():
        return model.unet(x, time, labels), unet(x, time, **classes).sample


# ---- whole trajectories ---------------------------------------------------------------------------------------

DIFFUSERS = ["model.layout=diffusers", "model.head_width=4"]


@pytest.mark.parametrize(
    "settings",
    [
        ["sample.steps=10"],
        [*DIFFUSERS, "sample.steps=10", "sample.spacing=leading", "model.timesteps=50", "model.schedule=linear",
         "model.predicts=noise"],
        [*DIFFUSERS, "sample.steps=5", "model.multipliers=[1,2,2]", "model.attention=[]", "model.clip=false"],
        ["sample.steps=8", "model.timesteps=200", "model.schedule=linear", "model.predicts=image", "sample.eta=0.5"],
        ["sample.sampler=ancestral", "sample.steps=25", "model.blocks=2"],
        [*DIFFUSERS, "sample.sampler=ancestral", "sample.steps=20", "sample.spacing=leading", "sample.variance=large"],
        ["sample.sampler=ancestral", "sample.steps=50", "model.timesteps=50", "sample.variance=large",
         "model.schedule=linear", "model.predicts=noise"],
    ],
)  # fmt: skip
def test_its_pipeline_draws_our_images(settings: list[str], tmp_path: Path) -> None:
    import diffusers as library

    run = make("ddpm", tmp_path / "run", NO_LABELS, *settings)
    folder = folder_of(run)
    index = json.loads((folder / "pipeline.json").read_text())
    pipeline = getattr(library, index["pipeline"]).from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(
        batch_size=3, generator=torch.Generator().manual_seed(5), output_type="np", **index["options"]
    ).images  # fmt: skip
    trained = opened(run)
    with torch.no_grad():
        ours = trained.model.sample(Drawn(3, 5), None, trained.config.sample).permute(0, 2, 3, 1).numpy() / 2 + 0.5
    assert ours.std() > 0.05
    assert ((ours > 0.01) & (ours < 0.99)).sum() > 50, "what is clipped hides differences"
    np.testing.assert_allclose(theirs, ours, atol=1e-4)


def test_single_ancestral_steps_are_ours(tmp_path: Path) -> None:
    """Each step of diffusers' scheduler from the states that our sampler passes through."""
    import diffusers as library

    run = make("ddpm", tmp_path / "run", NO_LABELS, "sample.sampler=ancestral", "sample.steps=10")
    folder, trained = folder_of(run), opened(run)
    unet = library.UNet2DModel.from_pretrained(folder / "unet")
    scheduler = library.DDPMScheduler.from_pretrained(folder / "scheduler")
    scheduler.set_timesteps(10)
    states: list[Tensor] = []
    with torch.no_grad():
        final = trained.model.sample(
            Drawn(2, 3), None, trained.config.sample, lambda step, x, clean: states.append(x.clone())
        )
        chance = torch.Generator().manual_seed(3)
        torch.testing.assert_close(states[0], torch.randn(2, 3, 16, 16, generator=chance), atol=1e-5, rtol=1e-5)
        for step, time in enumerate(scheduler.timesteps):
            found = scheduler.step(unet(states[step], time).sample, time, states[step], generator=chance).prev_sample
            expected = states[step + 1] if step < 9 else final
            torch.testing.assert_close(found if step < 9 else found.clamp(-1, 1), expected, atol=1e-4, rtol=1e-4)


def test_one_label_becomes_classes(tmp_path: Path) -> None:
    import diffusers as library

    run = make("ddpm", tmp_path / "run", "model.labels=[eyes]", "sample.steps=4")
    folder = folder_of(run)
    unet = library.UNet2DModel.from_pretrained(folder / "unet")
    ours, theirs = outputs(opened(run).model, unet, torch.tensor([[-1], [0], [2]]))
    torch.testing.assert_close(theirs, ours, atol=1e-4, rtol=1e-4)
    assert json.loads((folder / "pipeline.json").read_text())["labels"] == {"eyes": list(ATTRIBUTES["eyes"])}
    text, found = (folder / "README.md").read_text(), dict[str, Any]()
    assert "0 unknown, 1 blue, 2 red, 3 green" in text
    with inside(folder):
        exec(python_of(text), found)
    assert found["images"].shape == (4, 3, 16, 16)
    assert torch.isfinite(found["images"]).all()


# ---- and back -------------------------------------------------------------------------------------------------


def train(faces: Path, out: Path, source: Path, *settings: str, code: int = 0) -> Any:
    """`train --init-from`, for no image: what comes out is what went in."""
    words = ["train", "ddpm", "--preset", "smoke", "--data", faces, "--out", out, "--duration", "0 images",
             "--device", "cpu", "--init-from", source, *sets("train.preview=2", "train.validate.images=0", *settings)]  # fmt: skip
    return refused(code, *words) if code else done(*words)


THEIR_SETTINGS = [NO_LABELS, "model.channels=8", "model.groups=4", "model.blocks=2", "model.attention=[8]", "model.head_width=4",
                  "model.layout=diffusers"]  # fmt: skip


def their_own(**options: Any) -> Any:
    from diffusers import UNet2DModel

    torch.manual_seed(1)
    unet: Any = UNet2DModel(
        sample_size=16, block_out_channels=(8, 16), down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"), norm_num_groups=4, attention_head_dim=4, **options,
    )  # fmt: skip
    shake(unet)
    return unet.eval()


def test_a_network_that_diffusers_saved_begins_a_run(faces: Path, tmp_path: Path) -> None:
    unet = their_own()
    unet.save_pretrained(tmp_path / "theirs")
    said = train(faces, tmp_path / "run", tmp_path / "theirs", *THEIR_SETTINGS)
    assert "started from the diffusers network" in said.err
    ours, theirs = outputs(opened(Run(tmp_path / "run")).model, unet)
    assert theirs.std() > 0.05
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    labeled = [word for word in THEIR_SETTINGS if word != NO_LABELS]
    train(faces, tmp_path / "labeled", tmp_path / "theirs", *labeled, "model.labels=[hair,eyes]")
    ours, theirs = outputs(opened(Run(tmp_path / "labeled")).model, unet)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_there_and_back_gives_the_same_tensors(faces: Path, tmp_path: Path) -> None:
    settings = [NO_LABELS, "model.channels=8", "model.groups=4", "model.attention=[8]", "model.predicts=noise"]
    run = make("ddpm", tmp_path / "first", NO_LABELS, "model.predicts=noise")
    first = folder_of(run)
    said = train(faces, tmp_path / "second", first, *settings)
    assert "warning" not in said.err
    assert_same_tensors(*(checkpoint.load_weights(r.weights)[0] for r in (run, Run(tmp_path / "second"))))
    second = folder_of(Run(tmp_path / "second"))
    assert_same_tensors(*(load_file(folder / "unet" / WEIGHTS) for folder in (first, second)))
    for file in ("unet/config.json", "scheduler/scheduler_config.json", "model_index.json"):
        assert (first / file).read_bytes() == (second / file).read_bytes()
    said = train(faces, tmp_path / "other", first, *settings[:-1], "model.schedule=linear")
    assert "prediction_type epsilon, and this config has v_prediction" in said.err
    assert "beta_schedule squaredcos_cap_v2, and this config has linear" in said.err


def test_names_of_old_attention_layers_are_known(faces: Path, tmp_path: Path) -> None:
    unet = their_own()
    unet.save_pretrained(tmp_path / "theirs")
    file = tmp_path / "theirs" / WEIGHTS
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    save_file(
        {re.sub(r"to_(q|k|v|out\.0)", lambda m: old[m[0]], name): tensor for name, tensor in load_file(file).items()},
        file,
    )
    train(faces, tmp_path / "run", tmp_path / "theirs", *THEIR_SETTINGS)
    ours, theirs = outputs(opened(Run(tmp_path / "run")).model, unet)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_the_error_names_the_settings_that_fit(faces: Path, tmp_path: Path) -> None:
    their_own(layers_per_block=1, dropout=0.1).save_pretrained(tmp_path / "theirs")
    said = train(faces, tmp_path / "run", tmp_path / "theirs", NO_LABELS, code=3)
    assert "another shape" in said
    fitting = re.findall(r"--set (\S+)", said)
    assert set(fitting) >= {"model.channels=8", "model.layout=diffusers", "model.attention=[8]"}
    train(faces, tmp_path / "run", tmp_path / "theirs", NO_LABELS, *fitting)
    assert not (tmp_path / "run" / ".lock").is_dir()


def broken(theirs: Path, damage: str) -> None:
    """Spoil a saved network."""
    config = json.loads((theirs / "config.json").read_text())
    tensors = load_file(theirs / WEIGHTS)
    if damage == "no config":
        (theirs / "config.json").rename(theirs / "model_index.json")
    elif damage == "damaged config":
        (theirs / "config.json").write_text("{")
    elif damage == "pickled":
        (theirs / WEIGHTS).unlink()
        (theirs / "diffusion_pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch hacked'\ntR.")
    elif damage == "damaged weights":
        (theirs / WEIGHTS).write_bytes((theirs / WEIGHTS).read_bytes()[:1000])
    elif damage == "shape":
        save_file(tensors | {"conv_in.weight": torch.zeros(8, 3, 5, 5)}, theirs / WEIGHTS)
    elif damage == "missing":
        save_file({k: v for k, v in tensors.items() if k != "mid_block.attentions.0.to_k.bias"}, theirs / WEIGHTS)
    elif damage == "too many":
        save_file(tensors | {"extra.weight": torch.zeros(1)}, theirs / WEIGHTS)
    else:
        key, value = damage.split("=")
        (theirs / "config.json").write_text(json.dumps(config | {key: yaml.safe_load(value)}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("no config", "has no config.json"),
        ("damaged config", "is damaged"),
        ("pickled", "only a pickled file"),
        ("damaged weights", "is damaged"),
        ("shape", "`conv_in.weight` has the shape (8, 3, 5, 5)"),
        ("missing", "`mid_block.attentions.0.to_k.bias` is missing"),
        ("too many", "`extra.weight` has no place"),
        ("down_block_types=[DownBlock2D, SkipDownBlock2D]", "blocks of type SkipDownBlock2D"),
        ("up_block_types=[UpBlock2D, UpBlock2D]", "do not mirror"),
        ("act_fn=gelu", "`act_fn` is 'gelu'"),
        ("norm_eps=0.1", "conventions"),
        ("_class_name=UNet2DConditionModel", "a UNet2DConditionModel"),
        ("num_class_embeds=7", "7 classes"),
    ],
)
def test_broken_folders_are_refused(damage: str, message: str, tmp_path: Path) -> None:
    their_own().save_pretrained(tmp_path / "theirs")
    broken(tmp_path / "theirs", damage)
    model = opened(make("ddpm", tmp_path / "run", *THEIR_SETTINGS)).model
    with inside(tmp_path), pytest.raises(DataError, match=re.escape(message)) as caught:
        diffusers.adopt(model, tmp_path / "theirs")
    assert str(tmp_path / "theirs") in caught.value.message
    assert caught.value.hint
    assert not (tmp_path / "hacked").exists()


def test_a_run_that_cannot_begin_leaves_nothing(faces: Path, tmp_path: Path) -> None:
    their_own().save_pretrained(tmp_path / "theirs")
    words = train_words("vae", faces, tmp_path / "run", "--init-from", tmp_path / "theirs")
    assert "no network of that kind" in refused(3, *words)


# ---- the command ----------------------------------------------------------------------------------------------


def test_the_newest_run_by_default_and_its_card(tmp_path: Path) -> None:
    make("ddpm", tmp_path / "runs" / "00000-ddpm", NO_LABELS)
    finding = {"name": "mode collapse", "says": "all alike", "flag": "--set x=1", "by": "figures", "since": 320}
    run = make("ddpm", tmp_path / "runs" / "00001-<b>ddpm", NO_LABELS, "sample.steps=3", findings=[finding])
    answer = done("export", "--license", "mit", "--n", "9", cwd=tmp_path)
    assert "00001" in answer.err
    assert "format: diffusers" in answer.err
    folder = run.path / "export" / "diffusers"
    text = (folder / "README.md").read_text()
    head = yaml.safe_load(text.split("---")[1])
    assert (head["license"], head["library_name"], head["datasets"]) == ("mit", "diffusers", ["faces"])
    assert {"ddpm", "anime", "diffusers:DDIMPipeline"} <= set(head["tags"])
    assert "<b>" not in re.sub(r"```.*?```", "", text, flags=re.S)
    assert "mode collapse since 320 images" in text
    assert "found no failure" not in text
    assert "ab" * 32 in text
    with Image.open(folder / "samples.png") as sheet:
        assert sheet.size == (3 * 18 - 2, 3 * 18 - 2)
    found: dict[str, Any] = {}
    with inside(folder):
        exec(python_of(text), found)
    assert len(found["images"]) == 4
    for file in folder.rglob("*"):
        if file.is_file():
            assert str(tmp_path).encode() not in file.read_bytes(), file
    assert yaml.safe_load((folder / "config.yaml").read_text())["data"] is None


def test_translators_show_stand_ins_and_no_photograph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from animegen_cli.export import onnx

    run = make("animegan", tmp_path / "run")
    monkeypatch.setattr(onnx, "write", lambda *_: [])  # tested where it is real
    done("export", run.path, "--n", "3")
    text = (run.path / "export" / "onnx" / "README.md").read_text()
    assert "Drawn stand-ins" in text
    assert yaml.safe_load(text.split("---")[1])["pipeline_tag"] == "image-to-image"
    assert Image.open(run.path / "export" / "onnx" / "samples.png").width > 200


def test_a_folder_is_whole_or_absent_and_only_exports_are_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make("ddpm", tmp_path / "run", NO_LABELS)
    out = tmp_path / "out"
    words = ["export", run.path, "--out", out, "--n", "0"]
    with monkeypatch.context() as broken_card:
        broken_card.setattr(card, "card", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            done(*words)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]
    done(*words)
    done(*words, "--license", "cc0-1.0")
    assert "cc0-1.0" in (out / "README.md").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "run"]
    (out / ".git").mkdir()
    (out / ".git" / "HEAD").touch()
    assert ".git" in refused(2, *words)
    assert (out / "model_index.json").is_file()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    assert "thesis.txt" in refused(2, "export", run.path, "--out", tmp_path / "mine")
    assert "is a file" in refused(2, "export", run.path, "--out", tmp_path / "mine" / "thesis.txt")
    assert "cannot write" in refused(5, "export", run.path, "--out", tmp_path / "mine" / "thesis.txt" / "below")


def test_what_cannot_be_exported_says_what_can(tmp_path: Path) -> None:
    run = make("gan", tmp_path / "gan")
    assert "families that can: ddpm" in refused(2, "export", run.path, "--to", "diffusers")
    labeled = make("ddpm", tmp_path / "ddpm", "model.labels=all")
    assert "--to onnx" in refused(2, "export", labeled.path, "--to", "diffusers")
    labeled.weights.unlink()
    assert "no weights" in refused(3, "export", labeled.path)
    assert "no run" in refused(3, "export", tmp_path / "nothing")
    assert "no run" in refused(3, "export", cwd=tmp_path)
    assert not list(tmp_path.glob("*/export/*"))
    assert "tensorrt" in refused(2, "export", run.path, "--to", "tensorrt")


def test_notes_say_what_a_pipeline_does_otherwise(tmp_path: Path) -> None:
    settings = ["sample.sampler=dpmpp", "sample.spacing=karras", "sample.steps=7"]
    run = make("ddpm", tmp_path / "run", NO_LABELS, *settings)
    notes = json.loads(done("export", run.path, "--n", "0", "--json").out)["notes"]
    assert len(notes) == 3
    text = (run.path / "export" / "diffusers" / "README.md").read_text()
    assert all(note.split("`")[0] in text for note in notes)


def test_the_scores_stand_on_the_card_with_their_protocol(tmp_path: Path) -> None:
    from fake_runs import score

    run = make("ddpm", tmp_path / "run", NO_LABELS)
    run.scores.write_text(json.dumps({"scores": [score("fd-faces", 41.25, std=2.0, images=640)]}))
    folder = folder_of(run)
    (line,) = [line for line in (folder / "README.md").read_text().splitlines() if line.startswith("| fd-faces")]
    assert "41.2 ± 2.0" in line
    assert "1000 generated against 13920 real images (faces, train)" in line


def test_paths_in_settings_are_cut_to_their_last_name() -> None:
    found = card.without_paths({"a": "/home/me/vgg.pth", "b": ["x/y.zip", "10 min"], "c": "~/z", "d": "dcgan", "e": 3})
    assert found == {"a": "vgg.pth", "b": ["y.zip", "10 min"], "c": "z", "d": "dcgan", "e": 3}
