"""The real commands, each in a process of its own: few, for starting one takes ten seconds."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import helpers
import numpy as np
import pytest
import torch
from helpers import LIGHT, ROOT
from PIL import Image

from eosvos.meta.checkpoint import read_checkpoint
from eosvos.training.train import train

# LightDeepLab draws no samples, which the last bits of a sum could change.
SMALL = (
    *(setting for setting in helpers.SMALL if not setting.startswith(("trainer.", "logger"))),
    LIGHT,
    "dataset.val.num_videos=2",
    "iterations=2",
    "val_every=1",
)


def command(folder, script, *arguments, python=()):
    """Run a script of the repository in an empty folder."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "WANDB_MODE": "offline", "WANDB_SILENT": "true"}
    environment.pop("HYDRA_FULL_ERROR", None)
    return subprocess.run(
        [sys.executable, *python, str(ROOT / script), *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
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


def test_two_processes_write_one_folder(trained):
    run, done = trained
    assert "meta-learned" in done.stdout
    assert done.stdout.count("videos of dataset.test") == 1
    about = json.loads((run / "run.json").read_text())
    assert about["seed"] == 0
    there = {path.name for path in run.rglob("*")}
    assert {"config.yaml", "best.ckpt", "last.ckpt", "parent-last.ckpt", "metrics.csv", "report.md"} <= there


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


def test_wandb_offline(trained):
    run, _ = trained
    assert list(run.glob("wandb/offline-run-*/*.wandb"))


@pytest.fixture(scope="module")
def evaluated(trained, tmp_path_factory):
    """Evaluations of a checkpoint by one process and by two: the folder of each, and what it printed."""
    run, _ = trained
    checkpoint = f"checkpoint={run / 'checkpoints' / 'best.ckpt'}"
    found = {}
    for devices in (1, 2):
        folder = tmp_path_factory.mktemp("evaluate")
        settings = (*SMALL, checkpoint, "dataset.test.num_videos=3", f"trainer.devices={devices}")
        done = command(folder, "evaluate.py", *settings, "results=out", "hydra.run.dir=run")
        assert done.returncode == 0, done.stderr
        found[devices] = folder, done
    return found


def test_evaluate(evaluated):
    for folder, done in evaluated.values():
        assert done.stdout.count("J&F") == 1
        assert len(list((folder / "out").glob("synthetic-*/*.png"))) == 3 * 3
        assert (folder / "out" / "global_results-test.csv").exists()


def test_two_processes_evaluate_as_one_does(evaluated):
    one, two = (folder for folder, _ in evaluated.values())
    names = [sorted(str(p.relative_to(f)) for p in (f / "out").rglob("*") if p.is_file()) for f in (one, two)]
    assert names[0] == names[1]
    for name in names[0]:
        if not name.endswith(".record.json"):
            assert (one / name).read_bytes() == (two / name).read_bytes(), name
    rows = [json.loads((folder / "run" / "report.json").read_text()) for folder in (one, two)]
    assert timeless(rows[0]) == timeless(rows[1])


def timeless(value):
    """Nested dicts and lists without what took seconds."""
    if isinstance(value, dict):
        return {k: timeless(v) for k, v in value.items() if not k.startswith(("s/", "seconds"))}
    return [timeless(item) for item in value] if isinstance(value, list) else value


def test_sweep_gives_each_run_its_folder(tmp_path):
    done = command(tmp_path, "train.py", "-m", *SMALL, "seed=1,2")
    assert done.returncode == 0, done.stderr
    about = [json.loads(path.read_text()) for path in sorted((tmp_path / "runs").glob("*/*/*/run.json"))]
    assert [run["seed"] for run in about] == [1, 2]
