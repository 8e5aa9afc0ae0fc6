"""Every shipped data set gives tasks, and the Trainers of a run's stages are as configured."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import LIGHT, SMALL, config, prepared
from PIL import Image

from eosvos.errors import UserError
from eosvos.setup import device_for, set_up
from eosvos.training.train import train
from eosvos.training.trainer import data_module, make_trainer


@pytest.mark.parametrize("name", ["auto", "cpu"])
def test_trainers(name):
    trainer = make_trainer(config(*SMALL, f"trainer={name}"), "meta", [], iterations=10)
    assert trainer.num_devices == 1
    assert trainer.val_check_interval == 10


def test_any_callback_of_lightning_by_its_target(tmp_path):
    lines = (
        "+callbacks.summary._target_=pytorch_lightning.callbacks.ModelSummary",
        "+callbacks.summary.max_depth=3",
    )
    for shown in ("true", "false"):
        given = config(*SMALL, *lines, f"trainer.enable_progress_bar={shown}", output=tmp_path)
        callbacks = [type(one).__name__ for one in make_trainer(given, "meta", [], iterations=10).callbacks]
        assert callbacks.count("ModelSummary") == 1
        assert callbacks.count("RichProgressBar") == (shown == "true")


def picture(path, values=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.zeros((32, 48), np.uint8) if values is None else values
    image = Image.fromarray(values).convert("P" if path.suffix == ".png" else "RGB")
    image.save(path)


@pytest.fixture
def mask():
    values = np.zeros((32, 48), np.uint8)
    values[8:20, 8:20] = 1
    return values


def davis_folder(root, mask):
    for t in range(3):
        picture(root / f"JPEGImages/480p/cat/{t:05d}.jpg")
        picture(root / f"Annotations/480p/cat/{t:05d}.png", mask)
    for name in ("2016/train", "2016/val", "2017/train", "2017/val"):
        (root / f"ImageSets/{name}.txt").parent.mkdir(parents=True, exist_ok=True)
        (root / f"ImageSets/{name}.txt").write_text("cat\n")
    return [f"dataset.root={root}"]


def youtube_vos_folder(root, mask):
    videos, frames = {}, ["00000", "00005", "00010"]
    for name in ("a", "b"):
        videos[name] = {"objects": {"1": {"category": "cat", "frames": frames}}}
        for frame in frames:
            picture(root / f"train/JPEGImages/{name}/{frame}.jpg")
            picture(root / f"train/Annotations/{name}/{frame}.png", mask)
    (root / "train/meta.json").write_text(json.dumps({"videos": videos}))
    return [f"dataset.root={root}", "dataset.held_out=1"]


def video_folder(root, mask):
    for t in range(3):
        picture(root / f"images/{t:05d}.jpg")
    for t in range(2):
        picture(root / f"masks/{t:05d}.png", mask)
    return [f"dataset.images={root / 'images'}", f"dataset.masks={root / 'masks'}"]


@pytest.mark.parametrize(
    ("dataset", "make"),
    [
        ("davis2016", davis_folder),
        ("davis2017", davis_folder),
        ("youtube_vos", youtube_vos_folder),
        ("folder", video_folder),
    ],
)
def test_datasets(tmp_path, mask, dataset, make):
    given, videos = prepared(f"dataset={dataset}", *make(tmp_path / "videos", mask))
    assert videos.test[""][0].size == (32, 48)
    task = data_module(given, videos, "meta").sampler.sample(0, 1)
    assert task.support_images.shape == (1, 3, 32, 48)
    assert task.query_images.shape[0] == 1


def test_parent_training_copies_objects_into_frames_only_where_it_learns_all_of_them():
    def support(stage, probability, objects="all"):
        given, videos = prepared(
            *SMALL, f"dataset.augment.copy_paste={probability}", f"parent.objects={objects}"
        )
        return data_module(given, videos, stage).sampler.sample(0, 0)

    assert torch.equal(support("parent", 1, "one").support_images, support("parent", 0, "one").support_images)
    for stage in ("parent", "meta"):
        assert not torch.equal(support(stage, 1).support_images, support(stage, 0).support_images)
    assert len(support("parent", 1).query_images) == 0
    assert support("parent", 1).support_masks.max() > 1
    assert support("parent", 1, "one").support_masks.max() == 1


KINDS = (
    "object_groups=1",
    "no_label=1",
    "label_inversion=1",
    "single_object_videos=augment",
    "augment.copy_paste=1",
)


@pytest.mark.parametrize("kind", KINDS)
def test_parent_training_of_one_object_has_no_tasks_whose_object_only_a_support_frame_tells(kind):
    def supports(stage, *kinds):
        given, videos = prepared(*SMALL, LIGHT, "parent.objects=one", *kinds)
        tasks = [data_module(given, videos, stage).sampler.sample(0, slot) for slot in range(4)]
        return [value for task in tasks for value in (task.support_images, task.support_masks)]

    for stage in ("parent", "meta"):
        same = all(map(torch.equal, supports(stage, f"dataset.{kind}"), supports(stage)))
        assert same == (stage == "parent")


def test_a_gpu_of_another_kind_is_none(config, tmp_path, monkeypatch, capsys):
    """Of Apple's, which Lightning would take and parts of torch do not have."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr("eosvos.training.trainer.pl.Trainer", SimpleNamespace)
    for name in ("OMP_NUM_THREADS", "OPENCV_FOR_THREADS_NUM"):
        monkeypatch.setenv(name, "1")
    for accelerator, is_said in (("auto", True), ("cpu", False)):
        given = config(*SMALL, f"trainer.accelerator={accelerator}", "trainer.devices=1", output=tmp_path)
        assert make_trainer(given, "meta", [], iterations=1).accelerator == "cpu"
        set_up(given)
        assert ("No GPU was found" in capsys.readouterr().out) == is_said


def test_device_without_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_for("auto") == device_for("cpu") == torch.device("cpu")


def test_what_the_outer_optimiser_refuses_is_said_before_parent_training(tmp_path, monkeypatch):
    monkeypatch.setattr("eosvos.training.train.fit", lambda *_: pytest.fail("it was trained"))
    overrides = (*SMALL, "parent.steps=1", "+meta.outer.optimizer.lrr=3")
    with pytest.raises(UserError, match=r"torch\.optim\.Adam does not take .*lrr"):
        train(*prepared(*overrides, output=tmp_path / "run"))
