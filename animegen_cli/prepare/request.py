"""What `animegen prepare` was asked for, and whether its words exist. Light, as all that `prepare` imports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from animegen_cli.data import cleaning, sources
from animegen_cli.data.labels.tables import check_encoding
from animegen_cli.data.sources import PHOTOS
from animegen_cli.errors import UsageError
from animegen_cli.prepare import faces
from animegen_cli.prepare.faces import Finder

DEDUPE = ("exact", "near", "off")
"""What `--dedupe` may be."""
SHARE = 0.8
"""The share of the images that are for training, unless another is asked for."""
DRAWN = 2000
"""How many pictures the source `demo` has where there is no limit."""


@dataclass(frozen=True)
class Options:
    """What decides the bytes of the file, besides the pictures; and the number of processes, which does not.

    Raises:
        UsageError: a value is out of its range; the hint names one that is not.
    """

    size: int = 64
    """Height and width of every image in pixels, 4 to 2048."""
    fit: str = "crop"
    """How a picture becomes a square; one of `cleaning.FITS`."""
    dedupe: str = "exact"
    """Which duplicates are dropped; one of `DEDUPE`."""
    split: float | None = None
    """The share of the images that are for training, in (0, 1]; None keeps the parts that a source states, else `SHARE`."""
    labels: str | None = None
    """A table inside the source or a path, `folders`, `captions` or `none`; without it labels are looked for."""
    encoding: str | None = None
    """The encoding of tables and captions that have no byte order mark, as Python names it; None is UTF-8."""
    limit: int | None = None
    """How many images of each domain there are at most."""
    seed: int = 0
    """Which images a limit chooses, and which faces are drawn."""
    min_size: int | None = None
    """The shorter side in pixels below which a picture is dropped; half of `size` by default."""
    workers: int | None = None
    """How many processes clean pictures; by default one for each core, at most 8."""
    faces: bool | None = None
    """Whether the faces are cut out of the pictures; None leaves them and says so where most are far from square."""
    margin: float | None = None
    """What is shown around a face on each side, as a share of it, 0 to 2; by default `faces.MARGIN`."""
    detector: str | None = None
    """An ONNX file of the YOLO form that finds the faces; by default the package's own detector."""
    drop: Sequence[str] = ()
    """Which of `faces.NOTICED` are left out."""

    def __post_init__(self) -> None:
        if not 4 <= self.size <= 2048:
            raise UsageError(f"`--resolution {self.size}` is not between 4 and 2048", hint="try `--resolution 64`")
        check_encoding(self.encoding)
        for flag, value, known in (("fit", self.fit, cleaning.FITS), ("dedupe", self.dedupe, DEDUPE)):
            if value not in known:
                raise UsageError(f"`--{flag} {value}` does not exist", hint=f"choose one of {', '.join(known)}")
        if not 0 < self.share <= 1:
            raise UsageError(
                f"`--split {self.split}` is not a share of the images", hint="0.8 keeps 80 % for training, 1 all"
            )
        for flag, number in (("limit", self.limit), ("min-size", self.min_size), ("workers", self.workers)):
            if number is not None and number < 1:
                raise UsageError(f"`--{flag} {number}` is not positive", hint=f"leave `--{flag}` out for the default")
        self._check_faces()

    def _check_faces(self) -> None:
        for name in self.drop:
            if name not in faces.NOTICED:
                raise UsageError(
                    f"`--drop {name}` does not exist", hint=f"choose some of `--drop {','.join(faces.NOTICED)}`"
                )
        if self.margin is not None and not 0 <= self.margin <= 2:
            raise UsageError(f"`--margin {self.margin}` is not between 0 and 2", hint="try `--margin 0.3`")
        if self.margin is not None and not self.faces:
            raise UsageError("`--margin` is about faces that are cut out", hint="add `--faces`")
        if self.detector is not None and self.finder is None:
            raise UsageError("`--detector` has nothing to find", hint="add `--faces`, or `--drop several`")
        if self.faces and self.fit != "crop":
            raise UsageError(
                f"faces are cut out as squares, so `--fit {self.fit}` does nothing",
                hint="leave `--fit` or `--faces` out",
            )

    @property
    def share(self) -> float:
        """The share for training where no source states parts, or these are to be mixed."""
        return SHARE if self.split is None else self.split

    @property
    def recipe(self) -> cleaning.Recipe:
        """What the workers need to know."""
        smallest = self.min_size if self.min_size is not None else max(1, self.size // 2)
        return cleaning.Recipe(self.size, self.fit, smallest)

    @property
    def finder(self) -> Finder | None:
        """How faces are looked for; None where they are not."""
        if self.faces:
            return Finder(True, faces.MARGIN if self.margin is None else self.margin, self.detector)
        return Finder(False, detector=self.detector) if "several" in self.drop else None


@dataclass(frozen=True)
class Request:
    """What `animegen prepare` was asked for."""

    sources: Sequence[str]
    """Folders, archives, `kaggle:OWNER/NAME` or `demo`; the anime faces where there are photographs too."""
    out: Path | None = None
    """The file to write; by default it is named after the sources."""
    options: Options = field(default_factory=Options)
    photos: Sequence[str] = ()
    """The sources of the other domain, for translators."""

    @property
    def path(self) -> Path:
        """The file to write: `out`, or `datasets/<source>-<size>.zip`."""
        if self.out is not None:
            return self.out
        names, others = (
            [spec.rpartition("/")[2] if spec.startswith("kaggle:") else sources.stem(Path(spec)) for spec in specs]
            for specs in (self.sources, self.photos)
        )
        names += [PHOTOS if name == "demo" else name for name in others if name == "demo" or name not in names]
        return Path("datasets") / f"{'+'.join(names)}-{self.options.size}.zip"
