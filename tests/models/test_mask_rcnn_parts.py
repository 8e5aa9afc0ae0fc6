"""The parts of Mask R-CNN: boxes, proposals, anchors, the transform and the pooling."""

import networks
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from eosvos.compat.torchvision_04 import VersionedAnchorGenerator, VersionedTransform
from eosvos.config import models as config
from eosvos.errors import UserError
from eosvos.models.backbones import TinyEncoder
from eosvos.models.detector_parts import roi_heads
from eosvos.models.fpn import BackboneWithFPN
from eosvos.models.proposals import add_prior_proposals, jittered_boxes, tight_boxes
from eosvos.models.roi_heads import ObjectRoIHeads, mask_labels
from eosvos.seeding import isolated_rng

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
VARIANTS = ("published", "torchvision")


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 12), st.floats(0.01, 1))
def test_tight_boxes_are_the_extremes_with_exclusive_maximum(seed: int, h: int, w: int, share: float) -> None:
    masks = np.random.RandomState(seed).rand(3, h, w) < share
    masks[:, seed % h, seed % w] = True
    expected = [[x.min(), y.min(), x.max() + 1, y.max() + 1] for y, x in (np.nonzero(mask) for mask in masks)]
    assert tight_boxes(torch.from_numpy(masks)).tolist() == expected


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.tuples(*[st.floats(0, 90)] * 2), st.tuples(*[st.floats(1, 60)] * 2))
def test_jitter_moves_sides_outwards_by_less_than_a_tenth(
    seed: int, corner: tuple[float, float], extent: tuple[float, float]
) -> None:
    size = (100, 120)
    (x, y), (w, h) = corner, extent
    box = torch.tensor([x, y, min(x + w, 120), min(y + h, 100)])
    with isolated_rng(seed):
        copies = jittered_boxes(box, 40, size)
    assert copies.shape == (40, 4)
    moved = (copies - box) * torch.tensor([-1, -1, 1, 1])
    limit = 0.1 * (box[2:] - box[:2]).repeat(2)
    assert (moved >= 0).all()
    assert (moved <= limit + 1e-4).all()
    assert (copies >= 0).all()
    assert (copies <= torch.tensor([120, 100, 120, 100])).all()


def test_jitter_draws_side_by_side_and_is_clamped() -> None:
    torch.manual_seed(3)
    draws = [torch.rand(5) for _ in range(4)]
    torch.manual_seed(3)
    copies = jittered_boxes(torch.tensor([10.0, 20.0, 50.0, 40.0]), 5, (100, 200))
    torch.testing.assert_close(copies[:, 0], 10 - 4 * draws[0])
    torch.testing.assert_close(copies[:, 1], 20 - 2 * draws[1])
    torch.testing.assert_close(copies[:, 2], 50 + 4 * draws[2])
    torch.testing.assert_close(copies[:, 3], 40 + 2 * draws[3])
    edge = torch.tensor([0.0, 0.0, 200.0, 100.0])
    assert torch.equal(jittered_boxes(edge, 3, (100, 200)), edge.expand(3, 4))


@pytest.mark.parametrize(
    ("mode", "prior", "redetect", "best", "copies"),
    [
        ("extend", True, False, 3, 4),
        ("replace", True, False, 0, 7),
        ("none", True, False, 9, 0),
        ("replace", True, True, 3, 4),
        ("none", True, True, 3, 4),
        ("extend", False, False, 9, 0),
        ("replace", False, True, 9, 0),
    ],
)
def test_prior_proposals(mode: str, prior: bool, redetect: bool, best: int, copies: int) -> None:
    rpn = torch.arange(36.0).view(9, 4)
    box = torch.tensor([10.0, 20.0, 50.0, 40.0]) if prior else None
    settings = config.MaskRCNN(proposals=mode, prior_proposals=7)
    boxes = add_prior_proposals(rpn, box, (100, 200), settings, redetect)
    assert len(boxes) == best + copies
    assert torch.equal(boxes[:best], rpn[:best])


def feature_maps(image: tuple[int, int], grids: list[tuple[int, int]]) -> tuple[ImageList, list[Tensor]]:
    return ImageList(torch.zeros(2, 3, *image), [image, image]), [torch.zeros(2, 4, *grid) for grid in grids]


def anchor_generator(
    sizes: list[float | list[float]], ratios: list[float], variant: str
) -> VersionedAnchorGenerator:
    settings = config.MaskRCNN(anchor_sizes=sizes, anchor_ratios=ratios, variant=variant)
    return VersionedAnchorGenerator(settings)


def test_anchors_equal_todays_where_grids_divide_the_image() -> None:
    inputs = feature_maps((64, 96), [(16, 24), (8, 12)])
    sizes, ratios = ((8,), (16,)), (0.5, 1.0, 2.0)
    expected = AnchorGenerator(sizes, (ratios,) * 2)(*inputs)
    for variant in VARIANTS:
        found = anchor_generator([8, 16], list(ratios), variant)(*inputs)
        assert len(found) == 2
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_anchors_may_lie_fractions_apart() -> None:
    inputs = feature_maps((96, 96), [(3, 3), (2, 2)])
    centres = anchor_generator([32, 64], [1.0], "published")(*inputs)[0].view(-1, 2, 2).mean(1)
    assert centres[:4].tolist() == [[0, 0], [32, 0], [64, 0], [0, 32]]
    inputs = feature_maps((96, 96), [(24, 24), (5, 5)])
    floats, integers = (anchor_generator([32, 64], [1.0], v)(*inputs)[0][-1].tolist() for v in VARIANTS)
    assert floats == pytest.approx([44.8, 44.8, 108.8, 108.8])
    assert integers == [44, 44, 108, 108]


def test_a_level_may_have_several_anchor_sizes() -> None:
    anchors = anchor_generator([[8, 12], [16, 24]], [0.5, 1.0], "published")
    assert anchors.num_anchors_per_location() == [4, 4]


def target(size: tuple[int, int]) -> dict[str, Tensor]:
    masks = torch.zeros(1, *size, dtype=torch.uint8)
    masks[:, 10:30, 20:40] = 1
    return {"boxes": torch.tensor([[20.0, 10.0, 40.0, 30.0]]), "masks": masks}


@pytest.mark.parametrize("size", [(60, 90), (64, 96), (50, 200)])
@pytest.mark.parametrize("variant", VARIANTS)
def test_transform_equals_torchvisions(size: tuple[int, int], variant: str) -> None:
    image = torch.rand(3, *size, generator=torch.Generator().manual_seed(1))
    theirs, ours = (
        GeneralizedRCNNTransform(64, 100, list(MEAN), list(STD)),
        VersionedTransform(config.MaskRCNN(min_size=64, max_size=100, variant=variant), MEAN, STD),
    )
    with isolated_rng(1):
        expected, (expected_target,) = theirs([image], [target(size)])
        after = torch.rand(1)
    with isolated_rng(1):
        found, (found_target,) = ours([image], [target(size)])
        assert torch.equal(torch.rand(1), after) == (variant == "torchvision")
    assert found.image_sizes == expected.image_sizes
    assert torch.equal(found.tensors, expected.tensors)
    assert torch.equal(found_target["boxes"], expected_target["boxes"])
    assert torch.equal(found_target["masks"], expected_target["masks"])


def test_transform_without_a_size_only_normalises_and_pads() -> None:
    image = torch.rand(3, 50, 70)
    settings = config.MaskRCNN(min_size=None, max_size=70)
    batch, _ = VersionedTransform(settings, (0.5,) * 3, (0.25,) * 3).eval()([image])
    assert batch.image_sizes == [(50, 70)]
    assert batch.tensors.shape == (1, 3, 64, 96)
    torch.testing.assert_close(batch.tensors[0, :, :50, :70], (image - 0.5) / 0.25)


@pytest.mark.parametrize("variant", ["published", "torchvision"])
@pytest.mark.parametrize("training", [False, True])
def test_transform_without_a_size_keeps_to_the_largest(variant: str, training: bool) -> None:
    settings = config.MaskRCNN(min_size=None, max_size=35, variant=variant)
    transform = VersionedTransform(settings, (0.5,) * 3, (0.25,) * 3).train(training)
    target = {"boxes": torch.tensor([[10.0, 20.0, 30.0, 40.0]]), "masks": torch.ones(1, 50, 70)}
    batch, targets = transform([torch.rand(3, 50, 70)], [target])
    assert batch.image_sizes == [(25, 35)]
    assert targets[0]["boxes"].tolist() == [[5, 10, 15, 20]]


def small_heads(backbone: BackboneWithFPN, sampling_ratio: int = 2) -> ObjectRoIHeads:
    sizes = {"box_roi": 3, "box_features": 16, "mask_roi": 4, "mask_channels": 8, "mask_layers": 1}
    return roi_heads(backbone, config.MaskRCNN(**sizes, roi_samples=8, sampling_ratio=sampling_ratio))


def test_pooling_does_not_guess_its_scales_from_the_first_image() -> None:
    heads = small_heads(networks.tiny(fpn_channels=8))
    # 66 pixels, padded to 96: a guess of the coarsest level's scale from the image's own size is 1 / 8.
    maps = {str(i): torch.zeros(1, 8, 96 // s, 96 // s) for i, s in enumerate((4, 8, 16))}
    for pool in (heads.box_roi_pool, heads.mask_roi_pool):
        pool(maps, [torch.tensor([[0.0, 0.0, 40.0, 40.0]])], [(66, 66)])
        assert pool.scales == [1 / 4, 1 / 8, 1 / 16]


@pytest.mark.parametrize("ratio", [1, 2, 3])
def test_a_cell_is_the_mean_of_its_points(ratio: int) -> None:
    heads = small_heads(networks.tiny(fpn_channels=8), ratio)
    maps = {str(i): torch.zeros(1, 8, 96 // s, 96 // s) for i, s in enumerate((4, 8, 16))}
    maps["0"] = maps["0"] + torch.arange(24.0) ** 2
    # From cell 2 to cell 8 of the finest map: three cells of two, which read it at their points.
    (pooled,) = heads.box_roi_pool(maps, [torch.tensor([[8.0, 8.0, 32.0, 32.0]])], [(96, 96)])
    points = 2 + 6 * (torch.arange(3 * ratio) + 0.5) / (3 * ratio)
    low = points.floor()
    read = torch.lerp(low**2, (low + 1) ** 2, points - low).reshape(3, ratio).mean(1)
    torch.testing.assert_close(pooled, read.expand(8, 3, 3))


def test_levels_that_leave_out_a_stride_are_refused() -> None:
    """A region of the level that is left out, or above, would be pooled from none, to zeros."""
    backbone = BackboneWithFPN(TinyEncoder(4, levels=3), (4, 8, 16), (4, 16, 32), fpn_channels=8)
    with pytest.raises(UserError, match=r"strides 4, 16, 32 .*choose out_indices"):
        small_heads(backbone)


def test_mask_labels_are_soft_and_leave_out_what_touches_ignored_pixels() -> None:
    masks = torch.zeros(2, 16, 16, dtype=torch.uint8)
    masks[0, :, 8:] = 1
    masks[1, 4:6] = 1
    box = torch.tensor([[0.0, 0.0, 16.0, 16.0]])
    first = torch.zeros(1, dtype=torch.int64)
    plain = mask_labels([{"boxes": box, "masks": masks[:1]}], [box], [first], 8)[0]
    assert plain.min() == 0
    assert plain.max() == 1
    left_out = mask_labels([{"boxes": box, "masks": masks}], [box], [first], 8)[0]
    ignored = left_out == 255
    assert ignored[2:3].all()
    assert not ignored[4:].any()
    assert torch.equal(left_out[~ignored], plain[~ignored])


def test_mask_labels_of_no_box_are_empty() -> None:
    none, target = torch.zeros(0, 4), {"boxes": torch.ones(1, 4), "masks": torch.ones(1, 8, 8)}
    labels = mask_labels([target], [none], [torch.zeros(0, dtype=torch.int64)], 8)
    assert labels.shape == (0, 8, 8)
