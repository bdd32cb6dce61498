"""Runs a face detector of the YOLO form from an ONNX file: what `--detector` names.

The field's detectors of anime faces are YOLOv5 and YOLOv8 networks that Ultralytics' tools export. They see one
letterboxed RGB picture in 0..1 and answer in one of three layouts, which are told by their shapes:

- (1, N, 5 + classes), YOLOv5: middle, width, height, chance of an object, chance of each class;
- (1, 4 + classes, N), YOLOv8 and later: middle, width, height, chance of each class;
- (1, N, 6) with whole numbers in the last column, an end-to-end export: two corners, score, class.
"""

from __future__ import annotations

import ast
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from animegen_cli.errors import DataError, MachineError
from animegen_cli.prepare.face_detector import Box, suppressed

if TYPE_CHECKING:
    from collections.abc import Mapping

THRESHOLD = 0.35
"""The score from which on something is a face."""
_SIDE = 640  # pixels a side where the network takes any size
_GRAY = 114  # what YOLO pictures are padded with
_HINT = "name the ONNX export of a YOLOv5 or YOLOv8 detector of faces, or leave `--detector` out"


class Detector:
    """An opened detector file."""

    def __init__(self, path: Path) -> None:
        """Open the ONNX file at `path`.

        Raises:
            MachineError: onnxruntime is not installed.
            DataError: the file is missing, no ONNX network, or one that is no detector.
        """
        try:
            import onnxruntime
        except ImportError:
            raise MachineError("onnxruntime is not installed", hint="`pip install 'animegen[onnx]'`") from None
        self._path = path
        if not path.is_file():
            raise DataError(f"there is no detector {path}", hint=_HINT)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1  # the workers share the cores
        options.log_severity_level = 4
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as problem:  # onnxruntime has one class for each of its codes, and no base of its own
            raise DataError(f"{path} is no ONNX network: {_first_line(problem)}", hint=_HINT) from None
        inputs = self._session.get_inputs()
        shape = list(inputs[0].shape) if inputs else []
        kind = inputs[0].type if inputs else ""
        if len(inputs) != 1 or len(shape) != 4 or shape[1] != 3 or kind not in ("tensor(float)", "tensor(float16)"):
            raise self._no_detector(f"its input is {kind} {shape}, not one RGB picture")
        self._input = inputs[0].name
        self._type = np.float16 if kind.endswith("16)") else np.float32
        self._size = tuple(side if isinstance(side, int) and side > 0 else _SIDE for side in shape[2:])
        self._classes = self._face_classes(self._session.get_modelmeta().custom_metadata_map)
        self._rows(self._answer(np.zeros((1, 3, *self._size), self._type)))  # an answer that is no boxes is refused now

    def detect(self, image: Image.Image, *, threshold: float = THRESHOLD) -> list[Box]:
        """Find the faces of an RGB picture of any size with scores of `threshold` and more, the surest first."""
        height, width = self._size
        scale = min(width / image.width, height / image.height)
        inner = image.resize(
            (max(1, round(image.width * scale)), max(1, round(image.height * scale))),
            Image.Resampling.BILINEAR,
            reducing_gap=3,
        )
        left, top = (width - inner.width) // 2, (height - inner.height) // 2
        canvas = Image.new("RGB", (width, height), (_GRAY, _GRAY, _GRAY))
        canvas.paste(inner, (left, top))
        pixels = (np.asarray(canvas, np.float32) / 255).transpose(2, 0, 1)[None].astype(self._type)
        rows = self._rows(self._answer(pixels))
        rows = rows[rows[:, 4] >= threshold]
        rows[:, :4] = (rows[:, :4] - (left, top, left, top)) / scale
        rows[:, 0:4:2] = rows[:, 0:4:2].clip(0, image.width)
        rows[:, 1:4:2] = rows[:, 1:4:2].clip(0, image.height)
        rows = rows[(rows[:, 2] > rows[:, 0]) & (rows[:, 3] > rows[:, 1])]
        return [Box(*row) for row in rows[suppressed(rows)].tolist()]

    def _answer(self, pixels: np.ndarray) -> np.ndarray:
        try:
            answer = self._session.run(None, {self._input: pixels})[0]
        except Exception as problem:
            raise DataError(f"{self._path} cannot be run: {_first_line(problem)}", hint=_HINT) from None
        return np.asarray(answer)

    def _rows(self, answer: np.ndarray) -> np.ndarray:
        """Corners in pixels of the network's picture, and the score: float32 (n, 5)."""
        if answer.ndim != 3 or answer.shape[0] != 1 or min(answer.shape[1:]) < 5:
            raise self._no_detector(f"its answer is {list(answer.shape)}")
        rows = answer[0].astype(np.float32)
        transposed = rows.shape[0] < rows.shape[1]  # there are more places than numbers for each
        if transposed:
            rows = rows.T
        elif rows.shape[1] < 6:
            raise self._no_detector(f"its answer is {list(answer.shape)}")
        if not transposed and rows.shape[1] == 6 and _corners(rows):
            if self._classes is not None:
                rows = rows[np.isin(rows[:, 5].astype(int), self._classes)]
            return np.ascontiguousarray(rows[:, :5])
        scores = rows[:, 4:] if transposed else rows[:, 5:] * rows[:, 4:5]
        if self._classes is not None:
            if max(self._classes) >= scores.shape[1]:
                raise self._no_detector(f"it names {max(self._classes) + 1} classes and has {scores.shape[1]}")
            scores = scores[:, self._classes]
        half = rows[:, 2:4] / 2
        return np.concatenate([rows[:, :2] - half, rows[:, :2] + half, scores.max(1, keepdims=True)], 1)

    def _face_classes(self, about: Mapping[str, str]) -> list[int] | None:
        """The numbers of the classes that are faces; None where the file does not tell them apart."""
        try:
            names: Any = ast.literal_eval(about.get("names", ""))
            named = dict(names if isinstance(names, dict) else enumerate(names))
        except (ValueError, SyntaxError, TypeError):
            return None
        if len(named) < 2:
            return None
        faces = [int(number) for number, name in named.items() if "face" in str(name).lower()]
        if not faces:
            some = ", ".join(map(str, list(named.values())[:4]))
            raise self._no_detector(f"it finds {some}, ... and no faces")
        return faces

    def _no_detector(self, why: str) -> DataError:
        return DataError(f"{self._path} is no detector of the YOLO form: {why}", hint=_HINT)


@lru_cache(maxsize=1)
def opened(path: str) -> Detector:
    """Open a detector once in each process; the errors are those of `Detector`."""
    return Detector(Path(path))


def _corners(rows: np.ndarray) -> bool:
    """Whether the rows are two corners, a score and the number of a class."""
    ordered = (rows[:, 2] >= rows[:, 0]).all() and (rows[:, 3] >= rows[:, 1]).all()
    return bool(ordered and (rows[:, 5] == np.round(rows[:, 5])).all())


def _first_line(problem: Exception) -> str:
    return str(problem).strip().splitlines()[0] if str(problem).strip() else type(problem).__name__
