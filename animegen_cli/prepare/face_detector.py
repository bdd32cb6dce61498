"""Finds anime faces in a picture: a small convolutional network over a pyramid of reduced pictures, in numpy.

The network sees every face at the same size, 9 to 25 pixels: a picture whose longer side has more than 768 pixels is
reduced to that, and then by halves, and each level answers for one octave of sizes. So it can be small (148,000
weights, 0.3 MB), and faces of 64 pixels are enough to train it. At each cell of 8 x 8 pixels it gives a score, the
place of the middle and the side of the face, as in CenterNet (Zhou et al., "Objects as Points", arXiv:1904.07850).

It runs in the workers of `prepare`, beside the decoding, so detection scales with the processes. These import numpy and
Pillow alone: torch would add 200 MB to each of them. A convolution is one matrix product for some rows at a time, so
that its windows stay in the cache.

The weights were trained by `benchmarks/make_face_detector.py` on scenes of drawn faces and of faces that trained runs
drew.
"""

from __future__ import annotations

import itertools
import math
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
from PIL import Image

from animegen_cli.errors import MachineError

if TYPE_CHECKING:
    from collections.abc import Sequence

WEIGHTS = Path(__file__).with_name("face_detector.npz")
"""The weights file, which lies beside this module: float16 arrays by layer."""
LARGEST = 768
"""The longer side in pixels to which a larger picture is reduced first."""
STRIDE = 8
"""Pixels a side of the cells that the network answers for."""
UNIT = 16.0
"""The side in pixels of a face whose logarithm of size the network gives as 0."""
THRESHOLD = 0.72
"""The score from which on something is a face."""
CLOSE_UP = 0.4
"""The share of a picture's shorter side from which on a face is its subject."""
CLOSE_UP_BONUS = 0.1
"""By how much less is asked of such a face: a picture has few places for it, so that few of them look like one by chance."""

LAYERS: dict[str, tuple[int, int, int, int]] = {
    "stem": (3, 24, 6, 4),
    "down1": (24, 40, 3, 2),
    "near1": (40, 40, 3, 1),
    "down2": (40, 56, 3, 2),
    "far1": (56, 56, 3, 1),
    "far2": (56, 56, 3, 1),
    "far3": (56, 56, 3, 1),
    "lift": (56, 40, 1, 1),
    "near2": (40, 40, 3, 1),
    "head": (40, 4, 1, 1),
}
"""Convolutions: channels in, channels out, side of the kernel, stride."""
_STEPS = 2  # levels of the pyramid in an octave
_COARSEST = 16  # every side of what the network sees is a multiple of this
_MARGIN = 16  # pixels of the mean color around a picture, so that faces at its edge are seen whole
_GRAY = 128  # what is beyond that: 0 of -1..1, nearly
_ROWS = 4096  # windows in one matrix product: they and the result stay in the cache
_OVERLAP = 0.3  # boxes that overlap more are one face
_INSIDE = 0.6  # share of the smaller box inside the larger from which on they are one face
_FAINT = 0.2  # the least score of a box that counts for a face beside a surer one
_AGREE = 0.45  # boxes that overlap the surest one of a face by more agree with it
_MANY = 0.4  # how much the logit of a face grows with the logarithm of the number of boxes that agree
_PART = 0.33  # a box of less than this share of a face's side may be its eye or earring
_BESIDE = 1.6  # the square around a face, in its sides, in which such boxes are left out


class Box(NamedTuple):
    """A face in pixels of the picture, from above the brows to the chin: x to the right and y down."""

    left: float
    top: float
    right: float
    bottom: float
    score: float
    """How sure the detector is, in 0..1."""


Weights: TypeAlias = dict[str, tuple[np.ndarray, np.ndarray]]
"""For each layer of `LAYERS` its matrix (k * k * in, out) and its bias (out,)."""


def detect(image: Image.Image, *, threshold: float = THRESHOLD, weights: Weights | None = None) -> list[Box]:
    """Find the faces of a picture.

    Args:
        image: RGB, of any size.
        threshold: the least score; less by `CLOSE_UP_BONUS` for a close-up.
        weights: those of the package by default.

    Returns:
        Boxes, the surest first.

    Raises:
        MachineError: the weights of the package are missing or broken.
    """
    weights = weights or _weights()
    found = []
    whole = min(1.0, LARGEST / max(image.size))
    below = image  # the last level that was made by a whole halving
    for step in itertools.count():
        scale = whole / 2 ** (step / _STEPS)
        if 0 < step < _STEPS:
            continue  # the finest levels cost most
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        level = below.resize(size, Image.Resampling.BOX, reducing_gap=1.0) if size != below.size else below
        if step % _STEPS == 0:
            below = level
        found.append(_boxes_of_level(level, image.size, weights))
        if max(size) <= 40:  # the largest face that a coarser level could answer for has been seen
            break
    faces = merged(np.concatenate(found))
    close = faces[:, 2] - faces[:, 0] >= CLOSE_UP * min(image.size)
    return without_parts([Box(*row) for row in faces[faces[:, 4] >= threshold - CLOSE_UP_BONUS * close].tolist()])


def without_parts(boxes: list[Box]) -> list[Box]:
    """Leave out eyes, earrings and collars: boxes much smaller than that of a surer face, in it or right beside it."""
    kept: list[Box] = []
    for box in boxes:
        side, x, y = box.right - box.left, box.left + box.right, box.top + box.bottom
        if not any(
            side < _PART * (face.right - face.left)
            and max(abs(x - face.left - face.right), abs(y - face.top - face.bottom))
            < _BESIDE * (face.right - face.left)
            for face in kept
        ):
            kept.append(box)
    return kept


def _boxes_of_level(level: Image.Image, size: tuple[int, int], weights: Weights) -> np.ndarray:
    """Boxes of one reduced picture in pixels of the whole one, (n, 5); several for each face."""
    answer = forward(_padded(level), weights)
    logit = answer[..., 0]
    rows, columns = np.nonzero(logit >= math.log(_FAINT / (1 - _FAINT)))
    dx, dy, log_side = answer[rows, columns, 1:].T
    across, down = size[0] / level.width, size[1] / level.height
    x = ((columns + 0.5 + dx) * STRIDE - _MARGIN) * across
    y = ((rows + 0.5 + dy) * STRIDE - _MARGIN) * down
    half = UNIT * np.exp(log_side.clip(-2, 2)) / 2
    score = 1 / (1 + np.exp(-logit[rows, columns]))
    boxes = np.stack([x - half * across, y - half * down, x + half * across, y + half * down, score], 1)
    inside = (x > 0) & (x < size[0]) & (y > 0) & (y < size[1])
    return boxes[inside].astype(np.float32)


def _padded(level: Image.Image) -> np.ndarray:
    """The picture with its mean color around it, uint8 (H, W, 3), sides multiples of 16."""
    width, height = (-(-(side + 2 * _MARGIN) // _COARSEST) * _COARSEST for side in level.size)
    mean = level.resize((1, 1), Image.Resampling.BOX, reducing_gap=1.0).getpixel((0, 0))
    out = Image.new("RGB", (width, height), mean)  # quicker than numpy fills three channels
    out.paste(level, (_MARGIN, _MARGIN))
    return np.asarray(out)


def forward(x: np.ndarray, weights: Weights) -> np.ndarray:
    """Run the network on one picture.

    Args:
        x: uint8 (H, W, 3), sides multiples of 16.
        weights: those of each layer.

    Returns:
        float32 (H / 8, W / 8, 4): the logit of the score, the place of the middle from the cell's own in cells, and the
        logarithm of the side over `UNIT`.
    """

    def conv(x: np.ndarray, name: str, *, relu: bool = True) -> np.ndarray:
        _, _, kernel, stride = LAYERS[name]
        return convolve(x, *weights[name], kernel, stride, relu=relu)

    matrix, bias = weights["stem"]  # of the picture in -1..1, so zeros around it are gray
    _, _, kernel, stride = LAYERS["stem"]
    x = convolve(x, matrix / 127.5, bias - matrix.sum(0), kernel, stride, edge=_GRAY, relu=True)
    x = conv(x, "down1")
    x += conv(x, "near1")
    far = conv(x, "down2")
    far += conv(far, "far1")
    far += conv(far, "far2")
    far += conv(far, "far3")
    lifted = conv(far, "lift", relu=False)
    height, width, channels = lifted.shape
    x.reshape(height, 2, width, 2, channels)[:] += lifted[:, None, :, None]
    np.maximum(x, 0, out=x)
    x += conv(x, "near2")
    return conv(x, "head", relu=False)


def convolve(  # a convolution and what follows it, while its result is in the cache
    x: np.ndarray,
    matrix: np.ndarray,
    bias: np.ndarray,
    kernel: int,
    stride: int,
    *,
    edge: int = 0,
    relu: bool = False,
) -> np.ndarray:
    """Convolve (H, W, in) with `edge` around it: float32 (H / stride, W / stride, out).

    Args:
        x: the map, float32 or uint8; sides are multiples of `stride`.
        matrix: (kernel * kernel * in, out), rows in the order of the kernel's rows, columns and channels.
        bias: (out,).
        kernel: its side.
        stride: its step; (kernel - stride) is even or `stride` is 1 or 2 with a kernel of 3.
        edge: the value beyond the edges.
        relu: set what is below zero to zero.
    """
    height, width, channels = x.shape
    high, wide = height // stride, width // stride
    out = np.empty((high, wide, len(bias)), np.float32)
    if kernel == 1:
        np.matmul(x.reshape(-1, channels), matrix, out=out.reshape(-1, len(bias)))
        out += bias
        return np.maximum(out, 0, out=out) if relu else out
    before = (kernel - stride + 1) // 2 if stride > 1 else kernel // 2
    padded = np.full((height + kernel, width + kernel, channels), edge, x.dtype)
    padded[before : before + height, before : before + width] = x
    band = max(1, _ROWS // wide)
    windows = np.empty((band, wide, kernel, kernel * channels), np.float32)
    step, column, item = padded.strides
    for start in range(0, high, band):
        rows = min(band, high - start)
        view = np.lib.stride_tricks.as_strided(  # kernel neighbors in a row lie side by side in memory
            padded[start * stride :],
            (rows, wide, kernel, kernel * channels),
            (step * stride, column * stride, step, item),
            writeable=False,
        )
        np.copyto(windows[:rows], view)
        flat = out[start : start + rows].reshape(rows * wide, len(bias))
        np.matmul(windows[:rows].reshape(rows * wide, -1), matrix, out=flat)
        flat += bias
        if relu:
            np.maximum(flat, 0, out=flat)
    return out


def merged(boxes: np.ndarray) -> np.ndarray:
    """Make one box of those that show one face: (n, 5) to (faces, 5), the surest first.

    A face is seen from several cells and in two or three levels of the pyramid, a chance likeness from one. So the logit
    of the score is a third of that of the surest box and two thirds of the mean of those that agree with it, and grows
    with the logarithm of their number. The box is their mean, weighted by the square of their scores.
    """
    rows = []
    logit = np.log(boxes[:, 4] / np.maximum(1 - boxes[:, 4], 1e-6))
    for best in suppressed(boxes):
        agree = _overlaps(boxes[best], boxes) > _AGREE
        weight = boxes[agree, 4:] ** 2
        joint = (logit[best] + 2 * logit[agree].mean()) / 3 + _MANY * math.log(np.count_nonzero(agree))
        rows.append([*(boxes[agree, :4] * weight).sum(0) / weight.sum(), 1 / (1 + math.exp(-joint))])
    found = np.array(rows, np.float32).reshape(-1, 5)
    return found[np.argsort(-found[:, 4], kind="stable")]


def _overlaps(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Intersection over union of a box with each of `boxes` (n, 5)."""
    wide = np.minimum(box[2], boxes[:, 2]) - np.maximum(box[0], boxes[:, 0])
    high = np.minimum(box[3], boxes[:, 3]) - np.maximum(box[1], boxes[:, 1])
    shared = wide.clip(0) * high.clip(0)
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return shared / ((box[2] - box[0]) * (box[3] - box[1]) + area - shared)


def suppressed(boxes: np.ndarray) -> list[int]:
    """Choose the boxes (n, 5) that stay when of those that show one face only the surest does; the surest first."""
    left, top, right, bottom, score = boxes.T
    area = (right - left) * (bottom - top)
    order = np.argsort(-score, kind="stable")
    kept = []
    while len(order):
        best, order = int(order[0]), order[1:]
        kept.append(best)
        wide = np.minimum(right[best], right[order]) - np.maximum(left[best], left[order])
        high = np.minimum(bottom[best], bottom[order]) - np.maximum(top[best], top[order])
        shared = wide.clip(0) * high.clip(0)
        same = shared > _OVERLAP * (area[best] + area[order] - shared)
        same |= shared > _INSIDE * np.minimum(area[best], area[order])
        order = order[~same]
    return kept


@lru_cache(maxsize=1)
def _weights() -> Weights:
    return load_weights(WEIGHTS)


def load_weights(path: Path) -> Weights:
    """Read the matrix and the bias of each layer; MachineError when the file is missing or broken."""
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            return {
                name: (arrays[f"{name}.matrix"].astype(np.float32), arrays[f"{name}.bias"].astype(np.float32))
                for name in LAYERS
            }
    except Exception as problem:
        raise MachineError(
            f"the face detector's weights `{path.name}` cannot be read: {problem}",
            hint="install the package again: `pip install --force-reinstall animegen`",
        ) from problem


def grown(box: Sequence[float], margin: float) -> tuple[float, float, float]:
    """Give the square around a face that shows its hair: its left, its top and its side in pixels.

    Args:
        box: left, top, right, bottom.
        margin: what is added on each side, as a share of the box; the square moves up by a third of it, to the hair.
    """
    left, top, right, bottom = box[:4]
    face = max(right - left, bottom - top)
    side = face * (1 + 2 * margin)
    x, y = (left + right) / 2, (top + bottom) / 2 - face * margin / 3
    return x - side / 2, y - side / 2, side
