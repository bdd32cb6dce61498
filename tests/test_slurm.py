"""Commands as SLURM jobs: the words of `--slurm`, the batch file, sweeps, and a real SLURM that stops and starts them."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from unittest import mock

import cluster
import pytest
from chain import SHORT, TINY, assert_same_run, done, log_of, refused, train_words

from animegen_cli.cli import slurm
from animegen_cli.paths import Run
from animegen_cli.train import job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future
    from pathlib import Path

IMAGES = 640
"""Of a training that is halted twice on its way."""
SMOKE = ("train", "ddpm", "--preset", "smoke")


def option_lines(script: str) -> dict[str, str]:
    """The `#SBATCH` lines of a batch file by option."""
    lines = [line.removeprefix("#SBATCH --") for line in script.splitlines() if line.startswith("#SBATCH --")]
    return {key: value for key, _, value in (line.partition("=") for line in lines)}


def command_of(script: str) -> list[str]:
    """The words that a shell reads in the last line of a batch file."""
    last = script.rstrip().splitlines()[-1]
    return shlex.split(last)


# ---- the words ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "an empty word"),
        ("gpu", "`gpu` in `--slurm` has no value"),
        ("partion=low,time=3", "sbatch has no option `partion`"),
        ("time=banana", "`time=banana` in `--slurm` is no time"),
        ("partition=", "`partition` in `--slurm` has no value"),
        ("partition=a,,time=1", "an empty word"),
        ("partition=a,partition=b", "says `partition` twice"),
        ("comment=two words", "a value with spaces"),
        ("comment=a\n#SBATCH --uid=0", "a value with spaces"),
        ("comment\n#SBATCH=a", "a word with control characters"),
        ("comment=$(id)", "a value with spaces, quotes or signs"),
        ('comment="a"', "a value with spaces, quotes or signs"),
        ("-p=gpu", "`-p`"),
        ("gpus=some", "`gpus=some` in `--slurm` is no number"),
        ("array=many", "is no number of workers"),
        ("wrap=ls", "cannot take `wrap`"),
    ],
)
def test_words_that_a_batch_file_cannot_hold_are_refused(text: str, said: str) -> None:
    message = refused(2, *SMOKE, "--slurm", text)
    assert said in message


def test_words_become_options_of_sbatch_and_lists_stay_whole() -> None:
    wish = slurm.Wish.parse("partition=a,b,cpus_per_task=4,exclusive,mail-type=END,FAIL,gres=gpu:a100:2")
    assert wish.options == {
        "partition": "a,b",
        "cpus-per-task": "4",
        "exclusive": None,
        "mail-type": "END,FAIL",
        "gres": "gpu:a100:2",
    }
    assert wish.gpus == 2


@pytest.mark.parametrize(
    ("time", "seconds"),
    [("5", 300), ("5:30", 330), ("04:00:00", 14_400), ("1-12", 129_600), ("2-00:30", 174_600), ("1-0:0:1", 86_401)],
)
def test_a_time_limit_is_read_as_slurm_reads_it(time: str, seconds: int) -> None:
    assert slurm.Wish.parse(f"time={time}").seconds == seconds


def test_a_batch_file_holds_the_command_as_it_was_typed(tmp_path: Path, faces: Path) -> None:
    folder = tmp_path / "a folder 100% 'mine'"
    folder.mkdir()
    words = [*SMOKE, "--data", str(faces), "--out", 'it\'s $HOME; `x` "y"', "--seed", "3", "--set", "model.channels=8"]
    words += ["--set", "model.groups=4"]
    answer = done(*words, "--slurm", "partition=gpu,time=04:00:00,no-kill", "--slurm-dry-run", cwd=folder)
    assert command_of(answer.out) == ["exec", sys.executable, "-m", "animegen_cli", *words]
    options = option_lines(answer.out)
    assert options.items() > {"requeue": "", "open-mode": "append", "partition": "gpu", "time": "04:00:00"}.items()
    assert options["signal"] == "B:USR1@180"
    assert options["no-kill"] == ""
    assert "100%% 'mine'" in options["output"]
    assert list(folder.iterdir()) == [], "a dry run writes nothing"
    # what the shell does with it: the folder and the words, exactly
    shown = answer.out.replace(f"exec {sys.executable} -m animegen_cli", "pwd; printf '%s\\n'")
    ran = subprocess.run(["bash", "-c", shown], capture_output=True, text=True, cwd="/", check=True)
    assert ran.stdout.splitlines() == [str(folder), *words]


def test_what_could_change_until_the_job_starts_is_said_in_it(tmp_path: Path, faces: Path) -> None:
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "mine.zip").write_bytes(faces.read_bytes())
    answer = done(*SMOKE, "--slurm=time=1", "--slurm-dry-run", cwd=tmp_path)
    assert command_of(answer.out)[4:] == [*SMOKE, "--data", "datasets/mine.zip"]
    assert "only the stop before its end saves" in answer.err


def test_a_run_to_go_on_with_is_enough(trained: Callable[[str], Path], tmp_path: Path) -> None:
    words = ["train", "--resume", str(trained("gan")), "--slurm"]
    answer = done(*words, "time=10", "--slurm-dry-run", cwd=tmp_path)
    assert command_of(answer.out)[4:] == words[:3]
    assert option_lines(answer.out)["job-name"] == "train-gan-smoke"
    message = refused(2, "train", "--resume", trained("gan"), "--seeds", "0-1", cwd=tmp_path)
    assert "a sweep goes on with its own runs" in message
    assert "no run" in refused(3, "train", "--resume", "nowhere", "--slurm", "time=10", cwd=tmp_path)


def test_an_evaluation_is_a_job_that_says_its_run_and_is_not_told_to_stop(
    trained: Callable[[str], Path], tmp_path: Path
) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "00003-mine").symlink_to(trained("gan"))
    script = done("eval", "--n", "16", "--slurm", "time=10", "--slurm-dry-run", cwd=tmp_path).out
    assert command_of(script)[4:] == ["eval", "--n", "16", "runs/00003-mine"]
    assert "signal" not in option_lines(script)
    assert "requeue" in option_lines(script)


def test_a_command_that_would_fail_is_refused_before_it_is_submitted(tmp_path: Path, faces: Path) -> None:
    words = [*SMOKE, "--data", str(faces), "--slurm", "time=1", "--set"]
    assert "unknown key `chanels`" in refused(2, *words, "model.chanels=8", cwd=tmp_path)
    assert "no data set" in refused(3, *SMOKE, "--slurm", "time=1", cwd=tmp_path)
    assert "type both" in refused(2, *SMOKE, "--slurm-dry-run", cwd=tmp_path)
    assert "`--dry-run` has no work" in refused(2, *SMOKE, "--slurm", "time=1", "--dry-run", cwd=tmp_path)
    assert "belongs to a study" in refused(2, "compare", "--slurm", "time=1", cwd=tmp_path)
    assert not (tmp_path / "runs").exists()


def test_the_data_set_of_a_study_is_looked_at_before_its_workers_are_submitted(tmp_path: Path, faces: Path) -> None:
    words = ["compare", "--study", "smoke", "--slurm", "time=1"]
    broken = tmp_path / "broken.zip"
    broken.write_bytes(faces.read_bytes()[:2000])
    assert "there is no data set" in refused(3, *words, "--data", "nowhere.zip", cwd=tmp_path)
    assert "is no whole data set file" in refused(3, *words, "--data", broken, cwd=tmp_path)
    others = tmp_path / "others.yaml"
    others.write_text("title: t\nabout: t\ndata: abc123\nruns:\n  a: {family: vae, preset: smoke}\n")
    named = ["compare", "--study", others, "--data", faces, "--slurm", "time=1"]
    assert "with other pictures than" in refused(3, *named, cwd=tmp_path)
    assert "no data set" in refused(3, "compare", "--study", "001", "--slurm", "time=1", cwd=tmp_path)
    assert not list(tmp_path.glob("**/*.sbatch")), "nothing was written for sbatch"


def test_without_sbatch_the_file_is_left_and_named(
    tmp_path: Path, faces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    message = refused(5, *SMOKE, "--data", faces, "--slurm", "time=1", cwd=tmp_path)
    assert "no sbatch here" in message
    assert "runs/slurm/train-ddpm-smoke.sbatch" in message
    assert (tmp_path / "runs" / "slurm" / "train-ddpm-smoke.sbatch").is_file()


def test_sbatch_gets_the_file_and_its_refusal_is_shown(
    tmp_path: Path, faces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for sbatch, which says what the real one does on a cluster among several."""
    file = tmp_path / "bin" / "sbatch"
    file.parent.mkdir()
    file.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\necho "12;some"\n')
    file.chmod(0o755)
    monkeypatch.setenv("PATH", f"{file.parent}:/usr/bin:/bin")
    words = [*SMOKE, "--data", faces, "--slurm"]
    for wish in ("time=10", "time=10", "time=20"):
        answer = done(*words, wish, cwd=tmp_path)
        assert answer.out == "12\n"
        assert "output:  runs/slurm/train-ddpm-smoke-12.out" in answer.err
    names = [f"--parsable runs/slurm/train-ddpm-smoke{end}.sbatch" for end in ("", "", "-2")]
    assert (tmp_path / "asked").read_text().splitlines() == names
    assert "--time=20\n" in (tmp_path / "runs" / "slurm" / "train-ddpm-smoke-2.sbatch").read_text()
    file.write_text("#!/bin/sh\necho 'sbatch: error: invalid partition specified: moon' >&2\nexit 1\n")
    assert "invalid partition specified: moon" in refused(5, *words, "partition=moon", cwd=tmp_path)


def test_a_study_and_a_sweep_are_arrays_and_one_training_is_none(tmp_path: Path, faces: Path) -> None:
    dry = ("--data", faces, "--slurm-dry-run", "--slurm")
    assert option_lines(done(*SMOKE, "--seeds", "0-4", *dry, "time=1", cwd=tmp_path).out)["array"] == "1-5"
    assert option_lines(done(*SMOKE, "--seeds", "0-40", *dry, "time=1", cwd=tmp_path).out)["array"] == "1-8"
    study = option_lines(done("compare", "--study", "smoke", *dry, "array=2", cwd=tmp_path).out)
    assert study["array"] == "1-2"
    assert study["output"].endswith("-%A_%a.out")
    assert "for studies and sweeps" in refused(2, *SMOKE, *dry, "array=2", cwd=tmp_path)


def test_tasks_are_started_by_srun(monkeypatch: pytest.MonkeyPatch) -> None:
    work = slurm.Work(name="n")
    script = slurm.batch_file(slurm.Wish.parse("nodes=2,gpus=8,cpus-per-task=6"), work, ["animegen", "train"])
    assert option_lines(script)["ntasks-per-node"] == "4"
    assert command_of(script)[:2] == ["exec", "srun"]
    assert command_of(script)[-3:] == ["--cpus-per-task=6", "animegen", "train"]
    assert "srun" not in slurm.batch_file(slurm.Wish.parse("gpus=4"), work, ["animegen", "train"])


@pytest.mark.parametrize(
    ("wish", "typed", "added"),
    [
        ("gpus=4", [], ["--nproc", "4"]),
        ("gres=gpu:a100:2", [], ["--nproc", "2"]),
        ("gpus=4", ["--nproc", "2"], []),
        ("gpus=4", ["--nproc=2"], []),
        ("gpus=1", [], []),
        ("nodes=2,gpus=8", [], []),  # srun starts them
    ],
)
def test_a_training_gets_a_process_for_each_gpu(wish: str, typed: list[str], added: list[str]) -> None:
    script = slurm.batch_file(slurm.Wish.parse(wish), slurm.Work(name="n", takes_nproc=True), ["animegen", *typed])
    assert command_of(script)[-1 - len(typed) - len(added) :] == ["animegen", *typed, *added]


def test_processes_that_cannot_share_a_step_are_refused_before_they_wait_for_their_gpus(
    tmp_path: Path, faces: Path
) -> None:
    words = [*SMOKE, "--data", faces, "--batch", "32", "--slurm-dry-run", "--slurm"]
    assert "use `--parts 8`" in refused(2, *words, "gpus=8", cwd=tmp_path)
    assert "use `--parts 8`" in refused(2, *words, "nodes=2,gpus=8", cwd=tmp_path)
    assert "3 processes cannot share" in refused(2, *words, "ntasks=3", cwd=tmp_path)
    assert command_of(done(*words, "gpus=8", "--parts", "8", cwd=tmp_path).out)[-2:] == ["--nproc", "8"]
    assert command_of(done(*words, "gpus=8", "--nproc", "2", cwd=tmp_path).out)[-2:] == ["--nproc", "2"]


def test_gpus_that_a_command_cannot_use_are_said(tmp_path: Path, faces: Path) -> None:
    words = ["compare", "--study", "smoke", "--data", faces, "--slurm", "gpus=4", "--slurm-dry-run"]
    answer = done(*words, cwd=tmp_path)
    assert "uses one GPU of 4" in answer.err
    assert "--nproc" not in answer.out


def test_a_job_name_is_a_file_name() -> None:
    assert slurm.job_name("eval", "../my run%j", None) == "eval-..-my-run-j"


# ---- who asks for a new start ---------------------------------------------------------------------------------

SAID = "JobId=7 JobName=x JobState={state} Reason={reason} Requeue={requeue} Restarts={restarts} BatchFlag={batch}"


@pytest.fixture
def scontrol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """A stand-in for `scontrol` that says what it is told of job 7 and writes down what it is asked to put back."""
    asked = tmp_path / "asked"

    def stand_in(
        state: str = "RUNNING", reason: str = "None", requeue: int = 1, restarts: int = 0, batch: int = 1
    ) -> Path:
        said = SAID.format(state=state, reason=reason, requeue=requeue, restarts=restarts, batch=batch)
        script = f'#!/bin/sh\nif [ "$1" = requeue ]; then echo "$2" >> {asked}; else echo "{said}"; fi\n'
        file = tmp_path / "bin" / "scontrol"
        file.parent.mkdir(exist_ok=True)
        file.write_text(script)
        file.chmod(0o755)
        return asked

    for name in list(os.environ):
        if name.startswith("SLURM_") or name == "RANK":
            monkeypatch.delenv(name)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    before = signal.getsignal(signal.SIGTERM)
    yield stand_in
    signal.signal(signal.SIGTERM, before)


def test_a_stopped_batch_job_asks_to_be_started_again(
    scontrol: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = scontrol()
    slurm.ask_for_requeue()
    assert asked.read_text() == "7\n"
    assert "start job 7 again" in capsys.readouterr().err
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "7")  # whose bare number means the whole array
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "2")
    slurm.ask_for_requeue()
    assert asked.read_text() == "7\n7_2\n"
    scontrol(state="COMPLETING", reason="TimeLimit")
    slurm.ask_for_requeue()
    assert asked.read_text() == "7\n7_2\n7_2\n"


@pytest.mark.parametrize(
    ("said", "note"),
    [
        ({"requeue": 0}, "may not start again"),
        ({"batch": 0}, ""),
        ({"state": "COMPLETING"}, ""),  # cancelled
        ({"state": "COMPLETING", "restarts": 1}, "again by itself"),  # pre-empted
    ],
)
def test_a_job_that_ends_for_good_or_is_put_back_by_slurm_is_left_alone(
    said: dict[str, int | str], note: str, scontrol: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    asked = scontrol(**said)
    slurm.ask_for_requeue()
    assert not asked.exists()
    written = capsys.readouterr().err
    assert note in written
    assert bool(note) == bool(written)


@pytest.mark.parametrize("variable", ["RANK", "SLURM_PROCID"])
def test_of_several_processes_the_first_asks(
    variable: str, scontrol: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = scontrol()
    monkeypatch.setenv(variable, "1")
    slurm.ask_for_requeue()
    assert not asked.exists()
    monkeypatch.setenv(variable, "0")
    slurm.ask_for_requeue()
    assert asked.read_text() == "7\n"


def test_without_scontrol_a_stopped_job_says_what_to_type(
    scontrol: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    slurm.ask_for_requeue()
    assert "`scontrol requeue 7`" in capsys.readouterr().err


def test_a_start_of_a_job_that_is_over_is_known(scontrol: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    scontrol(state="RUNNING", restarts=2)
    monkeypatch.setenv("SLURM_JOB_ID", "8")
    assert job.here() == job.Job("", "8", 0)
    assert job.Job.read(str(job.Job("c", "3_1", 2))) == job.Job("c", "3_1", 2)
    assert job.Job.read("4711") is None
    assert job.Job("", "7", 1).is_over  # it was started again since
    assert not job.Job("", "7", 2).is_over
    scontrol(state="COMPLETING", restarts=2)
    assert not job.Job("", "7", 2).is_over, "its processes may still be there"
    scontrol(state="TIMEOUT", restarts=2)
    assert job.Job("", "7", 2).is_over
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert job.Job("", "8", 0).is_over
    assert not job.Job("", "8", 1).is_over
    monkeypatch.setenv("PATH", "/nowhere")
    assert not job.Job("", "7", 1).is_over, "nobody can say"


# ---- a real one -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(faces: Path) -> Iterator[cluster.Cluster]:
    """A SLURM of one node, in which this process's shell commands work too."""
    if reason := cluster.missing():
        pytest.skip(reason)
    with contextlib.ExitStack() as stack:
        try:
            running = stack.enter_context(cluster.started(cores=4))
        except cluster.DoesNotStart as error:
            pytest.skip(str(error))
        own = {
            key: value for key, value in os.environ.items() if not key.startswith("SLURM_")
        }  # tests may run in a job
        stack.enter_context(mock.patch.dict(os.environ, own | running.environment, clear=True))
        yield running


def long_words(faces: Path, out: Path) -> list[str]:
    return train_words("ddpm", faces, out, duration=f"{IMAGES} images")


def submitted(words: list[str], wish: str, folder: Path) -> str:
    """Submit a command and give the job's number."""
    return done(*words, "--slurm", wish, cwd=folder).out.strip()


def output_of(folder: Path, number: str) -> str:
    return "".join(file.read_text() for file in sorted((folder / "runs" / "slurm").glob(f"*-{number}*.out")))


def halted(run: Path, more_than: int) -> int:
    """Let a training that SLURM started come to its next logged steps, halt it there, and say how many images it has seen.

    It does nothing until SLURM sends it a signal, which it does together with SIGCONT. So it is never done before that.
    """
    deadline = time.monotonic() + 120
    while not (log_of(run) and log_of(run)[-1]["images"] > more_than):
        assert time.monotonic() < deadline, f"no step after {more_than} images: {output_of(run.parent, '')}"
        time.sleep(0.01)
    os.kill(int((run / ".lock").read_text()), signal.SIGSTOP)
    return int(log_of(run)[-1]["images"])


@pytest.fixture(scope="module")
def limited(
    real: cluster.Cluster, faces: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, Future[str]]]:
    """The folder of a training in a job of one minute, and its number once it was stopped at that limit and goes on, halted.

    It works beside the other tests: SLURM looks for the ends of jobs only every half minute.
    """
    folder = tmp_path_factory.mktemp("limited")
    number = submitted(long_words(faces, folder / "run"), "partition=low,time=1", folder)

    def goes_on_after_its_limit() -> str:
        halted(folder / "run", 0)
        deadline = time.monotonic() + 120
        while real.about(number)["Restarts"] == "0":
            assert time.monotonic() < deadline, f"not put back: {output_of(folder, number)}{real.logs()}"
            time.sleep(0.1)
        real.call("scontrol", "update", f"JobId={number}", "TimeLimit=30")
        halted(folder / "run", int(Run(folder / "run").states()[-1].name))
        return number

    with ThreadPoolExecutor(1) as beside:
        yield folder, beside.submit(goes_on_after_its_limit)


@pytest.mark.slow
@pytest.mark.usefixtures("limited")
def test_two_workers_of_a_real_array_share_a_study(real: cluster.Cluster, faces: Path, tmp_path: Path) -> None:
    settings = [setting.partition("=") for setting in [*TINY["gan"], *SHORT]]
    given = "".join(f"      {key}: {value}\n" for key, _, value in settings)
    runs = "".join(
        f"  {name}:\n    family: gan\n    preset: smoke\n    duration: 64 images\n    settings:\n{given}"
        for name in "ab"
    )
    scores = "scores: {n: 16, repeats: 1, metrics: [fd-faces]}\n"
    (tmp_path / "two.yaml").write_text(f"title: Two\nabout: Both alike.\nruns:\n{runs}{scores}")
    words = ["compare", "--study", "two.yaml", "--data", str(faces), "--device", "cpu", "--picture-seeds", "0-3"]
    number = submitted(words, "array=2,partition=high", tmp_path)
    for task in (1, 2):
        about = real.wait(f"{number}_{task}", "COMPLETED", "FAILED")
        assert about["JobState"] == "COMPLETED", output_of(tmp_path, number)
    study = tmp_path / "studies" / "two"
    assert all(Run(study / "runs" / name).finished for name in "ab")
    assert (study / "comparison" / "index.html").is_file()
    written = output_of(tmp_path, number)
    assert [written.count(f" {name}: 100%") for name in "ab"] == [1, 1], "each is trained once"


@pytest.mark.slow
@pytest.mark.usefixtures("limited")
def test_a_cancelled_job_saves_and_stays_cancelled(real: cluster.Cluster, faces: Path, tmp_path: Path) -> None:
    number = submitted(long_words(faces, tmp_path / "run"), "partition=high", tmp_path)
    images = halted(tmp_path / "run", 0)
    real.call("scancel", number)
    about = real.wait(number, "CANCELLED")
    assert about["Restarts"] == "0"
    assert Run(tmp_path / "run").state == "stopped"
    assert int(Run(tmp_path / "run").states()[-1].name) >= images


@pytest.mark.slow
@pytest.mark.usefixtures("limited")
def test_processes_that_share_a_training_stop_together_and_their_job_is_put_back(
    real: cluster.Cluster, faces: Path, tmp_path: Path
) -> None:
    words = [*train_words("gan", faces, tmp_path / "run", duration="1M images"), "--parts", "2", "--nproc", "2"]
    number = submitted(words, "partition=high,cpus-per-task=2", tmp_path)
    deadline = time.monotonic() + 120
    while not log_of(tmp_path / "run"):
        assert time.monotonic() < deadline, output_of(tmp_path, number)
        time.sleep(0.05)
    real.call("scancel", "--batch", "--signal=USR1", number)
    about = real.wait(number, "PENDING")
    assert about["Restarts"] == "1"
    real.call("scancel", number)
    assert Run(tmp_path / "run").state == "stopped"
    assert output_of(tmp_path, number).count(f"asking SLURM to start job {number} again") == 1


@pytest.mark.slow
def test_a_job_that_its_time_limit_and_another_job_stop_ends_with_the_weights_of_an_unbroken_run(
    real: cluster.Cluster, limited: tuple[Path, Future[str]], faces: Path, tmp_path: Path
) -> None:
    folder, beside = limited
    done(*long_words(faces, tmp_path / "unbroken"))
    number = beside.result(timeout=240)
    assert f"asking SLURM to start job {number} again" in output_of(folder, number)
    real.call("sbatch", "--partition=high", "--cpus-per-task=4", "--output=/dev/null", "--wrap=true")
    about = real.wait(number, "COMPLETED", "FAILED")
    assert about["JobState"] == "COMPLETED", output_of(folder, number)
    assert about["Restarts"] == "2"
    written = output_of(folder, number)
    assert "DUE TO PREEMPTION" in written
    assert f"SLURM starts job {number} again by itself" in written
    assert written.count("going on at ") == 2
    assert_same_run(folder / "run", tmp_path / "unbroken")
