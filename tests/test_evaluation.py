"""`animegen eval`: runs and folders scored from the command line, each number with its protocol, damage and all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from chain import done, log_of, refused, sets, train_words
from PIL import Image, ImageFilter
from safetensors.torch import load_file

from animegen_cli import disk, paths
from animegen_cli.data.dataset import FaceSet
from animegen_cli.evaluate import evaluate
from animegen_cli.evaluate.judge import JudgeResult
from animegen_cli.metrics.extractors import inception_extractor
from animegen_cli.metrics.protocol import Protocol
from animegen_cli.model.nets import trunk
from animegen_cli.model.nets.inception import Inception
from animegen_cli.prepare import prepare
from animegen_cli.prepare.request import Options, Request
from animegen_cli.sample.generate import Generator

if TYPE_CHECKING:
    from collections.abc import Callable

FACES = ["--extractor", "faces", "--device", "cpu"]


@pytest.fixture
def run(trained: Callable[[str], Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained("ddim"), tmp_path / "run"))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Drawn faces of other seeds as plain PNG files, and the same behind frosted glass."""
    root = tmp_path_factory.mktemp("folders")
    prepare.prepare(Request(["demo"], root / "more.zip", Options(size=16, limit=80, seed=9, workers=1)))
    faces = FaceSet.open(root / "more.zip")
    found = {name: root / name for name in ("drawn", "blurred")}
    for path in found.values():
        path.mkdir()
    for i, pixels in enumerate(faces.pixels(np.arange(len(faces)), size=16)):
        image = Image.fromarray(pixels)
        image.save(found["drawn"] / f"{i:03d}.png")
        image.filter(ImageFilter.GaussianBlur(1.5)).save(found["blurred"] / f"{i:03d}.png")
    return found


def scores(*words: object, cwd: Path | None = None) -> dict[str, dict[str, Any]]:
    """By name."""
    answer = done("eval", *words, *FACES, "--json", cwd=cwd)
    return {score["name"]: score for score in json.loads(answer.out)["scores"]}


def stored(run: Path) -> list[dict[str, Any]]:
    return disk.unsealed(json.loads((run / "eval.json").read_text()))["scores"]


# ---- runs -----------------------------------------------------------------------------------------------------


def test_a_run_is_scored_against_its_own_set(run: Path, faces: Path) -> None:
    found = scores(run, "--n", "24")
    default = ("fd", "fd-infinity", "kid", "precision", "recall", "density", "coverage", "diversity")  # few images
    assert list(found)[: len(default)] == [f"{metric}-faces" for metric in default]
    assert list(found.values()) == stored(run)
    found = {f"{metric}-faces": found[f"{metric}-faces"] for metric in default}
    about = paths.Run(run).about["data"]
    for score in found.values():
        protocol = score["protocol"]
        assert protocol["reference"] == FaceSet.open(faces).split_identity("train", 16)
        assert (protocol["n_real"], protocol["n_fake"], protocol["seeds"]) == (about["count"], 24, "0-23; 24-47; 48-71")
        assert (protocol["extractor"], protocol["precision"], protocol["size"]) == ("faces", "fp32", 16)
        assert protocol["reference_split"] == "train"
        assert "ddim, 4 steps" in protocol["sampling"]
        assert score["images"] == 64
        assert len(score["values"]) == 3
        assert score["value"] == pytest.approx(np.mean(score["values"]))
        assert score["interval"][0] <= score["value"] <= score["interval"][1]
        rebuilt = Protocol.from_dict({key: value for key, value in protocol.items() if key != "reference_name"})
        assert (score["protocol_id"], score["name"]) == (rebuilt.id, rebuilt.name)
    assert found["fd-faces"]["value"] > 0
    assert 0 <= found["precision-faces"]["value"] <= 1
    assert found["kid-faces"]["spread"] > 0
    one = scores(run, "--n", "24", "--repeats", "1", "--metrics", "fd")["fd-faces"]
    assert one["value"] == found["fd-faces"]["values"][0]
    assert one["protocol_id"] == found["fd-faces"]["protocol_id"]
    second = scores(run, "--seeds", "24-47", "--metrics", "fd")["fd-faces"]
    assert second["value"] == found["fd-faces"]["values"][1]


def test_a_further_score_draws_nothing(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = scores(run, "--n", "10", "--repeats", "2", "--metrics", "fd", "--metrics", "kid")
    files = sorted((run / "features").rglob("*.safetensors"))
    assert len(files) == 2
    drawing = disk.unsealed(json.loads((run / "eval.json").read_text()))["drawing"]
    assert drawing["images"] == 64

    def again() -> dict[str, dict[str, Any]]:
        (run / "eval.json").unlink()
        return scores(run, "--n", "10", "--repeats", "2", "--metrics", "fd,kid,diversity")

    with monkeypatch.context() as patch:
        patch.setattr(Generator, "draw", lambda *_, **__: pytest.fail("drawn again"))
        assert again()["fd-faces"]["values"] == whole["fd-faces"]["values"]
    for damage in (lambda data: data[:100], lambda data: data[:-1] + bytes([data[-1] ^ 1])):
        files[0].write_bytes(damage(files[0].read_bytes()))
        assert again()["fd-faces"]["values"] == whole["fd-faces"]["values"]
    second = load_file(files[1])["features"].clone()  # not a mapping of the file
    files[1].write_bytes(files[0].read_bytes())  # sound, but of other images
    assert again()["fd-faces"]["values"] == whole["fd-faces"]["values"]
    assert torch.equal(load_file(files[1])["features"], second)
    with monkeypatch.context() as patch:
        patch.setattr(trunk, "SHA", "of another network")
        patch.setattr(Generator, "draw", lambda *_, **__: pytest.fail("drawn again"))
        with pytest.raises(pytest.fail.Exception, match="drawn again"):
            again()
    done("train", "--resume", run, "--duration", "72 images", "--device", "cpu")
    scores(run, "--n", "10", "--repeats", "1", "--metrics", "fd")
    assert not any(file.exists() for file in files)  # those of older weights go


def test_small_samples_warn(run: Path) -> None:
    answer = done("eval", run, "--n", "8", "--repeats", "1", "--metrics", "fd", *FACES)
    assert "warning: only 8 images" in answer.err
    assert "biased up" in answer.err
    assert "fd-faces" in answer.out


def test_what_is_scored_is_not_measured_again(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = scores(run, "--n", "8", "--metrics", "fd")
    fewer = scores(run, "--n", "8", "--metrics", "fd", "--steps", "2")
    assert first["fd-faces"]["value"] != fewer["fd-faces"]["value"]
    assert first["fd-faces"]["protocol_id"] == fewer["fd-faces"]["protocol_id"]  # one column, two rows
    assert len(stored(run)) == 2
    monkeypatch.setattr(Generator, "draw", lambda *_, **__: pytest.fail("drawn again"))
    answer = done("eval", run, "--n", "8", "--metrics", "fd", *FACES, "--json")
    assert "already scored" in answer.err
    assert json.loads(answer.out)["scores"] == [first["fd-faces"]]
    monkeypatch.undo()
    again = scores(run, "--n", "8", "--metrics", "fd", "--force")
    assert again["fd-faces"]["value"] == first["fd-faces"]["value"]
    assert len(stored(run)) == 2


def test_scores_of_older_weights_go(run: Path) -> None:
    scores(run, "--n", "8", "--metrics", "fd")
    done("train", "--resume", run, "--duration", "72 images", "--device", "cpu")
    scores(run, "--n", "8", "--metrics", "kid")
    assert [(score["name"], score["images"]) for score in stored(run)] == [("kid-faces", 72)]


def test_seeds_and_the_other_split(run: Path) -> None:
    found = scores(run, "--seeds", "3,5-7", "--split", "test", "--metrics", "fd")["fd-faces"]
    assert found["protocol"]["seeds"] == "3,5-7"
    assert found["protocol"]["n_fake"] == 4
    assert found["protocol"]["n_real"] == 96 - paths.Run(run).about["data"]["count"]
    assert found["protocol"]["reference_split"] == "test"


def test_a_run_whose_set_has_moved(run: Path, faces: Path, folders: dict[str, Path], tmp_path: Path) -> None:
    about = disk.unsealed(json.loads((run / "run.json").read_text()))
    about["data"]["path"] = str(tmp_path / "gone.zip")
    (run / "run.json").write_text(json.dumps(about))
    said = refused(3, "eval", run, "--n", "8", *FACES)
    assert "is gone" in said
    assert "--data" in said
    assert scores(run, "--n", "8", "--metrics", "fd", "--data", faces)
    others = folders["drawn"].parent / "more.zip"
    assert "does not hold the pictures" in refused(3, "eval", run, "--n", "8", "--data", others, *FACES)
    assert scores(run, "--n", "8", "--metrics", "fd", "--against", others)


# ---- folders --------------------------------------------------------------------------------------------------


def test_folders_are_scored_and_order_as_a_person_would(folders: dict[str, Path], faces: Path) -> None:
    found = {name: scores(path, "--against", faces, "--split", "all") for name, path in folders.items()}
    assert found["drawn"]["fd-faces"]["value"] < found["blurred"]["fd-faces"]["value"]
    assert found["drawn"]["kid-faces"]["value"] < found["blurred"]["kid-faces"]["value"]
    assert found["drawn"]["coverage-faces"]["value"] > found["blurred"]["coverage-faces"]["value"]
    protocol = found["drawn"]["fd-faces"]["protocol"]
    assert (protocol["n_real"], protocol["n_fake"]) == (96, 80)


def test_a_set_is_no_distance_from_itself(folders: dict[str, Path]) -> None:
    found = scores(folders["drawn"], "--against", folders["drawn"])
    assert abs(found["fd-faces"]["value"]) < 0.05
    assert found["precision-faces"]["value"] == found["recall-faces"]["value"] == 1.0


def test_a_folder_needs_a_reference(folders: dict[str, Path]) -> None:
    said = refused(2, "eval", folders["drawn"], *FACES)
    assert "needs a reference" in said
    assert "--against" in said
    assert "no reference" in refused(3, "eval", folders["drawn"], "--against", "nothing.zip", *FACES)


def test_a_reference_smaller_than_the_images(folders: dict[str, Path], faces: Path, tmp_path: Path) -> None:
    (tmp_path / "large").mkdir()
    for file in sorted(folders["drawn"].iterdir())[:8]:
        Image.open(file).resize((32, 32)).save(tmp_path / "large" / file.name)
    said = refused(3, "eval", tmp_path / "large", "--against", faces, *FACES)
    assert "16-pixel" in said


# ---- the reference's features ---------------------------------------------------------------------------------


def test_features_are_cached_by_content(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    copy = Path(shutil.copytree(folders["drawn"], tmp_path / "copy"))
    words = ["--metrics", "fd"]
    first = scores(folders["blurred"], "--against", folders["drawn"], *words)

    def entries() -> list[Path]:
        return sorted((tmp_path / "cache" / "animegen" / "features").glob("*.safetensors"))

    before = entries()
    assert len(before) == 2  # reference and subject
    again = scores(folders["blurred"], "--against", copy, *words)
    assert again["fd-faces"]["value"] == first["fd-faces"]["value"]
    assert entries() == before, "the same pixels elsewhere were measured again"
    picture = sorted(copy.iterdir())[0]
    Image.open(picture).transpose(Image.Transpose.FLIP_TOP_BOTTOM).save(picture)
    changed = scores(folders["blurred"], "--against", copy, *words)
    assert changed["fd-faces"]["value"] != first["fd-faces"]["value"]
    assert changed["fd-faces"]["protocol_id"] != first["fd-faces"]["protocol_id"]
    assert len(entries()) == 3


def test_a_damaged_cache_is_made_again(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    words = [folders["blurred"], "--against", folders["drawn"], "--metrics", "fd"]
    first = scores(*words)
    for file in (tmp_path / "cache" / "animegen" / "features").iterdir():
        file.write_bytes(file.read_bytes()[:100])
    assert scores(*words)["fd-faces"]["value"] == first["fd-faces"]["value"]


def test_kid_at_75_pixels_bears_a_name_of_its_own(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    net = Inception().eval()
    for layer in net.modules():
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    monkeypatch.setattr(evaluate, "open_extractor", lambda *_, **__: inception_extractor(net, "ab" * 32))
    words = ["--seeds", "0-7", "--split", "test", "--extractor", "inception", "--device", "cpu"]
    answer = done("eval", run, *words, "--metrics", "kid,kid75,is", "--json")
    found = {score["name"]: score["protocol"] for score in json.loads(answer.out)["scores"]}
    assert {name: protocol["resize"] for name, protocol in found.items()} == {
        "kid": "clean-299", "kid75": "bilinear-75", "is": "clean-299",
    }  # fmt: skip
    assert found["kid"]["n_real"] == found["kid75"]["n_real"] < 96
    assert "kid x1000" in done("eval", run, *words, "--metrics", "kid").out


# ---- refusals -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "words", "message", "hint"),
    [
        (2, ["--metrics", "fid"], "`fid` exists only on Inception", "--metrics fd"),
        (2, ["--metrics", "precison"], "no metric `precison`", "did you mean `precision`?"),
        (2, ["--metrics", "is"], "Inception", "leave `is` out"),
        (2, ["--split", "tset"], "tset", "test"),
        (2, ["--seeds", "7-3"], "no list of seeds", "--seeds 0-63"),
        (2, ["--seeds", "0-3", "--n", "4"], "exclude each other", "--seeds"),
        (2, ["--seeds", "0-3", "--repeats", "2"], "`--repeats` and `--seeds` exclude each other", "--seeds"),
        (2, ["--repeats", "0"], "0 is not in the range x>=1", "--repeats"),
        (2, ["--metrics", "fid-infinity"], "here it is `fd-infinity-faces`", "--metrics fd-infinity"),
        (2, ["--precision", "fp8"], "no precision `fp8`", "bf16"),
    ],
)  # fmt: skip
def test_refusals(code: int, words: list[str], message: str, hint: str, run: Path) -> None:
    said = refused(code, "eval", run, *FACES, *words)
    assert message in said
    assert hint in said
    assert not (run / "eval.json").exists()


def test_networks_that_are_not_there(run: Path) -> None:
    said = refused(5, "eval", run, "--extractor", "inception", "--device", "cpu")
    assert "Inception's weights" in said
    assert "type `animegen weights`" in said
    assert "--weights PATH" in said
    assert "did you mean `inception`" in refused(2, "eval", run, "--extractor", "incepton")
    assert "squeezenet:PATH" in refused(2, "eval", run, "--extractor", "squeezenet:nothing.npz")


@pytest.mark.parametrize("metric", ["fid", "is", "kid,fid-infinity", "precision-inception"])
def test_a_score_of_inception_alone_asks_for_its_weights(run: Path, metric: str) -> None:
    said = refused(5, "eval", run, "--metrics", metric, "--device", "cpu")
    assert "Inception's weights" in said
    assert "type `animegen weights`" in said
    assert not (run / "eval.json").exists()


def test_without_inception_the_default_says_which_network_it_took(run: Path) -> None:
    answer = done("eval", run, "--n", "8", "--metrics", "fd", "--device", "cpu", "--json")
    assert "network: faces" in answer.err
    assert [score["name"] for score in json.loads(answer.out)["scores"]] == ["fd-faces"]


def test_moments_of_another_network(run: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "stats.npz", mu=np.zeros(2048), sigma=np.eye(2048))
    said = refused(3, "eval", run, "--metrics", "fd", "--against", tmp_path / "stats.npz", *FACES)
    assert "2048" in said
    said = refused(2, "eval", run, "--metrics", "kid", "--against", tmp_path / "stats.npz", *FACES)
    assert "`kid` needs the reference images" in said


def test_moments_suffice_for_the_distance_alone(run: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    np.savez(tmp_path / "stats.npz", mu=random.normal(size=480), sigma=np.eye(480), n=np.int64(5000))
    found = scores(run, "--n", "8", "--repeats", "1", "--against", tmp_path / "stats.npz")
    drawn = [name for name in found if not name.startswith("denoise-")]  # which looks at the run's own set
    assert drawn == ["fd-faces", "fd-infinity-faces", "duplicates"]
    assert found["fd-faces"]["protocol"]["n_real"] == 5000


def test_too_few_images_are_said(run: Path) -> None:
    assert "at least two images" in refused(3, "eval", run, "--seeds", "5", "--metrics", "fd", *FACES)
    assert "halves" in refused(3, "eval", run, "--n", "3", "--metrics", "fd-infinity", *FACES)
    two = scores(run, "--n", "2", "--metrics", "fd,kid")
    assert all(np.isfinite(score["std"]) for score in two.values())


def test_a_run_that_is_not_finished_is_scored_as_it_is(run: Path) -> None:
    about = disk.unsealed(json.loads((run / "run.json").read_text()))
    (run / "run.json").write_text(json.dumps(about | {"state": "running"}))
    answer = done("eval", run, "--n", "8", "--repeats", "1", "--metrics", "fd", *FACES)
    assert "the run is running: these are scores at 64 images" in answer.err
    (run / "weights.safetensors").unlink()
    assert "--resume" in refused(3, "eval", run, "--n", "8", *FACES)


@pytest.mark.parametrize("text", ["{", "[]", '{"scores": 3}', '{"scores": [{"name": "fd-faces"}]}'])
def test_damaged_scores_are_said_and_kept(text: str, run: Path) -> None:
    (run / "eval.json").write_text(text)
    said = refused(3, "eval", run, "--n", "8", "--metrics", "fd", *FACES)
    assert "eval.json" in said
    assert "delete it" in said
    assert (run / "eval.json").read_text() == text


@pytest.mark.parametrize("change", [{"n_fake": 50_000}, {"reference": "ab" * 32}, {"sampling": None}])
def test_edited_scores_are_measured_again(change: dict[str, object], run: Path) -> None:
    """A score whose protocol was changed by hand does not pass for a measurement."""
    first = scores(run, "--n", "8", "--metrics", "fd")["fd-faces"]
    value = disk.unsealed(json.loads((run / "eval.json").read_text()))
    value["scores"][0]["protocol"].update(change)
    if change.get("sampling", "") is None:
        value["scores"][0]["protocol"] = {}
    (run / "eval.json").write_text(json.dumps(value))
    answer = done("eval", run, "--n", "8", "--metrics", "fd", *FACES)
    assert "do not fit their protocols" in answer.err
    (again,) = stored(run)
    assert again["value"] == first["value"]
    assert again["protocol"] == first["protocol"]


@pytest.mark.parametrize(
    ("change", "sound"),
    [({"sampling": []}, False), ({"seeds": 7}, False), ({"seeds": None}, False), ({"sampling": "another way"}, True)],
)
def test_what_is_not_in_the_id_may_be_edited_but_not_into_nonsense(
    change: dict[str, object], sound: bool, run: Path
) -> None:
    first = scores(run, "--n", "8", "--repeats", "1", "--metrics", "fd")["fd-faces"]
    edited = first | {"protocol": first["protocol"] | change}
    (run / "eval.json").write_text(json.dumps({"scores": [edited]}))
    again = scores(run, "--n", "8", "--repeats", "1", "--metrics", "fd")["fd-faces"]
    assert again["value"] == first["value"]
    assert len(stored(run)) == 1 + sound


# ---- several judges, one file ---------------------------------------------------------------------------------


def histogram(drawn: list[float], images: int) -> dict[str, object]:
    return {"name": "hair color", "by": "pixels", "values": ["black", "pink"], "real": [0.5, 0.5], "drawn": drawn,
            "images": images}  # fmt: skip


def test_judges_keep_what_others_found(run: Path) -> None:
    opened = paths.Run(run)
    request = {"attribute": "hair", "value": "pink", "asked": 32, "recognised": 30, "by": "net", "images": 64}
    evaluate.store(opened, 64, JudgeResult(histograms=[histogram([1, 0], 64)], sheets={"neighbours": "judged/a.png"}))
    evaluate.store(opened, 64, JudgeResult(requests=[request]))
    score = scores(run, "--n", "9", "--repeats", "1", "--metrics", "fd")["fd-faces"]
    evaluate.store(opened, 64, JudgeResult(histograms=[histogram([0, 1], 64)]))
    found = disk.unsealed(json.loads((run / "eval.json").read_text()))
    assert found["scores"] == [score]
    assert found["drawing"]["images"] == 64
    assert found["requests"] == [request]
    assert [entry["drawn"] for entry in found["histograms"]] == [[0, 1]]
    assert found["sheets"] == {"neighbours": "judged/a.png"}
    evaluate.store(opened, 72, JudgeResult(requests=[request | {"images": 72}]))  # other weights
    found = disk.unsealed(json.loads((run / "eval.json").read_text()))
    assert (found["scores"], found["histograms"], found["sheets"]) == ([], [], {})
    assert [entry["images"] for entry in found["requests"]] == [72]


# ---- while training -------------------------------------------------------------------------------------------


def test_training_scores_what_it_draws(faces: Path, tmp_path: Path) -> None:
    settings = sets("train.validate.images=16", "train.validate.kid_images=16", "train.validate.every=32 images")
    done(*train_words("ddim", faces, tmp_path / "run", *settings, duration="64 images"))
    held_out = [line["validation"] for line in log_of(tmp_path / "run") if "validation" in line]
    assert len(held_out) == 2
    assert all({"kid-faces", "noise_loss", "image_loss"} == set(figures) for figures in held_out)
    assert all(np.isfinite(figures["kid-faces"]) for figures in held_out)
