"""The second stage: what is in a box, how to move the box, and which of its pixels are the object's."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.roi_heads import RoIHeads, project_masks_on_boxes

from eosvos.compat.torchvision_04 import FullPrecisionBoxCoder
from eosvos.models.losses import IGNORE
from eosvos.models.proposals import jittered_boxes

Targets = list[dict[str, Tensor]]
Sizes = list[tuple[int, int]]


class ObjectRoIHeads(RoIHeads):
    """RoI heads for one object per image, with a choice of box and mask loss.

    Targets hold `boxes` [1, 4], `labels` [1] and `masks` [1 or 2, H, W]: the object, and, if there is any,
    the region to ignore.
    """

    box_coder: BoxCoder

    def __init__(
        self,
        *args: Any,
        box_beta: float,
        mask_loss: Callable[[Tensor, Tensor], Tensor],
        train_jitter: int,
        **kwargs: Any,
    ) -> None:
        """Take torchvision's arguments, smooth L1's beta, and a loss of logits and labels [N, M, M]."""
        super().__init__(*args, **kwargs)
        self.box_coder = FullPrecisionBoxCoder(self.box_coder.weights)
        self.box_beta = box_beta
        self.mask_loss = mask_loss
        self.train_jitter = train_jitter

    def forward(
        self,
        features: Mapping[str, Tensor],
        proposals: list[Tensor],
        image_shapes: Sizes,
        targets: Targets | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """Return (detections, {}) in eval mode and ([], three losses) in train mode.

        `features` [B, C, h, w] per level, `proposals` [P, 4] per image. Train mode draws the jitter, and
        then two permutations per image, from the global generator.
        """
        if not self.training:
            return super().forward(features, proposals, image_shapes, targets)
        if targets is None:
            raise ValueError("in train mode the heads need targets")
        if self.train_jitter:
            proposals = [
                torch.cat((boxes, jittered_boxes(target["boxes"][0], self.train_jitter, size)))
                for boxes, target, size in zip(proposals, targets, image_shapes, strict=True)
            ]
        boxes, _, labels, deltas = self.select_training_samples(proposals, targets)
        logits, predicted = self.predict_boxes(features, boxes, image_shapes)
        losses = self._box_losses(logits, predicted, torch.cat(labels), torch.cat(deltas))
        positives = [b[label > 0] for b, label in zip(boxes, labels, strict=True)]
        mask_logits = self.mask_logits(features, positives, image_shapes)
        losses["loss_mask"] = self.mask_loss(mask_logits, _mask_labels(targets, positives, mask_logits))
        return [], losses

    def predict_boxes(
        self, features: Mapping[str, Tensor], boxes: list[Tensor], sizes: Sizes
    ) -> tuple[Tensor, Tensor]:
        """Return class logits [N, 2] and box regression [N, 8] of the N `boxes` of all images."""
        return self.box_predictor(self.box_head(self.box_roi_pool(features, boxes, sizes)))

    def mask_logits(self, features: Mapping[str, Tensor], boxes: list[Tensor], sizes: Sizes) -> Tensor:
        """Return the object's mask logits [N, M, M] in the N `boxes` of all images."""
        return self.mask_predictor(self.mask_head(self.mask_roi_pool(features, boxes, sizes)))[:, 1]

    def detect(
        self, features: Mapping[str, Tensor], boxes: Tensor, size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Return detections [D, 4] and scores [D] of one image, best first, after threshold and NMS.

        `boxes` [P, 4] are the proposals, in pixels of the network's image of `size` (H, W).
        """
        logits, deltas = self.predict_boxes(features, [boxes], [size])
        detections, scores, _ = self.postprocess_detections(logits, deltas, [boxes], [size])
        return detections[0], scores[0]

    def _box_losses(
        self, logits: Tensor, predicted: Tensor, labels: Tensor, deltas: Tensor
    ) -> dict[str, Tensor]:
        """Cross-entropy over the sampled boxes [N]; smooth L1 of the positive ones' deltas over N."""
        positive = labels > 0
        box_loss = F.smooth_l1_loss(
            predicted[positive][:, 4:], deltas[positive], beta=self.box_beta, reduction="sum"
        )
        return {
            "loss_classifier": F.cross_entropy(logits, labels),
            "loss_box_reg": box_loss / len(labels),
        }


def _mask_labels(targets: Targets, boxes: list[Tensor], logits: Tensor) -> Tensor:
    """Align masks to boxes: soft labels [N, M, M], 255 where any weight fell on ignored pixels."""
    side = logits.shape[-1]
    labels = []
    for target, rois in zip(targets, boxes, strict=True):
        masks = target["masks"]
        which = torch.zeros(len(rois), device=rois.device)
        label = project_masks_on_boxes(masks, rois, which, side)
        if len(masks) > 1:
            ignored = project_masks_on_boxes(masks, rois, which + 1, side)
            label = label.masked_fill(ignored > 0, IGNORE)
        labels.append(label)
    return torch.cat(labels)
