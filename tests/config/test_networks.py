"""What the declarations of networks refuse, by the name of the setting."""

import pytest
from pydantic import ValidationError

from eosvos.config import models
from eosvos.config.setting import Settings


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
        (models.LightDeepLab, "loss", "focal", "'dice_bce', 'dice', 'bce' or 'class_balanced'"),
    ],
)
def test_values_that_no_network_has_are_refused(
    declared: type[Settings], name: str, value: object, said: str
) -> None:
    with pytest.raises(ValidationError, match=rf"(?s){name}.*{said}"):
        declared(**{name: value})


@pytest.mark.parametrize("declared", [models.MaskRCNN, models.LightDeepLab])
def test_a_shorter_side_above_the_longer_one_is_refused(declared: type[Settings]) -> None:
    with pytest.raises(ValidationError, match="min_size=32 is above max_size=24"):
        declared(min_size=32, max_size=24)
