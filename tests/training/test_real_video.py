"""The experiment for real video, on pictures and videos in files."""

import numpy as np
import torch
from helpers import compose, prepared

from eosvos.config.checks import check
from eosvos.data.split_file import write_split
from eosvos.meta.checkpoint import load_checkpoint
from eosvos.training.train import train


def files(disk):
    """Two pictures with several objects, and four videos, divided."""
    labels = np.zeros((24, 32), np.uint8)
    labels[4:12, 4:14], labels[12:20, 18:28] = 1, 2
    for name in ("p0", "p1"):
        disk.frame(f"images/a/images/{name}.jpg", (24, 32))
        disk.mask(f"images/a/masks/{name}.png", labels)
    for video in ("v0", "v1", "v2", "v3"):
        for t in range(3):
            disk.frame(f"videos/JPEGImages/{video}/{t:05d}.jpg", (24, 32))
            disk.mask(f"videos/Annotations/{video}/{t:05d}.png", labels)
    split = disk.root / "split.json"
    write_split(split, {"train": ["v0", "v1"], "val": ["v2"], "test": ["v3"]}, {})
    return [f"dataset.root={disk.root}", f"dataset.videos.split_file={split}"]


def test_it_learns_from_pictures_and_videos_and_its_checkpoint_segments(disk, tmp_path):
    short = (
        "parent.steps=2",
        "parent.batch_size=2",
        "iterations=1",
        "meta.batch_size=2",
        "meta.inner_steps=1",
    )
    small = (
        *("backbone=tiny", "backbone.width=8", "backbone.levels=2", "segmenter.channels=8", "trainer=cpu"),
        *(
            "finetune.steps=1",
            "finetune.batch_size=1",
            "finetune.short_side=32",
            "final_eval.selection_videos=0",
        ),
    )
    overrides = ("experiment=real_video", *files(disk), *short, *small)
    config, videos = prepared(*overrides, "trainer.enable_progress_bar=false", output=tmp_path / "run")
    result = train(config, videos)
    assert [row.name for row in result.rows][-1] == "meta-learned"
    loaded = load_checkpoint(tmp_path / "run/checkpoints/last.ckpt")
    assert (loaded.stage, loaded.finetune.short_side) == ("meta", 32)
    assert loaded.learner.segmenter.settings.prior == "gate"
    # The weights are those after meta-training, not the parent's.
    parent = load_checkpoint(tmp_path / "run/checkpoints/parent-last.ckpt").learner
    assert any(not torch.equal(a, b) for a, b in zip(loaded.learner.weights(), parent.weights(), strict=True))


def test_a_gpu_takes_the_place_of_the_cores():
    cfg = compose(
        "experiment=real_video", "dataset.root=x", "trainer=gpu", "trainer.num_workers=8", "minutes=8"
    )
    assert (cfg.trainer.accelerator, cfg.trainer.devices, cfg.trainer.num_workers) == ("gpu", 1, 8)
    assert check(cfg).minutes_of_stage == 4
    assert compose("experiment=real_video", "dataset.root=x").trainer.accelerator == "cpu"
