"""The second stage: what is in a box, how to move the box, and which of its pixels are the object's."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.roi_heads import RoIHeads, project_masks_on_boxes
from torchvision.ops import clip_boxes_to_image

from eosvos.compat.torchvision_04 import FullPrecisionBoxCoder
from eosvos.compat.torchvision_waits import balanced_samples, joined
from eosvos.models.losses import precise
from eosvos.models.proposals import jittered_boxes
from eosvos.models.segmenter import IGNORE

Targets = list[dict[str, Tensor]]
Sizes = list[tuple[int, int]]


MIN_SIZE = 1e-2
"""Least side of a detection, pixels."""


class Samples(NamedTuple):
    """What the heads learn from: of each image, the sampled `boxes` [N, 4], which of the true `objects` each
    matches best [N], `labels` [N] of 1 (object) and 0, `deltas` [N, 4] to that object, and where the
    `positives` [P] are among them.
    """

    boxes: list[Tensor]
    objects: list[Tensor]
    labels: list[Tensor]
    deltas: list[Tensor]
    positives: list[Tensor]


class ObjectRoIHeads(RoIHeads):
    """RoI heads that know objects and background, with a choice of box and mask loss.

    Targets hold `boxes` [N, 4], `labels` [N] and `masks` [N or N + 1, H, W]: the objects, and, if there is
    any, the region to ignore.
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
                torch.cat((boxes, *(jittered_boxes(box, self.train_jitter, size) for box in target["boxes"])))
                for boxes, target, size in zip(proposals, targets, image_shapes, strict=True)
            ]
        samples = self.training_samples(proposals, targets)
        logits, predicted = self.predict_boxes(features, samples.boxes, image_shapes)
        losses = self._box_losses(logits, predicted, samples)
        positives, objects = (
            [values[i] for values, i in zip(of_images, samples.positives, strict=True)]
            for of_images in (samples.boxes, samples.objects)
        )
        mask_logits = self.mask_logits(features, positives, image_shapes)
        aligned = mask_labels(targets, positives, objects, mask_logits.shape[-1])
        losses["loss_mask"] = self.mask_loss(mask_logits, aligned)
        return [], losses

    def training_samples(self, proposals: list[Tensor], targets: Targets) -> Samples:
        """Draw, from the `proposals` [P, 4] and the true boxes of each image, what the heads learn from."""
        true = [target["boxes"].to(proposals[0].dtype) for target in targets]
        boxes = self.add_gt_proposals(proposals, true)
        objects, labels = self.assign_targets_to_proposals(boxes, true, [t["labels"] for t in targets])
        drawn = balanced_samples(labels, self.fg_bg_sampler)
        chosen = [torch.cat(indices).sort().values for indices in drawn]
        boxes, objects, labels = (
            [values[i] for values, i in zip(of_images, chosen, strict=True)]
            for of_images in (boxes, objects, labels)
        )
        matched = [values[which] for values, which in zip(true, objects, strict=True)]
        positives = [torch.searchsorted(i, positive) for i, (positive, _) in zip(chosen, drawn, strict=True)]
        return Samples(boxes, objects, labels, self.box_coder.encode(matched, boxes), positives)

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
        """Return the boxes [P, 4] to which `boxes` [P, 4] are moved, and their scores [P].

        The score is 0 of what is no detection, at or below the threshold or without an extent. `boxes` are in
        pixels of the network's image of `size` (H, W).
        """
        logits, deltas = self.predict_boxes(features, [boxes], [size])
        moved = clip_boxes_to_image(self.box_coder.decode(deltas, [boxes])[:, 1], size)
        scores = logits.softmax(-1)[:, 1]
        none = ~((scores > self.score_thresh) & (moved[:, 2:] - moved[:, :2] >= MIN_SIZE).all(1))
        return moved.masked_fill(none[:, None], 0), scores.masked_fill(none, 0)

    def _box_losses(self, logits: Tensor, predicted: Tensor, samples: Samples) -> dict[str, Tensor]:
        """Cross-entropy over the sampled boxes [N]; smooth L1 of the positive ones' deltas over N."""
        labels, deltas = torch.cat(samples.labels), torch.cat(samples.deltas)
        positive = joined(samples.positives, samples.labels)
        box_loss = F.smooth_l1_loss(
            predicted[positive][:, 4:], deltas[positive], beta=self.box_beta, reduction="sum"
        )
        return {
            "loss_classifier": F.cross_entropy(precise(logits), labels),
            "loss_box_reg": box_loss / len(labels),
        }


def mask_labels(targets: Targets, boxes: list[Tensor], objects: list[Tensor], side: int) -> Tensor:
    """Align the masks of objects, an index [P] an image, to boxes [P, 4]: soft labels [N, side, side].

    They are 255 where any weight fell on ignored pixels.
    """
    labels = []
    for target, rois, which in zip(targets, boxes, objects, strict=True):
        masks, count = target["masks"], len(target["boxes"])
        label = project_masks_on_boxes(masks, rois, which, side)
        if len(masks) > count:
            ignored = project_masks_on_boxes(masks, rois, torch.full_like(which, count), side)
            label = label.masked_fill(ignored > 0, IGNORE)
        labels.append(label)
    return torch.cat(labels)
