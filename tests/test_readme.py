"""The README's commands run as they stand, but for `--set` and numbers that make them small."""

from __future__ import annotations

import io
import re
import shlex
from pathlib import Path

import pytest
from chain import here

from animegen_cli.prepare.drawn import draw

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
TOUR = (ROOT / "docs" / "tour.md").read_text(encoding="utf-8")
NEWCOMER = ("pip install . && animegen demo", "pip install '.[test]' && pytest")
TINY = {
    "attributes": ["--set", "model.widths=[8,16]"],
    "ddpm": ["--set", "model.channels=8", "--set", "model.groups=4", "--set", "model.multipliers=[1,2]"],
    "ddim": ["--set", "model.widths=[8,16]", "--set", "model.attention=0"],
    "gan": ["--set", "model.width=4", "--set", "model.critic_width=4"],
    "vae": ["--set", "model.widths=[8,16]", "--set", "model.latent=8"],
    "cyclegan": ["--set", "model.channels=4", "--set", "model.critic_channels=4", "--set", "model.blocks=1"],
}
STEPWISE = ("ddpm", "ddim")


def commands() -> list[str]:
    """Every line of the bash blocks of the README and of the tour behind it, in their order."""
    blocks = re.findall(r"```bash\n(.*?)```", README + TOUR, flags=re.S)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def fewer_steps(words: list[str]) -> list[str]:
    return ["--steps", "2"] if any("ddim" in word for word in words[2:3]) else []


def smaller(words: list[str]) -> list[str]:
    """The same command at reduced size: what is appended wins over what the README says."""
    if words[1] == "train":
        small = [*words, "--duration", "32 images", "--batch", "8", "--set", "train.preview_every=16 images"]
        return [*small, *(["--set", "sample.steps=3"] if words[2] in STEPWISE else []), *TINY[words[2]]]
    if words[1] in ("sample", "translate"):
        return [*words, *fewer_steps(words)]
    if words[1] == "eval":
        extra = [] if "--against" in words else ["--n", "8", *fewer_steps(words)]
        return [*words, *extra, *([] if "--extractor" in words else ["--extractor", "faces"])]
    if "--study" in words and "--dry-run" not in words:  # .ci/run runs it whole
        return [*words, "--dry-run"]
    return words


@pytest.mark.slow
def test_every_command_of_the_readme_and_the_tour_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, since most of the time of forty others would be importing torch."""
    folder = tmp_path / "kaggle" / "images"
    folder.mkdir(parents=True)
    for index in range(40):
        buffer = io.BytesIO()
        draw(index, size=48, seed=7).image.save(buffer, "JPEG", quality=92)
        (folder / f"{index}_2005.jpg").write_bytes(buffer.getvalue())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    ran = commands()
    assert len(ran) >= 12, "they lost their commands"
    for line in ran:
        words = shlex.split(line)
        assert words[0] == "animegen", line
        answer = here(*smaller(words)[1:], cwd=tmp_path)
        assert answer.code == 0, f"{line}\n{answer.out}\n{answer.err}"
    assert (tmp_path / "comparison" / "index.html").is_file()


def test_the_newcomers_commands_are_spelled_as_the_check_script_spells_them() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    for command in NEWCOMER:
        assert f"\n{command}\n" in README
        assert f"\n{command}\n" in script


def test_the_pictures_and_pages_that_the_readme_points_to_exist() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target


def test_the_readme_is_short_and_shows_a_picture_before_it_explains() -> None:
    assert len(README.split()) <= 700
    assert README.index("![") < README.index("\n- **")


def test_every_page_of_the_documentation_is_on_the_site() -> None:
    """`.ci/run` builds it, which fails for a link that leads nowhere."""
    shown = set(re.findall(r": ([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), flags=re.M))
    pages = {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md") if page.name != "table.md"}
    assert shown == pages
