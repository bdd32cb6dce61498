"""`animegen eval`: the judges of runs and folders, and eval.json, which holds what they found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from animegen_cli import console, disk, paths, ranks
from animegen_cli.device import pick_device
from animegen_cli.errors import DataError, MachineError, UsageError, did_you_mean
from animegen_cli.evaluate import clean_fid, sharing
from animegen_cli.evaluate.classifier import AttributeJudge, open_extractor
from animegen_cli.evaluate.denoising import DenoisingJudge
from animegen_cli.evaluate.features import DEFAULT_METRICS, FeatureJudge
from animegen_cli.evaluate.heldout import HeldOutJudge
from animegen_cli.evaluate.images import EvaluatedRun, Folder, ImageSet
from animegen_cli.evaluate.variety import VarietyJudge
from animegen_cli.metrics.protocol import INCEPTION_NAMES, RENAMED, Protocol, parse_precision, with_current_names
from animegen_cli.metrics.weights import find_inception
from animegen_cli.paths import Run
from animegen_cli.report import page

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from animegen_cli.evaluate.judge import Judge, JudgeResult
    from animegen_cli.evaluate.request import Request
    from animegen_cli.metrics.extractors import Extractor
    from animegen_cli.ranks import Ranks

P = TypeVar("P")

IMAGE_JUDGES: tuple[Judge[ImageSet], ...] = (FeatureJudge(), VarietyJudge())
"""Those who look at images wherever they come from, in the order of their scores."""
JUDGES: tuple[Judge[EvaluatedRun], ...] = (*IMAGE_JUDGES, HeldOutJudge(), DenoisingJudge(), AttributeJudge())
"""Those who look at a run."""


def evaluate(request: Request, group: Ranks = ranks.ALONE) -> dict[str, Any]:
    """Score a run or a folder of images; the scores of a run are stored in its eval.json.

    Args:
        request: what was asked for.
        group: the processes that share drawing and features; this is the first, the others `follow.follow`.

    Returns:
        `subject`, the path that was scored; `scores`, as `score_record` makes them; `notes`, warnings for a person; with a
        backend of others `check`, what `clean_fid.compare` returns.

    Raises:
        UsageError: a metric, network or setting that does not exist, or that the subject cannot have.
        DataError: the run, its data or the reference is missing, damaged or too small.
        MachineError: the device or the network's weights are not there.
    """
    extractor = network(request, group)
    words = _words(request, extractor)
    subject = Path(request.subject) if request.subject else None
    if subject is not None and subject.exists() and not Run(subject).exists:
        found = _evaluate_images(request, Folder(subject, request, extractor, group), words)
    else:
        run = paths.open_run(request.subject, able_to=("samples", "translates"))
        console.note(f"run: {run.path}")
        found = _evaluate_run(EvaluatedRun(run, request, extractor, group), words)
    sharing.end(group)
    return found


def evaluate_through(request: Request, extractors: Sequence[str | None]) -> None:
    """Score a run through several feature networks, which look at the same images; the scores are stored in its eval.json.

    Args:
        request: what was asked for; the first network looks at all its metrics.
        extractors: the networks, as `Request.extractor` names them; further ones look at those metrics that are of features.

    Raises:
        UsageError: as of `evaluate`.
        DataError: as of `evaluate`.
        MachineError: as of `evaluate`.
    """
    subject: EvaluatedRun | None = None
    for number, spec in enumerate(extractors):
        asked = replace(request, extractor=spec)
        if number:
            known = [word for word in request.metrics or DEFAULT_METRICS if word in FeatureJudge.metrics]
            asked = replace(asked, metrics=known)
            if not known:
                return
        extractor = network(asked)
        words = _words(asked, extractor)
        if subject is None:
            run = paths.open_run(request.subject, able_to=("samples", "translates"))
            subject = EvaluatedRun(run, asked, extractor)
        else:
            subject = subject.through(extractor)
        _evaluate_run(subject, words)


def network(request: Request, group: Ranks = ranks.ALONE) -> Extractor:
    """The feature network on this process's device; errors as of `evaluate`."""
    device = ranks.gpu_of(pick_device(request.device), group)
    spec = request.extractor
    if spec is None:
        try:
            find_inception(request.weights)
            spec = "inception"
        except MachineError:
            if request.backend != "animegen" or any(_means_inception(word) for word in request.metrics):
                raise
            spec = "faces"
            console.note("network: faces (Inception's weights are not here; `animegen weights` fetches them)")
    precision = parse_precision(request.precision)
    return open_extractor(spec, device=device, precision=precision, weights=request.weights)


def _means_inception(word: str) -> bool:
    """Whether a word of `--metrics` names a score that no other network has."""
    return word in ("fid", "fid-infinity", "is") or word.endswith("-inception")


def _words(request: Request, extractor: Extractor) -> list[str] | None:
    """Metrics without their network, None where none were named; `fid` and `fid-faces` are understood as `fd`, and so
    are names that a metric once had."""
    bare = {public: metric for metric, public in INCEPTION_NAMES.items()}
    known = [word for judge in JUDGES for word in judge.metrics]
    found = []
    for word in request.metrics:
        metric = word.removesuffix(f"-{extractor.name}")
        if metric.split("-")[0] == "fid" and extractor.name != "inception":
            ours = metric.replace("fid", "fd", 1)
            raise UsageError(
                f"`{metric}` exists only on Inception; here it is `{ours}-{extractor.name}`",
                hint=f"type `--metrics {ours}`",
            )
        metric = bare.get(metric, RENAMED.get(metric, metric))
        if metric not in known:
            raise UsageError(f"no metric `{word}`", hint=did_you_mean(metric, known))
        found.append(metric)
    return found or None


def _shared(
    judges: Sequence[Judge[P]], words: list[str] | None, request: Request
) -> list[tuple[Judge[P], list[str] | None]]:
    """The judges that have something to do, each with its words; None asks for all that it measures unasked."""
    if words is None:
        return [(judge, None) for judge in judges]
    found: list[tuple[Judge[P], list[str] | None]] = []
    for judge in judges:
        chosen = [word for word in words if word in judge.metrics]
        if chosen:
            found.append((judge, chosen))
        elif request.attributes and isinstance(judge, AttributeJudge):  # whoever names a classifier wants to hear it
            found.append((judge, None))
    return found


def _protocols(judge: Judge[P], subject: P, words: list[str] | None, request: Request) -> list[Protocol]:
    """What the judge will measure; with `where_possible` without what this family cannot have."""
    if words is None or not request.where_possible:
        return judge.protocols(subject, words)
    found: list[Protocol] = []
    for word in words:
        try:
            found += judge.protocols(subject, [word])
        except UsageError as error:
            console.note(f"{word} is left out: {error.message}")
    return found


# ---- a run ----------------------------------------------------------------------------------------------------


def _evaluate_run(subject: EvaluatedRun, words: list[str] | None) -> dict[str, Any]:
    run, request = subject.run, subject.request
    if request.backend == clean_fid.NAME:
        words = clean_fid.check(subject, words)
    images = subject.trained.images
    work = [(judge, _protocols(judge, subject, chosen, request)) for judge, chosen in _shared(JUDGES, words, request)]
    stored = read_stored(run)
    known = {_key(score): score for score in stored["scores"]}
    keys = [(p.id, images, p.sampling, p.seeds) for _, protocols in work for p in protocols]
    if not request.force and all(key in known for key in keys):
        console.note(f"already scored; `animegen eval {run.path} --force` measures again")
        return _answer(request, subject, run.path, [known[key] for key in keys], [])
    notes: list[str] = []
    scores: list[dict[str, Any]] = []
    for judge, protocols in work:
        if protocols:
            result = judge.judge(subject, protocols)
            store(run, images, result, drawing=subject.drawing())
            scores += result.scores
            notes += [note for note in result.notes if note not in notes]
    page.write(run)
    if not run.finished:
        notes.append(f"the run is {run.about.get('state')}: these are scores at {images:,} images")
    return _answer(request, subject, run.path, scores, notes)


def _answer(
    request: Request, subject: ImageSet, path: Path, scores: list[dict[str, Any]], notes: list[str]
) -> dict[str, Any]:
    """What `evaluate` returns of these scores."""
    answer: dict[str, Any] = {"subject": str(path), "scores": scores, "notes": notes}
    if request.backend == clean_fid.NAME:
        answer["check"] = clean_fid.compare(subject, scores, request.weights)
    return answer


# ---- eval.json ------------------------------------------------------------------------------------------------

_LISTS = {"histograms": ("name", "by"), "requests": ("attribute", "value", "by")}
"""The lists of eval.json beside the scores -> the fields that identify an entry."""


def store(run: Run, images: int, result: JudgeResult, *, drawing: Mapping[str, Any] | None = None) -> None:
    """Put what a judge found into the run's eval.json.

    What was found before stays, unless it was found anew or on other weights.

    Args:
        run: the run.
        images: how many images its weights had seen in training.
        result: what was found on these weights.
        drawing: what drawing cost; what is stored stays when None.

    Raises:
        DataError: the file is damaged.
    """
    with disk.only_one(run.scores):  # another `eval` may measure something else of this run
        stored = read_stored(run)
        new = {_key(score) for score in result.scores}
        merged: dict[str, Any] = {
            "scores": [s for s in stored["scores"] if s["images"] == images and _key(s) not in new] + result.scores,
            "drawing": dict(drawing) if drawing else stored["drawing"],
        }
        current = any(entry.get("images") == images for key in ("scores", *_LISTS) for entry in stored[key])
        for key, fields in _LISTS.items():
            entries = getattr(result, key)
            found = [tuple(entry.get(field) for field in fields) for entry in entries]
            old = [e for e in stored[key] if e.get("images") == images and tuple(e.get(f) for f in fields) not in found]
            merged[key] = old + entries
        merged["sheets"] = (stored["sheets"] if current else {}) | result.sheets
        disk.write_json(run.scores, merged, seal=True)


def read_stored(run: Run) -> dict[str, Any]:
    """The run's eval.json with every key, under today's names; scores that do not fit their protocols are left out.

    Raises:
        DataError: the file is damaged.
    """
    value = paths.read_json(run.scores, what="list of scores") if run.scores.is_file() else {"scores": []}
    value = with_current_names(value)
    scores = value.get("scores")
    keys = {"protocol_id", "images", "protocol", "name", "value"}
    if not isinstance(scores, list) or any(not isinstance(s, dict) or not keys <= s.keys() for s in scores):
        raise DataError(f"{run.scores} is damaged", hint=f"delete it and type `animegen eval {run.path}` again")
    sound = [score for score in scores if _is_sound(score)]
    if len(sound) < len(scores):
        console.warn(f"{len(scores) - len(sound)} scores in {run.scores} do not fit their protocols and are left out")
    found: dict[str, Any] = {"scores": sound}
    found["drawing"] = value.get("drawing") if isinstance(value.get("drawing"), dict) else None
    for key in _LISTS:
        entries = value.get(key)
        found[key] = [e for e in entries if isinstance(e, dict)] if isinstance(entries, list) else []
    found["sheets"] = value.get("sheets") if isinstance(value.get("sheets"), dict) else {}
    return found


def _key(score: Mapping[str, Any]) -> tuple[Any, ...]:
    """What identifies a stored score."""
    measured = score["protocol"]
    return score["protocol_id"], score["images"], measured.get("sampling", ""), measured.get("seeds", "")


def _is_sound(score: Mapping[str, Any]) -> bool:
    try:
        protocol = Protocol.from_dict(
            {key: value for key, value in score["protocol"].items() if key != "reference_name"}
        )
    except (AttributeError, DataError):
        return False
    readable = isinstance(protocol.sampling, str) and isinstance(protocol.seeds, str)
    return readable and isinstance(score["images"], int) and protocol.id == score["protocol_id"]


# ---- a folder -------------------------------------------------------------------------------------------------


def _evaluate_images(request: Request, folder: Folder, words: list[str] | None) -> dict[str, Any]:
    if request.backend == clean_fid.NAME:
        words = clean_fid.check(folder, words)
    known = [word for judge in IMAGE_JUDGES for word in judge.metrics]
    if words and (others := [word for word in words if word not in known]):
        raise UsageError(f"`{others[0]}` is measured of runs, not of folders", hint="leave it out of `--metrics`")
    work = [(judge, judge.protocols(folder, chosen)) for judge, chosen in _shared(IMAGE_JUDGES, words, request)]
    results = [judge.judge(folder, protocols) for judge, protocols in work if protocols]
    notes = [note for result in results for note in result.notes]
    scores = [score for result in results for score in result.scores]
    return _answer(request, folder, folder.path, scores, list(dict.fromkeys(notes)))
