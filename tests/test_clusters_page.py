"""What docs/clusters.md and containers/ tell people to type does what they say."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from test_hints import parsed

from animegen_cli.cli import slurm

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "clusters.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", PAGE, flags=re.S)


def commands() -> list[str]:
    """Every line of the page that begins with `animegen`, or runs it in a container."""
    lines = [line for kind, text in BLOCKS if not kind for line in text.splitlines()]
    found = [
        re.sub(
            r"^.*(?:--volume \S+|run --nv \S+\.sif|until|-m animegen_cli|^srun .*?(?= animegen)) (?:animegen )?",
            "animegen ",
            line,
        )
        for line in lines
    ]
    return [line.partition(";")[0] for line in found if re.match(r"animegen (?!\.)", line)]


def programs(folder: Path, texts: Mapping[str, str]) -> dict[str, str]:
    """An environment in which these shell scripts are programs."""
    for name, text in texts.items():
        (folder / name).write_text(f"#!/bin/bash\n{text}\n")
        (folder / name).chmod(0o755)
    return {"PATH": f"{folder}:/usr/bin:/bin", "SLURM_JOB_ID": "7"}


@pytest.mark.parametrize("line", commands())
def test_every_command_of_the_page_can_be_typed(line: str) -> None:
    words = shlex.split(line)[1:]
    parsed(words)
    if "--slurm" in words:
        assert slurm.Wish.parse(words[words.index("--slurm") + 1]).options


def test_the_page_has_commands() -> None:
    assert len(commands()) >= 11


def test_the_batch_file_of_the_page_is_what_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    typed, shown = PAGE.index("animegen train ddpm"), next(text for kind, text in BLOCKS if kind == "bash")
    words = shlex.split(PAGE[typed:].splitlines()[0])
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.setattr(Path, "cwd", lambda: Path("/home/me/faces"))
    wish = slurm.Wish.parse(words[words.index("--slurm") + 1])
    command = ["/home/me/venv/bin/animegen", *slurm.typed(words[1:])]
    assert slurm.batch_file(wish, slurm.Work(name="train-ddpm-fast"), command) == shown


@pytest.mark.parametrize(("codes", "starts"), [([85, 85, 0], 3), ([85, 4], 2), ([0], 1)])
def test_the_loop_of_the_page_goes_on_after_stops_alone(codes: list[int], starts: int, tmp_path: Path) -> None:
    line = next(line for kind, text in BLOCKS if not kind for line in text.splitlines() if line.startswith("until"))
    (tmp_path / "codes").write_text("".join(f"{code}\n" for code in codes))
    stand_in = f"echo start; code=$(head -n 1 {tmp_path}/codes); sed -i 1d {tmp_path}/codes; exit $code"
    ran = subprocess.run(
        ["bash", "-c", line], env=programs(tmp_path, {"animegen": stand_in}), capture_output=True, text=True, timeout=30
    )
    assert ran.stdout.count("start") == starts


@pytest.mark.parametrize("told", [[signal.SIGUSR1], [signal.SIGTERM, signal.SIGTERM]])
def test_the_batch_file_for_containers_waits_for_the_training_and_asks_for_the_new_start(
    told: list[signal.Signals], tmp_path: Path
) -> None:
    script = next(text for kind, text in BLOCKS if kind == "sh")
    saving = (
        f"trap 'sleep 0.5; touch {tmp_path}/saved; exit 85' USR1; touch {tmp_path}/trains; while :; do sleep 0.05; done"
    )
    asking = f'echo "$@" >> {tmp_path}/asked'
    job = subprocess.Popen(
        ["bash", "-c", script], env=programs(tmp_path, {"apptainer": saving, "scontrol": asking}), cwd=tmp_path
    )
    deadline = time.monotonic() + 30
    while not (tmp_path / "trains").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    for number in told:
        job.send_signal(number)
        time.sleep(0.1)
    assert job.wait(timeout=30) == 85
    assert (tmp_path / "saved").exists(), "the shell went before the training"
    assert (tmp_path / "asked").read_text() == "requeue 7\n"


def test_a_training_that_ends_by_itself_in_a_container_is_not_started_again(tmp_path: Path) -> None:
    script = next(text for kind, text in BLOCKS if kind == "sh")
    stand_ins = {"apptainer": "exit 4", "scontrol": f"touch {tmp_path}/asked"}
    ran = subprocess.run(["bash", "-c", script], env=programs(tmp_path, stand_ins), cwd=tmp_path, timeout=30)
    assert ran.returncode == 4
    assert not (tmp_path / "asked").exists()


def test_both_images_get_what_the_package_is_built_from() -> None:
    dockerfile = (ROOT / "containers" / "Dockerfile").read_text(encoding="utf-8")
    definition = (ROOT / "containers" / "animegen.def").read_text(encoding="utf-8")
    copied = {word for line in re.findall(r"^COPY (.*)", dockerfile, flags=re.M) for word in line.split()[:-1]}
    files = re.findall(r"^    (\S+) /src/(\S+)$", definition, flags=re.M)
    assert {source for source, _ in files} == copied
    assert all(source == target for source, target in files)
    assert {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")} == copied
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    wheel = project[
        project.index("[tool.hatch.build.targets.wheel]") : project.index("[tool.hatch.build.targets.sdist]")
    ]
    needed = set(re.findall(r'^(\w+) = "animegen_cli/', wheel, flags=re.M)) | {"animegen_cli", "pyproject.toml"}
    needed |= set(re.findall(r'^readme = "(.*)"|^license-files = \["(.*)"\]', project, flags=re.M)[0]) - {""}
    assert needed <= copied
    for requirement in re.findall(r'"(torch\S*)"', dockerfile):
        assert f'"{requirement}"' in project
