"""Weights from a Mask R-CNN of other classes, under today's and the old names."""

from pathlib import Path

import networks
import pytest
import torch
from formula_network import old_name
from torch import Tensor, nn
from torchvision.models.detection import maskrcnn_resnet50_fpn

from eosvos.errors import UserError
from eosvos.models import coco
from eosvos.models.coco import modern_name
from eosvos.models.mask_rcnn import MaskRCNN

PREDICTORS = ("roi_heads.box_predictor", "roi_heads.mask_predictor.mask_fcn_logits")


@pytest.fixture(scope="module")
def coco_state() -> dict[str, Tensor]:
    """Torchvision's whole network with 91 classes, as its file has it, but with random weights."""
    return maskrcnn_resnet50_fpn(weights=None, weights_backbone=None).state_dict()


def detector(backbone: nn.Module, weights: str) -> MaskRCNN:
    return networks.mask_rcnn(backbone, weights=weights, min_size=96, max_size=128)


def small(weights: str = "none", fpn_channels: int = 8) -> MaskRCNN:
    options = {"anchor_sizes": [14, 28, 48], "box_features": 8, "mask_channels": 8, "mask_layers": 2}
    return networks.mask_rcnn(networks.tiny(fpn_channels=fpn_channels), weights=weights, **options)


def old_file(path: Path, state: dict[str, Tensor]) -> str:
    """Save a state under the old names and with the predictors of 91 classes."""
    old = {
        old_name(name): torch.cat([value] * 4) if name.startswith(PREDICTORS) else value
        for name, value in state.items()
    }
    torch.save(old, path)
    return str(path)


def test_coco_fills_all_of_resnet50_but_the_predictors(
    coco_state: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coco, "fetch_weights", lambda _: coco_state)
    for norm, tensors in (("group32", 201), ("frozen_batch", 201 + 2 * 53)):
        own = detector(networks.resnet("resnet50", norm=norm), "coco").state_dict()
        assert len(own) == tensors
        differing = [n for n in own if not (n in coco_state and torch.equal(own[n], coco_state[n]))]
        assert differing == [n for n in own if n.startswith(PREDICTORS)]


def test_coco_gives_resnet101_its_heads_and_not_its_body(
    coco_state: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coco, "fetch_weights", lambda _: coco_state)
    backbone = networks.resnet("resnet101")
    body = {name: value.clone() for name, value in backbone.body.state_dict().items()}
    own = detector(backbone, "coco").state_dict()
    assert all(torch.equal(value, body[name]) for name, value in backbone.body.state_dict().items())
    heads = [n for n in own if not n.startswith(("backbone.body.", *PREDICTORS))]
    assert all(torch.equal(own[name], coco_state[name]) for name in heads)


@pytest.mark.parametrize("name", ["resnet18", "resnet34"])
def test_coco_is_refused_for_smaller_resnets(
    name: str, coco_state: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coco, "fetch_weights", lambda _: coco_state)
    backbone = networks.resnet(name)
    with pytest.raises(UserError, match=r"^weights=coco .*ResNet-50.*backbone\.body\.layer1"):
        networks.mask_rcnn(backbone, weights="coco", box_features=8)


def test_file_with_old_names_is_loaded_but_for_other_classes(tmp_path: Path) -> None:
    source = small()
    path = old_file(tmp_path / "detector.pth", source.state_dict())
    found, expected = small(path).state_dict(), source.state_dict()
    differing = [name for name in expected if not torch.equal(found[name], expected[name])]
    assert differing
    assert all(name.startswith(PREDICTORS) for name in differing)


def test_file_of_the_same_classes_is_loaded_whole(tmp_path: Path) -> None:
    source = small()
    torch.save(source.state_dict(), tmp_path / "detector.pth")
    found = small(str(tmp_path / "detector.pth")).state_dict()
    assert all(torch.equal(found[name], value) for name, value in source.state_dict().items())


def test_file_that_does_not_fit_names_its_first_keys(tmp_path: Path) -> None:
    path = old_file(tmp_path / "wide.pth", small(fpn_channels=16).state_dict())
    with pytest.raises(UserError, match=r"wide\.pth.*backbone\.fpn\.inner_blocks\.0\.0\.weight"):
        small(path)


def test_file_without_a_part_of_the_body_is_refused(tmp_path: Path) -> None:
    """The backbone's own weights are not read beside a file's, so that the rest would stay random."""
    state = small().state_dict()
    kept = {name: value for name, value in state.items() if not name.startswith("backbone.body.blocks.2")}
    torch.save(kept, tmp_path / "shallow.pth")
    with pytest.raises(UserError, match=r"shallow\.pth.*backbone\.body\.blocks\.2\.\S+ is missing"):
        small(str(tmp_path / "shallow.pth"))


def test_missing_file_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent\.pth"):
        small(str(tmp_path / "absent.pth"))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("backbone.fpn.inner_blocks.2.bias", "backbone.fpn.inner_blocks.2.0.bias"),
        ("backbone.fpn.layer_blocks.0.weight", "backbone.fpn.layer_blocks.0.0.weight"),
        ("rpn.head.conv.weight", "rpn.head.conv.0.0.weight"),
        ("roi_heads.mask_head.mask_fcn3.bias", "roi_heads.mask_head.2.0.bias"),
        ("roi_heads.box_head.fc6.weight", "roi_heads.box_head.fc6.weight"),
    ],
)
def test_old_names_become_todays_and_todays_stay(old: str, new: str) -> None:
    assert modern_name(old) == new
    assert modern_name(new) == new
    assert coco.old_name(new) == old
    assert coco.old_name(old) == old


@pytest.mark.parametrize("name", ["rpn.head.conv.0.0.weight", "roi_heads.box_predictor.cls_score.bias"])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, name: str) -> None:
    state = small().state_dict()
    torch.save(state | {name: state[name] * float("nan")}, tmp_path / "nan.pth")
    with pytest.raises(UserError, match=rf"^weights=.*nan\.pth holds NaN or infinite values in {name}"):
        small(str(tmp_path / "nan.pth"))
