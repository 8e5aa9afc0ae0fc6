"""Build the RPN and the RoI heads of Mask R-CNN on a backbone's pyramid, with torchvision's modules."""

from collections import OrderedDict
from math import log2

from torch import nn
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops.poolers import initLevelMapper

from eosvos.compat.torchvision_04 import VERSIONS, VersionedAnchorGenerator, VersionedRPN
from eosvos.compat.torchvision_waits import FewWaitsRoIAlign
from eosvos.config import models as config
from eosvos.errors import UserError
from eosvos.models.fpn import BackboneWithFPN
from eosvos.models.losses import bce, lovasz_hinge
from eosvos.models.norms import group_norm
from eosvos.models.roi_heads import ObjectRoIHeads

NUM_CLASSES = 2  # background and object
MAX_DETECTIONS = 100
MASK_LOSSES = {"lovasz": lovasz_hinge, "bce": bce}


def region_proposal_network(backbone: BackboneWithFPN, settings: config.MaskRCNN) -> VersionedRPN:
    """Build the RPN, which keeps as many proposals of each level before NMS as in total after it.

    With head_norm, its convolution starts from weights that keep the variance of its input instead of nearly
    silencing it. Raises UserError if the anchors do not fit the backbone's levels.
    """
    anchors = VersionedAnchorGenerator(settings)
    levels = len(backbone.level_names)
    if len(anchors.sizes) != levels:
        raise UserError(
            f"anchor_sizes has {len(anchors.sizes)} entries, but the backbone has {levels} pyramid levels: "
            "give one size, or one list of sizes, per level."
        )
    per_location = anchors.num_anchors_per_location()
    if len(set(per_location)) > 1:
        raise UserError("anchor_sizes must list as many sizes for every level as for the first.")
    head = RPNHead(backbone.out_channels, per_location[0])
    if settings.head_norm:
        nn.init.kaiming_normal_(head.conv[0][0].weight, nonlinearity="relu")
    top_n = {"training": settings.rpn_proposals_train, "testing": settings.rpn_proposals_test}
    return VersionedRPN(
        anchors,
        head,
        fg_iou_thresh=0.7,
        bg_iou_thresh=0.3,
        batch_size_per_image=settings.rpn_samples,
        positive_fraction=0.5,
        pre_nms_top_n=top_n,
        post_nms_top_n=top_n,
        nms_thresh=0.7,
        box_beta=VERSIONS[settings.variant].rpn_beta,
    )


def roi_heads(backbone: BackboneWithFPN, settings: config.MaskRCNN) -> ObjectRoIHeads:
    """Build the RoI heads; a quarter of their training samples at most are positive.

    Raises UserError if the backbone's levels leave out a stride.
    """
    return ObjectRoIHeads(
        _pooling(backbone, settings.box_roi, settings.sampling_ratio),
        _box_head(backbone.out_channels, settings),
        FastRCNNPredictor(settings.box_features, NUM_CLASSES),
        fg_iou_thresh=0.5,
        bg_iou_thresh=0.5,
        batch_size_per_image=settings.roi_samples,
        positive_fraction=0.25,
        bbox_reg_weights=None,
        score_thresh=settings.score_threshold,
        nms_thresh=settings.nms_threshold,
        detections_per_img=MAX_DETECTIONS,
        mask_roi_pool=_pooling(backbone, settings.mask_roi, settings.sampling_ratio),
        mask_head=_mask_head(backbone.out_channels, settings),
        mask_predictor=MaskRCNNPredictor(settings.mask_channels, settings.mask_channels, NUM_CLASSES),
        box_beta=VERSIONS[settings.variant].box_beta,
        mask_loss=MASK_LOSSES[settings.mask_loss],
        train_jitter=settings.train_jitter,
    )


def _box_head(channels: int, settings: config.MaskRCNN) -> nn.Module:
    """The layers from pooled regions [N, channels, box_roi, box_roi] to values [N, box_features]."""
    pooled, features = channels * settings.box_roi**2, settings.box_features
    if not settings.head_norm:
        return TwoMLPHead(pooled, features)
    layers = OrderedDict[str, nn.Module](flatten=nn.Flatten())
    for name, inputs in (("6", pooled), ("7", features)):
        layers[f"fc{name}"] = nn.Linear(inputs, features)
        layers[f"norm{name}"] = nn.LayerNorm(features)
        layers[f"relu{name}"] = nn.ReLU()
    return nn.Sequential(layers)


def _mask_head(channels: int, settings: config.MaskRCNN) -> nn.Module:
    """The convolutions on pooled regions [N, channels, mask_roi, mask_roi]."""
    layers = (settings.mask_channels,) * settings.mask_layers
    return MaskRCNNHeads(channels, layers, 1, norm_layer=group_norm if settings.head_norm else None)


def _pooling(backbone: BackboneWithFPN, side: int, sampling_ratio: int) -> FewWaitsRoIAlign:
    """Pool regions from all levels that are not themselves pooled, each from the one that suits its size.

    Each of the `side` x `side` cells is the mean of `sampling_ratio` x `sampling_ratio` points.

    The levels' scales are set here: torchvision would guess them from the first image, and keep the guess.
    It finds a region's level by counting doublings of its size, hence the UserError if a stride is left out.
    """
    names = [name for name in backbone.level_names if name != "pool"]
    pooling = FewWaitsRoIAlign(names, side, sampling_ratio)
    exponents = [round(log2(stride)) for stride in backbone.body_strides]
    if exponents != list(range(exponents[0], exponents[-1] + 1)):
        strides = ", ".join(map(str, backbone.body_strides))
        raise UserError(
            f"The backbone's strides {strides} leave one out, which Mask R-CNN's pooling cannot do: choose "
            "out_indices with strides that double."
        )
    pooling.scales = [2.0**-exponent for exponent in exponents]
    pooling.map_levels = initLevelMapper(exponents[0], exponents[-1])
    return pooling
