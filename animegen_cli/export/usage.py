"""The Python program that a model card shows: it draws with the files beside it, without animegen."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from animegen_cli.model.family import DiffusersModel, Exported

_HEAD = """
import json

import numpy as np
import onnxruntime

about = json.load(open("pipeline.json"))
"""

_TAIL = """
pixels = ((images.clip(-1, 1) + 1) * 127.5).round().astype(np.uint8).transpose(0, 2, 3, 1)
"""

_DENOISE = """
denoiser, recipe, count = onnxruntime.InferenceSession("denoiser.onnx"), about["recipe"], 4
x = np.random.default_rng(0).standard_normal((count, 3, SIZE, SIZE), np.float32) * recipe["start"]
LABELS
for now, then in zip(recipe["sigmas"], recipe["sigmas"][1:]):
    (clean,) = denoiser.run(None, {"x": x, "sigma": np.full(count, now, np.float32)GIVEN})
    x = clean + (x - clean) * (then / now)  # DDIM; other samplers use the same denoiser
images = x * np.reshape(recipe["std"], (3, 1, 1)) + np.reshape(recipe["mean"], (3, 1, 1))
"""

_GENERATE = """
network, count, random, given = about["networks"][0], 4, np.random.default_rng(0), {}
for entry in network["inputs"]:
    shape = [count, *entry["shape"][1:]]
    if entry["kind"] == "labels":
        given[entry["name"]] = REQUESTED
    elif entry["kind"] == "noise":
        given[entry["name"]] = random.standard_normal(shape, np.float32) * np.float32(entry["scale"])
    else:
        given[entry["name"]] = np.full(shape, entry["scale"], np.float32)
(images,) = onnxruntime.InferenceSession(network["file"]).run(None, given)
"""

_UNKNOWN = 'np.full(shape, -1)  # unknown; else places in the lists of about["labels"]'
_AS_TRAINED = 'random.choice(entry["rows"], count)  # as in the training set: places in the lists of about["labels"]'

_TRANSLATE = """
network = about["networks"][0]  # every translation has a file of its own
picture = np.zeros((1, 64, 96, 3), np.uint8)  # yours; height and width multiples of 8
given = picture.transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1
(images,) = onnxruntime.InferenceSession(network["file"]).run(None, {"image": given})
"""


def onnx(exported: Exported, *, size: int) -> str:
    """A program for onnxruntime and numpy alone, which leaves `pixels`, uint8 (n, H, W, 3).

    Args:
        exported: the networks and the recipe of the run.
        size: height and width of its images in pixels.
    """
    first = exported.networks[0]
    kinds = {tensor.kind for tensor in first.inputs.values()}
    if "level" in kinds:
        width = len(exported.labels)
        labels = (
            f'labels = np.full((count, {width}), -1)  # unknown; else places in the lists of about["labels"]\n'
            if width
            else ""
        )
        body = _DENOISE.replace("SIZE", str(size)).replace("LABELS\n", labels)
        body = body.replace("GIVEN", ', "labels": labels' if width else "")
    else:
        rows = any(tensor.rows for tensor in first.inputs.values())
        generate = _GENERATE.replace("REQUESTED", _AS_TRAINED if rows else _UNKNOWN)
        body = _TRANSLATE if "image" in kinds else generate
    return (_HEAD + body + _TAIL).strip().replace("\n\n\n", "\n\n")


def diffusers(model: DiffusersModel, *, size: int, values: Sequence[str]) -> str:
    """A program for diffusers, which leaves `images`: PIL pictures or, with classes, a tensor (n, 3, H, W) in [-1, 1].

    Args:
        model: the contents of the diffusers folder.
        size: height and width of its images in pixels.
        values: the values of its label in the order of the classes 1, 2, ...
    """
    arguments = ", ".join(f"{key}={value!r}" for key, value in model.options.items())
    if not model.labels:
        return f"""
from diffusers import {model.pipeline}

pipeline = {model.pipeline}.from_pretrained(".")
images = pipeline(batch_size=4, {arguments}).images
"""
    scheduler = model.scheduler["_class_name"]
    options = {key: value for key, value in model.options.items() if key != "num_inference_steps"}
    return f"""
import torch
from diffusers import {scheduler}, UNet2DModel

unet = UNet2DModel.from_pretrained("unet")
scheduler = {scheduler}.from_pretrained("scheduler")
classes = torch.tensor([0, 1, 1, 1])  # 0 unknown{_class_names(values)}
images = torch.randn(4, 3, {size}, {size}, generator=torch.manual_seed(0))
scheduler.set_timesteps({model.options["num_inference_steps"]})
with torch.no_grad():
    for time in scheduler.timesteps:
        noise = unet(images, time, class_labels=classes).sample
        images = scheduler.step(noise, time, images{_extra_arguments(options)}).prev_sample
"""


def _class_names(values: Sequence[str]) -> str:
    """The rest of a comment that names the classes: `, 1 pink, 2 black`."""
    return "".join(f", {number} {value}" for number, value in enumerate(values, 1))


def _extra_arguments(options: Mapping[str, object]) -> str:
    """Arguments after the first ones of a call: `, eta=0.0`."""
    return "".join(f", {key}={value!r}" for key, value in options.items())
