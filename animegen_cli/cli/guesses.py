"""What people type who know other programs, and what it is called here."""

from __future__ import annotations

import re
import shlex
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from animegen_cli import paths

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

VALUE, OPTIMIZER = "{}", "{optimizer}"
"""In an answer: the value that was typed, and each optimizer of the family in turn."""

_DEVICE = {"cpu": "--device cpu", "gpu cuda use-gpu use-cuda": "--device cuda", "mps": "--device mps"}
_OUT = {
    "o output output-dir outdir out-dir output-path save-dir save-path result-dir results-dir results dest": "--out {}"
}
_RUN = {
    "run model model-path network checkpoint checkpoint-path ckpt ckpt-path weights pretrained load resume-from": "{}"
}
_COUNT = {"num num-samples num-images num-fake n-samples nsamples samples count number images": "--n {}"}
_DATA = {"dataset data-dir data-path data-root dataroot train-data train-dir dataset-path": "--data {}"}
_BATCH = {"b batch-size bs bsz train-batch-size": "--batch {}"}
_LABELS = {"class class-label class-labels label cond prompt": "--labels {}"}

_TRAIN = {
    "lr learning-rate lrate": "--set optim.{optimizer}.lr={}",
    "optimizer optim": "--set optim.{optimizer}.name={}",
    "weight-decay wd": "--set optim.{optimizer}.weight_decay={}",
    "grad-clip clip clip-grad max-grad-norm gradient-clip": "--set optim.{optimizer}.clip={}",
    "lr-scheduler scheduler lr-schedule": "--set optim.{optimizer}.schedule={}",
    "warmup warmup-steps lr-warmup-steps": "--set optim.{optimizer}.warmup={}steps",
    "e epochs epoch num-epochs n-epochs max-epochs niter": "--duration {}epochs",
    "steps iterations iters iter num-steps num-iterations num-train-steps train-steps": "--duration {}steps",
    "max-steps max-iters max-iterations total-steps total-iters": "--duration {}steps",
    "kimg total-kimg": "--duration {}kimages",
    "num-images total-images nimg": "--duration {}images",
    "time max-time time-limit": "--budget {}",
    "hours": "--budget {}hours",
    "minutes": "--budget {}min",
    "image-size img-size size resolution res image-resolution imsize": "--set size={}",
    "gpus num-gpus ngpus n-gpus nproc-per-node processes num-processes world-size": "--nproc {}",
    "gradient-accumulation-steps accumulation-steps accum": "--parts {}",
    "name exp-name experiment run-name": "--out runs/{}",
    "resume-from checkpoint ckpt continue load load-checkpoint": "--resume {}",
    "pretrained weights finetune transfer from init": "--init-from {}",
    "ema ema-decay": "--set train.ema.decay={}",
    "fp16 bf16 amp mixed-precision half": "--set train.precision=bf16",
    "fp32": "--set train.precision=fp32",
    "compile torch-compile": "--set train.compile=true",
    "workers num-workers n-workers dataloader-workers j": "--set train.workers={}",
    "channels base-channels dim num-channels model-channels": "--set model.channels={}",
    "dropout": "--set model.dropout={}",
    "z-dim latent-dim nz latent-size": "--set model.latent={}",
    "cond conditional class-cond labels": "--set model.labels=all",
    "flip mirror hflip horizontal-flip random-flip": "--set augment.flip=true",
    "log-interval log-freq log-every print-freq logging-steps": "--set train.log_every={}steps",
    "sample-interval sample-every sample-freq preview-every snap": "--set train.preview_every={}steps",
    "save-interval save-freq checkpoint-interval checkpointing-steps ckpt-every save-steps": "--save-every {}steps",
    "cfg config-file config-path yaml settings": "--config {}",
    "family model arch architecture method": "{}",
    "random-seed manual-seed": "--seed {}",
    "n": "--dry-run",
    "loggers log-with report-to tracker trackers": "--logger {}",
    "wandb use-wandb": "--logger wandb", "tensorboard use-tensorboard tb": "--logger tensorboard",
    "mlflow": "--logger mlflow", "csv": "--logger csv",
}  # fmt: skip
_SAMPLE = {
    "seed random-seed": "--seeds {}",
    "cfg cfg-scale guidance-scale guidance-weight w scale": "--guidance {}",
    "psi trunc truncation-psi": "--truncation {}",
    "num-steps sampling-steps ddim-steps num-inference-steps inference-steps timesteps": "--steps {}",
    "scheduler method solver": "--sampler {}",
    "temp": "--temperature {}",
    "rows cols columns nrow make-grid": "--grid",
    "animation animate": "--gif",
    "mp4": "--video",
    "variation variations variation-seed subseed more-like": "--vary {}",
    "variation-amount variation-strength subseed-strength": "--amount {}",
    "ext extension image-format": "--format {}",
}  # fmt: skip
_EVAL = {
    "metric fid-type": "--metrics {}",
    "fid": "--metrics fid", "kid": "--metrics kid", "inception-score is": "--metrics is", "recall": "--metrics recall",
    "precision-recall prc": "--metrics precision --metrics recall",
    "ref reference reference-dir real reals real-dir real-path": "--data {}",
    "fake fake-dir gen generated path": "{}",
    "seed": "--seeds {}",
}  # fmt: skip
_PREPARE = {
    "size image-size img-size res width height": "--resolution {}",
    "input source src data dataset images input-dir": "{}",
    "transform": "--fit {}", "center-crop": "--fit crop",
    "val-split train-split test-split split-ratio": "--split {}",
    "annotations csv labels-file": "--labels {}",
    "max-images num-images n": "--limit {}",
    "deduplicate dedup": "--dedupe near",
    "face-crop crop-faces detect": "--faces",
    "seeds": "--seed {}",
}  # fmt: skip
_TRANSLATE = {
    "input source src images image": "{}", "direction": "--reverse", "denoising-strength": "--strength {}",
    "seeds": "--seed {}", "resolution res image-size img-size": "--size {}",
}  # fmt: skip
_DEMO = {"resolution res image-size img-size pixels": "--size {}"}
_COMPARE = {"runs run models": "{}", "preset config": "--study {}", "sort-by order": "--sort {}"}

GUESSES: dict[str, tuple[Mapping[str, str], ...]] = {
    "train": (_TRAIN, _BATCH, _OUT, _DATA, _DEVICE),
    "sample": (_SAMPLE, _COUNT, _RUN, _BATCH, _OUT, _LABELS, _DEVICE),
    "eval": (_EVAL, _COUNT, _RUN, _BATCH, _OUT, _DATA, _DEVICE),
    "prepare": (_PREPARE, _OUT),
    "demo": (_DEMO, _OUT, _DEVICE),
    "translate": (_TRANSLATE, _RUN, _OUT, _DEVICE),
    "compare": (_COMPARE, _OUT, _DATA, _DEVICE),
    "export": ({"format type": "--to {}", "onnx": "--to onnx", "diffusers": "--to diffusers"}, _RUN, _OUT, _DEVICE),
    "ui": ({"host": "--host {}"}, _DEVICE),
}
"""By command: what is typed, words of one meaning together, and what it is here; the first that fits counts."""


def corrected(command: str, words: Sequence[str], known: Sequence[str]) -> str | None:
    """Return the whole command with every guess put right; None where no word of it is a guess.

    Args:
        command: a name of `GUESSES`.
        words: what was typed, without `animegen`.
        known: the options that the command has.
    """
    right: list[str] = []
    found, rest = False, list(words)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        answer = None if name in known or not name.startswith("-") else _answer(command, name)
        if answer is None:
            right.append(word)
            continue
        found = True
        if not equals and rest and (VALUE in answer or _is_switch(rest[0])) and not rest[0].startswith("--"):
            value = rest.pop(0)
        right += _written(answer, value or "N", words)
    return shlex.join(["animegen", *_fitting(command, right)]) if found else None


def _fitting(command: str, words: list[str]) -> list[str]:
    """The words as the command takes them together: pictures that stand alone after `train` are its data, and of a count and
    a first seed `sample` takes both as seeds."""
    if command == "train":
        alone = [not before.startswith("-") and Path(word).is_file() for before, word in pairwise(["", *words])]
        return [
            new for word, is_data in zip(words, alone, strict=True) for new in (["--data", word] if is_data else [word])
        ]
    if command == "sample" and "--n" in words and "--seeds" in words:
        count, first = (words[words.index(name) + 1 :][:1] for name in ("--n", "--seeds"))
        if all(value and value[0].isdigit() for value in (count, first)):
            place = words.index("--n")
            words = words[:place] + words[place + 2 :]
            words[words.index("--seeds") + 1] = f"{first[0]}-{int(first[0]) + int(count[0]) - 1}"
    return words


def setting(path: str, value: object, words: Sequence[str]) -> str | None:
    """Return what to write for an unknown key of a config: as a line of YAML, or as an option where it is none; None for no guess.

    Args:
        path: the key with its sections, such as `train.epochs`.
        value: what it was set to.
        words: what was typed, without `animegen`.
    """
    answer = _answer("train", path.rpartition(".")[2])
    if answer is None or answer == VALUE:
        return None
    right = _written(answer, str(value), words)
    if any(word.startswith(f"{path}=") for word in words):  # it was no file that said it
        return (
            None if any(word.startswith(f"{path}=") for word in right) else f"type `{shlex.join(right)}` in its place"
        )
    lines = []
    for option, meant in zip(right[::2], [*right[1::2], ""], strict=False):
        key, _, number = meant.partition("=") if option == "--set" else (_key(option), "", meant)
        if not key:
            return f"type `{shlex.join(right)}`: it is an option of the command and no key"
        if key == path:
            return None
        *sections, last = key.split(".")
        line = f"{last}: {number}"
        for section in reversed(sections):
            line = f"{section}: {{{line}}}"
        lines.append(f"`{line}`")
    return f"write {' and '.join(lines)}"


def _key(option: str) -> str:
    """The key of a config that an option of `train` is; empty where it is none."""
    from animegen_cli.train.request import FLAGS

    name = option.removeprefix("--").replace("-", "_")
    return f"train.{name}" if name in FLAGS else name if name == "data" else ""


COMMANDS = {
    "runs compare": "compare", "runs delete": "runs rm", "runs remove": "runs rm", "runs ls": "runs list", "runs info": "runs show",
    "runs size": "runs du", "studies run": "compare --study", "studies show": "studies list", "generate": "sample",
    "evaluate": "eval", "score": "eval", "fid": "eval", "resume": "train --resume", "preprocess": "prepare",
}  # fmt: skip
"""Commands that do not exist, and the beginning of the line that does what they would."""


def command(words: Sequence[str]) -> str | None:
    """Return the whole line for a command that does not exist; None where its name is no guess.

    Args:
        words: what was typed, without `animegen`.
    """
    for count in (2, 1):
        answer = COMMANDS.get(" ".join(words[:count]))
        if answer is not None:
            return shlex.join(["animegen", *answer.split(), *words[count:]])
    return None


def _answer(command: str, name: str) -> str | None:
    guess = name.lstrip("-").lower().replace("_", "-")
    for table in GUESSES.get(command, ()):
        for words, answer in table.items():
            if guess in words.split():
                return answer
    return None


def _is_switch(word: str) -> bool:
    """Whether a word is the value of an option that has none here, such as the 0 of `--gpu 0`."""
    return bool(re.fullmatch(r"\d+|true|false|yes|no|on|off", word.lower()))


_COUNTED = re.compile(r"\{\}(epochs|steps|images|kimages)")


def _written(answer: str, value: str, words: Sequence[str]) -> list[str]:
    """The answer as words, with the value that was typed and, where it asks for them, the family's optimizers."""
    names = _optimizers(words) if OPTIMIZER in answer else [""]
    written = []
    for name in names:
        for word in answer.split():
            counted = _COUNTED.sub(lambda unit: _amount(value, unit[1]), word.replace(OPTIMIZER, name))
            written.append(counted.replace(VALUE, value))
    return written


def _amount(value: str, unit: str) -> str:
    """A number with its unit, such as `10 epochs`; words that have a unit stay as they are."""
    if not re.fullmatch(r"[\d_.]+[kM]?|N", value):
        return value
    return f"{value}k images" if unit == "kimages" else f"{value} {unit}"


def _optimizers(words: Sequence[str]) -> list[str]:
    """The sections `optim` of the family that the words name, as one of its presets lists them."""
    import yaml

    families = set(paths.families())
    family = next((word.lower() for word in words[1:] if word.lower() in families), None)
    if family is None:
        return ["model"]
    files = dict(reversed(paths.preset_files(family)))  # of two of one name the one that comes with the family
    file = files.get("fast", next(iter(files.values()), None))
    found = yaml.safe_load(file.read_text(encoding="utf-8")) if file else {}
    return list(found.get("optim") or ["model"])
