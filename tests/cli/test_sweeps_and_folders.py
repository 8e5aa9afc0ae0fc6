"""The real commands: sweeps, run folders, signals."""

import signal
import subprocess
import sys
import time

from helpers import ROOT
from test_commands import SMALL, command

ONE = (
    *SMALL,
    "dataset.test.num_videos=1",
    "iterations=1",
    "trainer.devices=1",
    "trainer.enable_progress_bar=false",
    "logger=csv",
)


def test_a_second_run_leaves_the_first_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = 'hydra.run.dir="~/run"'
    first = command(tmp_path, "train.py", *ONE, folder)
    assert first.returncode == 0, first.stderr
    files = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    again = command(tmp_path, "train.py", *ONE, folder, "seed=1")
    assert again.returncode == 2
    assert again.stderr.startswith(f"error: {tmp_path}/run holds another run")
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == files
    resumed = ("checkpoint=run/checkpoints/last.ckpt", "resume=true", "iterations=2")
    assert command(tmp_path, "train.py", *ONE, "hydra.run.dir=run", *resumed).returncode == 0


def test_mistakes_leave_nothing_behind(tmp_path):
    (tmp_path / "file").touch()
    for mistakes in (
        ["hydra.run.dir="],
        ["hydra.run.dir=file/run"],
        ["-m", "seed=1,2", "hydra.sweep.dir=."],
        ["-m", "seed=1,2", "meta.batch_size=4,0"],
        ["-m", "seed=1,2", "hydra.sweep.subdir=same"],
        ["-m", "seed=1,2", "hydra/launcher=joblib"],
        ["--config-name", "nope"],
    ):
        done = command(tmp_path, "train.py", *mistakes)
        assert done.returncode == 2, done.stderr
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1
        assert not done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_job_that_fails_does_not_take_the_rest_along(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "w.pth").write_text("no weights: found when the job has begun")
    network = [part for part in ONE if not part.startswith("backbone.")]
    weights = ("backbone=resnet18", "backbone.fpn_channels=16", "backbone.weights=w.pth,none")
    done = command(tmp_path, "train.py", "-m", *network, *weights, 'hydra.sweep.dir="~/sweep"')
    assert done.returncode == 1
    sweep = tmp_path / "sweep"
    assert "w.pth cannot be read" in (sweep / "0" / "train.log").read_text()
    assert (sweep / "1" / "report.json").exists()
    said = done.stderr.splitlines()
    assert said[0].startswith("error: ")
    assert "w.pth cannot be read" in said[0]
    assert said[-1] == "error: 1 of the sweep's jobs failed, as said above"


def test_signals_end_a_command_quietly(tmp_path):
    for number, seconds in ((signal.SIGINT, 1), (signal.SIGTERM, 3)):
        running = subprocess.Popen(
            [sys.executable, str(ROOT / "train.py"), *ONE, "iterations=1000"],
            cwd=tmp_path,
            stderr=subprocess.PIPE,
            text=True,
        )
        time.sleep(seconds)
        running.send_signal(number)
        _, said = running.communicate(timeout=120)
        assert (running.returncode, said) == (128 + number, f"error: stopped by {number.name}\n")
