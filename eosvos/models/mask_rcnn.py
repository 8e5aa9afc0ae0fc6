"""Mask R-CNN for one object, on torchvision's classes (method, sections 1 to 3)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.transform import resize_boxes
from torchvision.ops import box_iou

from eosvos.compat.torchvision_04 import VersionedRPN, VersionedTransform
from eosvos.config import models as config
from eosvos.models.coco import load_detector
from eosvos.models.detector_parts import region_proposal_network, roi_heads
from eosvos.models.fpn import BackboneWithFPN
from eosvos.models.losses import IGNORE
from eosvos.models.proposals import add_prior_proposals, tight_boxes
from eosvos.models.roi_heads import ObjectRoIHeads
from eosvos.models.segmenter import Features, Segmenter

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
    [4] (xmin, ymin, xmax, ymax) in image pixels, or None where the object is lost; `score` in 0..1.
    """

    probability: Tensor
    box: Tensor | None
    score: float


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
        load_detector(self, settings.weights)
        self.eval()

    def train(self, mode: bool = True) -> "MaskRCNN":
        """Set the mode of all but the backbone: there it could only switch on dropout or move statistics."""
        super().train(mode)
        self.backbone.eval()
        return self

    def losses(self, images: Tensor, masks: Tensor) -> dict[str, Tensor]:
        """Return the five scalar losses of method, section 2 for images [B, 3, H, W] and masks [B, H, W].

        The targets are the object's tight box and its mask; pixels of value 255 are background to the boxes
        and left out of the mask loss. For ranges and errors see `Segmenter.losses`. Draws from the global
        generator.
        """
        objects = masks == 1
        boxes = tight_boxes(objects)
        labels = torch.ones(1, dtype=torch.int64, device=masks.device)
        self._set_mode(training=True)
        targets = [
            {"boxes": box[None], "labels": labels, "masks": _object_and_ignored(mask)}
            for box, mask in zip(boxes, masks, strict=True)
        ]
        return self(images, targets)

    def features(self, images: Tensor) -> DetectorFeatures:
        """Compute pyramid and proposals of frames [B, 3, H, W]; see `Segmenter.features`."""
        self._set_mode(training=False)
        batch, _ = self.transform(images)
        maps = self.backbone(batch.tensors)
        proposals, _ = self.rpn(batch, maps)
        height, width = images.shape[-2:]
        return DetectorFeatures(maps, (height, width), proposals, tuple(batch.image_sizes[0]))

    def segment(
        self, features: Features, index: int, prior: Tensor | None = None, redetect: bool = False
    ) -> Tensor:
        """Return the probability of `detect`, float [H, W]; see `Segmenter.segment`."""
        return self.detect(features, index, prior, redetect).probability

    def detect(
        self, features: Features, index: int, prior: Tensor | None = None, redetect: bool = False
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
        proposals = features.proposals[index]
        if prior is not None:
            prior = resize_boxes(prior[None].to(proposals), features.size, size)[0]
        proposals = add_prior_proposals(proposals, prior, size, self.settings, redetect)
        boxes, scores = self.roi_heads.detect(maps, proposals, size)
        if not len(boxes):
            return Detection(boxes.new_zeros(features.size), None, 0.0)
        best = self._best(boxes, scores, prior)
        masks = self.roi_heads.mask_logits(maps, [boxes[best]], [size]).sigmoid()
        detection = {"boxes": boxes[best], "masks": masks[:, None]}
        (detection,) = self.transform.postprocess([detection], [size], [features.size])
        return Detection(detection["masks"][0, 0], detection["boxes"][0], float(scores[best]))

    def head_parameters(self) -> list[nn.Parameter]:
        """Return the parameters of the RoI heads: RoIAlign, before them, has no second derivative."""
        return list(self.roi_heads.parameters())

    def encoder_parameters(self) -> list[nn.Parameter]:
        """Return the parameters of the backbone and of the RPN."""
        return [*self.backbone.parameters(), *self.rpn.parameters()]

    def _set_mode(self, training: bool) -> None:
        """Set the mode if it is another: a walk through all modules takes a tiny network 5 % of its time."""
        if self.training != training:
            self.train(training)

    def _best(self, boxes: Tensor, scores: Tensor, prior: Tensor | None) -> slice:
        """Return the index of the followed one among detections [D, 4] that are sorted by score."""
        if self.settings.select == "score" or prior is None:
            return slice(0, 1)
        best = int((scores + IOU_WEIGHT * box_iou(boxes, prior[None])[:, 0]).argmax())
        return slice(best, best + 1)


def _object_and_ignored(mask: Tensor) -> Tensor:
    """Split a mask [H, W] of 0, 1, 255 into uint8 [1, H, W] (object) or [2, H, W] (object, ignored)."""
    ignored = mask == IGNORE
    parts = (mask == 1, ignored) if ignored.any() else (mask == 1,)
    return torch.stack(parts).to(torch.uint8)
