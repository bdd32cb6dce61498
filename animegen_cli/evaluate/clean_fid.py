"""A reviewer's check: the same images scored with clean-fid's own code (Parmar et al. 2022), beside our numbers.

Everything is theirs, from PNG files on: decoding, resize, network, distances. They read the same weights file as we do, and
nothing is downloaded.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from animegen_cli import console, disk
from animegen_cli.errors import DataError, MachineError, UsageError
from animegen_cli.evaluate import reference
from animegen_cli.metrics.weights import FILE_NAMES, find_inception

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from torch import Tensor

    from animegen_cli.evaluate.images import ImageSet

NAME = "clean-fid"
"""The word of `--backend`."""
METRICS = ("fd", "kid")
"""What clean-fid has, in our words."""
MODES = ("clean", "legacy_tensorflow")
"""Its resizes that use this weights file; for `legacy_pytorch` it downloads another."""
_INSTALL = "type `pip install 'animegen[clean-fid]'`"


def check(subject: ImageSet, words: Sequence[str] | None) -> list[str]:
    """The metrics that both codes are to measure.

    Raises:
        UsageError: clean-fid lacks a metric, or the network is another.
        MachineError: clean-fid is not installed, or SciPy is one that it cannot work with.
    """
    _import()
    extractor = subject.extractor
    mode = extractor.resize.split("-")[0]
    if extractor.name != "inception" or mode not in MODES:
        which = extractor.name + (f":{mode}" if extractor.name == "inception" else "")
        raise UsageError(
            f"clean-fid has no network `{which}` without a download",
            hint="score with `--extractor inception` or `--extractor inception:legacy_tensorflow`",
        )
    possible = METRICS if subject.reference.moments is None else METRICS[:1]
    wrong = [word for word in words or possible if word not in possible]
    if wrong:
        raise UsageError(
            f"clean-fid has no `{wrong[0]}`" + ("" if wrong[0] not in METRICS else " against a file of moments"),
            hint="score `--metrics fid,kid`, or leave `--backend` out",
        )
    return list(words or possible)


def compare(subject: ImageSet, scores: Sequence[Mapping[str, Any]], weights: Path | None) -> dict[str, Any]:
    """Score the images of `subject` again with clean-fid.

    Args:
        subject: what was scored.
        scores: ours, as eval.json holds them: those of `METRICS` are compared.
        weights: Inception's file or its folder, see `metrics.weights.find_inception`.

    Returns:
        `backend` and `version`, and `scores`: each with `name`, `ours` and `theirs`, means over the ranges of seeds.

    Raises:
        DataError: the weights file is not the one that ours came from.
        MachineError: it is only here in a form that clean-fid cannot read.
    """
    version, fid = _import()
    mode = subject.extractor.resize.split("-")[0]
    theirs: dict[str, list[float]] = {str(score["protocol"]["metric"]): [] for score in scores}
    with tempfile.TemporaryDirectory() as folder, _quiet():
        net = _network(Path(folder), subject, weights, mode)

        def features(parts: Iterable[Tensor], name: str) -> np.ndarray:
            place = Path(folder) / name
            _write(parts, place)
            return fid.get_folder_features(
                str(place), net, num_workers=0, batch_size=32, device=subject.extractor.device, mode=mode, verbose=False
            )

        real = _real(subject, features)
        for number in range(len(subject.ranges)):
            console.note(f"clean-fid: range {number + 1} of {len(subject.ranges)}")
            drawn = features(subject.parts(number), f"drawn-{number}")
            for metric, found in theirs.items():
                found.append(distance(metric, real, drawn))
    return {
        "backend": NAME, "version": version,
        "scores": [
            {"name": score["name"], "ours": score["value"], "theirs": float(np.mean(theirs[score["protocol"]["metric"]]))}
            for score in scores
        ],
    }  # fmt: skip


def distance(metric: str, real: np.ndarray | tuple[np.ndarray, np.ndarray], drawn: np.ndarray) -> float:
    """Clean-fid's FID (`fd`) or KID (`kid`) of features (n, D); of the reals their mean and covariance may stand alone.

    Its KID takes random subsets of more than 1,000 images, which are fixed here, without a trace in other random numbers.
    """
    _, fid = _import()
    if metric == "kid":
        assert isinstance(real, np.ndarray)  # `check` refuses moments
        before = np.random.get_state()
        try:
            np.random.seed(0)
            return float(fid.kernel_distance(real, drawn))
        finally:
            np.random.set_state(before)
    if isinstance(real, np.ndarray):
        return float(fid.fid_from_feats(real, drawn))
    return float(fid.frechet_distance(drawn.mean(0), np.cov(drawn, rowvar=False), *real))


def _import() -> tuple[str, Any]:
    """Its version, and its module of distances."""
    from importlib.metadata import version

    try:
        import scipy
        from cleanfid import fid
    except ImportError:
        raise MachineError("`--backend clean-fid` needs an extra", hint=_INSTALL) from None
    if tuple(map(int, scipy.__version__.split(".")[:2])) >= (1, 18):  # `sqrtm` lost an argument that it passes
        raise MachineError(f"clean-fid cannot work with SciPy {scipy.__version__}, only below 1.18", hint=_INSTALL)
    return version("clean-fid"), fid


def _network(folder: Path, subject: ImageSet, weights: Path | None, mode: str) -> Any:  # noqa: ANN401  its own callable
    """Its network out of the file that ours came from, which it wants under one name."""
    from cleanfid.inception_torchscript import InceptionV3W

    path = find_inception(weights)
    if path.suffix == ".safetensors" or disk.sha256(path) != subject.extractor.sha:
        raise MachineError(
            f"clean-fid reads only its own `{FILE_NAMES[0]}`, not `{path.name}`",
            hint="type `animegen weights` to fetch it once (91 MB), or name it with `--weights PATH`",
        )
    (folder / FILE_NAMES[0]).symlink_to(path.resolve())
    try:
        net = InceptionV3W(str(folder), download=False, resize_inside=mode == "legacy_tensorflow")
    except RuntimeError as error:
        raise DataError(
            f"clean-fid cannot open `{path}`: {str(error).splitlines()[0]}",
            hint="type `animegen weights` for its own file",
        ) from None
    return net.to(subject.extractor.device).eval()


def _real(
    subject: ImageSet, features: Callable[[Iterable[Tensor], str], np.ndarray]
) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
    """Features of the reference, or its moments."""
    against = subject.reference
    if against.moments is not None:
        return against.moments.mean.numpy(), against.moments.covariance.numpy()
    assert against.faces is not None
    return features(reference.read(against.faces, against.split, against.size), "real")


def _write(parts: Iterable[Tensor], folder: Path) -> None:
    """Images uint8 (n, 3, H, W), some at a time, as PNG files in their order."""
    folder.mkdir()
    number = 0
    for part in parts:
        for image in part.permute(0, 2, 3, 1).numpy():
            Image.fromarray(image).save(folder / f"{number:07d}.png", compress_level=1)
            number += 1


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the lines that it prints, which would stand in `--json`, and the warnings of old PyTorch functions."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
