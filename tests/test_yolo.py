"""Detectors of the YOLO form from ONNX files: their layouts, their boxes, and files that are none."""

from __future__ import annotations

import json
import zipfile
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from pictures import command, hint_of, made, picture
from PIL import Image

from animegen_cli.errors import DataError
from animegen_cli.prepare.yolo import Detector

if TYPE_CHECKING:
    from pathlib import Path


def network(
    path: Path, answer: np.ndarray, *, size: tuple[int | str, int | str] = (640, 640), channels: int = 3,
    names: str | None = None, half: bool = False,
) -> Path:  # fmt: skip
    """Write an ONNX file that answers the same whatever it sees."""
    kind = TensorProto.FLOAT16 if half else TensorProto.FLOAT
    kept = answer.astype(np.float16 if half else np.float32)
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=0),
        helper.make_node("Sub", ["mean", "mean"], ["none"]),
        helper.make_node("Add", ["answer", "none"], ["output0"]),
    ]
    graph = helper.make_graph(
        nodes,
        "fixed",
        [helper.make_tensor_value_info("images", kind, [1, channels, *size])],
        [helper.make_tensor_value_info("output0", kind, list(answer.shape))],
        [numpy_helper.from_array(kept, "answer")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    if names is not None:
        helper.set_model_props(model, {"names": names})
    onnx.save(model, path)
    return path


def yolov5(*rows: tuple[float, ...]) -> np.ndarray:
    """(1, 25, 6): middle, size, object, class; empty rows after those given."""
    out = np.full((1, 25, 6), 0.001)
    out[0, : len(rows)] = rows
    return out


def yolov8(*rows: tuple[float, ...]) -> np.ndarray:
    """(1, 5, 25): middle, size and class down, places across."""
    return yolov5(*((*row[:4], row[4], 0) for row in rows))[:, :, :5].transpose(0, 2, 1)


FACE = (320.0, 240.0, 100.0, 80.0)  # of 640 x 640


@pytest.mark.parametrize(
    "answer",
    [
        yolov5((*FACE, 0.9, 0.95), (*FACE, 0.5, 0.9), (100, 100, 50, 50, 0.1, 0.9)),
        yolov8((*FACE, 0.855), (322, 241, 100, 80, 0.6), (100, 100, 50, 50, 0.1)),
        np.array([[[270, 200, 370, 280, 0.855, 0], [100, 100, 120, 120, 0.02, 0]] + 20 * [[0, 0, 0, 0, 0, 0]]]),
    ],
    ids=["v5", "v8", "end-to-end"],
)
def test_each_layout_gives_the_box_in_pixels_of_the_picture(answer: np.ndarray, tmp_path: Path) -> None:
    detector = Detector(network(tmp_path / "face.onnx", answer))
    (box,) = detector.detect(picture(0, (1280, 640)))  # letterboxed: half as large, 160 rows of gray above
    np.testing.assert_allclose(box, (540, 80, 740, 240, 0.855), atol=0.01)


def test_a_network_of_any_size_and_half_precision_is_run(tmp_path: Path) -> None:
    path = network(tmp_path / "face.onnx", yolov8((*FACE, 0.9)), size=("height", "width"), half=True)
    (box,) = Detector(path).detect(picture(0, (320, 320)))
    np.testing.assert_allclose(box, (135, 100, 185, 140, 0.9), atol=0.01)


def test_of_several_classes_only_faces_count(tmp_path: Path) -> None:
    rows = yolov8((*FACE, 0.2), (100, 100, 50, 50, 0.9))
    rows = np.concatenate([rows, 1 - rows[:, 4:]], 1)
    rows[0, 5, 2:] = 0  # the second class is sure of the first place only
    for names, left in (("{0: 'body', 1: 'Face'}", 270), ("['face', 'body']", 75)):
        (box,) = Detector(network(tmp_path / f"{left}.onnx", rows, names=names)).detect(picture(0, (640, 640)))
        assert round(box.left) == left


@pytest.mark.parametrize(
    ("said", "options", "shape"),
    [
        ("its answer is", {}, (1, 1000)),
        ("its answer is", {}, (1, 64, 4)),
        ("not one RGB picture", {"channels": 1}, (1, 5, 25)),
        ("no faces", {"names": "{0: 'person', 1: 'bicycle', 2: 'car'}"}, (1, 7, 25)),
    ],
)
def test_a_network_that_is_no_detector_of_faces_is_refused(
    said: str, options: dict[str, object], shape: tuple[int, ...], tmp_path: Path
) -> None:
    path = network(tmp_path / "other.onnx", np.zeros(shape), **options)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=said) as caught:
        Detector(path)
    assert "YOLO" in hint_of(caught.value)


def test_a_file_that_is_no_network_is_refused_before_any_picture_is_read(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    picture(0, (300, 200)).save(tmp_path / "in" / "a.png")
    (tmp_path / "best.onnx").write_bytes(b"no network at all")
    done = command("in", "--faces", "--detector", "best.onnx", cwd=tmp_path)
    assert done.returncode == 3
    assert "best.onnx is no ONNX network" in done.stderr
    assert not (tmp_path / "datasets" / "in-64.zip").exists()
    assert command("in", "--faces", "--detector", "none.onnx", cwd=tmp_path).returncode == 3


def test_prepare_cuts_what_the_detector_finds(tmp_path: Path, quiet: None) -> None:
    path = network(tmp_path / "face.onnx", yolov8((200, 320, 160, 160, 0.9), (500, 320, 80, 80, 0.8)))
    (tmp_path / "in").mkdir()
    halves = Image.new("RGB", (640, 640), (200, 40, 40))
    halves.paste((40, 40, 200), (350, 0, 640, 640))
    halves.save(tmp_path / "in" / "halves.png")
    kept = made(tmp_path / "in", tmp_path / "out.zip", faces=True, detector=str(path), margin=0.25)
    red, blue = kept.pixels(range(2))
    assert (red == (200, 40, 40)).all()
    assert (blue == (40, 40, 200)).all()
    with zipfile.ZipFile(kept.path) as archive:
        about = json.loads(archive.read("manifest.json"))
    assert about["faces"] == [{"box": [120, 240, 280, 400], "score": 0.9}, {"box": [460, 280, 540, 360], "score": 0.8}]
    assert about["cut"]["detector"] == "face.onnx"
