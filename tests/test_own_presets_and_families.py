"""Presets and families that do not come with animegen: files, a folder of the user's own, installed packages."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from chain import here, sets

from animegen_cli import paths
from animegen_cli.errors import MachineError, UsageError
from animegen_cli.model import families
from animegen_cli.model.abilities import families_able
from animegen_cli.train.request import Request
from animegen_cli.train.train import read_config

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "adding-a-family.md").read_text(encoding="utf-8")
SHORT = sets("train.preview=2", "train.validate.images=0")


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the user's own presets, still missing; commands run beside it."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "config" / "animegen" / "presets"


# ---- presets --------------------------------------------------------------------------------------------------


def test_a_copied_preset_trains_under_its_own_name(own: Path, faces: Path) -> None:
    copied = here("presets", "copy", "vae/smoke", "mine.yaml")
    assert copied.out.strip() == "mine.yaml"
    text = Path("mine.yaml").read_text(encoding="utf-8")
    assert text == "family: vae\n" + paths.preset_file("vae", "smoke").read_text(encoding="utf-8")
    Path("mine.yaml").write_text(re.sub(r"duration: [^#]*", "duration: 32 images ", text), encoding="utf-8")
    trained = here("train", "--preset", "./mine.yaml", "--data", faces, "--device", "cpu", *SHORT)
    assert trained.code == 0, trained.err
    run = Path("runs/00000-vae-mine-faces")
    about = json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert (about["family"], about["preset"], about["images"]) == ("vae", "mine.yaml", 32)
    Path("mine.yaml").unlink()  # a run needs no preset
    assert read_config(Request(configs=[run / "config.yaml"])).preset == "mine.yaml"


def test_a_preset_in_the_users_folder_is_known_by_its_name(own: Path) -> None:
    assert here("presets", "copy", "vae/smoke", "mine").code == 0
    assert (own / "vae" / "mine.yaml").is_file()
    assert "mine" in paths.presets("vae")
    shown = here("presets", "show", "vae/mine")
    assert shown.out.startswith("family: vae\n")
    rows = {row["preset"]: row for row in json.loads(here("presets", "list", "vae", "--json").out)}
    assert (rows["vae/mine"]["from"], rows["vae/smoke"]["from"]) == ("yours", "animegen")
    planned = here("train", "vae", "--preset", "mine", "--data", "nosuch.zip")
    assert "nosuch.zip" in planned.err  # the preset was found


def test_without_xdg_config_home_presets_lie_below_the_home(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", str(own))
    assert paths.own_presets_folder() == own / ".config" / "animegen" / "presets"


@pytest.fixture
def wrong(own: Path) -> None:
    """Presets of the user's own that are read with a fault, or not found by their names."""
    Path("mine.yaml").write_text("family: vae\n", encoding="utf-8")
    Path("wrong.yaml").write_text("model:\n  latnt: 8\n", encoding="utf-8")
    Path("list.yaml").write_text("[1, 2]\n", encoding="utf-8")
    for family in ("vae", "vea"):
        (own / family).mkdir(parents=True)
        (own / family / "smoke.yaml").write_text("about: mine\n", encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ("train gan --preset mine.yaml", 2, "type `animegen train vae --preset mine.yaml`"),
        ("train vae --preset mina.yaml", 3, "did you mean `mine.yaml`?"),
        ("train vae --preset nosuch/other.yaml", 3, "make it: `animegen presets copy vae/fast nosuch/other.yaml`"),
        ("train --preset fast", 2, "no family given"),
        ("train vae --preset wrong.yaml", 2, "wrong.yaml:2: unknown key `latnt` in `model`"),
        ("train vae --preset list.yaml", 2, "expected `key: value` lines"),
        ("train vae --preset smoke", 2, "rename yours, or name its file"),
        ("presets copy vae/fast mine.yaml", 2, "mine.yaml exists"),
        ("presets copy vae/beta fast", 2, "choose another name, such as `my-fast`"),
        ("presets copy vae/fast mine.yml.txt", 2, "neither a name nor a YAML file"),
        ("presets copy vae/smok mine", 2, "did you mean `smoke`?"),
    ],
)
@pytest.mark.usefixtures("wrong")
def test_wrong_presets_are_answered_with_what_to_type(words: str, code: int, says: str) -> None:
    answer = here(*words.split())
    assert answer.code == code
    assert says in answer.err


@pytest.mark.usefixtures("wrong")
def test_the_list_warns_of_presets_that_no_word_finds() -> None:
    answer = here("presets", "list")
    assert answer.code == 0
    assert "vae/smoke is there twice: rename " in answer.err
    assert "there is no family `vea`" in answer.err


def test_a_broken_preset_of_the_users_own_does_not_hide_the_others(own: Path) -> None:
    (own / "vae").mkdir(parents=True)
    (own / "vae" / "broken.yaml").write_text("model: [", encoding="utf-8")
    rows = {row["preset"]: row["about"] for row in json.loads(here("presets", "list", "vae", "--json").out)}
    assert rows["vae/broken"].startswith("cannot be read")
    assert rows["vae/smoke"]


# ---- families of other packages -------------------------------------------------------------------------------


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Install a package of one module with an entry point of a family, as pip leaves one; gone after the test."""
    site = tmp_path / "site-packages"
    site.mkdir()
    monkeypatch.setattr(
        paths, "_offered", paths._offered.__wrapped__
    )  # nothing is remembered of packages that come and go

    def installed(
        family: str, source: str, *, package: str = "blur-family", presets: dict[str, str] | None = None
    ) -> Path:
        module = package.replace("-", "_")
        (site / module).mkdir()
        (site / module / "__init__.py").write_text(source, encoding="utf-8")
        for name, text in (presets or {}).items():
            file = site / module / "presets" / family / f"{name}.yaml"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        about = site / f"{module}-0.1.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 0.1\n", encoding="utf-8")
        (about / "entry_points.txt").write_text(f"[animegen.families]\n{family} = {module}\n", encoding="utf-8")
        monkeypatch.syspath_prepend(site)
        monkeypatch.setitem(sys.modules, module, None)  # so that it is forgotten afterwards
        del sys.modules[module]
        return site / module

    return installed


def of_the_page(language: str, number: int = 0) -> str:
    """A block of docs/adding-a-family.md."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)[number]


def test_the_family_of_the_docs_works_as_a_package(
    install: Callable[..., Path], faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = install(
        "blur", of_the_page("python"), presets={"smoke": of_the_page("yaml"), "fast": of_the_page("yaml")}
    )
    monkeypatch.chdir(tmp_path)
    assert "blur" in paths.families()
    assert paths.presets("blur") == ["fast", "smoke"]
    assert "blur_family" not in sys.modules  # listed without being imported
    words = [
        "train",
        "blur",
        "--preset",
        "smoke",
        "--data",
        faces,
        "--out",
        "blur",
        "--device",
        "cpu",
        "--duration",
        "32 images",
    ]
    trained = here(*words, *SHORT)
    assert trained.code == 0, trained.err
    about = json.loads(Path("blur/run.json").read_text(encoding="utf-8"))
    assert about["versions"]["blur-family"] == "0.1"
    drawn = here("sample", "blur", "--n", "2", "--device", "cpu", "--json")
    assert len(json.loads(drawn.out)["files"]) == 2
    assert "blur" in families_able("samples")
    rows = json.loads(here("presets", "list", "blur", "--json").out)
    assert [row["from"] for row in rows] == ["blur-family", "blur-family"]
    sys.path.remove(str(package.parent))
    without = here("sample", "blur", "--n", "2", "--device", "cpu")
    assert without.code == 3
    assert "the family `blur`, which is not here" in without.err


def test_the_entry_point_of_the_docs_is_the_groups() -> None:
    text = of_the_page("toml")
    assert f'[project.entry-points."{paths.PLUGINS}"]' in text
    assert 'blur = "blur_family"' in text
    assert yaml.safe_load(of_the_page("yaml"))["optim"]["model"]


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("import nosuch_library", "No module named 'nosuch_library'"),
        ("x = 1", "must define exactly one Family, it defines 0"),
        (
            "from animegen_cli.model.family import Family\nclass Half(Family): pass",
            "Half lacks `Config`, `Sampling`, `inference`",
        ),
    ],
)
def test_a_broken_package_is_named_and_breaks_nothing_else(install: Callable[..., Path], source: str, why: str) -> None:
    install("blur", source, presets={"smoke": "about: x"})
    with pytest.raises(MachineError, match=re.escape(why)) as caught:
        families.load("blur")
    assert "`blur` of the package blur-family 0.1" in caught.value.message
    assert caught.value.hint is not None
    assert "pip install --upgrade blur-family" in caught.value.hint
    assert "vae" in families_able("samples")
    assert families.load("vae").__name__ == "VAE"


def test_a_built_in_family_keeps_its_name(install: Callable[..., Path]) -> None:
    install("vae", "raise RuntimeError('not to be imported')", presets={"theirs": "about: x"})
    assert families.load("vae").__module__ == "animegen_cli.model.families.vae"
    assert "theirs" not in paths.presets("vae")
    assert "blur-family calls a family `vae`, which is built in" in here("presets", "list", "vae").err
    assert "blur-family calls a family `vae`" in here("train", "vae", "--preset", "smoke", "--data", "nosuch.zip").err


@pytest.mark.parametrize("name", ["studies", "My-Family"])
def test_a_name_that_no_folder_or_command_could_have_is_refused(install: Callable[..., Path], name: str) -> None:
    install(name, "")
    assert name not in paths.families()
    with pytest.raises(UsageError, match="small letters"):
        paths.check_family(name)


def test_two_packages_with_one_family_are_both_named(install: Callable[..., Path]) -> None:
    install("blur", "")
    install("blur", "", package="other-blur")
    with pytest.raises(
        UsageError, match=r"(blur-family and other-blur|other-blur and blur-family) both call a family `blur`"
    ):
        paths.check_family("blur")
