"""DeepLabV3 on torchvision's modules (Chen et al., 2017), and DeepLabV3+ (ECCV 2018) with a decoder."""

from collections.abc import Sequence

from torch import Tensor, nn
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.segmentation import DeepLabV3_ResNet50_Weights, DeepLabV3_ResNet101_Weights
from torchvision.models.segmentation.deeplabv3 import DeepLabHead

from eosvos.config import models as config
from eosvos.errors import UserError
from eosvos.models.coco import load_where_it_fits
from eosvos.models.decoder import Decoder
from eosvos.models.fpn import BackboneWithFPN
from eosvos.models.norms import replace_norms
from eosvos.models.semantic import SemanticSegmenter

CHANNELS = 256
"""Of ASPP and all that follows it, as torchvision has it."""
REDUCED = 48
"""To which the decoder reduces the channels of the finest map."""
ASPP_REACH = 96
"""Of the least dilated convolution in the ASPP, pixels: 12 cells of a map of stride 8, 6 of one of 16."""
FRESH = ("classifier.4.", "decoder.")
"""What weights for other classes do not bring: the last layer, and the decoder of DeepLabV3+."""


class DeepLabV3(SemanticSegmenter):
    """A dilated ResNet and an ASPP head; with `decoder`, DeepLabV3+ (method, section 1).

    Parameters have the names of torchvision's network. The decoder merges the finest map between ASPP and the
    rest of the head, whose convolution is the second of the two that follow the merging.
    """

    backbone: IntermediateLayerGetter

    def __init__(self, backbone: BackboneWithFPN, settings: config.DeepLabV3) -> None:
        """Build the network on the ResNet of `backbone`, which is dilated, and load its weights.

        Raises UserError for another backbone, and for weights that do not fit or cannot be had.
        """
        super().__init__(backbone, settings)
        dilate(self.backbone, backbone.body_strides, settings.output_stride)
        rate = ASPP_REACH // settings.output_stride
        self.classifier = DeepLabHead(backbone.body_channels[-1], 1, (rate, 2 * rate, 3 * rate))
        replace_norms(self.classifier, settings.norm)
        self.decoder = Decoder(backbone.body_channels[:1], CHANNELS, REDUCED) if settings.decoder else None
        is_deep = len(self.backbone["layer3"]) > 6
        weights = DeepLabV3_ResNet101_Weights if is_deep else DeepLabV3_ResNet50_Weights
        load_where_it_fits(self, settings.weights, weights.COCO_WITH_VOC_LABELS_V1, FRESH)

    def logits(self, maps: Sequence[Tensor]) -> Tensor:
        """Map the ResNet's maps [B, C, h, w], finest first, to logits [B, 1, h, w].

        They are of the output stride, with a decoder of the finest map's.
        """
        pooling, *head = self.classifier
        x = pooling(maps[-1])
        if self.decoder is not None:
            x = self.decoder(x, maps[:1])
        for layer in head:
            x = layer(x)
        return x

    def head_parameters(self) -> list[nn.Parameter]:
        """Return all parameters but those of the ResNet."""
        return [p for name, p in self.named_parameters() if not name.startswith("backbone.")]


def dilate(body: nn.Module, strides: Sequence[int], output_stride: int) -> None:
    """Let dilations take the place of strides in a torchvision ResNet whose maps exceed `output_stride`.

    `strides`: those of its maps. A convolution that had a stride keeps its dilation, those after it in the
    stage get twice that, as in torchvision, and values at the places of the coarser map stay the same.
    Raises UserError for other networks.
    """
    if not isinstance(body, IntermediateLayerGetter):
        raise UserError(
            "DeepLabV3 and DeepLabV3+ need a ResNet of torchvision, whose strides they replace by dilations: "
            "use torchvision_resnet, or LightDeepLab."
        )
    dilation = 1
    for stage, stride in zip(body.return_layers, strides, strict=True):
        if stride <= output_stride:
            continue
        for layer in body[stage].modules():
            if not isinstance(layer, nn.Conv2d):
                continue
            own = dilation if layer.stride != (1, 1) else 2 * dilation
            layer.stride = (1, 1)
            if layer.kernel_size == (3, 3):
                layer.dilation = layer.padding = (own, own)
        dilation *= 2
