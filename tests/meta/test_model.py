"""Every shipped configuration builds what it says, without reading or downloading weights."""

import pytest
import torch
from helpers import SMALL, config

from eosvos.config import models
from eosvos.config.help import options
from eosvos.errors import UserError
from eosvos.meta.model import Model, build_learner, build_segmenter, without_weights

# Each segmenter and each backbone at least once; the default of the paper is among them.
NETWORKS = [
    ("mask_rcnn", "resnet50"),
    ("mask_rcnn", "resnet18"),
    ("mask_rcnn", "resnet34"),
    ("mask_rcnn", "resnet101"),
    ("small_mask_rcnn", "efficientnet_lite0"),
    ("small_mask_rcnn", "timm"),
    ("tiny_mask_rcnn", "tiny"),
    ("deeplabv3", "resnet50"),
    ("deeplabv3plus", "resnet101"),
    ("light_deeplab", "tiny"),
    ("light_deeplab", "efficientnet_lite0"),
]
MASK_RCNN, DEEPLAB, LIGHT, RESNET = (
    {"_target_": one.target}
    for one in (models.MaskRCNN, models.DeepLabV3, models.LightDeepLab, models.TorchvisionResNet)
)
OWN = {"_target_": "mypackage.Segmenter"}


def test_list_is_complete():
    assert {segmenter for segmenter, _ in NETWORKS} == set(options("segmenter"))
    assert {backbone for _, backbone in NETWORKS} == set(options("backbone"))


@pytest.mark.parametrize(("segmenter", "backbone"), NETWORKS)
def test_networks(segmenter, backbone):
    name = ["backbone.name=mobilenetv3_small_050"] if backbone == "timm" else []
    # The paper's Mask R-CNN has weights for two backbones alone.
    name += ["segmenter.weights=none"] if segmenter == "mask_rcnn" and backbone != "resnet50" else []
    given = config(f"segmenter={segmenter}", f"backbone={backbone}", *name)
    model = without_weights(Model.of(given))
    # Drawing initial weights is what takes the time: there is nothing to see in them here.
    with torch.device("meta" if backbone == "resnet101" else "cpu"):
        built = build_segmenter(model.segmenter, model.backbone)
    assert type(built).__name__ == given.segmenter["_target_"].rpartition(".")[2]
    assert any(p.requires_grad for p in built.head_parameters())


@pytest.mark.parametrize(
    ("segmenter", "name", "read"),
    [
        (MASK_RCNN | {"weights": "coco"}, "resnet50", "none"),
        (MASK_RCNN | {"weights": "coco"}, "resnet101", "imagenet"),
        (MASK_RCNN | {"weights": "none"}, "resnet50", "imagenet"),
        (MASK_RCNN | {"weights": "detector.pth"}, "resnet50", "none"),
        (MASK_RCNN | {"weights": "detector.pth"}, "resnet101", "none"),
        (DEEPLAB | {"weights": "coco"}, "resnet50", "none"),
        (DEEPLAB | {"weights": "coco"}, "resnet101", "none"),
        (DEEPLAB | {"weights": "none"}, "resnet101", "imagenet"),
        (LIGHT, "resnet50", "imagenet"),
        (OWN | {"weights": "mine"}, "resnet50", "imagenet"),
    ],
)
def test_weights_of_the_whole_network_spare_those_of_the_backbone(monkeypatch, segmenter, name, read):
    asked = []
    monkeypatch.setattr("eosvos.meta.model.build", lambda node: asked.append(dict(node)))
    monkeypatch.setattr("eosvos.meta.model.build_a", lambda kind, node, *_: asked.append(dict(node)))
    build_segmenter(segmenter, RESNET | {"name": name, "weights": "imagenet"})
    assert asked == [RESNET | {"name": name, "weights": read}, segmenter]


def test_file_for_the_whole_network_on_a_backbone_without_weights(tmp_path):
    model = Model.of(config("segmenter=tiny_mask_rcnn", "backbone=tiny"))
    state = build_segmenter(model.segmenter, model.backbone).state_dict()
    torch.save(state, tmp_path / "detector.pth")
    from_file = {**model.segmenter, "weights": str(tmp_path / "detector.pth")}
    found = build_segmenter(from_file, model.backbone).state_dict()
    assert all(torch.equal(found[name], value) for name, value in state.items())


def test_seed_decides_the_initial_weights():
    model = Model.of(config(*SMALL))
    before = torch.get_rng_state()
    one, again, other = (build_learner(model, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)
    assert torch.equal(before, torch.get_rng_state())


def test_misfit_is_said():
    given = config("backbone=efficientnet_lite0", "backbone.norm=group32", "backbone.weights=none")
    with pytest.raises(UserError, match="32"):
        build_learner(Model.of(given), seed=0)


def test_a_model_goes_into_a_configuration_and_comes_out_of_it():
    brought = Model.of(config(*SMALL, "meta.order=second_order_heads", "meta.inner_lr.init=0.01"))
    other = config("segmenter=light_deeplab", "iterations=7")
    merged = brought.into(other)
    assert Model.of(merged) == brought
    assert (merged.iterations, merged.meta.batch_size) == (7, other.meta.batch_size)


def test_what_weights_are_to_a_network_of_another_package_is_its_own_matter():
    own = {"_target_": "mypackage.backbone", "weights": None}
    given = config("segmenter=light_deeplab").model_copy(update={"backbone": own})
    assert without_weights(Model.of(given)).backbone == own
