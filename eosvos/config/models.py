"""Networks: backbones, and the segmenters on them."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from eosvos.config.setting import Location, Settings

Norm = Literal["group32", "group_auto", "frozen_batch"]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
Positives = Annotated[list[Positive], Field(min_length=1)]


class Resized(Settings):
    """A segmenter that resizes images to a shorter side of min_size, but a longer one of max_size at most."""

    group: ClassVar[str] = "segmenter"
    in_order: ClassVar[tuple[str, ...]] = ("min_size", "max_size")
    min_size: int | None
    max_size: int | None


class Backbone(Settings):
    """A network that makes feature maps of an image."""

    group: ClassVar[str] = "backbone"


class TorchvisionResNet(Backbone):
    """A ResNet of torchvision with a feature pyramid."""

    target: ClassVar[str] = "eosvos.models.backbones.torchvision_resnet"
    name: Literal["resnet18", "resnet34", "resnet50", "resnet101"] = "resnet50"
    """The ResNet."""
    weights: Location = "imagenet"
    """imagenet, none, or the path of a state dict; not read where segmenter.weights brings all of them."""
    norm: Norm = "group32"
    """What replaces the batch norms: group32, group_auto (as many groups as channels allow), frozen_batch."""
    fpn_channels: int = Field(256, ge=1)
    """Channels of each pyramid level."""
    frozen_stages: int = Field(0, ge=0, le=4)
    """So many of its four stages, from the first, are neither adapted nor learned."""


class TimmBackbone(Backbone):
    """Any network of timm that gives feature maps, with a feature pyramid."""

    target: ClassVar[str] = "eosvos.models.backbones.timm_backbone"
    name: str
    """Its name in timm."""
    weights: Location = "imagenet"
    """imagenet, none, or the path of a state dict; not read where segmenter.weights brings all of them."""
    norm: Norm = "frozen_batch"
    """What replaces the batch norms; small pretrained networks lose least with frozen_batch."""
    fpn_channels: int = Field(64, ge=1)
    """Channels of each pyramid level."""
    out_indices: list[Annotated[int, Field(ge=0)]] | None = Field(None, min_length=1)
    """Which of its feature maps make the pyramid, finest first; null: all of stride 4 or more."""
    frozen_stages: int = Field(0, ge=0, le=5)
    """So many of these maps, finest first, and all that they are computed from, stay as they are."""


class TinyBackbone(Backbone):
    """A few convolutions from random weights, for synthetic videos on a CPU."""

    target: ClassVar[str] = "eosvos.models.backbones.tiny_backbone"
    width: int = Field(24, ge=4)
    """Channels of the first stage; each of the next has twice as many."""
    fpn_channels: int = Field(32, ge=4)
    """Channels of each pyramid level."""
    levels: int = Field(3, ge=1, le=5)
    """Pyramid levels, of strides 4, 8, 16 and so on."""


class MaskRCNN(Resized):
    """Mask R-CNN as published; boxes go from frame to frame (method, sections 1 to 3)."""

    target: ClassVar[str] = "eosvos.models.mask_rcnn.MaskRCNN"
    parts: ClassVar[frozenset[str]] = frozenset({"backbone", "rpn", "roi_heads"})
    weights: Location = "coco"
    """Weights of the whole network: coco (with ResNet-50 or 101), none, or the path of a state dict."""
    variant: Literal["published", "torchvision"] = "published"
    """Box losses, anchor strides and resizing of the published system's torchvision, or of today's."""
    min_size: int | None = Field(800, ge=16)
    """Shorter side to which images are resized, pixels; null: as they are."""
    max_size: int = Field(1333, ge=16)
    """Most that the longer side may have then, pixels."""
    anchor_sizes: list[Positive | Positives] = Field([32, 64, 128, 256, 512], min_length=1)
    """Sides of the anchors on each pyramid level, finest first, pixels of the resized image; one or more."""
    anchor_ratios: list[Positive] = Field([0.5, 1.0, 2.0], min_length=1)
    """Heights of the anchors over their widths."""
    rpn_proposals_train: int = Field(2000, ge=1)
    """Proposals that the RPN keeps in an image while adapting."""
    rpn_proposals_test: int = Field(1000, ge=1)
    """Proposals that the RPN keeps in an image while segmenting."""
    rpn_samples: int = Field(256, ge=2)
    """Anchors in the loss of an image."""
    roi_samples: int = Field(512, ge=2)
    """Proposals in the loss of an image."""
    box_roi: int = Field(7, ge=1)
    """Side of the grid that a region is pooled to for its box."""
    box_features: int = Field(1024, ge=1)
    """Values in the box head."""
    mask_roi: int = Field(28, ge=1)
    """Side of the grid that a region is pooled to for its mask, which has twice that."""
    sampling_ratio: int = Field(2, ge=1)
    """Points a side at which each cell of these grids reads the features."""
    mask_channels: int = Field(256, ge=1)
    """Channels of the mask head."""
    mask_layers: int = Field(4, ge=1)
    """Layers of the mask head."""
    mask_loss: Literal["lovasz", "bce"] = "lovasz"
    """Loss of the mask."""
    proposals: Literal["extend", "replace", "none"] = "extend"
    """Proposals around the previous frame's box: extend the RPN's by as many, replace them, or none."""
    prior_proposals: int = Field(1000, ge=1)
    """Proposals beside a previous frame's box, the RPN's included."""
    select: Literal["score", "score_iou"] = "score"
    """The detection that is followed: of the best score, or score + 0.5 * IoU with the previous box."""
    score_threshold: float = Field(0.5, ge=0, le=1)
    """Least score of a detection."""
    nms_threshold: float = Field(0.5, ge=0, le=1)
    """IoU above which, of two detections, the one with the lower score is removed."""
    train_jitter: int = Field(0, ge=0)
    """Jittered copies of the true box among the proposals while adapting."""
    head_norm: bool = False
    """Norms between the layers of the heads, without which a few steps from random weights diverge."""


class Semantic(Resized):
    """Semantic segmentation, a logit per pixel: a mask without boxes (method, sections 1 and 2)."""

    loss: Literal["dice_bce", "dice", "bce", "class_balanced"] = "dice_bce"
    """Loss of the mask."""
    prior: Literal["ignore", "gate"] = "ignore"
    """The previous frame's box: ignored (as published), or a gate that no pixel far from it passes."""
    gate_margin: float = Field(0.25, ge=0)
    """How far the gate reaches beyond that box on each side, in widths or heights of the box."""
    min_size: int | None = Field(None, ge=16)
    """Shorter side to which images are resized, pixels; null: as they are."""
    max_size: int | None = Field(None, ge=16)
    """Most that the longer side may have then, pixels; null: any."""


class DeepLabV3(Semantic):
    """DeepLabV3 of torchvision, and DeepLabV3+, on a ResNet of torchvision (method, section 1)."""

    target: ClassVar[str] = "eosvos.models.deeplab.DeepLabV3"
    parts: ClassVar[frozenset[str]] = frozenset({"backbone", "classifier", "decoder"})
    weights: Location = "coco"
    """Weights of the whole network: coco (with ResNet-50 or 101), none, or the path of a state dict."""
    output_stride: Literal[8, 16] = 8
    """Stride of the coarsest map, pixels: dilations take the place of further strides."""
    decoder: bool = False
    """Whether the ResNet's finest map is merged in after the ASPP: DeepLabV3+."""
    norm: Norm = "group32"
    """What replaces the batch norms after the backbone; only weights bring statistics for frozen_batch."""


class LightDeepLab(Semantic):
    """Encoder, atrous spatial pyramid pooling (ASPP), decoder: a mask without boxes (method, section 1)."""

    target: ClassVar[str] = "eosvos.models.light_deeplab.LightDeepLab"
    parts: ClassVar[frozenset[str]] = frozenset({"backbone", "pooling", "decoder"})
    channels: int = Field(64, ge=2)
    """Channels of the ASPP and of the decoder."""
    dilations: list[Count] = Field([1, 2, 4], min_length=1)
    """Dilations of the ASPP, in cells of the coarsest feature map."""
