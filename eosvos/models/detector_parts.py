"""Builds the two stages of a detector on a backbone's pyramid, with torchvision's modules and thresholds."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from math import log2

from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.poolers import initLevelMapper

from eosvos.errors import UserError
from eosvos.models.backbones import PyramidBackbone
from eosvos.models.norms import group_norm
from eosvos.models.roi_heads import ObjectHeads
from eosvos.models.variants import Anchors, ProposalNetwork

CLASSES = 2  # background and object
MAX_DETECTIONS = 100


@dataclass(frozen=True)
class BoxBranch:
    """The box branch: side of the pooled region, values between its layers, beta of its smooth L1 loss.

    `norm`: layer norms between its layers.
    """

    roi: int
    features: int
    beta: float
    norm: bool

    def head(self, channels: int) -> nn.Module:
        """Build the layers from pooled regions [N, channels, roi, roi] to values [N, features]."""
        if not self.norm:
            return TwoMLPHead(channels * self.roi**2, self.features)
        layers = OrderedDict[str, nn.Module](flatten=nn.Flatten())
        for name, inputs in (("6", channels * self.roi**2), ("7", self.features)):
            layers[f"fc{name}"] = nn.Linear(inputs, self.features)
            layers[f"norm{name}"] = nn.LayerNorm(self.features)
            layers[f"relu{name}"] = nn.ReLU()
        return nn.Sequential(layers)


@dataclass(frozen=True)
class MaskBranch:
    """The mask branch: side of the pooled region (half of the logits'), its convolutions, and its loss.

    `norm`: group norms after its convolutions.
    """

    roi: int
    channels: int
    layers: int
    loss: Callable[[Tensor, Tensor], Tensor]
    norm: bool

    def head(self, channels: int) -> nn.Module:
        """Build the convolutions on the pooled regions [N, channels, roi, roi]."""
        norm = group_norm if self.norm else None
        return MaskRCNNHeads(channels, (self.channels,) * self.layers, 1, norm_layer=norm)


def proposal_network(
    backbone: PyramidBackbone,
    anchors: Anchors,
    samples: int,
    kept: tuple[int, int],
    beta: float,
    rectified: bool,
) -> ProposalNetwork:
    """Build the first stage.

    `kept`: proposals in (training, testing), per level before and in total after NMS; `beta`: of the box
    loss; `rectified`: its convolution keeps the variance of its input instead of nearly silencing it. Raises
    UserError if the anchors do not fit the backbone's levels.
    """
    levels = len(backbone.level_names)
    if len(anchors.sizes) != levels:
        raise UserError(
            f"segmenter.anchor_sizes has {len(anchors.sizes)} entries, but the backbone has {levels} pyramid "
            "levels: give one size, or one list of sizes, per level."
        )
    per_location = anchors.num_anchors_per_location()
    if len(set(per_location)) > 1:
        raise UserError("segmenter.anchor_sizes must list as many sizes for every level as for the first.")
    head = RPNHead(backbone.out_channels, per_location[0])
    if rectified:
        nn.init.kaiming_normal_(head.conv[0][0].weight, nonlinearity="relu")
    top_n = dict(zip(("training", "testing"), kept, strict=True))
    return ProposalNetwork(
        anchors,
        head,
        fg_iou_thresh=0.7,
        bg_iou_thresh=0.3,
        batch_size_per_image=samples,
        positive_fraction=0.5,
        pre_nms_top_n=top_n,
        post_nms_top_n=top_n,
        nms_thresh=0.7,
        box_beta=beta,
    )


def object_heads(
    backbone: PyramidBackbone,
    box: BoxBranch,
    mask: MaskBranch,
    samples: int,
    thresholds: tuple[float, float],
    train_jitter: int,
    sampling_ratio: int,
) -> ObjectHeads:
    """Build the second stage.

    `samples`: boxes per training image, a quarter of them positive at most; `thresholds`: the score that a
    detection must exceed, and the IoU from which on NMS drops the lower score; `train_jitter`: jittered
    copies of the true box among the training proposals; `sampling_ratio`: points a side in each cell of a
    pooled region. Raises UserError if the backbone's levels leave out a stride.
    """
    channels = backbone.out_channels
    score_threshold, nms_threshold = thresholds
    return ObjectHeads(
        _pooling(backbone, box.roi, sampling_ratio),
        box.head(channels),
        FastRCNNPredictor(box.features, CLASSES),
        fg_iou_thresh=0.5,
        bg_iou_thresh=0.5,
        batch_size_per_image=samples,
        positive_fraction=0.25,
        bbox_reg_weights=None,
        score_thresh=score_threshold,
        nms_thresh=nms_threshold,
        detections_per_img=MAX_DETECTIONS,
        mask_roi_pool=_pooling(backbone, mask.roi, sampling_ratio),
        mask_head=mask.head(channels),
        mask_predictor=MaskRCNNPredictor(mask.channels, mask.channels, CLASSES),
        box_beta=box.beta,
        mask_loss=mask.loss,
        train_jitter=train_jitter,
    )


def _pooling(backbone: PyramidBackbone, side: int, sampling_ratio: int) -> MultiScaleRoIAlign:
    """Pool regions from all levels that are not themselves pooled, each from the one that suits its size.

    Each of the `side` x `side` cells is the mean of `sampling_ratio` x `sampling_ratio` points.

    The levels' scales are set here: torchvision would guess them from the first image, and keep the guess.
    It finds a region's level by counting doublings of its size, hence the UserError if a stride is left out.
    """
    names = [name for name in backbone.level_names if name != "pool"]
    pooling = MultiScaleRoIAlign(names, side, sampling_ratio)
    exponents = [round(log2(stride)) for stride in backbone.body_strides]
    if exponents != list(range(exponents[0], exponents[-1] + 1)):
        strides = ", ".join(map(str, backbone.body_strides))
        raise UserError(
            f"The backbone's strides {strides} leave one out, which Mask R-CNN's pooling cannot do: choose "
            "backbone.out_indices with strides that double."
        )
    pooling.scales = [2.0**-exponent for exponent in exponents]
    pooling.map_levels = initLevelMapper(exponents[0], exponents[-1])
    return pooling
