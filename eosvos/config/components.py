"""What is built by a `_target_`, and which of it has declared settings."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator

from eosvos.config import data, models
from eosvos.config.setting import Settings

COMPONENTS: Mapping[str, Mapping[str, type[Settings]]] = {
    "dataset": {
        "synthetic": data.Synthetic,
        "davis": data.Davis,
        "youtube_vos": data.YouTubeVOS,
        "folder": data.Folder,
        "video": data.Video,
        "images": data.Images,
        "voc2012": data.VOC2012,
        "coco": data.Coco,
    },
    "segmenter": {
        "mask_rcnn": models.MaskRCNN,
        "deeplabv3": models.DeepLabV3,
        "light_deeplab": models.LightDeepLab,
    },
    "backbone": {
        "torchvision_resnet": models.TorchvisionResNet,
        "timm_backbone": models.TimmBackbone,
        "tiny_backbone": models.TinyBackbone,
    },
}
"""Declarations of what is built by a `_target_`, by group and name; schema/NAME has their defaults."""
DECLARED = {declared.target: declared for group in COMPONENTS.values() for declared in group.values()}


def settings_of(node: Mapping[str, Any]) -> Settings | None:
    """The settings of what the `_target_` of a node makes; None where its keys are keyword arguments.

    Raises ValueError without a `_target_`, and pydantic's ValidationError for wrong settings.
    """
    target = node.get("_target_")
    if not isinstance(target, str):
        raise ValueError("it has no _target_, which says what is built: give it one")
    declared = DECLARED.get(target)
    return declared(**{key: value for key, value in node.items() if key != "_target_"}) if declared else None


def completed(node: Mapping[str, Any]) -> dict[str, Any]:
    """The node with all settings of what its `_target_` makes, where they are declared; raises likewise."""
    settings = settings_of(node)
    return {**node, **(settings.model_dump() if settings else {})}


Component = Annotated[dict[str, Any], AfterValidator(completed)]
"""Something that is built by its `_target_`, with all of its settings."""
