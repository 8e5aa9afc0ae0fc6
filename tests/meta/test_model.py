"""Every shipped configuration builds what it says, without reading or downloading weights."""

import json

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from eosvos.run.checks import prepare
from eosvos.run.help import options
from eosvos.run.instantiate import build
from eosvos.run.networks import build_learner, build_segmenter, device_for, model_config, without_weights
from eosvos.run.stages import data_module, make_trainer
from PIL import Image

from eosvos.errors import UserError

# Each segmenter and each backbone at least once; the default of the paper is among them.
NETWORKS = [
    ("mask_rcnn", "resnet50"),
    ("mask_rcnn", "resnet18"),
    ("mask_rcnn", "resnet34"),
    ("mask_rcnn", "resnet101"),
    ("small_mask_rcnn", "efficientnet_lite0"),
    ("small_mask_rcnn", "timm"),
    ("tiny_mask_rcnn", "tiny"),
    ("semantic", "tiny"),
    ("semantic", "efficientnet_lite0"),
]


def test_list_is_complete():
    assert {segmenter for segmenter, _ in NETWORKS} == set(options("segmenter"))
    assert {backbone for _, backbone in NETWORKS} == set(options("backbone"))


@pytest.mark.parametrize(("segmenter", "backbone"), NETWORKS)
def test_networks(compose, segmenter, backbone):
    name = ["backbone.name=mobilenetv3_small_050"] if backbone == "timm" else []
    cfg = compose(f"segmenter={segmenter}", f"backbone={backbone}", *name)
    model = without_weights(model_config(cfg))
    # Drawing initial weights is what takes the time: there is nothing to see in them here.
    with torch.device("meta" if backbone == "resnet101" else "cpu"):
        built = build_segmenter(model["segmenter"], model["backbone"])
    assert type(built).__name__ == cfg.segmenter._target_.rpartition(".")[2]
    assert any(p.requires_grad for p in built.head_parameters())


@pytest.mark.parametrize(
    ("segmenter", "name", "read"),
    [
        ({"weights": "coco"}, "resnet50", "none"),
        ({"weights": "coco"}, "resnet101", "imagenet"),
        ({"weights": "none"}, "resnet50", "imagenet"),
        ({"weights": "detector.pth"}, "resnet50", "none"),
        ({"weights": "detector.pth"}, "resnet101", "none"),
        ({}, "resnet50", "imagenet"),
    ],
)
def test_weights_of_the_whole_network_spare_those_of_the_backbone(monkeypatch, segmenter, name, read):
    asked = []
    monkeypatch.setattr("eosvos.run.networks.build", lambda node, **_: asked.append(dict(node)))
    build_segmenter(segmenter, {"name": name, "weights": "imagenet"})
    assert asked == [{"name": name, "weights": read}, segmenter]


def test_file_for_the_whole_network_on_a_backbone_without_weights(compose, tmp_path):
    model = model_config(compose("segmenter=tiny_mask_rcnn", "backbone=tiny"))
    state = build_segmenter(model["segmenter"], model["backbone"]).state_dict()
    torch.save(state, tmp_path / "detector.pth")
    from_file = {**model["segmenter"], "weights": str(tmp_path / "detector.pth")}
    found = build_segmenter(from_file, model["backbone"]).state_dict()
    assert all(torch.equal(found[name], value) for name, value in state.items())


def test_seed_decides_the_initial_weights(compose, small):
    model = model_config(compose(*small))
    before = torch.get_rng_state()
    one, again, other = (build_learner(model, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("name", ["auto", "cpu"])
def test_trainers(compose, name, small):
    trainer = make_trainer(compose(*small, f"trainer={name}"), "meta", [], iterations=10)
    assert trainer.num_devices == 1
    assert trainer.val_check_interval == 10


@pytest.mark.parametrize("name", ["csv", "tensorboard"])
def test_loggers(compose, tmp_path, name):
    logger = build(compose(f"logger={name}").logger[name])
    assert isinstance(logger, pl.loggers.Logger)
    assert logger.log_dir.startswith(str(tmp_path / "run"))


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
    videos = {}
    for name in ("a", "b"):
        videos[name] = {"objects": {"1": {"category": "cat", "frames": ["00000", "00005"]}}}
        for frame in ("00000", "00005"):
            picture(root / f"train/JPEGImages/{name}/{frame}.jpg")
            picture(root / f"train/Annotations/{name}/{frame}.png", mask)
    (root / "train/meta.json").write_text(json.dumps({"videos": videos}))
    return [f"dataset.root={root}", *(f"dataset.{part}.held_out=1" for part in ("train", "val", "test"))]


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
def test_datasets(compose, tmp_path, mask, dataset, make):
    cfg = compose(f"dataset={dataset}", *make(tmp_path / "videos", mask))
    videos = prepare(cfg)
    assert videos.test[0].size == (32, 48)
    task = data_module(cfg, videos, "meta").sampler.sample(0, 1)
    assert task.support_images.shape == (1, 3, 32, 48)
    assert task.query_images.shape[0] == 1


def test_only_meta_training_mixes_objects(compose, small):
    def support(stage, mixed):
        cfg = compose(*small, f"meta.mixed={mixed}")
        return data_module(cfg, prepare(cfg), stage).sampler.sample(0, 0).support_images

    assert torch.equal(support("parent", 1), support("meta", 0))
    assert not torch.equal(support("meta", 1), support("meta", 0))


def test_device_without_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_for("auto") == device_for("cpu") == torch.device("cpu")


def test_misfit_is_said(compose):
    cfg = compose("backbone=efficientnet_lite0", "backbone.norm=group32", "backbone.weights=none")
    with pytest.raises(UserError, match="32"):
        build_learner(model_config(cfg), seed=0)
