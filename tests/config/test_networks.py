"""What the declarations of networks refuse, by the name of the setting."""

import pytest
from helpers import config
from pydantic import ValidationError

from eosvos.config import models
from eosvos.config.components import DECLARED
from eosvos.config.setting import Settings
from eosvos.errors import UserError
from eosvos.meta.model import Model, build_learner


@pytest.mark.parametrize(
    ("declared", "name", "value", "said"),
    [
        (models.TorchvisionResNet, "name", "resnet5", "'resnet18', 'resnet34', 'resnet50' or 'resnet101'"),
        (models.TorchvisionResNet, "frozen_stages", -1, "greater than or equal to 0"),
        (models.TorchvisionResNet, "frozen_stages", 5, "less than or equal to 4"),
        (models.TorchvisionResNet, "norm", "batch", "'group32', 'group_auto' or 'frozen_batch'"),
        (models.MaskRCNN, "variant", "newest", "'published' or 'torchvision'"),
        (models.MaskRCNN, "mask_loss", "dice", "'lovasz' or 'bce'"),
        (models.MaskRCNN, "proposals", "both", "'extend', 'replace' or 'none'"),
        (models.MaskRCNN, "select", "iou", "'score' or 'score_iou'"),
        (models.DeepLabV3, "output_stride", 32, "8 or 16"),
        (models.DeepLabV3, "norm", "batch", "'group32', 'group_auto' or 'frozen_batch'"),
        (models.LightDeepLab, "loss", "focal", "'dice_bce', 'dice', 'bce' or 'class_balanced'"),
    ],
)
def test_values_that_no_network_has_are_refused(
    declared: type[Settings], name: str, value: object, said: str
) -> None:
    with pytest.raises(ValidationError, match=rf"(?s){name}.*{said}"):
        declared(**{name: value})


@pytest.mark.parametrize(
    "network",
    [
        "segmenter=tiny_mask_rcnn",
        "segmenter=light_deeplab",
        "segmenter=deeplabv3plus segmenter.weights=none backbone=resnet18 backbone.weights=none",
    ],
)
def test_the_parts_of_a_network_are_those_that_have_weights(network):
    given = config(*network.split())
    network = build_learner(Model.of(given), 0).segmenter
    parts = {name.partition(".")[0] for name, _ in network.named_parameters()}
    assert DECLARED[given.segmenter["_target_"]].parts == parts


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["meta.outer.freeze=[decoder]"], "meta.outer.freeze=['decoder']: the network has no decoder, but "),
        (["segmenter=light_deeplab", "meta.outer.freeze=[rpn]"], "backbone, decoder, pooling"),
        (["meta.outer.freeze=[backbone,rpn,roi_heads]", "meta.outer.inner_lr.lr=0"], "nothing to learn"),
    ],
)
def test_parts_that_the_network_does_not_have_are_refused(overrides, said):
    with pytest.raises(UserError) as refused:
        config(*overrides)
    assert said in str(refused.value)


@pytest.mark.parametrize("declared", [models.MaskRCNN, models.DeepLabV3, models.LightDeepLab])
def test_a_shorter_side_above_the_longer_one_is_refused(declared: type[Settings]) -> None:
    with pytest.raises(ValidationError, match="min_size=32 is above max_size=24"):
        declared(min_size=32, max_size=24)
