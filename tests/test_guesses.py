"""Words of other programs: each is answered with the line to type here, and before torch is loaded."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from chain import here
from test_hints import known_keys, parsed

from animegen_cli.cli.reference import commands

LINES = {
    "train ddpm --lr 1e-4": "train ddpm --set optim.model.lr=1e-4",
    "train ddpm --learning-rate=1e-4": "train ddpm --set optim.model.lr=1e-4",
    "train gan --learning_rate 2e-4": "train gan --set optim.G.lr=2e-4 --set optim.D.lr=2e-4",
    "train ddpm --weight-decay 0.01": "train ddpm --set optim.model.weight_decay=0.01",
    "train ddpm --optimizer adamw": "train ddpm --set optim.model.name=adamw",
    "train ddpm --grad-clip 1": "train ddpm --set optim.model.clip=1",
    "train ddpm --lr-scheduler cosine": "train ddpm --set optim.model.schedule=cosine",
    "train ddpm --warmup-steps 500": "train ddpm --set 'optim.model.warmup=500 steps'",
    "train ddpm --epochs 10": "train ddpm --duration '10 epochs'",
    "train ddpm --num-epochs 10": "train ddpm --duration '10 epochs'",
    "train ddpm --steps 1000": "train ddpm --duration '1000 steps'",
    "train ddpm --max-steps 800k": "train ddpm --duration '800k steps'",
    "train ddpm --iterations 1000": "train ddpm --duration '1000 steps'",
    "train stylegan2 --kimg 250": "train stylegan2 --duration '250k images'",
    "train ddpm --batch-size 32": "train ddpm --batch 32",
    "train ddpm --batch_size=32": "train ddpm --batch 32",
    "train ddpm --bs 32": "train ddpm --batch 32",
    "train ddpm -b 32": "train ddpm --batch 32",
    "train ddpm --image-size 64": "train ddpm --set size=64",
    "train ddpm --resolution 64": "train ddpm --set size=64",
    "train ddpm --size 64": "train ddpm --set size=64",
    "train ddpm --cpu": "train ddpm --device cpu",
    "train ddpm --gpu": "train ddpm --device cuda",
    "train ddpm --gpu 0": "train ddpm --device cuda",
    "train ddpm --cuda": "train ddpm --device cuda",
    "train ddpm --gpus 4": "train ddpm --nproc 4",
    "train ddpm --num-gpus 4": "train ddpm --nproc 4",
    "train ddpm --checkpoint runs/a": "train ddpm --resume runs/a",
    "train ddpm --resume-from runs/a": "train ddpm --resume runs/a",
    "train ddpm --pretrained runs/a": "train ddpm --init-from runs/a",
    "train ddpm --output here": "train ddpm --out here",
    "train ddpm --output-dir here": "train ddpm --out here",
    "train ddpm --outdir=here": "train ddpm --out here",
    "train ddpm -o here": "train ddpm --out here",
    "train ddpm --name first": "train ddpm --out runs/first",
    "train ddpm --dataset faces.zip": "train ddpm --data faces.zip",
    "train ddpm --data-dir faces.zip": "train ddpm --data faces.zip",
    "train ddpm --dataroot faces.zip": "train ddpm --data faces.zip",
    "train ddpm --ema-decay 0.999": "train ddpm --set train.ema.decay=0.999",
    "train ddpm --fp16": "train ddpm --set train.precision=bf16",
    "train ddpm --mixed-precision": "train ddpm --set train.precision=bf16",
    "train ddpm --num-workers 4": "train ddpm --set train.workers=4",
    "train ddpm --compile": "train ddpm --set train.compile=true",
    "train gan --nz 64": "train gan --set model.latent=64",
    "train ddpm --flip": "train ddpm --set augment.flip=true",
    "train ddpm --log-interval 20": "train ddpm --set 'train.log_every=20 steps'",
    "train ddpm --save-every-steps 20": None,
    "train ddpm --save-freq 20": "train ddpm --save-every '20 steps'",
    "train ddpm --sample-interval 200": "train ddpm --set 'train.preview_every=200 steps'",
    "train --model ddpm": "train ddpm",
    "train --family ddpm --epochs 3 --cpu": "train ddpm --duration '3 epochs' --device cpu",
    "train ddpm --report-to wandb": "train ddpm --logger wandb",
    "train ddpm --use-wandb": "train ddpm --logger wandb",
    "train ddpm --random-seed 7": "train ddpm --seed 7",
    "sample --num-samples 16": "sample --n 16",
    "sample --num 16": "sample --n 16",
    "sample --count 16": "sample --n 16",
    "sample --variations 3 --variation-amount 0.2": "sample --vary 3 --amount 0.2",
    "sample --checkpoint runs/a --n 4": "sample runs/a --n 4",
    "sample --run runs/a": "sample runs/a",
    "sample --ckpt runs/a/weights.safetensors": "sample runs/a/weights.safetensors",
    "sample --seed 3": "sample --seeds 3",
    "sample --seed 3 --count 8": "sample --seeds 3-10",
    f"train {__file__} --model vae --minutes 1": f"train --data {__file__} vae --budget 1min",
    "train gan --settings mine.yaml": "train gan --config mine.yaml",
    "sample --cfg-scale 2": "sample --guidance 2",
    "sample --guidance-scale 2": "sample --guidance 2",
    "sample --psi 0.7": "sample --truncation 0.7",
    "sample --num-inference-steps 20": "sample --steps 20",
    "sample --scheduler ddim": "sample --sampler ddim",
    "sample --output here": "sample --out here",
    "sample --batch-size 8": "sample --batch 8",
    "sample --class hair=pink": "sample --labels hair=pink",
    "sample --gpu": "sample --device cuda",
    "eval --num-samples 2048": "eval --n 2048",
    "eval --model runs/a": "eval runs/a",
    "eval --metric fid": "eval --metrics fid",
    "eval --fid": "eval --metrics fid",
    "eval --real faces.zip": "eval --data faces.zip",
    "prepare ./kaggle --size 64": "prepare ./kaggle --resolution 64",
    "prepare ./kaggle --image-size 64": "prepare ./kaggle --resolution 64",
    "prepare --input ./kaggle": "prepare ./kaggle",
    "prepare ./kaggle --output faces.zip": "prepare ./kaggle --out faces.zip",
    "prepare ./kaggle --max-images 100": "prepare ./kaggle --limit 100",
    "prepare ./kaggle --train-split 0.9": "prepare ./kaggle --split 0.9",
    "translate --input photo.jpg": "translate photo.jpg",
    "translate photo.jpg --seeds 3": "translate photo.jpg --seed 3",
    "translate photo.jpg --resolution 256": "translate photo.jpg --size 256",
    "prepare ./kaggle --seeds 3": "prepare ./kaggle --seed 3",
    "demo --resolution 64": "demo --size 64",
    "train ddpm -n": "train ddpm --dry-run",
    "runs compare 3 4": "compare 3 4",
    "runs delete 3": "runs rm 3",
    "studies run 003": "compare --study 003",
    "evaluate runs/a": "eval runs/a",
    "generate --n 4": "sample --n 4",
    "compare --runs runs/a": "compare runs/a",
    "export --onnx": "export --to onnx",
    "export --format onnx": "export --to onnx",
}  # fmt: skip
"""What is typed, and what is answered; None: too far from anything."""


@pytest.mark.parametrize(("typed", "line"), [(typed, line) for typed, line in LINES.items() if line])
def test_a_guess_is_answered_with_a_line_that_can_be_typed(typed: str, line: str) -> None:
    answer = here(*shlex.split(typed))
    assert answer.code == 2
    assert f"type `animegen {line}`" in answer.err
    parsed(shlex.split(line))
    for key in re.findall(r"--set '?([\w.]+)=", line):
        assert key in known_keys(), key


def test_a_short_option_means_one_thing_in_every_command() -> None:
    meanings: dict[str, set[str]] = {}
    for context in commands():
        for option in context.command.params:
            for short in (name for name in option.opts if name.startswith("-") and not name.startswith("--")):
                meanings.setdefault(short, set()).add(next(name for name in option.opts if name.startswith("--")))
    assert meanings["-n"] == {"--n"}
    assert {short: sorted(long) for short, long in meanings.items() if len(long) > 1} == {}


def test_there_are_many_and_a_wild_word_is_no_guess() -> None:
    assert sum(line is not None for line in LINES.values()) >= 60
    for typed, line in LINES.items():
        if line is None:
            assert "type `animegen" not in here(*shlex.split(typed)).err


@pytest.mark.parametrize(("group", "least"), [((), 12), (("runs",), 4), (("presets",), 3), (("studies",), 1)])
def test_the_list_of_commands_is_in_whole_sentences(group: tuple[str, ...], least: int) -> None:
    shown = here(*group, "--help").out.partition("Commands:")[2].strip().splitlines()
    assert len(shown) >= least
    commands = "\n".join(shown).replace("\n        ", " ").splitlines()  # a long sentence goes on below itself
    assert [line for line in commands if line.endswith("...") or not line.endswith(".")] == []


OTHERS = {
    "train DDPM": "did you mean `ddpm`?",
    "train gan --set lr=1e-4": "write `optim.G.lr` or `optim.D.lr`",
    "train edm --set sigma_data=0.4": "write `model.sigma_data`",
    "train ddpm --set model.channels=8 model.blocks=1": "write `--set model.blocks=1`",
    "compare --study 3": "`003`",
    f"train {Path(__file__).parent}": f"type `animegen prepare {Path(__file__).parent}` first",
    "eval samples --metrics FDD": "did you mean `fd`?",
    "reproduce 003": "type `animegen compare --study 003`",
    "export --out friend.zip": "`--out friend`",
}


@pytest.mark.parametrize(("typed", "hint"), OTHERS.items())
def test_other_wrong_words_meet_the_right_one(typed: str, hint: str) -> None:
    answer = here(*shlex.split(typed))
    assert answer.code == 2
    assert hint in answer.err


KEYS = {
    "epochs: 10": "write `train: {duration: 10 epochs}`",
    "steps: 1000": "write `train: {duration: 1000 steps}`; or write `sample.steps`",
    "train: {epochs: 10}": "write `train: {duration: 10 epochs}`",
    "train: {num_steps: 20k}": "write `train: {duration: 20k steps}`",
    "batch_size: 32": "write `train: {batch: 32}`",
    "image_size: 64": "write `size: 64`",
    "ema_decay: 0.99": "write `train: {ema: {decay: 0.99}}`",
    "learning_rate: 0.001": "write `optim: {model: {lr: 0.001}}`",
    "lr: 0.001": "write `optim.model.lr`",
    "gpus: 4": "type `--nproc 4`: it is an option of the command and no key",
    "train: {duratoin: 10 epochs}": "did you mean `duration`?",
}
"""Words of other programs in a config file, and what is answered."""


@pytest.mark.parametrize(("typed", "hint"), KEYS.items())
def test_a_config_file_meets_the_same_guesses(typed: str, hint: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(f"{typed}\n")
    answer = here("train", "ddpm", "--config", "mine.yaml", cwd=tmp_path)
    assert answer.code == 2
    assert "mine.yaml:1: unknown key" in answer.err
    assert answer.err.rstrip().endswith(f"  {hint}")
    if written := re.match(r"write `(.*?: .*?)`", hint):  # what is answered is known
        (tmp_path / "mine.yaml").write_text(f"{written[1]}\n")
        assert "unknown key" not in here("train", "ddpm", "--config", "mine.yaml", cwd=tmp_path).err


def test_a_guess_in_a_setting_is_answered_with_the_option() -> None:
    assert "type `--duration '10 epochs'` in its place" in here("train", "ddpm", "--set", "epochs=10").err
    assert "type `--batch 32` in its place" in here("train", "ddpm", "--set", "train.batch_size=32").err


def test_a_guess_is_answered_before_torch_or_pydantic_is_loaded(tmp_path: Path) -> None:
    code = "import sys; sys.argv = ['animegen', 'train', 'gan', '--lr', '1e-4']\nfrom animegen_cli.cli import main\ntry: main()\n"
    code += "finally: assert 'torch' not in sys.modules and 'pydantic' not in sys.modules"
    ended = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "optim.G.lr" in ended.stderr
    assert "AssertionError" not in ended.stderr
