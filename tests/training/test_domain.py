"""The experiment for a domain of one's own: folders of frames with some masks, and a checkpoint."""

import json

import helpers
import numpy as np
import pytest
import torch
from helpers import compose, prepared

from eosvos.errors import UserError
from eosvos.training.train import train

TINY = (
    *("backbone=tiny", "backbone.width=8", "backbone.levels=2", "segmenter.channels=8", "trainer=cpu"),
    *("finetune.steps=1", "finetune.batch_size=1", "finetune.short_side=32", "meta.inner_steps=1"),
    *("trainer.enable_progress_bar=false", "logger=csv", "iterations=2"),
)


def frames(disk, video, count=10):
    """Frames, of which every second has a mask."""
    for t in range(count):
        disk.frame(f"JPEGImages/{video}/{t:05d}.jpg", value=10 * t)
        labels = np.zeros((24, 32), np.uint8)
        labels[4:14, 4 + t : 14 + t] = 1
        if t % 2 == 0:
            disk.mask(f"Annotations/{video}/{t:05d}.png", labels)


def domain(root, *overrides, video=""):
    images, masks = (root / part / video for part in ("JPEGImages", "Annotations"))
    places = (f"dataset.images={images}", f"dataset.masks={masks}")
    new = () if any(one.startswith("checkpoint=") for one in overrides) else ("checkpoint=null",)
    return ("experiment=domain", *places, *TINY, *new, *overrides)


def test_it_starts_from_the_weights_that_come_with_eosvos():
    assert compose("experiment=domain").checkpoint == "small"


@pytest.fixture
def start(tmp_path):
    """A checkpoint of a network of the same kind, meta-trained on other videos."""
    network = [one for one in TINY if not one.startswith("trainer=")]
    synthetic = ("experiment=synthetic_light_deeplab", "dataset.size=[32,32]", "dataset.num_frames=3")
    few = ("dataset.val.num_videos=1", "dataset.test.num_videos=1", "final_eval.selection_videos=0")
    config = helpers.config(*synthetic, *few, *network, "trainer.devices=1", output=tmp_path / "start")
    return tmp_path / "start/checkpoints/last.ckpt", train(config).learner


def test_a_checkpoint_is_measured_as_it_is_and_adapted_to_videos_that_are_kept_apart(
    disk, tmp_path, start, capsys
):
    for i in range(5):
        frames(disk, f"v{i}")
    run = tmp_path / "run"
    checkpoint, learner = start
    result = train(*prepared(*domain(disk.root, f"checkpoint={checkpoint}", "minutes=60"), output=run))
    assert [row.name for row in result.rows] == ["initialisation, initial learning rates", "meta-learned"]
    assert all(map(torch.equal, result.initial.meta_parameters(), learner.meta_parameters()))
    split = json.loads((run / "split.json").read_text())
    assert {part: len(split[part]) for part in ("train", "val", "test")} == {"train": 3, "val": 1, "test": 1}
    assert [record.sequence for record in result.rows[0].records] == split["test"]
    said = " ".join(capsys.readouterr().out.split())
    assert f"The videos of dataset are divided at random (3 train, 1 val, 1 test): {run}/split.json" in said
    # The file gives the same parts to another run.
    again = (f"dataset.split_file={run / 'split.json'}", "dataset.divide=null")
    _, videos = prepared(*domain(disk.root, *again), output=tmp_path / "again")
    assert [video.name for video in videos.test[""]] == split["test"]
    assert sorted(video.name for video in videos.train[0].videos) == split["train"]


def test_one_video_is_divided_in_time_which_is_said(disk, tmp_path, capsys):
    frames(disk, "clip", count=18)
    few = ("parent.steps=1", "parent.batch_size=1", "iterations=1")
    result = train(*prepared(*domain(disk.root, *few, video="clip"), output=tmp_path / "run"))
    said = " ".join(capsys.readouterr().out.split())
    assert "dataset has one video, which is divided in time (val begins with frame 00006, test begins" in said
    assert "with frame 00012): figures on what comes later in a video that was trained on say little" in said
    [record] = result.rows[-1].records
    # Frames 12 to 17: the mask of 12 is given, those of 14 and 16 are scored.
    assert (record.num_frames, record.num_objects, len(record.scores)) == (6, 1, 1)
    assert not (tmp_path / "run/split.json").exists()


def test_folders_without_masks_are_refused_before_anything_is_written(disk, tmp_path):
    for i in range(5):
        frames(disk, f"v{i}")
    for mask in disk.root.glob("Annotations/*/*.png"):
        mask.unlink()
    with pytest.raises(UserError, match=r"^dataset\.train: sequence v\d has no mask: add one"):
        prepared(*domain(disk.root), output=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_minutes_limit_it_and_a_gpu_is_asked_for_by_its_option():
    config = compose("experiment=domain", "dataset.images=x", "dataset.masks=y")
    assert (config.minutes, config.dataset.train.short_side, config.dataset.val.short_side) == (30, 240, None)
    assert config.parent.steps == 0
    gpu = compose("experiment=domain", "dataset.images=x", "dataset.masks=y", "trainer=gpu")
    assert (gpu.trainer.accelerator, gpu.trainer.devices) == ("gpu", 1)
