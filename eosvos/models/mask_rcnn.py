"""Mask R-CNN for one object, on torchvision's classes (method sections 1 to 3)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.transform import resize_boxes
from torchvision.ops import box_iou

from eosvos.errors import UserError
from eosvos.models.backbones import PyramidBackbone
from eosvos.models.coco import load_detector
from eosvos.models.detector_parts import BoxBranch, MaskBranch, object_heads, proposal_network
from eosvos.models.losses import IGNORE, bce, lovasz_hinge
from eosvos.models.proposals import PROPOSAL_MODES, PriorProposals, tight_boxes
from eosvos.models.roi_heads import ObjectHeads
from eosvos.models.segmenter import Features, Prediction, Segmenter
from eosvos.models.variants import VARIANTS, Anchors, ProposalNetwork, Transform

MASK_LOSSES = {"lovasz": lovasz_hinge, "bce": bce}
PRIOR_WEIGHT = 0.5  # of the IoU with the prior beside the score, in `select: score_iou`


@dataclass(frozen=True)
class DetectorFeatures(Features):
    """Pyramid levels, and each frame's proposals [P, 4], best first, in pixels of the network's images.

    `network_size`: (h, w) to which the images were resized, without padding.
    """

    proposals: Sequence[Tensor]
    network_size: tuple[int, int]


class MaskRCNN(GeneralizedRCNN, Segmenter):
    """A detector of one object and its mask, which follows the object from frame to frame by its box."""

    backbone: PyramidBackbone
    transform: Transform
    rpn: ProposalNetwork
    roi_heads: ObjectHeads

    def __init__(
        self,
        backbone: PyramidBackbone,
        weights: str = "none",
        variant: str = "published",
        min_size: int | None = 800,
        max_size: int = 1333,
        anchor_sizes: Sequence[float | Sequence[float]] = (32, 64, 128, 256, 512),
        anchor_ratios: Sequence[float] = (0.5, 1.0, 2.0),
        rpn_proposals_train: int = 2000,
        rpn_proposals_test: int = 1000,
        rpn_samples: int = 256,
        roi_samples: int = 512,
        box_roi: int = 7,
        box_features: int = 1024,
        mask_roi: int = 28,
        sampling_ratio: int = 2,
        mask_channels: int = 256,
        mask_layers: int = 4,
        mask_loss: str = "lovasz",
        proposals: str = "extend",
        prior_proposals: int = 1000,
        select: str = "score",
        score_threshold: float = 0.5,
        nms_threshold: float = 0.5,
        train_jitter: int = 0,
        head_norm: bool = False,
    ) -> None:
        """Build the network from a `backbone` (see `eosvos.models.backbones`), with the published defaults.

        Sizes of images and anchors are in pixels of the resized image; `min_size` None keeps the image as
        it is. `weights`: none, coco (where name and shape agree; the rest is random) or the path of such a
        file. `rpn_proposals_*`: kept per level before, and in total after NMS. `select`: the detection with
        the best score, or score + 0.5 * IoU with the prior. `sampling_ratio`: points a side in each cell of
        a pooled region. `head_norm`: norms between the layers of the heads, for networks that start from
        random weights. Raises UserError for a value that is not among the choices.
        """
        _check_choices(variant, mask_loss, proposals, select)
        differ = VARIANTS[variant]
        anchors = Anchors(anchor_sizes, anchor_ratios, differ.float_strides)
        rpn_proposals = (rpn_proposals_train, rpn_proposals_test)
        rpn = proposal_network(backbone, anchors, rpn_samples, rpn_proposals, differ.rpn_beta, head_norm)
        box = BoxBranch(box_roi, box_features, differ.box_beta, head_norm)
        mask = MaskBranch(mask_roi, mask_channels, mask_layers, MASK_LOSSES[mask_loss], head_norm)
        thresholds = (score_threshold, nms_threshold)
        heads = object_heads(backbone, box, mask, roi_samples, thresholds, train_jitter, sampling_ratio)
        mean, std = backbone.image_mean, backbone.image_std
        transform = Transform(min_size, max_size, mean, std, differ.draw_size)
        super().__init__(backbone, rpn, heads, transform)
        self.prior_proposals = PriorProposals(proposals, prior_proposals)
        self.select = select
        load_detector(self, weights)
        self.eval()

    def train(self, mode: bool = True) -> "MaskRCNN":
        """Set the mode of all but the backbone: there it could only switch on dropout or move statistics."""
        super().train(mode)
        self.backbone.eval()
        return self

    def losses(self, images: Tensor, masks: Tensor) -> dict[str, Tensor]:
        """Return the five scalar losses of method section 2 for images [B, 3, H, W] and masks [B, H, W].

        The targets are the object's tight box and its mask; pixels of value 255 are background to the boxes
        and left out of the mask loss. For ranges and errors see `Segmenter.losses`. Draws from the global
        generator.
        """
        objects = masks == 1
        boxes = tight_boxes(objects)
        labels = torch.ones(1, dtype=torch.int64, device=masks.device)
        self._switch(training=True)
        targets = [
            {"boxes": box[None], "labels": labels, "masks": _object_and_ignored(mask)}
            for box, mask in zip(boxes, masks, strict=True)
        ]
        return self(images, targets)

    def features(self, images: Tensor) -> DetectorFeatures:
        """Compute pyramid and proposals of frames [B, 3, H, W]; see `Segmenter.features`."""
        self._switch(training=False)
        batch, _ = self.transform(images)
        maps = self.backbone(batch.tensors)
        proposals, _ = self.rpn(batch, maps)
        height, width = images.shape[-2:]
        return DetectorFeatures(maps, (height, width), proposals, tuple(batch.image_sizes[0]))

    def segment(
        self, features: Features, index: int, prior: Tensor | None = None, search: bool = False
    ) -> Prediction:
        """Detect the object near its `prior` [4], and its mask inside of its box; see `Segmenter.segment`.

        The probability [H, W] is zero outside of the box, and not multiplied by the score (method section
        3). Raises TypeError for another segmenter's features.
        """
        if not isinstance(features, DetectorFeatures):
            raise TypeError(f"MaskRCNN segments its own features, not {type(features).__name__}")
        self._switch(training=False)
        size = features.network_size
        maps = {name: level[index : index + 1] for name, level in features.maps.items()}
        proposals = features.proposals[index]
        if prior is not None:
            prior = resize_boxes(prior[None].to(proposals), features.size, size)[0]
        proposals = self.prior_proposals(proposals, prior, size, search)
        boxes, scores = self.roi_heads.detect(maps, proposals, size)
        if not len(boxes):
            return Prediction(boxes.new_zeros(features.size), None, 0.0)
        best = self._best(boxes, scores, prior)
        masks = self.roi_heads.mask_logits(maps, [boxes[best]], [size]).sigmoid()
        detection = {"boxes": boxes[best], "masks": masks[:, None]}
        (detection,) = self.transform.postprocess([detection], [size], [features.size])
        return Prediction(detection["masks"][0, 0], detection["boxes"][0], float(scores[best]))

    def head_parameters(self) -> list[nn.Parameter]:
        """Return the parameters of the RoI heads: RoIAlign, before them, has no second derivative."""
        return list(self.roi_heads.parameters())

    def _switch(self, training: bool) -> None:
        """Set the mode if it is another: a walk through all modules takes a tiny network 5 % of its time."""
        if self.training != training:
            self.train(training)

    def _best(self, boxes: Tensor, scores: Tensor, prior: Tensor | None) -> slice:
        """Return the place of the chosen one among detections [D, 4] that are sorted by score."""
        if self.select == "score" or prior is None:
            return slice(0, 1)
        best = int((scores + PRIOR_WEIGHT * box_iou(boxes, prior[None])[:, 0]).argmax())
        return slice(best, best + 1)


def _check_choices(variant: str, mask_loss: str, proposals: str, select: str) -> None:
    """Raise UserError for the first value that is not among its key's choices."""
    for key, value, choices in (
        ("variant", variant, VARIANTS),
        ("mask_loss", mask_loss, MASK_LOSSES),
        ("proposals", proposals, PROPOSAL_MODES),
        ("select", select, ("score", "score_iou")),
    ):
        if value not in choices:
            raise UserError(f"segmenter.{key} is {value!r}: choose one of {', '.join(choices)}.")


def _object_and_ignored(mask: Tensor) -> Tensor:
    """Split a mask [H, W] of 0, 1, 255 into uint8 [1, H, W] (object) or [2, H, W] (object, ignored)."""
    ignored = mask == IGNORE
    parts = (mask == 1, ignored) if ignored.any() else (mask == 1,)
    return torch.stack(parts).to(torch.uint8)
