"""Backbones: names, shapes, what is frozen, adaptation with non-leaf parameters."""

import copy
import pickle

import networks
import pytest
import torch
from learn2learn.utils import clone_module, update_module
from torchvision.models.detection import maskrcnn_resnet50_fpn

from eosvos.errors import UserError
from eosvos.models.backbones import TinyEncoder
from eosvos.models.fpn import BackboneWithFPN


def check_pyramid(backbone, size=64):
    body = backbone.body(torch.rand(2, 3, size, size))
    levels = backbone(torch.rand(2, 3, size, size))
    assert tuple(levels) == backbone.level_names
    assert [x.shape[1] for x in body.values()] == list(backbone.body_channels)
    assert [size // x.shape[-1] for x in body.values()] == list(backbone.body_strides)
    assert {x.shape[:2] for x in levels.values()} == {(2, backbone.out_channels)}


@pytest.mark.parametrize(("width", "levels"), [(8, 3), (12, 4), (5, 2)])
def test_tiny_backbone(width, levels):
    backbone = networks.tiny(width=width, fpn_channels=16, levels=levels)
    check_pyramid(backbone)
    assert backbone.body_strides == (4, 8, 16, 32)[:levels]
    assert list(backbone.buffers()) == []


@pytest.mark.parametrize("name", ["resnet18", "resnet34"])
def test_torchvision_resnet_without_weights(name):
    backbone = networks.resnet(name, fpn_channels=32)
    check_pyramid(backbone)
    assert backbone.level_names == ("0", "1", "2", "3", "pool")
    assert list(backbone.buffers()) == []


@pytest.mark.parametrize("name", ["resnet50", "resnet101"])
def test_resnet_parameters_have_torchvisions_names(name):
    with torch.device("meta"):
        backbone = networks.resnet(name, norm="frozen_batch")
        theirs = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None).backbone.state_dict()
    ours = {key: value.shape for key, value in backbone.state_dict().items()}
    expected = {key: value.shape for key, value in theirs.items() if not key.endswith("num_batches_tracked")}
    if name == "resnet50":
        assert ours == expected
    assert expected.items() <= ours.items()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("resnet10t", {"norm": "group_auto"}),
        ("test_convnext", {}),
        ("mobilenetv3_small_050", {"out_indices": [1, 2, 3]}),
    ],
)
def test_any_timm_model_with_feature_maps(name, options):
    backbone = networks.timm(name, fpn_channels=16, **options)
    check_pyramid(backbone)
    assert min(backbone.body_strides) == 4
    before = {key: value.clone() for key, value in backbone.named_buffers()}
    backbone.train()(torch.rand(2, 3, 64, 64))
    assert all(value.equal(before[key]) for key, value in backbone.named_buffers())


def frozen(backbone):
    return {name for name, p in backbone.named_parameters() if not p.requires_grad}


def test_frozen_stages_of_resnet_and_efficientnet():
    names = frozen(networks.resnet("resnet18", fpn_channels=8, frozen_stages=1))
    assert {name.split(".")[1] for name in names} == {"conv1", "bn1", "layer1"}
    backbone = networks.timm("tf_efficientnet_lite0", frozen_stages=2)
    blocks = {int(name.split(".")[3]) for name in frozen(backbone) if ".blocks." in name}
    assert blocks == {0, 1, 2}
    assert {n.split(".")[2] for n in frozen(backbone) if ".blocks." not in n} == {"conv_stem", "bn1"}
    assert frozen(networks.resnet("resnet18", fpn_channels=8)) == set()


def test_more_frozen_stages_than_maps_are_refused():
    with pytest.raises(UserError, match=r"^frozen_stages=4 must lie in 0\.\.3"):
        networks.timm("mobilenetv3_small_050", out_indices=[1, 2, 3], frozen_stages=4)


def test_unknown_and_unusable_models_are_refused_with_close_matches():
    with pytest.raises(UserError, match="tf_efficientnet_lite0"):
        networks.timm("tf_efficientnet_lit0")
    with pytest.raises(UserError, match="test_vit"):
        networks.timm("test_vit")
    with pytest.raises(UserError, match="resnet10t cannot be a backbone"):
        networks.timm("resnet10t", out_indices=[1, 9])


BACKBONES = {
    "tiny": lambda: networks.tiny(width=8, fpn_channels=8),
    "resnet": lambda: networks.resnet("resnet18", fpn_channels=8),
    "timm": lambda: networks.timm("mobilenetv3_small_050", fpn_channels=8),
}


@pytest.mark.parametrize("kind", BACKBONES)
def test_copies_and_clones_compute_the_same_and_adapt_apart(kind):
    torch.manual_seed(0)
    backbone: BackboneWithFPN = BACKBONES[kind]().eval()
    images = torch.rand(1, 3, 64, 64)

    def total(module):
        return sum(x.square().sum() for x in module(images).values())

    before = total(backbone)
    for copied in (copy.deepcopy(backbone), pickle.loads(pickle.dumps(backbone)), clone_module(backbone)):
        assert total(copied).equal(before)
    clone = clone_module(backbone)
    parameters = list(clone.parameters())
    gradients = torch.autograd.grad(total(clone), parameters, retain_graph=True)
    update_module(clone, [-1e-4 * g for g in gradients])
    after = total(clone)
    assert not after.equal(before)
    assert total(backbone).equal(before)
    reached = torch.autograd.grad(after, list(backbone.parameters()), allow_unused=True)
    assert all(g is not None and g.isfinite().all() for g in reached)


def test_tiny_encoder_doubles_its_channels():
    encoder = TinyEncoder(width=16, levels=3)
    assert encoder.channels == [16, 32, 64]
    assert sum(p.numel() for p in encoder.parameters()) < 100_000
