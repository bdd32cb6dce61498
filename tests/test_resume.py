"""Exact resume: real processes, killed and stopped while they work, end with every tensor of an unbroken run."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from functools import partial
from typing import TYPE_CHECKING

import pytest
from chain import assert_same_run, done, here, log_of, newest, refused, sets, start, train_words, wait_until

from animegen_cli.errors import StoppedError
from animegen_cli.model import checkpoint, families
from animegen_cli.paths import Run
from animegen_cli.train.session import Session

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    from animegen_cli.train.trainer import Trainer

BATCH = 8
IMAGES = {"ddim": 960, "ddpm": 960, "cyclegan": 480, "stylegan2": 480}
RECIPES = {
    # BatchNorm statistics, validation, and log lines whose window a save cuts in two.
    "ddim": sets("train.precision=fp32", "train.validate.images=8", "train.validate.every=200 images"),
    # Labels, dropout, augmentation, bf16, micro-batches, a rate that falls, an average every other step.
    "ddpm": [
        *sets("model.dropout=0.1", "model.labels=[hair,eyes]", "augment.rotate=5", "augment.crop=1"),
        *sets("train.precision=bf16", "train.ema.every=2", "optim.model.warmup=100 images"),
        *sets("optim.model.schedule=cosine", "optim.model.clip=1"),
        "--batch-gpu", "4",
    ],
    # Two domains, a pool of old images, two optimizers, a rate that falls with the epochs, a crop of what was scaled up.
    "cyclegan": [
        *sets("train.batch=4", "model.pool=6", "augment.load=20", "optim.G.schedule=linear-epochs"),
        *sets("optim.G.decay_from=1 epochs"),
    ],
    # Lazy phases, the strength of the augmentation, mean path length and mean w, a half-life.
    "stylegan2": [
        *sets("model.ada_speed=2000", "model.path_length=2.0", "train.ema.half_life=100 images"),
    ],
}  # fmt: skip


def command(family: str, faces: Path, out: Path, *more: object) -> list[str]:
    return train_words(family, faces, out, *RECIPES[family], *more, duration=f"{IMAGES[family]} images")


@pytest.fixture(scope="module")
def unbroken(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Runs that nothing disturbed, made when first asked for."""
    folder = tmp_path_factory.mktemp("unbroken")

    def run(family: str, data: Path = faces) -> Path:
        if not (folder / family).exists():
            done(*command(family, data, folder / family))
        return folder / family

    return run


def logged(run: Path) -> int:
    return max((line["images"] for line in log_of(run)), default=0)


def there(run: Path, pattern: str) -> bool:
    return any(run.glob(pattern))


def train_until(images: int, words: list[str], run: Path) -> subprocess.Popen[str]:
    """A training process that has just logged so many images."""
    process = start(*words)
    wait_until(lambda: logged(run) >= images, of=process)
    return process


@pytest.mark.slow
@pytest.mark.parametrize("family", sorted(RECIPES))
def test_killed_three_times_and_yet_the_same(
    family: str, request: pytest.FixtureRequest, unbroken: Callable[..., Path], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    lost: list[int] = []
    data = request.getfixturevalue("two_domains" if "photos" in families.load(family).domains else "faces")
    words = command(family, data, run)
    while len(lost) < 3:
        process = train_until(logged(run) + BATCH * random.randint(1, 12), words, run)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        if logged(run) > newest(run):
            lost.append(logged(run) - newest(run))
    assert logged(run) < IMAGES[family]
    done(*words)
    assert_same_run(unbroken(family, data), run)


@pytest.mark.slow
def test_told_to_stop_it_saves_and_goes_on(faces: Path, unbroken: Callable[..., Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = command("ddim", faces, run)
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
        process = train_until(logged(run) + 3 * BATCH, words, run)
        process.send_signal(number)
        said = process.communicate(timeout=60)[1]
        assert process.returncode == 85, said
        assert f"stopped: saved at {newest(run):,} of {IMAGES['ddim']:,} images; type the same command again" in said
        assert "error" not in said
        assert newest(run) >= logged(run), "work after the last state was lost"
        assert Run(run).about["state"] == "stopped"
        assert Run(run).about["images"] == newest(run) < IMAGES["ddim"]
    done(*words)
    assert Run(run).about["state"] == "finished"
    assert_same_run(unbroken("ddim"), run)


@pytest.mark.parametrize("ends", [StoppedError, KeyboardInterrupt])
def test_stopped_in_its_last_pictures_it_has_lost_nothing(
    ends: type[BaseException],
    faces: Path,
    unbroken: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A stop comes at once there, as a state is saved before; Ctrl-C twice and a kill leave that state too."""
    run = tmp_path / "run"
    words = command("ddim", faces, run)
    measured: list[int] = []
    measure = Session.validate

    def stopped_in_it(session: Session, trainer: Trainer) -> None:
        measure(session, trainer)
        if trainer.images >= trainer.total:
            measured.append(trainer.images)
            if ends is KeyboardInterrupt:
                raise KeyboardInterrupt
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
            pytest.fail("it went on")

    monkeypatch.setattr(Session, "validate", stopped_in_it)
    answer = here(*words)
    assert answer.code == (85 if ends is StoppedError else 130), answer.err
    if ends is StoppedError:
        assert f"stopped: saved after the last of {IMAGES['ddim']:,} images; type the same command again" in answer.err
        assert "error" not in answer.err
    assert Run(run).state == "stopped"
    assert newest(run) == IMAGES["ddim"]
    monkeypatch.setattr(Session, "validate", measure)
    done(*words)
    assert Run(run).state == "finished"
    assert len(measured) == 1
    assert_same_run(unbroken("ddim"), run)


def test_a_finished_run_without_its_states_is_not_trained_from_the_beginning(faces: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    done(*train_words("ddim", faces, run, duration="16 images"))
    done("runs", "rm", run, "--states", "--yes")
    weights = (run / "weights.safetensors").read_bytes()
    said = refused(2, *train_words("ddim", faces, run, duration="32 images"))
    assert f"animegen train --init-from {run}" in said
    assert (run / "weights.safetensors").read_bytes() == weights


def test_lines_after_the_state_are_cut(faces: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = train_words("ddim", faces, run, duration="128 images")
    done(*words)
    whole = (run / "log.jsonl").read_text()
    with (run / "log.jsonl").open("a") as file:
        file.write('{"images": 136, "step": 17, "model/noise_loss": 0.5}\n{"images": 144, "st')
    done(*words)
    assert (run / "log.jsonl").read_text() == whole


@pytest.mark.slow
def test_killed_while_saving(faces: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = command("ddim", faces, run, "--save-every", f"{BATCH} images", "--keep", "3")
    for begun in ("resume/.*.tmp/method.safetensors", ".weights.safetensors.*.tmp"):  # every step saves
        process = train_until(logged(run) + 12 * BATCH, words, run)
        wait_until(partial(there, run, begun), of=process)
        process.kill()
        process.wait()
        states = Run(run).states()
        assert len(states) >= 3
        for state in states:
            checkpoint.load_state(state)
        checkpoint.load_weights(Run(run).weights)
    seen = newest(run)
    assert here(*words, "--duration", f"{seen + 2 * BATCH} images").code == 0
    assert newest(run) == seen + 2 * BATCH
    assert len(Run(run).states()) in (3, 4)  # the last three, and the best where it is older


def test_what_a_kill_left_of_a_save_is_cleared(faces: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    done(*train_words("ddim", faces, run, duration="64 images"))
    whole = run / "resume" / f"{64:012d}"
    for images in (128, 100):  # the one that is written again, and one of a time that never returns
        shutil.copytree(whole, run / "resume" / f".{images:012d}.tmp")
        (run / "resume" / f".{images:012d}.tmp" / "method.safetensors").write_bytes(b"half")
    done(*train_words("ddim", faces, run, duration="128 images"))
    assert sorted(path.name for path in (run / "resume").iterdir()) == [f"{64:012d}", f"{128:012d}"]


def test_a_first_process_killed_before_its_first_state(faces: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / ".lock").write_text("1")  # all that was there when it was killed
    done(*train_words("ddim", faces, run, duration="64 images"))
    assert newest(run) == 64
