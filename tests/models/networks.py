"""Networks from their settings, with random weights unless others are asked for."""

from typing import Any

from eosvos.config import models as config
from eosvos.models.backbones import timm_backbone, tiny_backbone, torchvision_resnet
from eosvos.models.deeplab import DeepLabV3
from eosvos.models.fpn import BackboneWithFPN
from eosvos.models.light_deeplab import LightDeepLab
from eosvos.models.mask_rcnn import MaskRCNN


def tiny(**options: Any) -> BackboneWithFPN:
    return tiny_backbone(config.TinyBackbone(**{"width": 16} | options))


def resnet(name: str, **options: Any) -> BackboneWithFPN:
    return torchvision_resnet(config.TorchvisionResNet(name=name, **{"weights": "none"} | options))


def timm(name: str, **options: Any) -> BackboneWithFPN:
    return timm_backbone(config.TimmBackbone(name=name, **{"weights": "none"} | options))


def mask_rcnn(backbone: BackboneWithFPN, **options: Any) -> MaskRCNN:
    return MaskRCNN(backbone, config.MaskRCNN(**{"weights": "none"} | options))


def light_deeplab(backbone: BackboneWithFPN, **options: Any) -> LightDeepLab:
    return LightDeepLab(backbone, config.LightDeepLab(**options))


def deeplabv3(backbone: BackboneWithFPN, **options: Any) -> DeepLabV3:
    return DeepLabV3(backbone, config.DeepLabV3(**{"weights": "none"} | options))
