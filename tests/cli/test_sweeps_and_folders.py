"""Sweeps, mistakes and signals, with the real commands."""

import json
import signal

import pytest
from commands import PATIENCE, command, started, wait_for
from omegaconf import OmegaConf
from test_commands import SMALL

from eosvos.meta.checkpoint import read_checkpoint

ONE = (
    *SMALL,
    "dataset.test.num_videos=1",
    "iterations=1",
    "trainer.devices=1",
    "trainer.enable_progress_bar=false",
    "logger=csv",
)


def test_mistakes_leave_nothing_behind(tmp_path):
    (tmp_path / "file").touch()
    for mistakes in (
        ["hydra.run.dir="],
        ["hydra.run.dir=file/run"],
        ["-m", "seed=1,2", "hydra.sweep.dir=."],
        ["-m", "seed=1,2", "meta.batch_size=4,0"],
        ["-m", "seed=1,2", "hydra.sweep.subdir=same"],
        ["-m", "seed=1,2", "hydra/launcher=ray"],
        ["--config-name", "nope"],
    ):
        done = command(tmp_path, "train.py", *mistakes)
        assert done.returncode == 2, done.stderr
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1
        assert not done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.slow
def test_a_job_that_fails_does_not_take_the_rest_along(tmp_path, monkeypatch):
    """Each job has a folder of its own."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "w.pth").write_text("no weights: found when the job has begun")
    network = [part for part in ONE if not part.startswith("backbone.")]
    weights = ("backbone=resnet18", "backbone.fpn_channels=16", "backbone.weights=w.pth,none")
    places = ('hydra.sweep.dir="~/sweep"', "results=results/${hydra:job.num}")
    done = command(tmp_path, "train.py", "-m", *network, *weights, *places)
    assert done.returncode == 1
    sweep = tmp_path / "sweep"
    assert "w.pth cannot be read" in (sweep / "0" / "train.log").read_text()
    assert (sweep / "1" / "report.json").exists()
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["1"]
    said = done.stderr.splitlines()
    assert said[0].startswith("error: ")
    assert "w.pth cannot be read" in said[0]
    assert said[-1] == "error: 1 of the sweep's jobs failed, as said above"


@pytest.mark.slow
def test_a_sweep_on_two_devices_is_killed_and_goes_on(tmp_path):
    """Its processes end with it; then what is finished is skipped, and the interrupted job goes on."""
    jobs = ("-m", *ONE, "trainer.devices=2", "iterations=1,10", "val_every=1000", "hydra.sweep.dir=sweep")
    words = (*jobs, "trainer.save_minutes=1e-6")
    running = started(tmp_path, "train.py", *words)
    last = tmp_path / "sweep" / "1" / "checkpoints" / "last.ckpt"
    wait_for(last, running)
    running.kill()
    # Its output is at an end when nobody is left who could write.
    running.communicate(timeout=PATIENCE)
    assert not (tmp_path / "sweep" / "1" / "report.json").exists()
    first = (tmp_path / "sweep" / "0" / "report.json").read_bytes()
    done = command(tmp_path, "train.py", *words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("is finished: ") == done.stdout.count("goes on from ") == 1
    assert (tmp_path / "sweep" / "0" / "report.json").read_bytes() == first
    lines = json.loads((tmp_path / "sweep" / "sweep.json").read_text())
    assert [(line["settings"], line["failed"]) for line in lines] == [
        ("iterations=1", 0),
        ("iterations=10", 0),
    ]
    assert OmegaConf.load(tmp_path / "sweep" / "1" / "config.yaml").trainer.devices == 2
    assert read_checkpoint(last)[0]["iteration"] == 10


@pytest.mark.parametrize(("number", "imported"), [(signal.SIGINT, "hydra"), (signal.SIGTERM, "torch")])
def test_signals_end_a_command_quietly(tmp_path, number, imported):
    running = started(tmp_path, "train.py", *ONE, "iterations=1000", python=("-X", "importtime"))
    assert any(line.rpartition("|")[2].strip() == imported for line in running.stderr)
    running.send_signal(number)
    said = [line for line in running.stderr if "import time:" not in line]
    assert (running.wait(), said) == (128 + number, [f"error: stopped by {number.name}\n"])
