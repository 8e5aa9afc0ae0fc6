"""Compatibility with torchvision 0.4, with which the published results were made (method, section 1).

`variant=published` computes as torchvision 0.4 did, `variant=torchvision` as today's does. Both keep boxes in
float32 under autocast, where today's torchvision takes them to 16 bits: from 512 on, bfloat16 has steps of 4
pixels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder, Matcher, encode_boxes
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.models.detection.transform import GeneralizedRCNNTransform, _resize_image_and_masks
from torchvision.ops import clip_boxes_to_image

from eosvos.compat.torchvision_waits import (
    NoWaitMatcher,
    balanced_samples,
    joined,
    scaled_boxes,
    suppressed,
    uploaded,
)
from eosvos.config import models as config


@dataclass(frozen=True)
class TorchvisionVersion:
    """The four differences between versions of torchvision that change numbers.

    `rpn_beta`, `box_beta`: beta of the smooth L1 losses of the RPN's boxes and of the detections' (0: L1);
    `float_strides`: anchors lie padded size / grid size apart, not rounded down; `draw_size`: the resize of a
    training image draws one number from the global generator.
    """

    rpn_beta: float
    box_beta: float
    float_strides: bool
    draw_size: bool


VERSIONS: Mapping[str, TorchvisionVersion] = {
    "published": TorchvisionVersion(rpn_beta=0.0, box_beta=1.0, float_strides=True, draw_size=False),
    "torchvision": TorchvisionVersion(rpn_beta=1 / 9, box_beta=1 / 9, float_strides=False, draw_size=True),
}


class VersionedTransform(GeneralizedRCNNTransform):
    """Normalises, resizes and pads images; `min_size` None leaves those within `max_size` as they are."""

    def __init__(
        self, settings: config.MaskRCNN, image_mean: Sequence[float], image_std: Sequence[float]
    ) -> None:
        super().__init__(settings.min_size, settings.max_size, list(image_mean), list(image_std))
        self.draw_size = VERSIONS[settings.variant].draw_size

    def torch_choice(self, k: list[int]) -> int:
        """Choose among the sizes for training images: there is one, but today's torchvision draws for it."""
        return super().torch_choice(k) if self.draw_size else k[-1]

    def resize(
        self, image: Tensor, target: dict[str, Tensor] | None = None
    ) -> tuple[Tensor, dict[str, Tensor] | None]:
        """Resize image [3, H, W], target boxes [N, 4] and masks [M, H, W] to the network's size."""
        short, long = sorted(image.shape[-2:])
        min_size = self.min_size[-1] or short
        if min(min_size / short, self.max_size / long) == 1:
            # An interpolation onto itself costs as much as any other; only its random draw has an effect.
            if self.training and self.draw_size:
                self.torch_choice(self.min_size)
            return image, target
        size = self.torch_choice([min_size]) if self.training else min_size
        resized, target = _resize_image_and_masks(image, size, self.max_size, target, self.fixed_size)
        if target is not None:
            target["boxes"] = scaled_boxes(target["boxes"], image.shape[-2:], resized.shape[-2:])
        return resized, target

    def normalize(self, image: Tensor) -> Tensor:
        """Subtract the mean of each channel of image [3, H, W], and divide by its deviation."""
        mean, std = (uploaded(values, image)[:, None, None] for values in (self.image_mean, self.image_std))
        return (image - mean) / std


class VersionedAnchorGenerator(AnchorGenerator):
    """Anchors whose strides may be fractions, where a level's grid does not divide the padded image."""

    def __init__(self, settings: config.MaskRCNN) -> None:
        levels = tuple(tuple(size) if isinstance(size, list) else (size,) for size in settings.anchor_sizes)
        super().__init__(levels, (tuple(settings.anchor_ratios),) * len(levels))
        self.float_strides = VERSIONS[settings.variant].float_strides

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        """Return the anchors [A, 4] of each image, in pixels of the padded batch."""
        if not self.float_strides:
            return super().forward(image_list, feature_maps)
        height, width = image_list.tensors.shape[-2:]
        grids = [feature_map.shape[-2:] for feature_map in feature_maps]
        self.set_cell_anchors(feature_maps[0].dtype, feature_maps[0].device)
        strides = [[height / rows, width / columns] for rows, columns in grids]
        return [torch.cat(self.grid_anchors(grids, strides))] * len(image_list.image_sizes)

    def set_cell_anchors(self, dtype: torch.dtype, device: torch.device) -> None:
        """Take the anchors to a device, and to a type of 32 bits at least: they would stay rounded."""
        super().set_cell_anchors(torch.promote_types(dtype, torch.float32), device)


class FullPrecisionBoxCoder(BoxCoder):
    """Moves boxes in their own type, whatever the type of the predicted moves, and does not wait."""

    def encode_single(self, reference_boxes: Tensor, proposals: Tensor) -> Tensor:
        """Return the moves [N, 4] from `proposals` [N, 4] to `reference_boxes` [N, 4]."""
        return encode_boxes(reference_boxes, proposals, uploaded(self.weights, reference_boxes))

    def decode_single(self, rel_codes: Tensor, boxes: Tensor) -> Tensor:
        """Return the `boxes` [N, 4] as moved by `rel_codes` [N, 4 C]: [N, 4 C]."""
        codes = rel_codes.to(boxes.dtype).unflatten(1, (-1, 4))
        sides = []
        for axis in (0, 1):
            low, high = boxes[:, None, axis], boxes[:, None, axis + 2]
            extent = high - low
            centre = codes[..., axis] / self.weights[axis] * extent + (low + 0.5 * extent)
            growth = (codes[..., axis + 2] / self.weights[axis + 2]).clamp(max=self.bbox_xform_clip).exp()
            sides.append((centre - 0.5 * growth * extent, centre + 0.5 * growth * extent))
        (x1, x2), (y1, y2) = sides
        return torch.stack((x1, y1, x2, y2), dim=2).flatten(1)


class VersionedRPN(RegionProposalNetwork):
    """A region proposal network with a choice of box loss: smooth L1 from `box_beta` on (0: L1)."""

    box_coder: BoxCoder

    def __init__(self, *args: Any, box_beta: float, **kwargs: Any) -> None:
        """Take torchvision's arguments, and the beta of the box loss."""
        super().__init__(*args, **kwargs)
        self.box_coder = FullPrecisionBoxCoder(self.box_coder.weights)
        matcher: Matcher = self.proposal_matcher
        self.proposal_matcher: Matcher = NoWaitMatcher(matcher.high_threshold, matcher.low_threshold, True)
        self.box_beta = box_beta

    def filter_proposals(
        self,
        proposals: Tensor,
        objectness: Tensor,
        image_shapes: list[tuple[int, int]],
        num_anchors_per_level: list[int],
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return each image's proposals [P, 4] and scores [P]: the best of each level, after suppression.

        `proposals` [B, A, 4], `objectness` [B A, 1] logits.
        """
        objectness = objectness.detach().reshape(len(proposals), -1)
        best = self._get_top_n_idx(objectness, num_anchors_per_level)
        scores = objectness.gather(1, best).sigmoid()
        boxes = proposals.gather(1, best[..., None].expand(-1, -1, 4))
        boxes = torch.stack(
            [clip_boxes_to_image(some, size) for some, size in zip(boxes, image_shapes, strict=True)]
        )
        valid = (boxes[..., 2:] - boxes[..., :2] >= self.min_size).all(-1) & (scores >= self.score_thresh)
        groups = [min(count, self.pre_nms_top_n()) for count in num_anchors_per_level]
        return suppressed(boxes, scores, valid, groups, self.nms_thresh, self.post_nms_top_n())

    def compute_loss(
        self,
        objectness: Tensor,
        pred_bbox_deltas: Tensor,
        labels: list[Tensor],
        regression_targets: list[Tensor],
    ) -> tuple[Tensor, Tensor]:
        """Return objectness and box loss over a random sample of the anchors of all images.

        `objectness` [A, 1] logits, `pred_bbox_deltas` [A, 4]; per image `labels` [a] of 1, 0 and -1 (left
        out), `regression_targets` [a, 4]. Draws two permutations per image from the global generator.
        """
        samples = balanced_samples(labels, self.fg_bg_sampler)
        positive, negative = (joined(indices, labels) for indices in zip(*samples, strict=True))
        sampled = torch.cat((positive, negative))
        box_loss = F.smooth_l1_loss(
            pred_bbox_deltas[positive],
            torch.cat(regression_targets)[positive],
            beta=self.box_beta,
            reduction="sum",
        )
        chosen = torch.cat(labels)[sampled]
        objectness_loss = F.binary_cross_entropy_with_logits(objectness.flatten()[sampled], chosen)
        return objectness_loss, box_loss / len(sampled)
