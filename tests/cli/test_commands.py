"""What the real commands do and print, with one process and with two."""

import csv
import json
import os
import re
import shutil
import signal
from pathlib import Path

import helpers
import numpy as np
import pytest
import torch
from clips import clip, picture
from commands import command, started, wait_for
from helpers import LIGHT
from PIL import Image

from eosvos.evaluation.evaluate import evaluate
from eosvos.meta.checkpoint import read_checkpoint
from eosvos.training.train import train
from eosvos.writing import alone_in

# LightDeepLab draws no samples, which the last bits of a sum could change.
SMALL = (
    *(setting for setting in helpers.SMALL if not setting.startswith(("trainer.", "logger"))),
    LIGHT,
    "dataset.val.num_videos=2",
    "iterations=2",
    "val_every=1",
)


def test_help_says_what_there_is_without_importing_torch(tmp_path):
    done = command(tmp_path, "train.py", "--help", python=("-X", "importtime"))
    assert done.returncode == 0
    for part in (
        "python train.py [GROUP=OPTION ...]",
        "dataset=",
        "davis2017",
        "checkpoint=FILE",
        "-m seed=1,2,3",
    ):
        assert part in done.stdout
    imported = {line.rsplit("|")[-1].strip() for line in done.stderr.splitlines() if "import time:" in line}
    assert "hydra" in imported
    assert not {"torch", "pytorch_lightning", "learn2learn", "wandb", "cv2"} & imported


def test_mistake_is_one_sentence_and_status_2(tmp_path):
    done = command(tmp_path, "train.py", "trainer.devices=3", python=("-X", "importtime"))
    said = [line for line in done.stderr.splitlines() if "import time:" not in line]
    assert done.returncode == 2
    assert said == [
        "error: meta.batch_size=4 cannot be shared evenly among trainer.devices=3 processes: "
        "set meta.batch_size to a multiple of 3"
    ]
    assert not any(line.endswith(" torch") for line in done.stderr.splitlines())


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run on two processes, with parent training and W&B: (its folder, what it printed)."""
    folder = tmp_path_factory.mktemp("command")
    done = command(
        folder,
        "train.py",
        *SMALL,
        "parent.steps=1",
        "trainer.devices=2",
        "trainer.num_workers=1",
        "logger=[csv,wandb]",
        "logger.wandb.offline=true",
    )
    assert done.returncode == 0, done.stderr
    (run,) = (folder / "runs").glob("*/*")
    return run, done


@pytest.mark.slow
def test_two_processes_write_one_folder(trained):
    run, done = trained
    assert "meta-learned" in done.stdout
    assert done.stdout.count("videos of dataset.test") == 1
    # The run's log holds what was printed.
    assert "meta-learned" in (run / "train.log").read_text()
    about = json.loads((run / "run.json").read_text())
    assert about["seed"] == 0
    there = {path.name for path in run.rglob("*")}
    assert {"config.yaml", "best.ckpt", "last.ckpt", "parent-last.ckpt", "metrics.csv", "report.md"} <= there


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(trained, tmp_path):
    run, _ = trained
    settings = ("parent.steps=1", "logger=csv", "trainer.enable_progress_bar=false")
    train(helpers.config(*SMALL, *settings, output=tmp_path))
    learned = [movement(folder / "checkpoints") for folder in (run, tmp_path)]
    assert learned[1].norm() > 0
    # Adam makes much of the last bits of gradients that are nearly zero.
    assert (learned[0] - learned[1]).norm() < 1e-2 * learned[1].norm()
    scores = [validation_scores(folder / "csv" / "metrics.csv") for folder in (run, tmp_path)]
    assert len(scores[0]) == len(scores[1]) == 2
    # The second is of weights that differ by a little, and so do pixels.
    assert scores[0][0] == pytest.approx(scores[1][0], abs=1e-3)


@pytest.mark.slow
def test_two_processes_report_what_one_does(trained, tmp_path):
    run, _ = trained
    settings = ("parent.steps=1", "logger=csv", "trainer.enable_progress_bar=false")
    # Without the report, the run is not finished.
    shutil.copytree(run / "checkpoints", tmp_path / "half" / "checkpoints")
    last = f"checkpoint={tmp_path / 'half' / 'checkpoints' / 'last.ckpt'}"
    result = train(helpers.config(*SMALL, *settings, last, "resume=true", output=tmp_path))
    shared = json.loads((run / "report.json").read_text())
    assert [row["name"] for row in shared] == [row.name for row in result.rows]
    for mine, theirs in zip(result.rows, shared, strict=True):
        assert [record.sequence for record in mine.records] == [r["sequence"] for r in theirs["records"]]
        assert mine.figures()["J&F"] == theirs["J&F"]
    # Each video's masks come from one process, the tables from the main one.
    assert len(list((run / "results").glob("synthetic-*/*.png"))) == 2 * 3
    assert (run / "results" / "global_results-test.csv").exists()


@pytest.mark.slow
def test_a_file_that_one_of_two_processes_cannot_read_ends_both_with_a_checkpoint(tmp_path):
    noise = np.random.default_rng(0)
    mask = np.zeros((48, 48), np.uint8)
    mask[10:30, 10:30] = 1
    for folder in ("frames", "masks"):
        (tmp_path / folder).mkdir()
    for t in range(40):
        Image.fromarray(noise.integers(0, 255, (48, 48, 3), np.uint8)).save(tmp_path / f"frames/{t:02d}.png")
        Image.fromarray(mask).save(tmp_path / f"masks/{t:02d}.png")
    # Its header is in order, so that it is found when it is decoded: by the process that draws it first.
    whole = (tmp_path / "frames/07.png").read_bytes()
    (tmp_path / "frames/07.png").write_bytes(whole[: len(whole) // 2])
    choices = ("dataset=folder", LIGHT, "backbone=tiny", "meta=tiny", "finetune=quick")
    settings = ("dataset.images=frames", "dataset.masks=masks", "trainer=cpu", "trainer.devices=2")
    sizes = (
        "meta.batch_size=2",
        "meta.inner_steps=1",
        "backbone.width=8",
        "trainer.enable_progress_bar=false",
    )
    done = command(tmp_path, "train.py", *choices, *settings, *sizes, "iterations=1000", "val_every=1000")
    assert done.returncode == 2, done.stderr
    (said,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert "frames/07.png cannot be read" in said
    last = Path(said.partition("checkpoint=")[2].split()[0])
    assert 0 < read_checkpoint(last)[0]["iteration"] < 1000


def movement(checkpoints):
    """What meta-training has changed, all values in one tensor [N]."""
    start = torch.load(checkpoints / "initialisation.pt", weights_only=True)
    last = read_checkpoint(checkpoints / "last.ckpt")[0]["state_dict"]
    return torch.cat([(last[f"learner.{name}"] - value).flatten() for name, value in start.items()])


def validation_scores(log):
    """J of each validation of a run."""
    with open(log) as lines:
        return [float(line["val/J"]) for line in csv.DictReader(lines) if line["val/J"]]


@pytest.mark.slow
def test_wandb_offline(trained):
    run, _ = trained
    assert list(run.glob("wandb/offline-run-*/*.wandb"))


@pytest.mark.slow
def test_two_processes_evaluate_as_one_does(trained, tmp_path, monkeypatch):
    run, _ = trained
    settings = (*SMALL, f"checkpoint={run / 'checkpoints' / 'best.ckpt'}", "dataset.test.num_videos=3")
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
    done = command(two, "evaluate.py", *settings, "trainer.devices=2", "results=out", "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("J&F") == 1
    monkeypatch.chdir(one)
    evaluate(helpers.config(*settings, "results=out", entry="evaluate"))
    assert len(list((one / "out").rglob("*.png"))) == 3 * 3 + 3
    assert results(one / "out") == results(two / "out")
    rows = [json.loads((folder / "run" / "report.json").read_text()) for folder in (one, two)]
    assert timeless(rows[0]) == timeless(rows[1])


@pytest.mark.slow
def test_two_processes_share_video_files_and_go_on_where_they_were_stopped(tmp_path):
    for name, length in (("cat", 150), ("dog", 3), ("fox", 3), ("hen", 3)):
        clip(tmp_path / f"videos/{name}.mp4", length=length)
        (tmp_path / "masks").mkdir(exist_ok=True)
        Image.fromarray((picture(0)[..., 2] > 140).astype(np.uint8)).save(tmp_path / f"masks/{name}.png")
    settings = ("dataset=video", f"dataset.video={tmp_path}/videos", f"dataset.masks={tmp_path}/masks")
    settings += (LIGHT, "backbone=tiny", "backbone.width=8", "finetune=quick", "finetune.steps=2")
    words = (*settings, "checkpoint=null", "trainer=cpu", "trainer.devices=2", "results=out")
    process = started(tmp_path, "evaluate.py", *words, group=True)
    # The one that has finished the dog begins the hen, while the other is in the middle of the cat.
    wait_for(tmp_path / "out/hen.record.json", process)
    wait_for(tmp_path / "out/cat/00001.png", process)
    os.killpg(process.pid, signal.SIGINT)
    said = process.communicate()[1].splitlines()
    assert [line for line in said if line.startswith("error")] == ["error: stopped by SIGINT"]
    done = command(tmp_path, "evaluate.py", *words)
    assert done.returncode == 0, done.stderr
    assert "dog (finished before)" in done.stdout
    assert "cat (finished before)" not in done.stdout
    assert re.search(r"^cat: goes on at frame [1-9]\d* of 150$", done.stdout, re.MULTILINE)
    whole = (*settings, f"results={tmp_path}/whole")
    evaluate(*helpers.prepared(*whole, entry="evaluate", output=tmp_path / "run"))
    assert results(tmp_path / "whole") == results(tmp_path / "out")


def results(folder):
    """What is in the files of a results folder, by their names; of records, which have seconds, nothing."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {
        str(path.relative_to(folder)): path.name.endswith(".record.json") or path.read_bytes()
        for path in files
    }


def timeless(value):
    """Nested dicts and lists without what took seconds."""
    if isinstance(value, dict):
        return {k: timeless(v) for k, v in value.items() if not k.startswith(("s/", "seconds"))}
    return [timeless(item) for item in value] if isinstance(value, list) else value


@pytest.mark.slow
def test_a_second_run_leaves_the_first_as_it_is(trained, tmp_path, monkeypatch):
    shutil.copytree(trained[0], tmp_path / "run")
    monkeypatch.setenv("HOME", str(tmp_path))
    files = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    again = command(tmp_path, "train.py", *SMALL, 'hydra.run.dir="~/run"', "seed=1")
    assert again.returncode == 2
    assert again.stderr.startswith(f"error: {tmp_path}/run holds another run")
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == files
    settings = ("parent.steps=1", "logger=csv", "trainer.devices=1", "iterations=3")
    resumed = ("checkpoint=run/checkpoints/last.ckpt", "resume=true", "hydra.run.dir=run")
    with alone_in(tmp_path / "run"):
        refused = command(tmp_path, "train.py", *SMALL, *settings, *resumed)
    assert refused.returncode == 2
    assert refused.stderr.startswith(f"error: another process is writing into {tmp_path}/run: wait for it")
    assert command(tmp_path, "train.py", *SMALL, *settings, *resumed).returncode == 0
