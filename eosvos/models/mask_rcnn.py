"""Mask R-CNN for one object, on torchvision's classes (method, sections 1 to 3)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN_ResNet50_FPN_Weights
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.ops import box_iou, nms

from eosvos.compat.torchvision_04 import VersionedRPN, VersionedTransform
from eosvos.compat.torchvision_waits import paste_mask, scaled_boxes
from eosvos.config import models as config
from eosvos.models.coco import load_where_it_fits
from eosvos.models.detector_parts import region_proposal_network, roi_heads
from eosvos.models.fpn import BackboneWithFPN
from eosvos.models.proposals import add_prior_proposals, tight_boxes
from eosvos.models.roi_heads import ObjectRoIHeads
from eosvos.models.segmenter import IGNORE, Features, Segmenter

PREDICTORS = ("roi_heads.box_predictor.", "roi_heads.mask_predictor.mask_fcn_logits.")
"""What depends on the classes, and stays random unless the weights are for one class, too."""
IOU_WEIGHT = 0.5  # of the IoU with the prior beside the score, with select=score_iou


@dataclass(frozen=True)
class DetectorFeatures(Features):
    """Pyramid levels, and each frame's proposals [P, 4], best first, in pixels of the network's images.

    `network_size`: (h, w) to which the images were resized, without padding.
    """

    proposals: Sequence[Tensor]
    network_size: tuple[int, int]


@dataclass(frozen=True)
class Detection:
    """The detection of the object in one frame.

    `probability` float [H, W] in 0..1 at the size of the original image, zero outside of the box; `box` float
    [4] (xmin, ymin, xmax, ymax) in image pixels; `score` [] in 0..1, and 0 where the object is lost.
    """

    probability: Tensor
    box: Tensor
    score: Tensor


class MaskRCNN(GeneralizedRCNN, Segmenter):
    """A detector of one object and its mask, which follows the object from frame to frame by its box."""

    backbone: BackboneWithFPN
    transform: VersionedTransform
    rpn: VersionedRPN
    roi_heads: ObjectRoIHeads

    def __init__(self, backbone: BackboneWithFPN, settings: config.MaskRCNN) -> None:
        """Build the network on a `backbone` (see `eosvos.models.backbones`), and load its weights.

        Raises UserError if anchors, strides or weights do not fit the backbone.
        """
        rpn = region_proposal_network(backbone, settings)
        transform = VersionedTransform(settings, backbone.image_mean, backbone.image_std)
        super().__init__(backbone, rpn, roi_heads(backbone, settings), transform)
        self.settings = settings
        load_where_it_fits(self, settings.weights, MaskRCNN_ResNet50_FPN_Weights.COCO_V1, PREDICTORS)
        self.eval()

    def train(self, mode: bool = True) -> "MaskRCNN":
        """Set the mode of all but the backbone: there it could only switch on dropout or move statistics."""
        super().train(mode)
        self.backbone.eval()
        return self

    def losses(self, images: Tensor, masks: Tensor) -> dict[str, Tensor]:
        """Return the five scalar losses of method, section 2 for images [B, 3, H, W] and masks [B, H, W].

        The targets are the tight box and the mask of every object; pixels of value 255 are background to the
        boxes and left out of the mask loss. For ranges and errors see `Segmenter.losses`. Draws from the
        global generator.
        """
        targets = _targets(masks)
        self._set_mode(training=True)
        # Not by torchvision's forward, which waits for the device to look for boxes without an extent.
        batch, targets = self.transform(images, targets)
        maps = self.encoded(images, lambda: batch.tensors)
        proposals, losses = self.rpn(batch, maps, targets)
        _, of_heads = self.roi_heads(maps, proposals, batch.image_sizes, targets)
        return {**of_heads, **losses}

    def features(self, images: Tensor) -> DetectorFeatures:
        """Compute pyramid and proposals of frames [B, 3, H, W]; see `Segmenter.features`."""
        self._set_mode(training=False)
        batch, _ = self.transform(images)
        maps = self.encoded(images, lambda: batch.tensors)
        proposals, _ = self.rpn(batch, maps)
        height, width = images.shape[-2:]
        return DetectorFeatures(maps, (height, width), proposals, tuple(batch.image_sizes[0]))

    def segment(
        self, features: Features, index: int, prior: Tensor | None = None, redetect: bool | Tensor = False
    ) -> Tensor:
        """Return the probability of `detect`, float [H, W]; see `Segmenter.segment`."""
        return self.detect(features, index, prior, redetect).probability

    def detect(
        self, features: Features, index: int, prior: Tensor | None = None, redetect: bool | Tensor = False
    ) -> Detection:
        """Detect the object near its `prior` [4], and its mask inside of its box; see `Segmenter.segment`.

        The probability is not multiplied by the score (method, section 3). Raises TypeError for another
        segmenter's features.
        """
        if not isinstance(features, DetectorFeatures):
            raise TypeError(f"MaskRCNN segments its own features, not {type(features).__name__}")
        self._set_mode(training=False)
        size = features.network_size
        maps = {name: level[index : index + 1] for name, level in features.maps.items()}
        if prior is not None:
            prior = scaled_boxes(prior.to(features.proposals[index]), features.size, size)
        proposals = add_prior_proposals(features.proposals[index], prior, size, self.settings, redetect)
        if not len(proposals):
            # An RPN that has diverged may have none.
            nothing = proposals.new_zeros
            return Detection(nothing(features.size), nothing(4), nothing(()))
        boxes, scores = self.roi_heads.detect(maps, proposals, size)
        best = self._best(boxes, scores, prior)
        box, score = boxes[best], scores[best][0]
        mask = self.roi_heads.mask_logits(maps, [box], [size]).float().sigmoid()[0]
        box = scaled_boxes(box[0], size, features.size)
        probability = paste_mask(mask, box, features.size).masked_fill(score == 0, 0)
        return Detection(probability, box, score)

    def head_parameters(self) -> list[nn.Parameter]:
        """Return the parameters of the RoI heads: RoIAlign, before them, has no second derivative."""
        return list(self.roi_heads.parameters())

    def _set_mode(self, training: bool) -> None:
        """Set the mode if it is another: a walk through all modules takes a tiny network 5 % of its time."""
        if self.training != training:
            self.train(training)

    def _best(self, boxes: Tensor, scores: Tensor, prior: Tensor | None) -> Tensor:
        """Return the index [1] of the followed one among detections [P, 4], which have scores [P] above 0."""
        if self.settings.select == "score" or prior is None:
            # Suppression leaves the best one.
            return scores.argmax(0, keepdim=True)
        kept = nms(boxes, scores, self.roi_heads.nms_thresh)[: self.roi_heads.detections_per_img]
        overlaps = box_iou(boxes[kept], prior[None])[:, 0]
        ranks = (scores[kept] + IOU_WEIGHT * overlaps).masked_fill(scores[kept] == 0, 0)
        return kept[ranks.argmax(0, keepdim=True)]


def _targets(masks: Tensor) -> list[dict[str, Tensor]]:
    """What torchvision learns from masks [B, H, W] of object ids, 0 and 255: for each, with N objects,

    `boxes` [N, 4], `labels` [N], all 1, and `masks` uint8 [N, H, W]; [N + 1, H, W] with what to ignore as the
    last one, where there is any. Raises ValueError if one shows no object. Waits once.
    """
    shown = masks.new_zeros(len(masks), IGNORE + 1).scatter_(1, masks.flatten(1).long(), 1).tolist()
    targets = []
    for mask, flags in zip(masks, shown, strict=True):
        values = [value for value in range(1, IGNORE + 1) if flags[value]]
        count = len(values) - flags[IGNORE]
        if not count:
            raise ValueError("a mask shows no object")
        regions = torch.stack([mask == value for value in values])
        labels = torch.ones(count, dtype=torch.int64, device=mask.device)
        targets.append(
            {"boxes": tight_boxes(regions[:count]), "labels": labels, "masks": regions.to(torch.uint8)}
        )
    return targets
