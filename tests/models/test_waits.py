"""What replaces parts of torchvision that wait for the device computes and draws what those do."""

import networks
import pytest
import torch
from torch import Tensor
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler, BoxCoder, Matcher
from torchvision.models.detection.roi_heads import paste_masks_in_image
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.ops import MultiScaleRoIAlign

from eosvos.compat.torchvision_04 import FullPrecisionBoxCoder
from eosvos.compat.torchvision_waits import (
    FewWaitsRoIAlign,
    NoWaitMatcher,
    balanced_samples,
    joined,
    paste_mask,
)
from eosvos.config import models as config
from eosvos.models.detector_parts import region_proposal_network, roi_heads


def random_boxes(*counts: int, size: float = 96) -> Tensor:
    """Boxes [..., 4] in an image of `size`, of which some reach out of it, far out, too."""
    corners = size * (2.4 * torch.rand(*counts, 2) - 0.7)
    return torch.cat((corners, corners + 1 + size / 2 * torch.rand(*counts, 2)), dim=-1)


@pytest.mark.parametrize("seed", range(4))
def test_matcher(seed: int) -> None:
    torch.manual_seed(seed)
    overlaps = (torch.rand(3, 40) * 10).round() / 10
    theirs, ours = (kind(0.7, 0.3, True) for kind in (Matcher, NoWaitMatcher))
    assert torch.equal(ours(overlaps), theirs(overlaps))


@pytest.mark.parametrize("share", [0.0, 0.02, 0.4, 1.0])
def test_samples_are_those_of_the_sampler_in_every_image(share: float) -> None:
    torch.manual_seed(1)
    labels = [(torch.rand(n) < share).float() - (torch.rand(n) < 0.3).float() for n in (90, 7, 200)]
    sampler = BalancedPositiveNegativeSampler(16, 0.25)
    torch.manual_seed(2)
    expected = [[flags.nonzero().flatten() for flags in of_kind] for of_kind in sampler(labels)]
    after = torch.rand(3)
    torch.manual_seed(2)
    found = balanced_samples(labels, sampler)
    assert torch.equal(torch.rand(3), after)
    for ours, theirs in zip(zip(*found, strict=True), expected, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
        assert torch.equal(
            torch.cat(labels)[joined(ours, labels)],
            torch.cat([of_image[i] for of_image, i in zip(labels, ours, strict=True)]),
        )


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("none_valid", [False, True])
def test_proposals_of_several_images(training: bool, none_valid: bool) -> None:
    """Also where an image has no proposal within it, or scores that are not numbers."""
    torch.manual_seed(3)
    settings = config.MaskRCNN(anchor_sizes=[8, 16, 32], rpn_proposals_train=20, rpn_proposals_test=9)
    rpn = region_proposal_network(networks.tiny(fpn_channels=8), settings).train(training)
    boxes, objectness = random_boxes(3, 120), torch.randn(3, 120)
    objectness[:, ::5] = 40  # Their probabilities are the same: the first goes first.
    boxes[1, 40:80, 2:] = boxes[1, 40:80, :2]
    objectness[0, 7] = boxes[0, 9, 0] = torch.nan
    if none_valid:
        boxes[1] += 1000
    sizes = [(96, 90), (96, 96), (64, 96)]
    arguments = boxes, objectness.flatten()[:, None], sizes, [60, 45, 15]
    expected = RegionProposalNetwork.filter_proposals(rpn, *arguments)
    found = rpn.filter_proposals(*arguments)
    assert [len(of_image) for of_image in found[0]] == [len(of_image) for of_image in expected[0]]
    assert bool(len(found[0][1])) != none_valid
    for ours, theirs in zip((*found[0], *found[1]), (*expected[0], *expected[1]), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("counts", [(30, 4), (0, 3), (1,), (0,)])
def test_pooling_and_its_gradient(counts: tuple[int, ...]) -> None:
    torch.manual_seed(4)
    ours = roi_heads(networks.tiny(fpn_channels=8), config.MaskRCNN(box_roi=3, mask_roi=4)).box_roi_pool
    assert isinstance(ours, FewWaitsRoIAlign)
    maps = {str(i): torch.rand(len(counts), 8, 512 // s, 512 // s) for i, s in enumerate((4, 8, 16))}
    maps = {name: level.requires_grad_() for name, level in maps.items()} | {"pool": torch.rand(1, 8, 2, 2)}
    boxes = [random_boxes(count, size=512).clamp(0, 512) for count in counts]
    pooled = [kind.forward(ours, maps, boxes, []) for kind in (FewWaitsRoIAlign, MultiScaleRoIAlign)]
    assert torch.equal(*pooled)
    weights, levels = torch.rand_like(pooled[0]), [maps[str(i)] for i in range(3)]
    gradients = [
        torch.autograd.grad((one * weights).sum(), levels, allow_unused=True, materialize_grads=True)
        for one in pooled
    ]
    for mine, original in zip(*gradients, strict=True):
        assert torch.equal(mine, original)


@pytest.mark.parametrize("count", [0, 5])
def test_moved_boxes(count: int) -> None:
    torch.manual_seed(6)
    weights = (10.0, 9.0, 5.0, 4.0)
    boxes, codes = random_boxes(count), 6 * torch.randn(count, 8)
    moved, expected = (
        kind(weights).decode_single(codes, boxes) for kind in (FullPrecisionBoxCoder, BoxCoder)
    )
    assert torch.equal(moved, expected)
    true = random_boxes(count)
    moves, expected = (kind(weights).encode_single(true, boxes) for kind in (FullPrecisionBoxCoder, BoxCoder))
    assert torch.equal(moves, expected)


@pytest.mark.parametrize(
    "box",
    [(10.3, 12.9, 40.2, 50.0), (-8.0, -3.5, 20.0, 30.0), (60.0, 30.0, 99.7, 70.0), (7.0, 9.0, 7.4, 9.2)],
)
def test_pasted_masks(box: tuple[float, ...]) -> None:
    mask = torch.rand(28, 28, generator=torch.Generator().manual_seed(5))
    expected = paste_masks_in_image(mask[None, None], torch.tensor([box]), (64, 96))[0, 0]
    found = paste_mask(mask, torch.tensor(box), (64, 96))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert torch.equal(found == 0, expected == 0)
