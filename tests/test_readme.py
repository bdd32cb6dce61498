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
NEWCOMER = ("pip install . && animegen demo", "pip install '.[test]' && pytest")
TINY = {
    "attributes": ["--set", "model.widths=[8,16]"],
    "ddpm": ["--set", "model.channels=8", "--set", "model.groups=4", "--set", "model.multipliers=[1,2]"],
    "ddim": ["--set", "model.widths=[8,16]", "--set", "model.attention=0"],
    "vae": ["--set", "model.widths=[8,16]", "--set", "model.latent=8"],
    "cyclegan": ["--set", "model.channels=4", "--set", "model.critic_channels=4", "--set", "model.blocks=1"],
}
STEPWISE = ("ddpm", "ddim")


def commands() -> list[str]:
    """Every line of the bash blocks, in their order."""
    blocks = re.findall(r"```bash\n(.*?)```", README, flags=re.S)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def smaller(words: list[str]) -> list[str]:
    """The same command at reduced size: what is appended wins over what the README says."""
    if words[1] == "train":
        small = [*words, "--duration", "32 images", "--batch", "8", "--set", "train.preview_every=16 images"]
        return [*small, *(["--set", "sample.steps=3"] if words[2] in STEPWISE else []), *TINY[words[2]]]
    if words[1] in ("sample", "translate"):
        return [*words, *(["--steps", "2"] if "ddim" in words[2] else [])]
    if words[1] == "eval":
        extra = [] if "--against" in words else ["--n", "8", "--steps", "2"]
        return [*words, *extra, *([] if "--extractor" in words else ["--extractor", "faces"])]
    if "--study" in words and "--dry-run" not in words:  # .ci/run runs it whole
        return [*words, "--dry-run"]
    return words


@pytest.mark.slow
def test_every_command_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, since most of the time of forty others would be importing torch."""
    folder = tmp_path / "kaggle" / "images"
    folder.mkdir(parents=True)
    for index in range(40):
        buffer = io.BytesIO()
        draw(index, size=48, seed=7).image.save(buffer, "JPEG", quality=92)
        (folder / f"{index}_2005.jpg").write_bytes(buffer.getvalue())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    ran = commands()
    assert len(ran) >= 12, "the README lost its commands"
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
