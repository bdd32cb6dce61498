"""`animegen eval --attributes`: what a classifier recognizes in drawn and in requested images."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from chain import done, refused, sets, train_words
from torch import Tensor

from animegen_cli import disk
from animegen_cli.data.dataset import FaceSet
from animegen_cli.evaluate import classifier
from animegen_cli.metrics.distributions import names_estimate
from animegen_cli.metrics.uncertainty import combine
from animegen_cli.model.abilities import VERBS
from animegen_cli.paths import Run
from animegen_cli.report import records
from animegen_cli.report.columns import eval_options
from animegen_cli.sample import generate
from animegen_cli.sample.generate import Generator
from animegen_cli.sample.trained import open_trained, spec_from_dict

if TYPE_CHECKING:
    from collections.abc import Sequence

CPU = torch.device("cpu")
EVAL = ["--extractor", "faces", "--device", "cpu", "--n", "24", "--repeats", "1", "--per-value", "2"]


@pytest.fixture(scope="module")
def runs(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A classifier, one of skin alone, one that never saw these labels, a run with labels, and one without."""
    root = tmp_path_factory.mktemp("runs")
    wanted = {
        "classifier": ("attributes", ()), "skins": ("attributes", ["model.labels=[skin]"]),
        "labeled": ("gan", ["model.labels=[hair,eyes]"]), "plain": ("vae", ()),
    }  # fmt: skip
    for name, (family, settings) in wanted.items():
        done(*train_words(family, faces, root / name, *sets(*settings), duration="64 images"))
    return {name: root / name for name in wanted}


def evaluated(run: Path, *words: object) -> dict[str, Any]:
    """Evaluate a copy of a run: its eval.json, with the histograms of classifiers alone, and what was said."""
    answer = done("eval", run, *EVAL, *words, "--json")
    stored = disk.unsealed(json.loads((run / "eval.json").read_text()))
    stored["histograms"] = [shown for shown in stored["histograms"] if shown["by"] != "pixels"]
    return {**stored, "said": answer.err, "printed": json.loads(answer.out)}


@pytest.fixture
def labeled(runs: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(runs["labeled"], tmp_path / "labeled"))


# ---- arithmetic -------------------------------------------------------------------------------------------------


def test_total_variation_of_hand_made_values() -> None:
    real, drawn = torch.tensor([0, 1] * 10), torch.tensor([0] * 25 + [1] * 25 + [2] * 50)
    found = names_estimate(real, drawn, 3)
    assert found.value == pytest.approx(0.5)
    assert combine([found]).std == pytest.approx(0.05, rel=0.03)  # of a share of a half among 100
    assert names_estimate(real, real, 3).value == 0


def test_a_collapsed_run_has_a_distance_but_no_certain_one() -> None:
    """All images of one value: a twentieth of the next hundred could still have another."""
    real = torch.tensor([0, 1, 1, 1] * 25)
    value, std, interval = combine([names_estimate(real, torch.zeros(100, dtype=torch.int64), 2)], low=0.0, high=1.0)
    assert value == pytest.approx(0.75)
    assert std is not None
    assert interval is not None
    assert 0.01 < std < 0.03
    assert interval[0] == pytest.approx(0.75 - 0.037, abs=0.003)
    assert interval[1] == 0.75


def test_its_error_is_the_spread_over_draws() -> None:
    """The distances of many samples of 400 images, all far from the real ones, against what each says of its error."""
    generator = torch.Generator().manual_seed(0)
    real, truth = torch.tensor([0] * 6 + [1] * 3 + [2]), torch.tensor([0.2, 0.3, 0.5])
    draws = [torch.multinomial(truth, 400, replacement=True, generator=generator) for _ in range(300)]
    found = [names_estimate(real, drawn, 3) for drawn in draws]
    errors = [one.influence.std().item() / 20 for one in found]
    assert sum(errors) / len(errors) == pytest.approx(torch.tensor([one.value for one in found]).std().item(), rel=0.15)


def test_errors_of_requests_are_those_within_values() -> None:
    """One value always recognized and one never: the mean is nearly certain, however wide the two are apart."""
    found = classifier.answered(torch.tensor([[True] * 40, [False] * 40]))
    apart = combine([found], low=0.0, high=1.0)
    assert found.value == 0.5
    assert apart.std is not None
    assert 0 < apart.std < (0.25 / 80) ** 0.5 / 3
    mixed = classifier.answered(torch.tensor([[True] * 80, [True, False] * 40]))
    assert mixed.value == 0.75
    assert combine([mixed]).std == pytest.approx(math.sqrt(0.25 / 80) / 2, rel=0.05)


def test_requests_that_are_all_recognized_are_not_certain() -> None:
    value, std, interval = combine([classifier.answered(torch.ones(12, 32, dtype=torch.bool))], low=0.0, high=1.0)
    assert value == 1
    assert std is not None
    assert std > 0
    assert interval is not None
    assert 0.97 < interval[0] < 0.999
    assert interval[1] == 1


# ---- a run with labels ------------------------------------------------------------------------------------------


def test_requests_are_drawn_as_labels_and_counted_as_recognized(
    labeled: Path, runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images that carry their hair label as a gray level; the classifier reads it, but takes pink for red."""
    hairs = spec_from_dict(json_metadata(labeled)["data"]).attributes["hair"]

    def draw(self: Generator, seeds: Sequence[int], **_: object) -> Tensor:
        labels = self.labels
        column = list(self.trained.data.attributes).index("hair")
        assert labels is None or sum(label >= 0 for label in labels) == 1  # one attribute at a time
        level = 0 if labels is None or labels[column] < 0 else 1 + labels[column]
        return torch.full((len(seeds), 3, 16, 16), level, dtype=torch.uint8)

    def values(self: classifier.Recognizer, features: Tensor) -> dict[str, Tensor]:
        read = (features[:, 0] - 1).long().clamp(min=0)
        read[read == hairs.index("pink")] = hairs.index("red")
        return {name: read.clamp(max=len(known) - 1) for name, known in self.attributes.items()}

    monkeypatch.setattr(Generator, "draw", draw)
    monkeypatch.setattr(classifier.Recognizer, "features", lambda self, images: images[:, 0, :1, 0].float())
    monkeypatch.setattr(classifier.Recognizer, "values", values)
    found = evaluated(labeled, "--attributes", runs["classifier"], "--metrics", "requests")
    hair = {entry["value"]: entry for entry in found["requests"] if entry["attribute"] == "hair"}
    assert list(hair) == list(hairs)
    assert {value: entry["recognised"] for value, entry in hair.items()} == {
        value: 0 if value == "pink" else 2 for value in hairs
    }
    assert all((entry["asked"], entry["by"], entry["images"]) == (2, "classifier", 64) for entry in hair.values())
    (score,) = (score for score in found["scores"] if score["name"] == "requests-hair-attributes")
    assert score["value"] == pytest.approx((len(hairs) - 1) / len(hairs))
    assert score["protocol"]["n_fake"] == 2 * len(hairs)
    assert score["protocol"]["seeds"] == "0-23"  # of them the first two


def json_metadata(run: Path) -> dict[str, Any]:
    from animegen_cli.model import checkpoint

    return checkpoint.load_weights(run / "weights.safetensors")[1]


def test_a_run_with_labels_from_the_command_line(labeled: Path, runs: dict[str, Path], faces: Path) -> None:
    found = evaluated(labeled, "--attributes", runs["classifier"])
    attributes = FaceSet.open(faces).attributes
    names = [score["name"] for score in found["scores"]]
    ours = ["fd-attributes", *(f"attribute-{name}-attributes" for name in attributes)]
    ours += ["requests-hair-attributes", "requests-eyes-attributes"]
    assert names[-len(ours) :] == ours
    assert "fd-faces" in names
    scores = {score["name"]: score for score in found["scores"]}
    sha = scores["fd-attributes"]["protocol"]["extractor_sha"]
    assert sha == disk.sha256(Run(runs["classifier"]).weights)
    assert all(scores[name]["protocol"]["extractor_sha"] == sha for name in ours)
    assert all(scores[name]["protocol"]["resize"] == "clean-16" for name in ours)
    assert all(0 <= scores[name]["value"] <= 1 for name in ours[1:])
    assert len(found["histograms"]) == len(attributes)
    for shown in found["histograms"]:
        assert tuple(shown["values"]) == attributes[shown["name"]]
        assert sum(shown["real"]) == pytest.approx(1)
        assert sum(shown["drawn"]) == pytest.approx(1)
        distance = sum(abs(a - b) for a, b in zip(shown["real"], shown["drawn"], strict=True)) / 2
        assert scores[f"attribute-{shown['name']}-attributes"]["value"] == pytest.approx(distance)
    assert {entry["attribute"] for entry in found["requests"]} == {"hair", "eyes"}
    assert all(entry["real"] is None or 0 <= entry["real"] <= 1 for entry in found["requests"])
    assert "classifier recognizes hair in " in found["said"]
    assert "its set is another" not in found["said"]
    commands = [" ".join(options) for options in eval_options(records.read(Run(labeled)))]
    assert commands == [
        f"--seeds 0-23 --split train {network}" for network in ("--extractor faces", "--attributes CLASSIFIER")
    ]
    again = done("eval", labeled, *EVAL, "--attributes", runs["classifier"], "--json")
    assert "already scored" in again.err
    assert [score["name"] for score in json.loads(again.out)["scores"]] == names


def test_what_it_recognizes_is_what_the_network_says(labeled: Path, runs: dict[str, Path]) -> None:
    found = evaluated(labeled, "--attributes", runs["classifier"], "--metrics", "attribute")
    opened = open_trained(Run(runs["classifier"]), device=CPU, precision="fp32")
    drawn = generate.images(Run(labeled), range(24), device=CPU)
    with torch.no_grad():
        logits = opened.model.classify(opened.model.embed(drawn.float() / 127.5 - 1))  # type: ignore[operator]
    for shown in found["histograms"]:
        counts = logits[shown["name"]].argmax(1).bincount(minlength=len(shown["values"]))
        assert shown["drawn"] == pytest.approx((counts / 24).tolist())


def test_two_classifiers_never_share_a_column(labeled: Path, runs: dict[str, Path]) -> None:
    evaluated(labeled, "--attributes", runs["classifier"], "--metrics", "attribute")
    found = evaluated(labeled, "--attributes", runs["skins"], "--metrics", "attribute")
    skin = [score for score in found["scores"] if score["name"] == "attribute-skin-attributes"]
    assert len({score["protocol_id"] for score in skin}) == 2
    assert [entry["by"] for entry in found["histograms"] if entry["name"] == "skin"] == ["classifier", "skins"]


def test_a_classifier_is_an_extractor_for_every_metric(labeled: Path, runs: dict[str, Path]) -> None:
    words = [
        "--extractor",
        f"attributes:{runs['classifier']}",
        "--metrics",
        "fd,kid,precision",
        "--n",
        "24",
        "--repeats",
        "1",
        "--json",
    ]
    first = json.loads(done("eval", labeled, *words).out)["scores"]
    assert [score["name"] for score in first] == ["fd-attributes", "kid-attributes", "precision-attributes"]
    both = evaluated(labeled, "--attributes", runs["classifier"], "--metrics", "fd-attributes")
    (distance,) = (score for score in both["printed"]["scores"] if score["name"] == "fd-attributes")
    assert distance["value"] == pytest.approx(first[0]["value"])
    assert distance["protocol_id"] == first[0]["protocol_id"]  # one measurement, one column


def test_images_of_another_size_are_resized_and_the_protocol_says_so(
    labeled: Path, runs: dict[str, Path], tmp_path: Path
) -> None:
    done("prepare", "demo", "--limit", "60", "--resolution", "32", "--out", tmp_path / "large.zip")
    done(*train_words("attributes", tmp_path / "large.zip", tmp_path / "large", duration="64 images"))
    found = evaluated(labeled, "--attributes", tmp_path / "large", "--metrics", "fd-attributes")
    (score,) = found["printed"]["scores"]
    assert (score["protocol"]["resize"], score["protocol"]["size"]) == ("clean-32", 16)
    assert "its set is another one" in evaluated(labeled, "--attributes", tmp_path / "large")["said"]


# ---- bad input and odd pairs ------------------------------------------------------------------------------------


def test_a_run_that_takes_no_labels(runs: dict[str, Path], tmp_path: Path) -> None:
    run = Path(shutil.copytree(runs["plain"], tmp_path / "plain"))
    found = evaluated(run, "--attributes", runs["skins"])
    names = [score["name"] for score in found["scores"]]
    assert {"fd-attributes", "attribute-skin-attributes", "mse"} <= set(names)
    assert found["requests"] == []
    assert not any(name.startswith("requests") for name in names)
    said = refused(2, "eval", run, *EVAL, "--attributes", runs["skins"], "--metrics", "requests")
    assert "takes no labels" in said


def test_a_run_and_a_classifier_with_nothing_in_common(labeled: Path, runs: dict[str, Path]) -> None:
    found = evaluated(labeled, "--attributes", runs["skins"])
    assert "the run is asked for hair, eyes, and skins recognizes skin" in found["said"]
    assert found["requests"] == []
    assert [entry["name"] for entry in found["histograms"]] == ["skin"]


def test_only_values_that_both_know_are_asked_for(labeled: Path, runs: dict[str, Path], tmp_path: Path) -> None:
    """A classifier that calls pink `rose`."""
    from animegen_cli.model import checkpoint

    other = Path(shutil.copytree(runs["classifier"], tmp_path / "other"))
    tensors, about = checkpoint.load_weights(other / "weights.safetensors")
    hair = about["data"]["attributes"]["hair"]
    hair[hair.index("pink")] = "rose"
    checkpoint.save_weights(other / "weights.safetensors", tensors, about)
    found = evaluated(labeled, "--attributes", other, "--metrics", "requests")
    asked = [entry["value"] for entry in found["requests"] if entry["attribute"] == "hair"]
    assert "pink" not in asked
    assert "rose" not in asked
    assert len(asked) == 11
    assert "hair: only the run or only other knows pink, rose; not asked for" in found["said"]
    (score,) = (score for score in found["scores"] if score["name"] == "requests-hair-attributes")
    assert score["protocol"]["n_fake"] == 22


def test_runs_that_are_no_classifier_and_other_slips(runs: dict[str, Path], labeled: Path, faces: Path) -> None:
    said = refused(2, "eval", labeled, *EVAL, "--attributes", runs["plain"])
    assert f"cannot {VERBS['classifies']}" in said
    assert "families that can: attributes" in said
    assert "no run `nowhere`" in refused(3, "eval", labeled, *EVAL, "--attributes", "nowhere")
    assert "--attributes RUN" in refused(2, "eval", labeled, *EVAL, "--metrics", "requests")
    assert "needs a classifier run" in refused(2, "eval", labeled, "--extractor", "attributes:")
    assert "attributes:RUN" in refused(2, "eval", labeled, "--extractor", "attribute")
    said = refused(2, "eval", faces, "--against", faces, *EVAL, "--attributes", runs["classifier"])
    assert "--extractor attributes:" in said


def test_a_reference_without_images(labeled: Path, runs: dict[str, Path], faces: Path, tmp_path: Path) -> None:
    from animegen_cli.metrics.frechet import moments, save_moments

    recognizer = classifier.open_recognizer(str(runs["classifier"]), device=CPU)
    opened = FaceSet.open(faces)
    pixels = torch.from_numpy(opened.pixels(range(len(opened)))).permute(0, 3, 1, 2)
    save_moments(tmp_path / "real.npz", moments(recognizer.features(pixels)))
    words = ["--against", tmp_path / "real.npz", "--attributes", runs["classifier"]]
    found = evaluated(labeled, *words, "--metrics", "fd-attributes")
    assert [score["name"] for score in found["printed"]["scores"]] == ["fd-attributes"]
    said = refused(2, "eval", labeled, *EVAL, *words, "--metrics", "attribute")
    assert "mu and sigma" in said
