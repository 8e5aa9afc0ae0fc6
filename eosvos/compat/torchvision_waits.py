"""torchvision's detector with few waits of the host for a GPU.

A mask as an index, `nonzero` and non-maximum suppression have results whose size only the device knows, so
the host waits for it. What is here computes and draws the same, with sizes that are known or read once for a
batch.
"""

from collections.abc import Mapping, Sequence
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler, Matcher
from torchvision.models.detection.roi_heads import expand_boxes, expand_masks
from torchvision.ops import MultiScaleRoIAlign, nms, roi_align
from torchvision.ops.poolers import _convert_to_roi_format


class NoWaitMatcher(Matcher):
    """Matches boxes as torchvision does, without a wait for how many there are."""

    def set_low_quality_matches_(
        self, matches: Tensor, all_matches: Tensor, match_quality_matrix: Tensor
    ) -> None:
        """Match, of `matches` [A], the anchors that overlap most with one of the boxes, [N, A] IoUs."""
        best = match_quality_matrix.max(dim=1, keepdim=True).values
        is_best = (match_quality_matrix == best).any(dim=0)
        matches.copy_(torch.where(is_best, all_matches, matches))


def balanced_samples(
    labels: Sequence[Tensor], sampler: BalancedPositiveNegativeSampler
) -> list[tuple[Tensor, Tensor]]:
    """Return what `sampler` draws: each image's indices, ascending, of positive and of negative samples.

    labels: of each image, [N] of 1 or more (positive), 0 (negative) and -1 (neither). Waits once for all.
    """
    ranks = [torch.stack((label >= 1, label == 0)).cumsum(1) for label in labels]
    samples = []
    for rank, totals in zip(ranks, torch.stack([rank[:, -1] for rank in ranks]).tolist(), strict=True):
        positives = min(totals[0], int(sampler.batch_size_per_image * sampler.positive_fraction))
        negatives = min(totals[1], sampler.batch_size_per_image - positives)
        drawn = [
            torch.randperm(total, device=rank.device)[:count].sort().values + 1
            for total, count in zip(totals, (positives, negatives), strict=True)
        ]
        samples.append((torch.searchsorted(rank[0], drawn[0]), torch.searchsorted(rank[1], drawn[1])))
    return samples


def uploaded(values: Sequence[float], like: Tensor) -> Tensor:
    """Return a tensor [N] of `values` with the type and device of `like`, without a wait for the copy."""
    return torch.tensor(values, dtype=like.dtype).to(like.device, non_blocking=True)


def scaled_boxes(boxes: Tensor, size: Sequence[int], new_size: Sequence[int]) -> Tensor:
    """Take boxes [..., 4] in an image of `size` (H, W) to where they are in it at `new_size` (H', W')."""
    y, x = (new / old for old, new in zip(size, new_size, strict=True))
    sides = zip(boxes.unbind(-1), (x, y, x, y), strict=True)
    return torch.stack([side * ratio for side, ratio in sides], dim=-1)


def joined(indices: Sequence[Tensor], values: Sequence[Tensor]) -> Tensor:
    """Take indices [P] into each of some `values` [N, ...] to indices into all of them, side by side."""
    starts = accumulate((len(one) for one in values[:-1]), initial=0)
    return torch.cat([i + start for i, start in zip(indices, starts, strict=True)])


def suppressed(
    boxes: Tensor, scores: Tensor, valid: Tensor, groups: Sequence[int], threshold: float, most: int
) -> tuple[list[Tensor], list[Tensor]]:
    """Leave out the boxes that overlap by more than `threshold` with a better one of their image and group.

    boxes [B, K, 4], scores [B, K] >= 0, and `valid` bool [B, K]: the others are left out, too. groups: how
    many boxes, side by side, each group has. Returns the boxes [P, 4] and scores [P] of each image, best
    first, at most `most`. Waits twice, whatever the number of images.
    """
    images, device = len(boxes), boxes.device
    # Those that are not valid, and one more in each image, are the same box in a group of their own, of which
    # one remains, the last of its image: so it is known which to drop.
    valid = F.pad(valid, (0, 1))
    unit = torch.arange(4, device=device).div(2, rounding_mode="floor").to(boxes)
    boxes = torch.where(valid[..., None], F.pad(boxes, (0, 0, 0, 1)), unit)
    scores = F.pad(scores, (0, 1)).masked_fill(~valid, -1)
    numbers = torch.cat([torch.full((count,), i, device=device) for i, count in enumerate((*groups, 1))])
    numbers = numbers.expand_as(valid).masked_fill(~valid, len(groups))
    # Moved so far apart, in double precision, that images and groups do not overlap.
    numbers = numbers + (len(groups) + 1) * torch.arange(images, device=device)[:, None]
    apart = boxes.double() + (numbers * (boxes.max() + 1).double())[..., None]
    kept = nms(apart.flatten(0, 1), scores.flatten().double(), threshold)
    image = kept.div(boxes.shape[1], rounding_mode="floor")
    counts = (image[:, None] == torch.arange(images, device=device)).sum(0).tolist()
    chosen = [one[:-1][:most] for one in kept[image.argsort(stable=True)].split(counts)]
    return [boxes.flatten(0, 1)[i] for i in chosen], [scores.flatten()[i] for i in chosen]


class FewWaitsRoIAlign(MultiScaleRoIAlign):
    """Pools regions as torchvision does, with one wait instead of one per level; one region with none."""

    def forward(self, x: Mapping[str, Tensor], boxes: list[Tensor], image_shapes: object) -> Tensor:
        """Pool each image's `boxes` [N, 4] from the levels' maps [B, C, h, w]: [N, C, side, side]."""
        maps = [level for name, level in x.items() if name in self.featmap_names]
        rois, levels = _convert_to_roi_format(boxes), self.map_levels(boxes)
        if len(rois) == 1:
            each = [self._pool(level, rois, scale) for level, scale in zip(maps, self.scales, strict=True)]
            return torch.cat(each).index_select(0, levels)
        counts = (levels[:, None] == torch.arange(len(maps), device=levels.device)).sum(0).tolist()
        order = levels.argsort(stable=True)
        parts = zip(maps, rois[order].split(counts), self.scales, strict=True)
        pooled = torch.cat([self._pool(level, some, scale) for level, some, scale in parts])
        return torch.empty_like(pooled).index_copy(0, order, pooled)

    def _pool(self, level: Tensor, rois: Tensor, scale: float) -> Tensor:
        return roi_align(level, rois, self.output_size, scale, self.sampling_ratio).to(level.dtype)


def paste_mask(mask: Tensor, box: Tensor, size: tuple[int, int]) -> Tensor:
    """Place a mask [M, M] in its `box` [4] of an image of `size` (H, W), zero outside: [H, W].

    It is torchvision's `paste_masks_in_image` up to the rounding of sums.
    """
    padded, scale = expand_masks(mask[None, None], padding=1)
    low_x, low_y, high_x, high_y = expand_boxes(box[None], scale)[0].to(torch.int64).unbind()
    wide = _stretched(padded[0, 0].T, low_x, high_x, size[1]).T
    return _stretched(wide, low_y, high_y, size[0])


def _stretched(lines: Tensor, low: Tensor, high: Tensor, length: int) -> Tensor:
    """Lines [M, N] stretched bilinearly over places `low` to `high`, inclusive, of `length`: [length, N]."""
    places = torch.arange(length, device=lines.device)
    cells = (high - low + 1).clamp(min=1)
    at = ((places - low + 0.5) * (len(lines) / cells) - 0.5).clamp(0, len(lines) - 1)
    before = at.floor()
    share = (at - before)[:, None]
    first = before.long()
    second = (first + 1).clamp(max=len(lines) - 1)
    stretched = lines[first] * (1 - share) + lines[second] * share
    return stretched * ((places >= low) & (places <= high))[:, None]
