"""Config layers: what is refused, where the complaint points, and what survives a round trip."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pytest
from pydantic import Field

from animegen_cli import config
from animegen_cli.config import Amount, Layer, RunConfig, Section
from animegen_cli.errors import ConfigError, DataError

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Gears(Section):
    teeth: Annotated[int, Field(ge=3)] = 12
    kind: Literal["spur", "helical"] = "spur"


@dataclass(frozen=True, kw_only=True)
class Clock(Section):
    hands: int = 3
    weights: tuple[int, ...] = (1, 2)
    gears: Gears = field(default_factory=Gears)
    tint: tuple[str, ...] | Literal["all"] = ()


@dataclass(frozen=True, kw_only=True)
class Draw(Section):
    steps: int = 50


def resolve(*layers: Layer) -> RunConfig:
    return config.resolve(list(layers), family="clock", model=Clock, sample=Draw, optimizers=("model",))


def written(folder: Path, text: str) -> Layer:
    file = folder / "mine.yaml"
    file.write_text(text, encoding="utf-8")
    return Layer.from_yaml(file, shown="mine.yaml")


def refusal(*layers: Layer) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        resolve(*layers)
    return caught.value


# ---- files ----------------------------------------------------------------------------------------------------


def test_file_values_over_defaults(tmp_path: Path) -> None:
    got = resolve(
        written(tmp_path, "about: a clock\nmodel:\n  hands: 2\n  gears:\n    teeth: 40\n  weights: [5, 6, 7]\n")
    )
    assert (got.about, got.model) == ("a clock", Clock(hands=2, gears=Gears(teeth=40), weights=(5, 6, 7)))
    assert got.train == config.Train()
    assert got.optim == {"model": config.Optim()}


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    assert resolve(written(tmp_path, "# nothing yet\n")) == resolve()


WRONG_KEYS = {
    "model:\n  hands: 2\n  wieghts: [1]\n": "mine.yaml:3: unknown key `wieghts` in `model`; did you mean `weights`?",
    "model:\n\n  gears:\n    tooth: 9\n": "mine.yaml:4: unknown key `tooth` in `model.gears`; did you mean `teeth`?",
    "trian:\n  batch: 3\n": "mine.yaml:1: unknown key `trian`; did you mean `train`?",
    "train:\n  ema:\n    dekay: 0.9\n": "mine.yaml:3: unknown key `dekay` in `train.ema`; did you mean `decay`?",
    "optim:\n  model:\n    learning_rat: 1\n    lr: 0.1\n": "mine.yaml:3: unknown key `learning_rat` in `optim.model`; ",
    "optim:\n  modle:\n    lr: 0.1\n": "mine.yaml:2: unknown key `modle` in `optim`; did you mean `model`?",
}


@pytest.mark.parametrize("text", WRONG_KEYS)
def test_a_wrong_key_is_named_with_its_line_and_the_nearest_one(tmp_path: Path, text: str) -> None:
    error = refusal(written(tmp_path, text))
    assert error.hint
    assert WRONG_KEYS[text] in f"{error.message}; {error.hint}"


WRONG_VALUES = {
    "model:\n  hands: many\n": ("mine.yaml:2: `model.hands`: ", "(got 'many')"),
    "model:\n  gears:\n    teeth: 2\n": ("mine.yaml:3: `model.gears.teeth`: ", "(got 2)"),
    "model:\n  gears:\n    kind: worm\n": ("mine.yaml:3: `model.gears.kind`: ", "(got 'worm')"),
    "model:\n  weights: [1, two]\n": ("mine.yaml:2: `model.weights`: ", "(got 'two')"),
    "train:\n  batch: 0\n": ("mine.yaml:2: `train.batch`: ", "(got 0)"),
    "train:\n  ema:\n    decay: 1.5\n": ("mine.yaml:3: `train.ema.decay`: ", "(got 1.5)"),
    "train:\n  duration: 3 fortnights\n": ("mine.yaml:2: `train.duration`: ", "(got '3 fortnights')"),
    "train:\n  duration: 10 min\n": ("mine.yaml:2: `train.duration`: ", "(got '10 min')"),
    "train:\n  save_every: soon\n": ("mine.yaml:2: `train.save_every`: ", "(got 'soon')"),
    "optim:\n  model:\n    lr: -1\n": ("mine.yaml:3: `optim.model.lr`: ", "(got -1)"),
    "size: 4\n": ("mine.yaml:1: `size`: ", "(got 4)"),
    "augment: 3\n": ("mine.yaml:1: `augment`: ", "(got 3)"),
}


@pytest.mark.parametrize("text", WRONG_VALUES)
def test_a_wrong_value_is_named_with_its_line(tmp_path: Path, text: str) -> None:
    message = refusal(written(tmp_path, text)).message
    place, got = WRONG_VALUES[text]
    assert message.startswith(place)
    assert message.endswith(got)


def test_all_errors_come_at_once(tmp_path: Path) -> None:
    text = "model:\n  hands: x\n  hnads: 2\ntrain:\n  batch: -1\nsample:\n  stpes: 3\noptim:\n  model:\n    eps: 0\n"
    lines = refusal(written(tmp_path, text), Layer.from_settings(["augment.rotate=400"])).message.splitlines()
    assert len(lines) == 6
    for place in (
        "mine.yaml:2: ",
        "mine.yaml:3: ",
        "mine.yaml:5: ",
        "mine.yaml:7: ",
        "mine.yaml:10: ",
        "--set augment.rotate: ",
    ):
        assert sum(place in line for line in lines) == 1


@pytest.mark.parametrize(
    ("text", "line"),
    [("model:\n  hands: [1, 2\ntrain:\n  batch: 3\n", 3), ("about: a: b\n", 1), ("model:\n\thands: 2\n", 2)],
)
def test_syntax_errors_name_the_line(tmp_path: Path, text: str, line: int) -> None:
    with pytest.raises(ConfigError, match=rf"mine\.yaml:{line}: not valid YAML"):
        written(tmp_path, text)


@pytest.mark.parametrize("text", ["- a\n- b\n", "just words\n"])
def test_a_file_without_keys_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"mine\.yaml: expected"):
        written(tmp_path, text)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.yaml"):
        Layer.from_yaml(tmp_path / "absent.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00about")
    with pytest.raises(DataError, match=r"binary\.yaml"):
        Layer.from_yaml(tmp_path / "binary.yaml")


# ---- layers ---------------------------------------------------------------------------------------------------


def test_later_layers_win_key_by_key(tmp_path: Path) -> None:
    low = written(tmp_path, "model:\n  hands: 2\n  gears:\n    teeth: 40\n    kind: helical\ntrain:\n  batch: 8\n")
    got = resolve(low, Layer.from_settings(["model.gears.teeth=50"]), Layer.from_flag("--batch", "train.batch", 16))
    assert got.model == Clock(hands=2, gears=Gears(teeth=50, kind="helical"))
    assert got.train.batch == 16
    assert low.values["model"]["gears"]["teeth"] == 40, "merging must not write into a layer"


def test_settings_are_yaml() -> None:
    got = resolve(
        Layer.from_settings(
            [
                "model.weights=[3, 4]",
                "model.tint=all",
                "optim.model.clip=null",
                "augment.flip=false",
                "optim.model.lr=2e-4",
            ]
        )
    )
    assert got.model.weights == (3, 4)
    assert got.model.tint == "all"
    assert got.optim["model"].clip is None
    assert got.augment.flip is False
    assert got.optim["model"].lr == 2e-4


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("train.batch", "`--set train.batch` has no `=`"),
        ("=3", "has no `=`"),
        ("model.weights=[1, 2", "not valid YAML"),
    ],
)
def test_malformed_settings(word: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Layer.from_settings([word])
    assert message in caught.value.message
    assert caught.value.hint


def test_complaints_about_flags_name_the_flag() -> None:
    assert (
        refusal(Layer.from_settings(["train.btach=3"])).message == "--set train.btach: unknown key `btach` in `train`"
    )
    assert refusal(Layer.from_flag("--batch", "train.batch", "lots")).message.startswith("--batch: `train.batch`: ")


def test_the_layer_that_won_is_blamed(tmp_path: Path) -> None:
    fine = written(tmp_path, "train:\n  batch: 8\n")
    assert refusal(fine, Layer.from_settings(["train.batch=0"])).message.startswith(
        "--set train.batch: `train.batch`: "
    )
    assert resolve(written(tmp_path, "train:\n  batch: 0\n"), Layer.from_settings(["train.batch=8"])).train.batch == 8


def test_deeper_words_win_over_plain_values(tmp_path: Path) -> None:
    got = resolve(written(tmp_path, "train: fast\n"), Layer.from_settings(["train=3", "train.batch=4"]))
    assert got.train.batch == 4
    message = refusal(Layer.from_settings(["model.hands.length=3"])).message
    assert "`model.hands" in message


@pytest.mark.parametrize("text", ["2e-4", "'2e-4'", "2.0e-4", "0.0002"])
def test_a_number_however_yaml_reads_it(tmp_path: Path, text: str) -> None:
    assert resolve(written(tmp_path, f"optim:\n  model:\n    lr: {text}\n")).optim["model"].lr == 2e-4


def test_round_trip(tmp_path: Path) -> None:
    text = (
        "about: 'a: clock'\nsize: 64\nmodel:\n  tint: [red]\n  gears:\n    teeth: 7\ntrain:\n  ema:\n    decay: 0.5\n"
    )
    first = resolve(written(tmp_path, text))
    (tmp_path / "again.yaml").write_text(config.to_yaml(first.to_dict()), encoding="utf-8")
    assert resolve(Layer.from_yaml(tmp_path / "again.yaml")) == first
    assert resolve(Layer(first.to_dict(), {})) == first
    assert plain(first.to_dict())


def plain(value: Any) -> bool:
    """Whether JSON and YAML can hold it without tags."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and plain(item) for key, item in value.items())
    if isinstance(value, list):
        return all(plain(item) for item in value)
    return value is None or type(value) in (str, int, float, bool)


# ---- amounts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "images"),
    [
        ("200 epochs", 200 * 1000), ("1 epoch", 1000), ("0.5 epochs", 500), ("800k steps", 800_000 * 32), ("1 step", 32),
        ("25M images", 25_000_000), ("2.4M images", 2_400_000), ("10_000 images", 10_000), ("64 img", 64), ("2e3 images", 2000),
        ("100images", 100), ("0 images", 0),
    ],
)  # fmt: skip
def test_amounts_in_images(text: str, images: int) -> None:
    amount = Amount.parse(text)
    assert amount.images(batch=32, count=1000) == images
    assert amount.seconds is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10 min", 600), ("1 minute", 60), ("2 h", 7200), ("1.5 hours", 5400), ("90 s", 90), ("30 seconds", 30)],
)
def test_amounts_of_time(text: str, seconds: float) -> None:
    assert Amount.parse(text).seconds == seconds
    with pytest.raises(ValueError, match="no fixed number"):
        Amount.parse(text).images(batch=32, count=1000)


@pytest.mark.parametrize(
    "text", ["", "epochs", "10", "-3 epochs", "10 parsecs", "1,000 images", "10 K images", "k steps", "3 epochs more"]
)
def test_words_that_are_no_amount(text: str) -> None:
    with pytest.raises(ValueError, match="is not an amount"):
        Amount.parse(text)


def test_intervals_may_be_times_and_durations_may_not() -> None:
    assert resolve(Layer.from_settings(["train.save_every=30 s"])).train.save_every == "30 s"
    assert "is a time" in refusal(Layer.from_settings(["train.duration=1 h"])).message
